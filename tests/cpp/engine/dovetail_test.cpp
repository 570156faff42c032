// Placement and overlap, end to end: the text is that of one device, whatever lies where, whatever
// happens first, and what fails fails alone.

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <tuple>

#include "backend/simulated.h"
#include "base/affinity.h"
#include "base/blocks.h"
#include "draft/ahead.h"
#include "engine/engine.h"
#include "engine/engine_state.h"
#include "engine/requests.h"
#include "engine/session_state.h"
#include "model/tiny_head.h"

namespace forerun {
namespace {

using test::repetitive_prompt;
using test::TwoModels;

class Dovetail : public testing::Test {
 protected:
  static void SetUpTestSuite() { models_ = new TwoModels(3, 2); }
  static void TearDownTestSuite() { delete models_; }
  static EngineOptions options(const std::string& placement, const std::string& draft = "model",
                               int32_t fixed = 6) {
    EngineOptions o;
    o.target = models_->target.path();
    o.draft = draft == "model" ? "model:" + models_->draft.path() : draft;
    o.placement = placement;
    o.fixed_draft = fixed;
    o.threads = 1;
    return o;
  }
  // "cuda:0" is simulated by a CPU; what it is like and when it fails is in `gpu`.
  static DeviceMaker with_gpu(const std::shared_ptr<SimulatedDevice>& gpu) {
    return [gpu](const std::string& device) -> std::unique_ptr<Backend> {
      if (device == "cpu") return make_cpu_backend(1);
      return make_simulated_backend(make_cpu_backend(1), gpu);
    };
  }
  // "cuda:0" and "cuda:1", each simulated by a CPU.
  static DeviceMaker with_two_gpus(const std::shared_ptr<SimulatedDevice>& first,
                                   const std::shared_ptr<SimulatedDevice>& second) {
    return [first, second](const std::string& device) -> std::unique_ptr<Backend> {
      if (device == "cpu") return make_cpu_backend(1);
      return make_simulated_backend(make_cpu_backend(1), device == "cuda:0" ? first : second);
    };
  }
  static std::shared_ptr<EngineState> engine_with(const EngineOptions& o,
                                                  const std::shared_ptr<SimulatedDevice>& gpu) {
    return std::make_shared<EngineState>(o, with_gpu(gpu));
  }
  static Sampling sampling(float temperature) {
    Sampling s;
    s.temperature = temperature;
    return s;
  }
  static std::unique_ptr<SessionState> start(const std::shared_ptr<EngineState>& engine,
                                             float temperature, uint64_t seed) {
    auto session = std::make_unique<SessionState>(engine, sampling(temperature), seed, -1);
    session->append(repetitive_prompt(40, static_cast<uint32_t>(seed)));
    return session;
  }
  static void step(SessionState& session) {
    SessionState* const only = &session;
    std::move(decode_step(*session.engine, {&only, 1}).front()).value();
  }
  static std::vector<int32_t> decode(const std::shared_ptr<EngineState>& engine, float temperature,
                                     uint64_t seed, size_t tokens = 90) {
    const auto session = start(engine, temperature, seed);
    while (session->tokens.size() < tokens) step(*session);
    return {session->tokens.begin(), session->tokens.begin() + static_cast<ptrdiff_t>(tokens)};
  }
  static std::vector<int32_t> plain(float temperature, uint64_t seed) {
    static const auto engine = std::make_shared<EngineState>(options("cpu", "none", -1));
    return decode(engine, temperature, seed);
  }
  static TwoModels* models_;
};
TwoModels* Dovetail::models_ = nullptr;

TEST_F(Dovetail, TheTextIsTheSameInEveryPlacementWithAndWithoutOverlap) {
  const std::string placements[] = {"cuda",
                                    R"({"layers": "cpu", "draft": "cuda"})",
                                    R"({"layers": {"0-1": "cpu", "2": "cuda"}, "draft": "cuda"})",
                                    R"({"layers": {"0": "cuda", "1-2": "cpu"}, "draft": "cuda"})",
                                    R"({"layers": "cuda", "head": "cpu", "draft": "cpu"})",
                                    R"({"layers": "cuda", "head": "cuda", "draft": "cpu"})"};
  for (const std::string& placement : placements) {
    for (const bool overlap : {false, true}) {
      EngineOptions o =
          options(placement, overlap ? "suffix+model:" + models_->draft.path() : "model");
      o.overlap = overlap;
      const auto engine = engine_with(o, std::make_shared<SimulatedDevice>());
      for (const float temperature : {0.0F, 0.8F}) {
        EXPECT_EQ(decode(engine, temperature, 5), plain(temperature, 5)) << placement;
      }
      EXPECT_EQ(engine->draft_shared.model_queue != nullptr, engine->placement.draft_is_apart());
    }
  }
}

TEST_F(Dovetail, TwoSetsOfCoresAreTwoDevices) {
  const std::vector<int> cores = usable_cores();
  if (cores.size() < 2) GTEST_SKIP() << "needs two cores that this process may use";
  const std::string first = "cpu:" + std::to_string(cores[0]),
                    second = "cpu:" + std::to_string(cores[1]);
  const std::string apart = R"({"layers": ")" + first + R"(", "draft": ")" + second + R"("})";
  const std::string both = R"({"layers": {"0-1": ")" + first + R"(", "2": ")" + second + R"("}})";
  for (const std::string& placement : {apart, both, std::string("dovetail")}) {
    const auto engine = std::make_shared<EngineState>(options(placement));
    EXPECT_EQ(decode(engine, 0.8F, 7), plain(0.8F, 7)) << placement;
  }
  const auto engine = std::make_shared<EngineState>(options(apart));
  EXPECT_EQ(engine->backend->name(), first);
  EXPECT_EQ(engine->draft_shared.model->backend().name(), second);
  EXPECT_TRUE(engine->draft_shared.model_queue);
}

// The target waits for what is drafted ahead, from its first operation on, as if it were that slow.
TEST_F(Dovetail, EveryTreeIsReadyWhenTheTargetIsSlowAndTheDraftIsRight) {
  auto cpu = std::make_shared<SimulatedDevice>();
  const DeviceMaker make = [cpu](const std::string& device) -> std::unique_ptr<Backend> {
    auto backend = make_cpu_backend(1);
    if (device != "cpu") return backend;
    return make_simulated_backend(std::move(backend), cpu);
  };
  EngineOptions o =
      options(R"({"layers": "cpu", "draft": "cuda"})", "model:" + models_->target.path(), 4);
  o.policy = "chain";
  const auto engine = std::make_shared<EngineState>(o, make);
  engine->draft_shared.ahead_trial.reset();  // in every step, whatever it takes
  const std::shared_ptr<WorkQueue> of_draft = engine->draft_shared.model_queue;
  cpu->before = [of_draft](int64_t) {
    WorkQueue::Task all_before([] {});
    of_draft->run(all_before);
  };
  const auto session = start(engine, 0.0F, 4);  // of a text without an end token
  for (int i = 0; i < 21; ++i) step(*session);
  cpu->before = nullptr;
  const auto& drafter = dynamic_cast<const AheadDrafter&>(*session->drafter);
  EXPECT_EQ(drafter.counts().started, 21);
  EXPECT_EQ(drafter.counts().hits, 20);  // all but the first
  EXPECT_EQ(session->stats.accepted, 21 * 4);
}

TEST_F(Dovetail, RandomDelaysChangeNothing) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    auto gpu = std::make_shared<SimulatedDevice>();
    auto random = std::make_shared<std::mt19937>(seed);  // used by the queue's thread alone
    gpu->before = [random](int64_t) {
      if ((*random)() % 8 == 0)
        std::this_thread::sleep_for(std::chrono::microseconds((*random)() % 200));
    };
    const auto engine = engine_with(options(R"({"layers": "cpu", "draft": "cuda"})"), gpu);
    const float temperature = seed % 2 == 0 ? 0.0F : 0.8F;
    EXPECT_EQ(decode(engine, temperature, seed), plain(temperature, seed)) << seed;
  }
}

// Model drafts: the first steps are made before it fails. A head already works while the prompt is
// read.
TEST_F(Dovetail, ASessionGoesOnWithoutADraftWhoseDeviceFailed) {
  const std::vector<int32_t> wanted = plain(0.8F, 4);
  const test::TinyModel target{.layers = 3};
  const test::TinyHeadFile head({.target = target, .blocks = 2, .columns = 120});
  const std::string model = "model", trained = "head:" + head.path();
  for (const auto& [draft, steps, after] :
       std::vector<std::tuple<std::string, int, int64_t>>{{model, 2, 0},
                                                          {model, 2, 1},
                                                          {model, 2, 40},
                                                          {model, 2, 95},
                                                          {model, 2, 130},
                                                          {model, 2, 170},
                                                          {trained, 0, 0},
                                                          {trained, 0, 5},
                                                          {trained, 2, 60}}) {
    auto gpu = std::make_shared<SimulatedDevice>();
    const auto engine = engine_with(options(R"({"layers": "cpu", "draft": "cuda"})", draft), gpu);
    const auto session = start(engine, 0.8F, 4);
    for (int i = 0; i < steps; ++i) step(*session);
    gpu->fails_at = gpu->operations + after;
    int32_t failures = 0;
    while (session->tokens.size() < 90) {
      const std::vector<int32_t> before = session->tokens;
      try {
        step(*session);
      } catch (const Error& error) {
        ++failures;
        EXPECT_EQ(error.kind(), ErrorKind::kDevice);
        EXPECT_NE(std::string(error.what()).find("cuda:0"), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("go on"), std::string::npos) << error.what();
        EXPECT_EQ(session->tokens, before);
      }
    }
    EXPECT_EQ(failures, 1) << draft << after;
    session->tokens.resize(90);
    EXPECT_EQ(session->tokens, wanted) << after;
  }
}

// Whole texts, of the thread itself and of a batch: nobody has to ask again.
TEST_F(Dovetail, RequestsGoOnWithoutADraftWhoseDeviceFailed) {
  const test::TinyModel target{.layers = 3};
  const test::TinyHeadFile head({.target = target, .blocks = 2, .columns = 120});
  const auto ask = [](uint64_t seed) {
    RequestOptions asked;
    asked.max_tokens = 60;
    asked.seed = seed;
    asked.sampling.temperature = 0.8F;
    return asked;
  };
  Engine alone(std::make_shared<EngineState>(options("cpu", "none", -1)));
  for (const std::string& draft : {std::string("model"), "head:" + head.path()}) {
    for (const int64_t after : {0, 3, 25, 70, 200}) {
      auto gpu = std::make_shared<SimulatedDevice>();
      EngineOptions o = options(R"({"layers": "cpu", "draft": "cuda"})", draft);
      o.record_taps = {-1};
      Engine engine(engine_with(o, gpu));
      gpu->fails_at = gpu->operations + after;
      std::vector<Request> requests;
      for (uint64_t seed = 0; seed < 4; ++seed) {
        requests.push_back(engine.submit(repetitive_prompt(40, 1), ask(seed)));
      }
      for (uint64_t seed = 0; seed < 4; ++seed) {
        const Completion& answer = requests[seed].wait();
        EXPECT_EQ(answer.tokens, alone.generate(repetitive_prompt(40, 1), ask(seed)).tokens);
        EXPECT_EQ(answer.features.tokens, 39 + static_cast<int32_t>(answer.tokens.size()));
        EXPECT_NE(answer.stats.draft_failure.find("cuda:0"), std::string::npos) << draft << after;
      }
      const Completion own = engine.generate(repetitive_prompt(40, 2), ask(9));
      EXPECT_EQ(own.tokens, alone.generate(repetitive_prompt(40, 2), ask(9)).tokens);
      EXPECT_NE(own.stats.draft_failure.find("cuda:0"), std::string::npos);
      EXPECT_NE(engine.stats().draft_failure.find("cuda:0"), std::string::npos);
    }
  }
  EXPECT_EQ(alone.stats().draft_failure, "");
}

TEST_F(Dovetail, ADraftWithoutMemoryIsGivenUp) {
  auto gpu = std::make_shared<SimulatedDevice>();
  Engine engine(engine_with(options(R"({"layers": "cpu", "draft": "cuda"})"), gpu));
  gpu->before = [](int64_t) { throw Error(ErrorKind::kOutOfMemory, "cuda:0: no memory"); };
  Engine alone(std::make_shared<EngineState>(options("cpu", "none", -1)));
  const GenerateOptions ask = test::request(0.0F, 1);
  const Completion answer = engine.generate(repetitive_prompt(40, 1), ask);
  EXPECT_EQ(answer.tokens, alone.generate(repetitive_prompt(40, 1), ask).tokens);
  EXPECT_EQ(answer.stats.draft_failure, "cuda:0: no memory");
  EXPECT_EQ(answer.stats.drafted, 0);
}

TEST_F(Dovetail, AStepThatTheTargetsDeviceFailedCanBeMadeAgain) {
  const std::vector<int32_t> wanted = plain(0.0F, 6);
  auto gpu = std::make_shared<SimulatedDevice>();
  const auto engine =
      engine_with(options(R"({"layers": {"0": "cpu", "1-2": "cuda"}, "draft": "cpu"})"), gpu);
  const auto session = start(engine, 0.0F, 6);
  std::mt19937 random(3);
  int32_t failures = 0;
  while (session->tokens.size() < 90) {
    gpu->fails_at = random() % 2 == 0 ? gpu->operations + static_cast<int64_t>(random() % 60) : -1;
    try {
      step(*session);
    } catch (const Error& error) {
      ++failures;
      EXPECT_NE(std::string(error.what()).find("cuda:0"), std::string::npos);
    }
  }
  EXPECT_GT(failures, 3);
  session->tokens.resize(90);
  EXPECT_EQ(session->tokens, wanted);
}

TEST_F(Dovetail, ARequestCanBeCancelledAndSessionsDroppedWhileItDraftsAhead) {
  auto gpu = std::make_shared<SimulatedDevice>();
  const auto engine = engine_with(options(R"({"layers": "cpu", "draft": "cuda"})"), gpu);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto session = start(engine, 0.8F, seed);
    for (uint64_t i = 0; i <= seed % 4; ++i) step(*session);
    SessionState twin(*session);
    session->rewind(static_cast<int32_t>(session->tokens.size()) - 1);
    step(twin);
  }
  // Sessions of other threads take their turns.
  std::vector<std::thread> threads;
  std::vector<std::vector<int32_t>> texts(3);
  for (size_t i = 0; i < texts.size(); ++i) {
    threads.emplace_back([&, i] { texts[i] = decode(engine, 0.8F, i); });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(texts[i], plain(0.8F, i));
}

TEST_F(Dovetail, ABatchOfSessionsDraftsAheadOnOneQueue) {
  auto gpu = std::make_shared<SimulatedDevice>();
  const auto engine = engine_with(options(R"({"layers": "cpu", "draft": "cuda"})"), gpu);
  std::vector<std::unique_ptr<SessionState>> sessions;
  std::vector<SessionState*> batch;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    sessions.push_back(start(engine, 0.8F, seed));
    batch.push_back(sessions.back().get());
  }
  for (int i = 0; i < 12; ++i) {
    for (StepOutcome& outcome : decode_step(*engine, batch)) std::move(outcome).value();
  }
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const std::vector<int32_t> wanted = plain(0.8F, seed);
    const size_t both = std::min(wanted.size(), batch[seed]->tokens.size());
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.begin() + static_cast<ptrdiff_t>(both),
                           batch[seed]->tokens.begin()));
  }
}

// The target drafts for itself, its three layers in one group.
TEST_F(Dovetail, TheTextIsTheSameWhenSeveralDevicesShareTheLayersOfADraft) {
  const std::string placements[] = {
      "cuda", R"({"layers": "cpu", "draft": ["cuda:0", "cuda:1"]})",
      R"({"layers": "cpu", "draft": ["cuda:0", "cpu"]})",
      R"({"layers": "cpu", "draft": ["cpu", "cuda:0"]})",
      R"({"layers": {"0": "cpu", "1-2": "cuda:1"}, "draft": ["cuda:0", "cuda:1", "cpu"]})"};
  for (const std::string& placement : placements) {
    for (const bool overlap : {false, true}) {
      EngineOptions o = options(placement, "model:" + models_->target.path());
      o.overlap = overlap;
      o.method_options = {{"model.parallel_layers", "0-2"}};
      const auto second = std::make_shared<SimulatedDevice>();
      const auto engine = std::make_shared<EngineState>(
          o, with_two_gpus(std::make_shared<SimulatedDevice>(), second));
      for (const float temperature : {0.0F, 0.8F}) {
        EXPECT_EQ(decode(engine, temperature, 5), plain(temperature, 5)) << placement;
      }
      if (engine->placement.draft_is_apart()) {
        EXPECT_EQ(engine->draft_shared.ahead, overlap && !engine->placement.draft_borrows());
      }
      EXPECT_EQ(second->operations > 0, placement.find("cuda:1") != std::string::npos);
    }
  }
}

TEST_F(Dovetail, ADraftThatSharesItsLayersFailsAlone) {
  const std::vector<int32_t> wanted = plain(0.8F, 4);
  for (const int64_t after : {0, 10, 55, 120}) {
    const auto second = std::make_shared<SimulatedDevice>();
    EngineOptions o = options(R"({"layers": "cpu", "draft": ["cuda:0", "cuda:1"]})",
                              "model:" + models_->target.path());
    o.method_options = {{"model.parallel_layers", "0-2"}};
    const auto engine = std::make_shared<EngineState>(
        o, with_two_gpus(std::make_shared<SimulatedDevice>(), second));
    const auto session = start(engine, 0.8F, 4);
    step(*session);
    second->fails_at = second->operations + after;
    int32_t failures = 0;
    while (session->tokens.size() < 90) {
      try {
        step(*session);
      } catch (const Error& error) {
        ++failures;
        EXPECT_EQ(error.kind(), ErrorKind::kDevice);
      }
    }
    EXPECT_EQ(failures, 1) << after;
    session->tokens.resize(90);
    EXPECT_EQ(session->tokens, wanted) << after;
  }
}

TEST_F(Dovetail, BeginsWithTheTreeOfItsPlanAndWritesTheSameText) {
  EngineOptions o =
      options(R"({"layers": "cpu", "nodes": 5, "depth": 2, "tokens": 2.4})", "model", -1);
  const auto engine = std::make_shared<EngineState>(o);
  DraftArm& arm = engine->known.arm(DraftSource::kModel);
  EXPECT_EQ(arm.depth(), 2);
  double tokens = 1.0;
  for (const double value : arm.profile(5)) tokens += value;
  EXPECT_NEAR(tokens, 2.4, 1e-3);
  EXPECT_EQ(decode(engine, 0.8F, 5), plain(0.8F, 5));
  o.placement = "cpu";
  EXPECT_GT(std::make_shared<EngineState>(o)->known.arm(DraftSource::kModel).depth(), 1000);
}

TEST_F(Dovetail, HiddenRowsComeUpAsHalfFloatsForAHeadOnAnotherDevice) {
  const test::TinyModel target{.layers = 3};
  const test::TinyHeadFile head({.target = target, .blocks = 2, .columns = 120});
  for (const bool apart : {true, false}) {
    auto gpu = std::make_shared<SimulatedDevice>();
    const std::string placement =
        apart ? R"({"layers": "cuda", "draft": "cpu"})" : R"({"layers": "cuda"})";
    const auto engine = engine_with(options(placement, "head:" + head.path()), gpu);
    std::vector<float> memory(4 * 256);
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = 0.001F * static_cast<float>(i) - 0.3F;
    memory[700] = 1e9F;
    Forward out;
    out.taps = Tensor(memory.data(), 4, 256);
    const int64_t before = gpu->copied;
    const HiddenRows rows = engine->hidden_rows(out, 1, 2);
    EXPECT_EQ(gpu->copied - before, 2 * 256 * (apart ? 2 : 4));
    ASSERT_EQ(rows.rows, 2);
    for (int32_t row = 0; row < 2; ++row) {
      for (size_t i = 0; i < 256; ++i) {
        const float value = memory[static_cast<size_t>(row + 1) * 256 + i];
        const float crossed = value > 65504.0F ? 65504.0F : half_to_float(float_to_half(value));
        ASSERT_EQ(rows.row(row)[i], apart ? crossed : value) << i;
      }
    }
    EXPECT_EQ(decode(engine, 0.8F, 5), plain(0.8F, 5));
  }
}

TEST_F(Dovetail, RefusesPlacementsThatCannotBe) {
  const auto refused = [](EngineOptions o) {
    try {
      Engine::load(o);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(refused(options("nowhere")).find("'nowhere'"), std::string::npos);
  EXPECT_NE(refused(options(R"({"layers": {"0-1": "cpu"}})")).find("has 3"), std::string::npos);
  EngineOptions two = options("cpu");
  two.device = "cuda";
  EXPECT_NE(refused(two).find("one of them"), std::string::npos);
  if (usable_cores().size() > 1) {
    const std::string first = "\"cpu:" + std::to_string(usable_cores()[0]) + "\"",
                      second = "\"cpu:" + std::to_string(usable_cores()[1]) + "\"";
    EngineOptions nothing_shared =
        options("{\"layers\": " + first + ", \"draft\": [" + first + ", " + second + "]}");
    EXPECT_NE(refused(nothing_shared).find("model.parallel_layers"), std::string::npos);
    nothing_shared.method_options = {{"model.parallel_layers", "0-9"}};
    EXPECT_NE(refused(nothing_shared).find("'0-9'"), std::string::npos);
  }
}

}  // namespace
}  // namespace forerun
