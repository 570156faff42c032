// "Never slower": whatever a drafter does, no stretch of 200 tokens is more than 3 % behind plain
// decoding. Virtual time; the loss counts true costs, the controller sees noisy ones.

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "sched/simulation.h"

namespace forerun {
namespace {

using test::Simulation;
using Setting = std::function<void(Simulation&, uint32_t seed)>;

const std::map<std::string, Setting> kDrafters = {
    {"always wrong and sure", [](Simulation& run, uint32_t) { run.truth = 0.0, run.score = 1.0; }},
    {"seldom right and sure", [](Simulation& run, uint32_t) { run.truth = 0.3, run.score = 1.0; }},
    {"right, then wrong for ever",
     [](Simulation& run, uint32_t) {
       run.score = 1.0;
       run.truth_at = [](int32_t token) { return token < 500 ? 0.98 : 0.0; };
     }},
    {"right and wrong by turns of 100 tokens",
     [](Simulation& run, uint32_t) {
       run.score = 1.0;
       run.truth_at = [](int32_t token) { return token / 100 % 2 == 0 ? 0.95 : 0.0; };
     }},
    {"right and wrong by turns of 10 tokens",
     [](Simulation& run, uint32_t) {
       run.score = 1.0;
       run.truth_at = [](int32_t token) { return token / 10 % 2 == 0 ? 0.95 : 0.0; };
     }},
};

const std::map<std::string, Setting> kCircumstances = {
    {"free", [](Simulation&, uint32_t) {}},
    {"a little time per node", [](Simulation& run, uint32_t) { run.level_ms = 0.05; }},
    {"much time per node", [](Simulation& run, uint32_t) { run.level_ms = 0.3; }},
    {"time that it does not declare", [](Simulation& run, uint32_t) { run.hidden_ms = 0.4; }},
    {"a prompt to read first",
     [](Simulation& run, uint32_t) { run.start_ms = 2.0, run.level_ms = 0.05; }},
    {"a plan that promises far too much",
     [](Simulation& run, uint32_t) {
       run.level_ms = 0.05;
       const std::vector<double> all(12, 1.0);
       run.known().arm(DraftSource::kModel).expect(all, 12);
     }},
    {"noisy times", [](Simulation& run, uint32_t) { run.noise = 0.3; }},
    {"a step in fifty takes ten times as long",
     [](Simulation& run, uint32_t) { run.stumbles = 0.02; }},
    {"a load that comes and goes",
     [](Simulation& run, uint32_t) { run.drift = 0.15, run.noise = 0.1; }},
    {"a cost table that is wrong by up to a half",
     [](Simulation& run, uint32_t seed) {
       const test::SimulatedCosts costs = run.costs;
       run.believed = [costs, seed](int32_t rows) {
         std::mt19937 random(1000 * seed + static_cast<uint32_t>(rows));
         return costs.at(rows) * std::exp2(std::uniform_real_distribution<>(-0.6, 0.6)(random));
       };
     }},
    {"a plain step that was measured half as long again",
     [](Simulation& run, uint32_t) {
       const test::SimulatedCosts costs = run.costs;
       run.believed = [costs](int32_t rows) { return rows == 1 ? 1.5 : costs.at(rows); };
     }},
};

class NeverSlower : public testing::TestWithParam<std::string> {};

TEST_P(NeverSlower, NoStretchOfTwoHundredTokensIsThreePercentBehind) {
  const Setting& drafter = kDrafters.at(GetParam());
  for (const auto& [name, circumstance] : kCircumstances) {
    for (const double slope : {0.02, 0.1, 0.3, 1.0}) {
      for (uint32_t seed = 0; seed < 4; ++seed) {
        Simulation run(seed);
        run.room = 1 << 30;
        run.costs.slope = slope;
        drafter(run, seed);
        circumstance(run, seed);
        EXPECT_LE(run.worst_loss(2000, 200), 6.0 + 1e-9) << name << ", slope " << slope;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Drafters, NeverSlower, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& [name, setting] : kDrafters) names.push_back(name);
                           return names;
                         }()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase_if(name, [](char c) { return c == ' ' || c == ','; });
                           return name;
                         });

TEST(ShortAnswers, AreHardlyBehindWhateverTheDrafter) {
  for (const auto& [name, drafter] : kDrafters) {
    for (const double slope : {0.02, 0.1, 0.3}) {
      for (const int32_t tokens : {12, 24}) {
        Simulation run(3);
        run.costs.slope = slope;
        run.room = 256;
        drafter(run, 0);
        run.worst_loss(100, 100);  // the engine has answered before
        for (int request = 0; request < 20; ++request) {
          run.next_request();
          EXPECT_LE(run.worst_loss(tokens, tokens), 1.0 + 0.03 * tokens) << name << " " << slope;
        }
      }
    }
  }
}

TEST(ShortAnswers, AHopelessDrafterCostsThemNothingOnceItIsKnown) {
  for (const double level_ms : {0.0, 0.1}) {
    Simulation run(4);
    run.truth = 0.0;
    run.score = 0.95;
    run.room = 256;
    run.level_ms = level_ms;
    run.worst_loss(400, 200);
    double lost = 0.0;
    for (int request = 0; request < 20; ++request) {
      run.next_request();
      for (int i = 0; i < 20; ++i) {
        const auto step = run.step();
        lost += step.ms - step.tokens;
      }
    }
    EXPECT_LT(lost / 400, 0.01) << level_ms;
  }
}

}  // namespace
}  // namespace forerun
