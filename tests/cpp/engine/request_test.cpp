#include "engine/request.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/requests.h"
#include "model/tiny_head.h"

namespace forerun {
namespace {

using test::kind_of;

class Requests : public testing::Test {
 protected:
  static void SetUpTestSuite() { file_ = new test::TinyModelFile(test::TinyModel{.context = 400}); }
  static void TearDownTestSuite() { delete file_; }

  static EngineOptions options(const std::string& draft = "ngram+recycle", int32_t fixed = 5) {
    EngineOptions options;
    options.target = file_->path();
    options.draft = draft;
    options.fixed_draft = fixed;
    options.threads = 1;
    return options;
  }
  static RequestOptions asked(int32_t tokens, uint64_t seed = 0, float temperature = 0.0F) {
    RequestOptions request;
    request.max_tokens = tokens;
    request.seed = seed;
    request.sampling.temperature = temperature;
    request.sampling.logit_bias = {{256, -1e9F}};  // no end token: lengths are known
    return request;
  }
  // A request that is waiting or running as long as its callback is held.
  struct Gate {
    std::atomic<bool> open{false}, reached{false};
    RequestOptions hold(RequestOptions request) {
      request.on_text = [this](std::string_view) {
        reached = true;
        while (!open) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return true;
      };
      return request;
    }
    void wait() const {
      while (!reached) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  };
  static test::TinyModelFile* file_;
};
test::TinyModelFile* Requests::file_ = nullptr;

TEST_F(Requests, GiveTheTokensThatEachWouldGetAlone) {
  for (const auto& [draft, fixed] :
       std::vector<std::pair<std::string, int32_t>>{{"ngram+recycle", 5}, {"auto", -1}}) {
    const auto alone = Engine::load(options("none"));
    EngineOptions batched = options(draft, fixed);
    batched.max_batch = 3;
    const auto engine = Engine::load(batched);
    std::mt19937 random(7);
    std::vector<Request> requests;
    std::vector<std::vector<int32_t>> wanted;
    std::vector<bool> cancelled;
    for (uint64_t i = 0; i < 24; ++i) {
      std::vector<int32_t> prompt(1 + random() % 150);
      for (int32_t& token : prompt) token = 97 + static_cast<int32_t>(random() % 6);
      RequestOptions request = asked(1 + static_cast<int32_t>(random() % 40), i, 0.5F * (i % 3));
      request.priority = static_cast<int32_t>(random() % 3) - 1;
      wanted.push_back(alone->generate(prompt, request).tokens);
      requests.push_back(engine->submit(prompt, request));
      cancelled.push_back(random() % 5 == 0);
      if (random() % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(random() % 8));
      if (cancelled.back()) requests[random() % requests.size()].cancel();
    }
    int32_t whole = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      const Completion& got = requests[i].wait();
      ASSERT_LE(got.tokens.size(), wanted[i].size());
      const std::vector<int32_t> expected(
          wanted[i].begin(), wanted[i].begin() + static_cast<ptrdiff_t>(got.tokens.size()));
      ASSERT_EQ(got.tokens, expected) << draft << " " << i;
      if (got.finish_reason == "length") {
        ASSERT_EQ(got.tokens.size(), wanted[i].size());
        ++whole;
      } else {
        ASSERT_EQ(got.finish_reason, "cancelled");
      }
    }
    EXPECT_GE(whole, 12);
  }
}

TEST_F(Requests, PiecesOfTextAddUp) {
  const auto engine = Engine::load(options());
  Request request = engine->submit("abcabcabc", asked(40, 3, 1.0F));
  std::string text;
  int pieces = 0;
  while (const auto piece = request.next()) text += *piece, ++pieces;
  EXPECT_EQ(text, request.wait().text);
  EXPECT_EQ(text, engine->generate("abcabcabc", asked(40, 3, 1.0F)).text);
  EXPECT_GT(pieces, 0);
  EXPECT_FALSE(request.next());
  EXPECT_TRUE(request.ended());
  EXPECT_EQ(request.wait().stats.tokens, 40);
}

TEST_F(Requests, AFullQueueRefusesOrWaits) {
  EngineOptions small = options();
  small.max_batch = 1;
  small.max_queue = 2;
  const auto engine = Engine::load(small);
  Gate gate;
  Request running = engine->submit("abc", gate.hold(asked(4)));
  gate.wait();
  Request second = engine->submit("abc", asked(4)), third = engine->submit("abc", asked(4));
  EXPECT_EQ(kind_of([&] { engine->submit("abc", asked(4)); }), ErrorKind::kBusy);
  std::atomic<bool> entered{false};
  std::thread patient([&] {
    RequestOptions waits = asked(4);
    waits.wait_for_place = true;
    Request fourth = engine->submit("abc", waits);
    entered = true;
    fourth.wait();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(entered);
  gate.open = true;
  patient.join();
  EXPECT_EQ(third.wait().finish_reason, "length");
}

TEST_F(Requests, LargerPrioritiesGoFirstAndWaitingRaisesThem) {
  EngineOptions one = options("none");
  one.max_batch = 1;
  const auto engine = Engine::load(one);
  std::vector<int> order;  // by the worker alone
  const auto noted = [&](int name, int32_t priority) {
    RequestOptions request = asked(10);
    request.priority = priority;
    request.on_text = [&order, name](std::string_view) {
      if (order.empty() || order.back() != name) order.push_back(name);
      return true;
    };
    return engine->submit("abc", request);
  };
  Gate gate;
  Request first = engine->submit("abc", gate.hold(asked(2)));
  gate.wait();
  std::vector<Request> requests;
  requests.push_back(noted(0, 0));
  requests.push_back(noted(1, 0));
  requests.push_back(noted(2, 5));
  requests.push_back(noted(3, 5));
  requests.push_back(noted(4, -1));
  gate.open = true;
  for (Request& request : requests) request.wait();
  EXPECT_EQ(order, (std::vector<int>{2, 3, 0, 1, 4}));

  // One of low priority among a stream of higher ones, of which one always waits.
  order.clear();
  Gate again;
  Request holder = engine->submit("abc", again.hold(asked(2)));
  again.wait();
  requests.clear();
  requests.push_back(noted(100, 0));
  again.open = true;
  for (int i = 0; i < 40; ++i) {
    requests.push_back(noted(i, 1));
    if (i > 0) requests[static_cast<size_t>(i)].wait();  // the one before it
  }
  for (Request& request : requests) request.wait();
  const auto place = std::find(order.begin(), order.end(), 100) - order.begin();
  EXPECT_LT(place, 30);
}

TEST_F(Requests, WhatOneCallbackThrowsDisturbsNobodyElse) {
  const auto engine = Engine::load(options());
  const auto wanted = engine->generate("abcabc", asked(30, 5, 1.0F)).tokens;
  RequestOptions throws = asked(30);
  throws.on_text = [calls = 0](std::string_view) mutable -> bool {
    if (++calls == 3) throw std::runtime_error("mine");
    return true;
  };
  std::vector<Request> good;
  good.push_back(engine->submit("abcabc", asked(30, 5, 1.0F)));
  Request bad = engine->submit("abcabc", throws);
  good.push_back(engine->submit("abcabc", asked(30, 5, 1.0F)));
  EXPECT_THROW(bad.wait(), std::runtime_error);
  EXPECT_THROW(
      {
        while (bad.next()) {
        }
      },
      std::runtime_error);
  for (Request& request : good) EXPECT_EQ(request.wait().tokens, wanted);
}

TEST_F(Requests, WhatCouldNeverRunIsRefusedAtOnce) {
  EngineOptions limited = options();
  limited.kv_bytes = 1 << 19;
  const auto engine = Engine::load(limited);
  const auto refused = [&](const std::vector<int32_t>& prompt, const RequestOptions& request) {
    EXPECT_EQ(kind_of([&] { engine->submit(prompt, request); }), ErrorKind::kBadArgument);
  };
  refused({1, 999}, asked(4));
  refused(std::vector<int32_t>(401, 97), asked(4));
  refused({}, asked(4));
  refused({97}, asked(-1));
  refused({97}, asked(4, 0, -1.0F));
  RequestOptions stop = asked(4);
  stop.stop = {""};
  refused({97}, stop);
  refused(std::vector<int32_t>(390, 97), asked(400));  // beyond kv_bytes
  EXPECT_EQ(engine->submit("abc", asked(0)).wait().finish_reason, "length");
  EXPECT_EQ(engine->submit("abc", asked(4)).wait().tokens.size(), 4U);
  for (const auto& wrong : {0, 65}) {
    EngineOptions batch = options();
    batch.max_batch = wrong;
    EXPECT_EQ(kind_of([&] { Engine::load(batch); }), ErrorKind::kBadArgument);
  }
}

TEST_F(Requests, RunOnlyTogetherWhatFitsTheirMemory) {
  EngineOptions limited = options("none");
  // Pages of 64 positions, 2 layers, K and V, 2 heads of 64, f16; a request takes up to four.
  limited.kv_bytes = int64_t{2} * 4 * 64 * 2 * 2 * 2 * 64 * 2;
  const auto engine = Engine::load(limited);
  std::atomic<int> running{0}, most{0};
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) {
    RequestOptions request = asked(8);
    request.on_text = [&, calls = 0](std::string_view) mutable {
      if (++calls == 1) most = std::max(most.load(), ++running);
      if (calls == 8) --running;
      return true;
    };
    requests.push_back(engine->submit("abcdefgh", request));
  }
  for (Request& request : requests) EXPECT_EQ(request.wait().tokens.size(), 8U);
  EXPECT_GE(most, 1);
  EXPECT_LE(most, 2);
}

TEST_F(Requests, NeedMemoryForTheirDraftHeadToo) {
  const test::TinyHeadFile head({.target = test::TinyModel{.context = 400}, .blocks = 2});
  EngineOptions enough = options("none"), headed = options("head:" + head.path());
  enough.kv_bytes = headed.kv_bytes = int64_t{4} * 64 * 2 * 2 * 2 * 64 * 2;  // as above, for one
  EXPECT_EQ(Engine::load(enough)->submit("abcdefgh", asked(8)).wait().tokens.size(), 8U);
  const auto engine = Engine::load(headed);
  EXPECT_EQ(kind_of([&] { engine->submit("abcdefgh", asked(8)); }), ErrorKind::kBadArgument);
}

TEST_F(Requests, EndAsCancelledWithTheirEngine) {
  std::vector<Request> requests;
  {
    EngineOptions two = options();
    two.max_batch = 2;
    const auto engine = Engine::load(two);
    for (int i = 0; i < 5; ++i) requests.push_back(engine->submit("abc", asked(390)));
    requests[0].next();
  }
  for (Request& request : requests) {
    EXPECT_EQ(request.wait().finish_reason, "cancelled");
    while (request.next()) {
    }
  }
}

TEST_F(Requests, ADroppedOneMakesRoom) {
  EngineOptions one = options("none");
  one.max_batch = 1;
  const auto engine = Engine::load(one);
  for (int i = 0; i < 20; ++i) engine->submit("abc", asked(390));
  EXPECT_EQ(engine->submit("abc", asked(5)).wait().tokens.size(), 5U);
  EXPECT_LT(engine->stats().tokens, 20 * 390);
}

TEST_F(Requests, ComeFromManyThreadsBesideOrdinaryCalls) {
  const auto engine = Engine::load(options("auto", -1));
  const auto wanted = engine->generate("abcabc", asked(40, 9, 1.0F)).tokens;
  std::atomic<int> same{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 3; ++i) {
        const auto request = asked(40, 9, 1.0F);
        same += (t == 0 ? engine->generate("abcabc", request).tokens
                        : engine->submit("abcabc", request).wait().tokens) == wanted;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, 12);
}

}  // namespace
}  // namespace forerun
