// Verifiers chosen by name, end to end: which pairs are refused, what stays the text of plain
// decoding, what is flagged as lossy.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/settings.h"
#include "engine/engine.h"
#include "engine/requests.h"

namespace forerun {
namespace {

using test::request;
using test::TwoModels;

const std::vector<int32_t> kPrompt = {97, 98, 97, 99, 97, 98, 97};

class VerifierChoice : public testing::Test {
 protected:
  static void SetUpTestSuite() { models_ = new TwoModels; }
  static void TearDownTestSuite() { delete models_; }
  static std::unique_ptr<Engine> load(const std::string& verify, const std::string& policy,
                                      const std::string& draft = "model", int32_t fixed = 6,
                                      MethodOptions options = {}) {
    EngineOptions wanted;
    wanted.target = models_->target.path();
    wanted.draft = draft == "model" ? "model:" + models_->draft.path() : draft;
    wanted.threads = 1;
    wanted.fixed_draft = fixed;
    wanted.policy = policy;
    wanted.verify = verify;
    wanted.method_options = std::move(options);
    return Engine::load(wanted);
  }
  static std::string refusal(const std::string& verify, const std::string& policy,
                             const std::string& draft = "model") {
    try {
      load(verify, policy, draft);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadArgument);
      return error.what();
    }
    return "";
  }
  static TwoModels* models_;
};
TwoModels* VerifierChoice::models_ = nullptr;

const std::vector<std::string> kRatio = {"rejection", "specinfer",    "kseq",     "swor",
                                         "block",     "greedy-draft", "traversal"};

TEST_F(VerifierChoice, EveryRatioVerifierGivesTheGreedyTextAtTemperatureZero) {
  const auto wanted = load("match", "auto", "none")->generate(kPrompt, request(0.0F, 1, 24)).tokens;
  for (const std::string& verify : kRatio) {
    for (const int32_t budget : {1, 4, 13}) {
      const auto other = load(verify, "auto", "model", budget);
      EXPECT_EQ(other->generate(kPrompt, request(0.0F, 1, 24)).tokens, wanted) << verify << budget;
      const auto engine = load(verify, "auto", "model:" + models_->target.path(), budget);
      const Completion got = engine->generate(kPrompt, request(0.0F, 1, 24));
      EXPECT_EQ(got.tokens, wanted) << verify << " " << budget;
      EXPECT_GT(got.stats.accepted, 0) << verify;
      EXPECT_FALSE(got.stats.lossy);
    }
  }
  // Nothing is drawn then: a chain of the target itself is all accepted.
  const auto chain = load("rejection", "chain", "model:" + models_->target.path(), 4);
  const Stats stats = chain->generate(kPrompt, request(0.0F, 1, 24)).stats;
  EXPECT_EQ(stats.accepted, stats.drafted);
  const MethodOptions eased = {{"lenient.epsilon", "0.2"}};
  for (const std::string verify : {"typical", "lenient"}) {
    const auto engine =
        load(verify, "auto", "model", 4, verify == "lenient" ? eased : MethodOptions{});
    const Completion got = engine->generate(kPrompt, request(0.0F, 1, 24));
    EXPECT_EQ(got.tokens, wanted) << verify;
    EXPECT_TRUE(got.stats.lossy);
  }
}

TEST_F(VerifierChoice, WithoutGuessesEveryVerifierGivesTheTextOfPlainDecoding) {
  const auto wanted = load("match", "auto", "none")->generate(kPrompt, request(0.9F, 5, 24)).tokens;
  for (const std::string& verify : kRatio) {
    EXPECT_EQ(load(verify, "auto", "none")->generate(kPrompt, request(0.9F, 5, 24)).tokens, wanted);
    EXPECT_EQ(load(verify, "auto", "model", 0)->generate(kPrompt, request(0.9F, 5, 24)).tokens,
              wanted);
  }
}

TEST_F(VerifierChoice, RatioVerifiersWriteOneTextPerSeedWithPenaltiesAndFilters) {
  GenerateOptions asked = request(0.9F, 3, 24);
  asked.sampling.repetition_penalty = 1.2F;
  asked.sampling.frequency_penalty = 0.2F;
  asked.sampling.top_k = 30;
  asked.sampling.top_p = 0.9F;
  asked.sampling.min_p = 0.01F;
  asked.sampling.logit_bias = {{100, 2.0F}};
  for (const std::string& verify : kRatio) {
    const auto engine = load(verify, "auto", "model", 7);
    const Completion first = engine->generate(kPrompt, asked);
    EXPECT_EQ(load(verify, "auto", "model", 7)->generate(kPrompt, asked).tokens, first.tokens);
    asked.seed += 1;
    EXPECT_NE(engine->generate(kPrompt, asked).tokens, first.tokens) << verify;
    EXPECT_GT(engine->stats().drafted, 0) << verify;
    // Under the controller too, which may not prune what was drawn.
    EXPECT_FALSE(load(verify, "auto", "model", -1)->generate(kPrompt, asked).tokens.empty());
  }
}

TEST_F(VerifierChoice, PairsThatWouldBiasTheTextAreRefusedAtLoad) {
  for (const std::string& verify : kRatio) {
    for (const std::string draft : {"ngram", "recycle", "auto"}) {
      EXPECT_NE(refusal(verify, "auto", draft).find("needs"), std::string::npos) << verify;
    }
    for (const std::string policy : {"eagle2", "opt-tree", "gumbel"}) {
      const std::string why = refusal(verify, policy);
      EXPECT_NE(why.find(verify), std::string::npos) << verify << " " << policy;
      EXPECT_NE(why.find(policy), std::string::npos) << verify << " " << policy;
    }
    EXPECT_NE(refusal(verify, "auto", "ngram+model:" + models_->draft.path()), "") << verify;
  }
  for (const std::string policy : {"dyspec", "rsd-c", "rsd-s", "greedy-draft", "static"}) {
    EXPECT_NE(refusal("rejection", policy).find("one child per node"), std::string::npos) << policy;
    EXPECT_NE(refusal("block", policy), "") << policy;
    EXPECT_NE(refusal("lenient", policy), "") << policy;
  }
  for (const std::string policy : {"dyspec", "rsd-c", "rsd-s", "greedy-draft"}) {
    EXPECT_NE(refusal("specinfer", policy).find("independent draws"), std::string::npos) << policy;
    EXPECT_NE(refusal("kseq", policy), "") << policy;
  }
  EXPECT_NE(refusal("traversal", "greedy-draft"), "");
  EXPECT_NE(refusal("greedy-draft", "dyspec"), "");
  EXPECT_NE(refusal("judge", "auto").find("head"), std::string::npos);
  EXPECT_EQ(refusal("swor", "rsd-s"), "");
  EXPECT_EQ(refusal("typical", "eagle2", "ngram+recycle"), "");
}

TEST_F(VerifierChoice, OptionsReachTheMethodAndWrongOnesAreRefused) {
  EXPECT_NO_THROW(load("kseq", "chain", "model", 6, {{"chain.chains", "3"}}));
  EXPECT_THROW(load("block", "chain", "model", 6, {{"chain.chains", "3"}}), Error);  // not a chain
  EXPECT_THROW(load("match", "rsd-c", "model", 6, {{"rsd-c.branching", "2-x"}}), Error);
  EXPECT_THROW(load("match", "eagle2", "model", 6, {{"eagle2.stop", "patience:0.3"}}), Error);
  EXPECT_THROW(load("match", "eagle2", "model", 6, {{"eagle2.stop", "head"}}), Error);
  EXPECT_THROW(load("match", "eagle2", "model", 6, {{"eagle2.depth", "3"}}), Error);
  EXPECT_THROW(load("typical", "auto", "none", 6, {{"typical.epsilon", "2"}}), Error);
  EXPECT_THROW(load("match", "auto", "none", 6, {{"match.epsilon", "2"}}), Error);
  EXPECT_THROW(load("match", "chain", "model", 6, {{"dyspec.threshold", "0.1"}}), Error);
  EXPECT_THROW(load("match", "auto", "none", 6, {{"nobody.knows", "1"}}), Error);
  EXPECT_THROW(load("swor", "auto", "model", 6, {{"dyspec.thresh", "0.1"}}), Error);
  EXPECT_NO_THROW(load("swor", "auto", "model", 6, {{"dyspec.threshold", "0.1"}}));
  for (const char* unused : {"eagle2.top_k", "gumbel.top_k", "rsd-s.beam", "opt-tree.delta"}) {
    EXPECT_THROW(load("match", "auto", "model", 6, {{unused, "4"}}), Error) << unused;
  }
  EXPECT_NO_THROW(load("match", "auto", "model", 6, {{"auto.top_k", "4"}}));
  EXPECT_THROW(load("swor", "auto", "model", 6, {{"dyspec.stop", "confidence:0.3"}}), Error);
  EXPECT_NO_THROW(load("swor", "auto", "model", 6, {{"auto.stop", "confidence:0.3"}}));
  EXPECT_NO_THROW(load("swor", "auto", "model", 6, {{"auto.stop", "entropy:0.5:adapt"}}));
  for (const char* policy : {"auto", "greedy-draft"}) {
    EXPECT_NO_THROW(load("greedy-draft", policy, "model", 6, {{"greedy-draft.children", "2"}}));
  }
}

}  // namespace
}  // namespace forerun
