#include "engine/scheduler.h"

#include <algorithm>
#include <string>

namespace forerun {
namespace {

int64_t pages_for(int64_t positions) {
  return (positions + KvLayout::kPageSlots - 1) / KvLayout::kPageSlots;
}

int32_t missing_rows(const SessionState& session) {
  return session.context() - 1 - session.cache.length();
}

}  // namespace

Scheduler::Scheduler(std::shared_ptr<EngineState> engine) : engine_(std::move(engine)) {
  worker_ = std::thread([this] { run(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  worker_.join();
}

int64_t Scheduler::rank(const RequestState& request) const {
  return request.options.priority * kAge + turn_ - request.arrived;
}

// Prompt, answer and the rows of a draft tree, of the target and of a draft.
int64_t Scheduler::kv_bytes_of(const RequestState& request) const {
  const int64_t asked = static_cast<int64_t>(request.prompt.size()) + request.options.max_tokens;
  const int64_t pages = pages_for(std::min<int64_t>(asked, engine_->context) + kLogitRows);
  int64_t bytes = engine_->kv_layout.page_bytes();
  if (engine_->draft_shared.model) {
    bytes += engine_->draft_shared.model->kv_layout().page_bytes();
  }
  bytes += engine_->head_page_bytes();
  return pages * bytes;
}

Request Scheduler::submit(std::vector<int32_t> prompt, const RequestOptions& options) {
  check_request(options);
  check_tokens(*engine_, prompt, 0);
  if (prompt.empty() && options.max_tokens > 0) throw Error(ErrorKind::kBadArgument, kEmptyPrompt);
  Sampler(options.sampling, options.seed,
          engine_->target->config().vocab);  // refuses what is wrong
  const auto request = std::make_shared<RequestState>(*engine_, std::move(prompt), options);
  request->kv_bytes = kv_bytes_of(*request);
  const int64_t most = engine_->options.kv_bytes;
  if (most > 0 && request->kv_bytes > most) {
    throw Error(ErrorKind::kBadArgument,
                "the request may need " + std::to_string(request->kv_bytes) +
                    " bytes of keys and values, kv_bytes is " + std::to_string(most) +
                    "; shorten the prompt or max_tokens, or raise `kv_bytes`");
  }
  {
    std::unique_lock lock(mutex_);
    const size_t places = static_cast<size_t>(engine_->options.max_queue);
    const auto has_place = [&] { return waiting_.size() < places; };
    if (!has_place() && !options.wait_for_place) {
      throw Error(ErrorKind::kBusy, std::to_string(places) +
                                        " requests are waiting (max_queue); submit it later, or "
                                        "let it wait for a place");
    }
    place_.wait(lock, has_place);
    request->arrived = turn_;
    waiting_.push_back(request);
  }
  work_.notify_one();
  return Request(request);
}

void Scheduler::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [this] { return stopping_ || !waiting_.empty() || !running_.empty(); });
      if (stopping_) break;
    }
    admit();
    prefill();
    decode();
    ++turn_;
  }
  for (const Shared& request : std::vector<Shared>(running_)) {
    request->emitter.finish("cancelled");
    leave(request, nullptr);
  }
  for (const Shared& request : waiting_) {
    request->emitter.finish("cancelled");
    request->end(nullptr);
  }
}

void Scheduler::admit() {
  std::vector<Shared> leaving, entering;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(waiting_, [&](const Shared& request) {
      if (request->cancelled) leaving.push_back(request);
      return request->cancelled.load();
    });
    const auto places = static_cast<size_t>(engine_->options.max_batch);
    const int64_t most = engine_->options.kv_bytes;
    while (!waiting_.empty() && running_.size() + entering.size() < places) {
      const auto first = std::max_element(
          waiting_.begin(), waiting_.end(),
          [this](const Shared& a, const Shared& b) { return rank(*a) < rank(*b); });
      if (most > 0 && kv_bytes_ + (*first)->kv_bytes > most) break;
      kv_bytes_ += (*first)->kv_bytes;
      entering.push_back(*first);
      waiting_.erase(first);
    }
  }
  if (!leaving.empty() || !entering.empty()) place_.notify_all();
  for (const Shared& request : leaving) {
    request->emitter.finish("cancelled");
    request->end(nullptr);
  }
  for (const Shared& request : entering) start(request);
}

void Scheduler::start(const Shared& request) {
  running_.push_back(request);
  try {
    const RequestOptions& asked = request->options;
    request->session = std::make_unique<SessionState>(engine_, asked.sampling, asked.seed,
                                                      asked.logprobs, asked.tenant);
    request->session->start_record();
    request->session->append(request->prompt);
    if (asked.max_tokens == 0) request->emitter.finish("length");
    if (request->session->room() == 0) request->emitter.finish("context");
    if (request->emitter.done()) leave(request, nullptr);
  } catch (...) {
    leave(request, std::current_exception());
  }
}

// Takes it out of the batch and tells its reader.
void Scheduler::leave(const Shared& request, std::exception_ptr failure) {
  if (!failure) {
    try {
      request->emitter.flush();
      request->session->finish();
    } catch (...) {
      failure = std::current_exception();
    }
  }
  kv_bytes_ -= request->kv_bytes;
  const Shared keep = request;  // the argument may be an element of running_
  std::erase(running_, keep);
  keep->end(failure);
}

// A chunk of the prompt that is first in order; more at a time while nobody waits for a token.
void Scheduler::prefill() {
  batch_.assign(running_.begin(), running_.end());
  for (const Shared& request : batch_) {
    if (!request->cancelled) continue;
    request->emitter.finish("cancelled");
    leave(request, nullptr);
  }
  Shared first;
  bool others_decode = false;
  for (const Shared& request : running_) {
    if (missing_rows(*request->session) <= 0) {
      others_decode = true;
    } else if (!first || rank(*request) > rank(*first)) {
      first = request;
    }
  }
  if (!first) return;
  try {
    despite_its_draft(*first->session, [&] {
      const std::lock_guard lock(engine_->step_mutex);
      first->session->prefill_chunk(others_decode ? kChunkBesides : kPrefillRows);
    });
  } catch (...) {
    leave(first, std::current_exception());
  }
}

void Scheduler::decode() {
  batch_.clear();
  for (const Shared& request : running_) {
    if (missing_rows(*request->session) <= 0) batch_.push_back(request);
  }
  if (batch_.empty()) return;
  try {
    step(batch_);
  } catch (...) {
    // Nobody has moved. Alone, each shows whether it is the one that fails, or only its draft.
    for (const Shared& request : std::vector<Shared>(batch_)) {
      std::vector<Shared> alone = {request};
      try {
        despite_its_draft(*request->session, [&] { step(alone); });
      } catch (...) {
        leave(request, std::current_exception());
      }
    }
  }
}

// Throws only before any session has moved.
void Scheduler::step(std::vector<Shared>& batch) {
  sessions_.clear();
  for (const Shared& request : batch) {
    request->session->most = request->emitter.left();
    sessions_.push_back(request->session.get());
  }
  const std::vector<StepOutcome> outcomes = decode_step(*engine_, sessions_);
  for (size_t i = 0; i < batch.size(); ++i) {
    const Shared& request = batch[i];
    std::exception_ptr failure = outcomes[i].failure;
    if (!failure) {
      try {
        request->emitter.take(outcomes[i].result);
      } catch (...) {
        failure = std::current_exception();
      }
    }
    if (failure || request->emitter.done()) leave(request, failure);
  }
}

}  // namespace forerun
