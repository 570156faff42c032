#include "engine/session.h"

#include "engine/session_state.h"

namespace forerun {

Session::Session(std::unique_ptr<SessionState> state) : state_(std::move(state)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

void Session::append(std::span<const int32_t> tokens) { state_->append(tokens); }

void Session::append(std::string_view text, bool add_special, bool parse_special) {
  state_->append(state_->engine->tokenizer->encode(text, {add_special, parse_special}));
}

void Session::prefill(const Watch& watch) { state_->prefill(watch); }

StepResult Session::step(int32_t most) {
  SessionState* const self = state_.get();
  self->most = most;
  return std::move(decode_step(*state_->engine, {&self, 1}).front()).value();
}

StepTree Session::last_tree() const {
  const DraftTree& tree = state_->tree;
  StepTree out{{}, state_->verdict.path, state_->verdict.bonus};
  for (size_t i = 0; i < tree.token().size(); ++i) {
    out.nodes.push_back(
        {tree.token()[i], tree.parent()[i], tree.score()[i], source_name(tree.source()[i])});
  }
  return out;
}

void Session::rewind(int32_t length) { state_->rewind(length); }

Session Session::fork() const { return Session(std::make_unique<SessionState>(*state_)); }

const std::vector<int32_t>& Session::tokens() const { return state_->tokens; }
const Stats& Session::stats() const { return state_->stats; }

}  // namespace forerun
