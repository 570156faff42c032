// An engine on the GPU: the text with and without speculation, and whoever chooses the tokens.
#include <cstdlib>

#include "backend/cuda/fixture.h"
#include "backend/cuda/small_model.h"
#include "base/error.h"
#include "engine/engine.h"

namespace forerun::cuda_test {
namespace {

class CudaEngine : public testing::Test {
 protected:
  void SetUp() override {
    const CudaStatus status = cuda_status();
    if (!status.available) GTEST_SKIP() << "no GPU: " << status.text;
  }
  static std::unique_ptr<Engine> load(const std::string& draft, int32_t fixed,
                                      const std::string& kv_type = "f16") {
    static const test::TinyModelFile target{small_model(2)}, first_layer{small_model(1)};
    EngineOptions options;
    options.target = target.path();
    options.draft = draft == "model" ? "model:" + first_layer.path() : draft;
    options.device = "cuda";
    options.fixed_draft = fixed;
    options.threads = 1;
    options.kv_type = kv_type;
    return Engine::load(options);
  }
  static std::vector<int32_t> prompt(uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<int32_t> tokens(24);
    for (int32_t& token : tokens) token = 97 + static_cast<int32_t>(random() % 6);
    return tokens;
  }
  static GenerateOptions request(const Sampling& sampling, uint64_t seed) {
    GenerateOptions options;
    options.max_tokens = 9;
    options.sampling = sampling;
    options.seed = seed;
    return options;
  }
  // On the GPU, but for the last, which has a bias and depends on a history.
  static std::vector<Sampling> samplings() {
    return {{.temperature = 0.0F},
            {.temperature = 0.8F, .min_p = 0.02F},
            {.temperature = 1.0F, .top_k = 20, .top_p = 0.9F},
            {.temperature = 1.0F, .top_p = 0.9F},
            {.temperature = 1.0F, .presence_penalty = 9.0F, .logit_bias = {{5, 8.0F}}}};
  }
};

TEST_F(CudaEngine, WritesTheSameTextWithAndWithoutSpeculation) {
  for (const auto& [draft, kv_type] : {std::pair{"model", "f16"}, {"ngram", "q8_0"}}) {
    const auto plain = load("none", 0, kv_type), engine = load(draft, 6, kv_type);
    uint64_t seed = 1;
    for (const Sampling& sampling : samplings()) {
      const auto tokens = prompt(static_cast<uint32_t>(seed));
      EXPECT_EQ(engine->generate(tokens, request(sampling, seed)).tokens,
                plain->generate(tokens, request(sampling, seed)).tokens)
          << draft << " " << kv_type << " temperature " << sampling.temperature;
      ++seed;
    }
  }
}

// Whoever asks for log-probabilities gets the logits to the host.
TEST_F(CudaEngine, ChoosesOnTheDeviceWhatTheHostWouldChoose) {
  const auto engine = load("model", 6);
  uint64_t seed = 11;
  for (const Sampling& sampling : samplings()) {
    const auto tokens = prompt(static_cast<uint32_t>(seed));
    GenerateOptions on_host = request(sampling, seed);
    on_host.logprobs = 0;
    EXPECT_EQ(engine->generate(tokens, request(sampling, seed)).tokens,
              engine->generate(tokens, on_host).tokens)
        << "temperature " << sampling.temperature;
    ++seed;
  }
}

TEST_F(CudaEngine, StepsOfSeveralSessionsGiveEachItsOwnTokens) {
  const auto engine = load("model", 4);
  const std::vector<Sampling> all = samplings();
  std::vector<Session> together, alone;
  std::vector<Session*> pointers;
  for (size_t i = 0; i < 3; ++i) {
    for (auto* sessions : {&together, &alone}) {
      sessions->push_back(engine->session(all[i], i));
      sessions->back().append(prompt(static_cast<uint32_t>(i)));
    }
  }
  for (Session& session : together) pointers.push_back(&session);
  for (int step = 0; step < 5; ++step) engine->step(pointers);
  for (size_t i = 0; i < 3; ++i) {
    while (alone[i].length() < together[i].length())
      alone[i].step(together[i].length() - alone[i].length());
    EXPECT_EQ(alone[i].tokens(), together[i].tokens()) << "session " << i;
  }
}

// The emulated GPU refuses every launch from one on.
TEST_F(CudaEngine, AFailingDeviceIsAnErrorOfTheCaller) {
  if (std::getenv("FORERUN_EMULATED_GPU_FAILS_AT") == nullptr) GTEST_SKIP() << "a sound device";
  try {
    const auto engine = load("model", 4);
    engine->generate(prompt(1), request({}, 1));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_NE(std::string(error.what()).find("cudaErrorLaunchFailure"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace forerun::cuda_test
