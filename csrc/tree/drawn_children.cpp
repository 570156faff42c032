// The part of DraftTree that knows how children were drawn.

#include <algorithm>
#include <string>

#include "base/error.h"
#include "tree/draft_tree.h"

namespace forerun {
namespace {

[[noreturn]] void refuse(int32_t parent, const std::string& why) {
  throw Error(ErrorKind::kBadArgument,
              "draft tree: draws below node " + std::to_string(parent) + ": " + why);
}

}  // namespace

const char* proposal_name(Proposal proposal) {
  switch (proposal) {
    case Proposal::kDeterministic:
      return "deterministic";
    case Proposal::kIndependent:
      return "independent draws";
    case Proposal::kWithoutReplacement:
      return "draws without replacement";
    case Proposal::kTopAndSample:
      return "top tokens and one draw";
  }
  return "";
}

const DraftTree::Law* DraftTree::find_law(int32_t node) const {
  for (const Law& law : laws_) {
    if (law.parent == node) return &law;
  }
  return nullptr;
}

DrawLaw DraftTree::law(int32_t node) const {
  const Law* law = find_law(node);
  if (law == nullptr) return {};
  const size_t count = law->end - law->begin;
  return {law->proposal, std::span(law_tokens_).subspan(law->begin, count),
          std::span(law_q_).subspan(law->begin, count)};
}

void DraftTree::draws(int32_t node, std::vector<int32_t>& nodes) const {
  nodes.clear();
  for (const int32_t drawn : draws_) {
    if (parent_[drawn] == node) nodes.push_back(drawn);
  }
}

void DraftTree::set_law(int32_t parent, Proposal proposal, std::span<const int32_t> tokens,
                        std::span<const double> q) {
  check_parent(parent);
  if (proposal == Proposal::kDeterministic) refuse(parent, "deterministic children have no law");
  if (find_law(parent) != nullptr) refuse(parent, "the node has a law already");
  if (tokens.size() != q.size()) {
    refuse(parent, std::to_string(tokens.size()) + " tokens with " + std::to_string(q.size()) +
                       " probabilities");
  }
  for (int32_t node = parent + 1; node < size(); ++node) {
    if (parent_[node] != parent) continue;
    if (proposal != Proposal::kTopAndSample) refuse(parent, "it has children that were not drawn");
    if (std::find(tokens.begin(), tokens.end(), token_[node]) != tokens.end()) {
      refuse(parent, "token " + std::to_string(token_[node]) + " is a child and in the law too");
    }
  }
  const size_t begin = law_tokens_.size();
  law_tokens_.insert(law_tokens_.end(), tokens.begin(), tokens.end());
  law_q_.insert(law_q_.end(), q.begin(), q.end());
  laws_.push_back({parent, proposal, begin, law_tokens_.size()});
}

int32_t DraftTree::draw(int32_t parent, int32_t token, float score, DraftSource source) {
  check_parent(parent);
  const DrawLaw law = this->law(parent);
  if (law.proposal == Proposal::kDeterministic) refuse(parent, "the node has no law");
  const auto found = std::find(law.tokens.begin(), law.tokens.end(), token);
  if (found == law.tokens.end() || !(law.q[static_cast<size_t>(found - law.tokens.begin())] > 0)) {
    refuse(parent, "token " + std::to_string(token) + " has probability 0 there");
  }
  if (law.proposal == Proposal::kWithoutReplacement && child_with(parent, token) >= 0) {
    refuse(parent, "token " + std::to_string(token) + " was drawn already");
  }
  if (law.proposal == Proposal::kTopAndSample) {
    for (const int32_t drawn : draws_) {
      if (parent_[drawn] == parent) refuse(parent, "only one is drawn after the top tokens");
    }
  }
  const int32_t node = append(parent, token, score, source);
  draws_.push_back(node);
  return node;
}

}  // namespace forerun
