#include "draft/lookup.h"

#include <algorithm>

namespace forerun {
namespace {

constexpr size_t kLead =
    4;  // tokens before an answer that are kept with it, so that its start is found
constexpr float kSharedWeight = 0.5F;  // a vote from another request, beside one from this context

}  // namespace

LookupDrafter::LookupDrafter(LookupOptions options, std::shared_ptr<SharedTexts> shared,
                             std::string tenant)
    : options_(options), shared_(std::move(shared)), tenant_(std::move(tenant)) {
  SharedTexts::check_name(tenant_);
  found_.reserve(static_cast<size_t>(options_.places));
  places_.reserve(2 * static_cast<size_t>(options_.places));
}

void LookupDrafter::begin(std::span<const int32_t> context) {
  local_.clear();
  follow(context);
}

void LookupDrafter::follow(std::span<const int32_t> context) {
  local_.truncate(context.size());
  for (size_t i = static_cast<size_t>(local_.length()); i < context.size(); ++i) {
    local_.append(context[i]);
  }
}

void LookupDrafter::observe(std::span<const int32_t> context, const Observation& truth) {
  (void)truth;
  follow(context);
}

void LookupDrafter::look_up(const TextIndex& index, uint64_t before, uint32_t owner, float weight,
                            std::span<const int32_t> context) {
  found_.clear();
  index.find(context, before, owner, options_.places, found_);
  for (const TextIndex::Occurrence& place : found_) {
    const uint64_t period = &index == &local_ ? before - place.end : 0;
    places_.push_back({&index, place.end, place.matched, period, weight});
  }
}

void LookupDrafter::propose(std::span<const int32_t> context, const Budget& budget,
                            const DraftNoise& noise, DraftTree& tree) {
  if (context.empty() || budget.max_nodes <= 0) return;
  follow(context);
  places_.clear();
  look_up(local_, local_.length() - 1, 0, 1.0F, context);
  if (const uint32_t owner = shared_ ? shared_->owner(tenant_) : 0; owner != 0) {
    look_up(shared_->texts(), shared_->texts().length(), owner, kSharedWeight, context);
  }
  const DraftSource source = shared_ ? DraftSource::kSuffix : DraftSource::kNgram;
  const SharedNoise own_noise(noise, context.size());
  grower_.grow(places_, budget, {source, own_noise, !options_.tree}, tree);
}

void LookupDrafter::finish(std::span<const int32_t> context, std::span<const uint8_t> emitted) {
  if (!shared_) return;
  if (options_.prompts) {
    shared_->add(tenant_, context);
    return;
  }
  for (size_t at = 0; at < emitted.size();) {
    if (emitted[at] == 0) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < emitted.size() && emitted[end] != 0) ++end;
    const size_t lead = std::min(at, kLead);
    shared_->add(tenant_, context.subspan(at - lead, end - at + lead));
    at = end;
  }
}

std::unique_ptr<Drafter> LookupDrafter::fork() const {
  return std::make_unique<LookupDrafter>(*this);
}

}  // namespace forerun
