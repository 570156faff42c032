#include "engine/request.h"

#include <chrono>

#include "engine/request_state.h"

namespace forerun {

RequestState::RequestState(const EngineState& engine, std::vector<int32_t> wanted,
                           const RequestOptions& asked)
    : options(asked), prompt(std::move(wanted)), emitter(*engine.tokenizer, options, completion) {
  options.on_text = [this, show = asked.on_text](std::string_view piece) {
    push(piece);
    return (!show || show(piece)) && !cancelled;
  };
}

void RequestState::push(std::string_view piece) {
  if (piece.empty()) return;
  const std::lock_guard lock(mutex);
  text += piece;
  changed.notify_all();
}

void RequestState::end(std::exception_ptr why) {
  if (session) {
    completion.features = session->take_record(prompt.size() + completion.tokens.size());
    completion.stats = session->stats;
    session.reset();
  }
  const std::lock_guard lock(mutex);
  failure = std::move(why);
  ended = true;
  changed.notify_all();
}

Request::Request(std::shared_ptr<RequestState> state) : state_(std::move(state)) {}
Request::Request(Request&&) noexcept = default;

Request& Request::operator=(Request&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

Request::~Request() {
  if (state_) cancel();
}

void Request::cancel() { state_->cancelled = true; }

bool Request::ended() const {
  const std::lock_guard lock(state_->mutex);
  return state_->ended;
}

std::optional<std::string> Request::next() {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [this] { return !state_->text.empty() || state_->ended; });
  if (!state_->text.empty()) return std::exchange(state_->text, {});
  if (state_->failure) std::rethrow_exception(state_->failure);
  return std::nullopt;
}

bool Request::wait_for_text(double seconds) {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, std::chrono::duration<double>(seconds),
                                  [this] { return !state_->text.empty() || state_->ended; });
}

bool Request::wait_for_end(double seconds) {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, std::chrono::duration<double>(seconds),
                                  [this] { return state_->ended; });
}

const Completion& Request::wait() {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [this] { return state_->ended; });
  if (state_->failure) std::rethrow_exception(state_->failure);
  return state_->completion;
}

}  // namespace forerun
