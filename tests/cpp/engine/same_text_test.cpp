// The exactness contract, end to end: the tokens are those of plain decoding whatever guesses,
// batches or chunks.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "draft/datastore.h"
#include "engine/engine.h"
#include "engine/requests.h"
#include "text/tokenizer.h"

namespace forerun {
namespace {

using test::repetitive_prompt;
using test::request;
using test::TwoModels;

std::unique_ptr<Engine> load(const std::string& target, const std::string& draft,
                             int32_t fixed = -1, int32_t threads = 1,
                             const std::string& policy = "auto") {
  EngineOptions options;
  options.target = target;
  options.draft = draft;
  options.fixed_draft = fixed;
  options.threads = threads;
  options.policy = policy;
  return Engine::load(options);
}

class SameText : public testing::Test {
 protected:
  static void SetUpTestSuite() { models_ = new TwoModels; }
  static void TearDownTestSuite() { delete models_; }
  static std::vector<std::vector<int32_t>> plain(const std::vector<GenerateOptions>& requests) {
    const auto engine = load(models_->target.path(), "none");
    std::vector<std::vector<int32_t>> out;
    for (size_t i = 0; i < requests.size(); ++i) {
      out.push_back(
          engine->generate(repetitive_prompt(48, static_cast<uint32_t>(i)), requests[i]).tokens);
    }
    return out;
  }
  static std::vector<GenerateOptions> requests() {
    return {request(0.0F, 1), request(0.7F, 2), request(1.0F, 3), request(1.0F, 4)};
  }
  // A datastore of texts that the target might write.
  static void write_store(const std::string& path) {
    std::vector<std::vector<int32_t>> texts = plain(requests());
    for (uint32_t seed = 0; seed < 4; ++seed) texts.push_back(repetitive_prompt(200, seed));
    const auto tokenizer = load_tokenizer(*open_checkpoint(models_->target.path()));
    build_datastore(path, texts, tokenizer->vocab_size(), tokenizer->fingerprint());
  }
  static TwoModels* models_;
};
TwoModels* SameText::models_ = nullptr;

TEST_F(SameText, WithEveryDrafterPolicyBudgetAndThreadCount) {
  const auto wanted = plain(requests());
  const std::string model = "model:" + models_->draft.path();
  const std::string self = "model:" + models_->target.path();
  const test::TempFolder folder;
  write_store(folder.path() + "/texts.store");
  const std::string store = "retrieval:" + folder.path() + "/texts.store";
  std::vector<std::pair<std::string, std::string>> guesses = {
      {"ngram", "auto"},
      {"suffix", "auto"},
      {"recycle", "auto"},
      {"trigram", "auto"},
      {"auto", "auto"},
      {"ngram+recycle", "auto"},
      {"suffix+recycle", "auto"},
      {self, "auto"},
      {"suffix+trigram+recycle", "auto"},
      {store, "auto"},
      {"suffix+trigram+" + store + "+" + self, "auto"},
      {"ngram+" + self, "chain"},
      {"early-exit", "auto"}};
  for (const Method& policy : methods().policies) guesses.push_back({model, policy.name});
  int64_t accepted = 0;
  for (const auto& [draft, policy] : guesses) {
    const bool every_budget = draft == "auto" || draft == "ngram" || draft == self;
    const int32_t step = draft == model ? 5 : every_budget ? 1 : 4;
    for (int32_t budget = 0; budget <= 32; budget += step) {
      const auto engine = load(models_->target.path(), draft, budget, 1 + budget % 2, policy);
      const auto asked = requests();
      for (size_t i = 0; i < asked.size(); ++i) {
        const Completion got =
            engine->generate(repetitive_prompt(48, static_cast<uint32_t>(i)), asked[i]);
        ASSERT_EQ(got.tokens, wanted[i])
            << draft << " " << policy << " budget " << budget << " request " << i;
        if (budget == 0) {
          ASSERT_EQ(got.stats.drafted, 0);
        }
        accepted += got.stats.accepted;
      }
    }
  }
  EXPECT_GT(accepted, 1000);  // the drafts were really used
}

TEST_F(SameText, WithADraftModelThatReadsAnExcerpt) {
  const auto wanted = plain(requests());
  EngineOptions options;
  options.target = models_->target.path();
  options.draft = "model:" + models_->target.path();
  options.threads = 1;
  options.fixed_draft = 6;
  options.method_options = {{"model.context", "retrieved"},
                            {"model.context_tokens", "40"},
                            {"model.context_chunk", "6"},
                            {"model.context_recent", "12"}};
  const auto engine = Engine::load(options);
  const auto asked = requests();
  int64_t accepted = 0;
  for (size_t i = 0; i < asked.size(); ++i) {
    const Completion got =
        engine->generate(repetitive_prompt(48, static_cast<uint32_t>(i)), asked[i]);
    ASSERT_EQ(got.tokens, wanted[i]) << i;
    accepted += got.stats.accepted;
  }
  EXPECT_GT(accepted, 0);
}

TEST_F(SameText, WhenTheTargetDraftsForItselfAlsoAfterAFork) {
  const auto wanted = plain(requests());
  EngineOptions options;
  options.target = models_->target.path();
  options.draft = "ngram+early-exit";
  options.threads = 1;
  options.fixed_draft = 7;
  options.method_options = {{"early-exit.exits", "1,2"}, {"early-exit.confidence", "0.2"}};
  const auto engine = Engine::load(options);
  const auto asked = requests();
  int64_t accepted = 0;
  for (size_t i = 0; i < asked.size(); ++i) {
    Session session = engine->session(asked[i].sampling, asked[i].seed);
    session.append(repetitive_prompt(48, static_cast<uint32_t>(i)));
    session.step();
    Session twin = session.fork();
    for (Session* one : {&twin, &session}) {
      while (one->length() < 48 + 30) one->step();
      for (size_t at = 0; at < 30; ++at) ASSERT_EQ(one->tokens()[48 + at], wanted[i][at]) << i;
    }
    accepted += session.stats().accepted + twin.stats().accepted;
  }
  EXPECT_GT(accepted, 50);
}

TEST_F(SameText, UnderTheController) {
  const auto wanted = plain(requests());
  for (const std::string draft : {"auto", "recycle", "none"}) {
    const auto engine = load(models_->target.path(), draft, -1, 2);
    const auto asked = requests();
    for (size_t i = 0; i < asked.size(); ++i) {
      ASSERT_EQ(engine->generate(repetitive_prompt(48, static_cast<uint32_t>(i)), asked[i]).tokens,
                wanted[i])
          << draft;
    }
  }
}

TEST_F(SameText, WithPenaltiesAndFilters) {
  std::vector<GenerateOptions> asked(3, request(0.8F, 5));
  asked[0].sampling.repetition_penalty = 1.3F;
  asked[1].sampling.frequency_penalty = 0.5F;
  asked[1].sampling.presence_penalty = 0.4F;
  asked[1].sampling.top_k = 20;
  asked[2].sampling.top_p = 0.8F;
  asked[2].sampling.min_p = 0.05F;
  asked[2].sampling.logit_bias = {{100, 3.0F}, {99, -5.0F}};
  const auto wanted = plain(asked);
  const auto engine = load(models_->target.path(), "ngram+model:" + models_->target.path(), 7);
  for (size_t i = 0; i < asked.size(); ++i) {
    ASSERT_EQ(engine->generate(repetitive_prompt(48, static_cast<uint32_t>(i)), asked[i]).tokens,
              wanted[i])
        << i;
  }
}

TEST_F(SameText, WithBatchNeighbours) {
  const auto wanted = plain(requests());
  const auto engine = load(models_->target.path(), "ngram+recycle", 9);
  const auto asked = requests();
  std::vector<Session> sessions;
  for (size_t i = 0; i < asked.size(); ++i) {
    sessions.push_back(engine->session(asked[i].sampling, asked[i].seed));
    sessions.back().append(repetitive_prompt(48, static_cast<uint32_t>(i)));
  }
  std::vector<bool> ended(asked.size());
  for (int step = 0; step < 40; ++step) {
    std::vector<Session*> running;
    std::vector<size_t> which;
    for (size_t i = 0; i < sessions.size(); ++i) {
      if (!ended[i]) running.push_back(&sessions[i]), which.push_back(i);
    }
    const auto results = engine->step(running);
    for (size_t i = 0; i < results.size(); ++i)
      ended[which[i]] = results[i].state != StepState::kRunning;
  }
  for (size_t i = 0; i < sessions.size(); ++i) {
    const std::vector<int32_t>& all = sessions[i].tokens();
    ASSERT_GE(all.size(), 48 + wanted[i].size());
    EXPECT_EQ(std::vector<int32_t>(all.begin() + 48,
                                   all.begin() + 48 + static_cast<ptrdiff_t>(wanted[i].size())),
              wanted[i]);
  }
}

TEST_F(SameText, WhateverThePromptChunksAndPrefixReuse) {
  const auto prompt = repetitive_prompt(300, 9);
  const GenerateOptions asked = request(0.9F, 7);
  const auto fresh = load(models_->target.path(), "none");
  const auto wanted = fresh->generate(prompt, asked).tokens;

  for (const int32_t chunk :
       {1, 7, 64, 65, 299}) {  // appended in pieces, a step between would change the text
    Session session = load(models_->target.path(), "none")->session(asked.sampling, asked.seed);
    for (size_t at = 0; at < prompt.size(); at += static_cast<size_t>(chunk)) {
      session.append(
          std::span(prompt).subspan(at, std::min(prompt.size() - at, static_cast<size_t>(chunk))));
      Session probe = session.fork();  // forwards the rows so far
      probe.step();
    }
    std::vector<int32_t> got;
    while (got.size() < wanted.size()) {
      const StepResult step = session.step();
      got.insert(got.end(), step.tokens.begin(), step.tokens.end());
    }
    EXPECT_EQ(got, wanted) << chunk;
  }
  // A second request on the same engine takes the keys and values of the first.
  const Completion again = fresh->generate(prompt, asked);
  EXPECT_EQ(again.tokens, wanted);
  EXPECT_EQ(again.stats.reused_tokens, 299);
  auto longer = prompt;
  longer.insert(longer.end(), {97, 98, 97});
  const Completion reused = fresh->generate(longer, asked);
  EXPECT_GE(reused.stats.reused_tokens, 300);
  EXPECT_EQ(reused.tokens, load(models_->target.path(), "none")->generate(longer, asked).tokens);
}

}  // namespace
}  // namespace forerun
