// Texts written through the real kernels at temperature 1, 131072 each: the first two tokens follow
// the target's law (G-test), and as much is accepted as the exact expectation says.

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "draft/model_drafter.h"
#include "model/tiny_model.h"
#include "verify/enumeration.h"
#include "verify/reference_sampler.h"
#include "verify/verifier.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 5;
constexpr int32_t kContext = 64;
constexpr uint32_t kDraftSeed = 22;  // a small model that often agrees
constexpr int64_t kTrials = 131072;
const std::vector<int32_t> kPrompt = {3};

std::shared_ptr<const Model> small_model(uint32_t seed) {
  static const std::shared_ptr<Backend> backend = make_cpu_backend(1);
  test::TinyModel shape;
  shape.dtype = shape.head_dtype = DType::kF32;
  shape.layers = shape.heads = shape.kv_heads = 1;
  shape.width = shape.ffn = shape.head_dim = 32;
  shape.vocab = kVocab;
  shape.context = kContext;
  shape.seed = seed;
  const test::TinyModelFile file(shape);
  return Model::load(open_checkpoint(file.path()), backend);
}

// One model with its cache, as a session uses it.
struct Runner {
  std::shared_ptr<const Model> model;
  Workspace workspace;
  KvCache cache;
  Batch batch;

  explicit Runner(std::shared_ptr<const Model> loaded)
      : model(std::move(loaded)),
        workspace(*model, 16, 16),
        cache(model->backend(), model->kv_layout(), kContext) {}

  NodeLogits forward(const DraftTree& tree) {
    batch.clear();
    batch.add_tree(cache, tree);
    const Tensor logits = model->forward(batch, workspace).logits;
    return {logits.row(0), logits.stride, kVocab};
  }
};

// The model's law after the prompt and every text of up to `depth` tokens.
test::TableModel table_of(const std::shared_ptr<const Model>& model, size_t depth) {
  test::TableModel table(kVocab, 0);
  std::vector<test::Tokens> texts = {{}};
  for (size_t at = 0; at < texts.size(); ++at) {
    const test::Tokens text = texts[at];
    Runner runner(model);
    DraftTree chain;
    chain.reset(kPrompt.back());
    for (const int32_t token : text) {
      chain.add(chain.size() - 1, token, 0.5F, DraftSource::kOther);
    }
    const std::span<const float> row = runner.forward(chain).row(chain.size() - 1);
    const test::ReferenceSampler reference{{.temperature = 1.0F}, {}, {}};
    table.set(text, reference.probabilities({row.begin(), row.end()}));
    for (int32_t token = 0; token < kVocab && text.size() < depth; ++token) {
      texts.push_back(text);
      texts.back().push_back(token);
    }
  }
  return table;
}

struct Case {
  std::string verifier, policy;
  MethodOptions options;
  Budget budget;
};

void PrintTo(const Case& tested, std::ostream* out) {
  *out << tested.verifier << " with " << tested.policy;
}

class KernelLaw : public testing::TestWithParam<Case> {};

TEST_P(KernelLaw, TheFirstTwoTokensFollowTheTargetAndTheAcceptanceIsTheExactOne) {
  const Case& test_case = GetParam();
  const auto target = small_model(1), small = small_model(kDraftSeed);
  const test::TableModel p = table_of(target, 3), q = table_of(small, 3);
  const auto verifier = make_verifier(test_case.verifier);
  const auto policy = make_policy(test_case.policy, 8, test_case.options);
  DrawNeed need;
  for (const Proposal proposal : verifier->proposals()) {
    need = {proposal, verifier->chains_only()};
    if (policy->slots(need) != nullptr) break;
  }

  Runner runner(target);
  ModelDrafter drafter(small, policy->clone(), kContext);
  DraftTree tree;
  Verdict verdict;
  std::vector<int64_t> counts(kVocab * kVocab);
  int64_t accepted = 0;
  std::vector<int32_t> context;
  for (int64_t trial = 0; trial < kTrials; ++trial) {
    Sampler sampler({.temperature = 1.0F}, static_cast<uint64_t>(trial), kVocab);
    const DraftNoise noise{sampler.seed(), 1.0F, need, &sampler.sampling()};
    context = kPrompt;
    runner.cache.rewind(0);
    while (context.size() < kPrompt.size() + 2) {
      tree.reset(context.back());
      drafter.propose(context, test_case.budget, noise, tree);
      const NodeLogits logits = runner.forward(tree);
      verifier->verify(tree, logits, static_cast<int64_t>(context.size()), sampler, verdict);
      if (context.size() == kPrompt.size()) accepted += verdict.accepted();
      runner.cache.commit(verdict.path);
      for (size_t i = 1; i < verdict.path.size(); ++i) {
        context.push_back(tree.token()[verdict.path[i]]);
      }
      context.push_back(verdict.bonus);
    }
    counts[static_cast<size_t>(context[1] * kVocab + context[2])] += 1;
  }

  std::vector<double> joint;
  for (int32_t a = 0; a < kVocab; ++a) {
    for (int32_t b = 0; b < kVocab; ++b) {
      joint.push_back(p.after({})[static_cast<size_t>(a)] * p.after({a})[static_cast<size_t>(b)]);
    }
  }
  EXPECT_LT(test::g_test(counts, joint), 3.72);  // a level of 1e-4

  if (auto* ratio = dynamic_cast<RatioVerifier*>(verifier.get())) {
    const test::Emission exact =
        test::emission(p, test::drawn(*policy->slots(need), q, need.proposal, test_case.budget),
                       test::rule(*ratio));
    const double depth = test_case.budget.max_depth;
    const double spread = 4.0 * depth / 2.0 / std::sqrt(static_cast<double>(kTrials));
    EXPECT_NEAR(static_cast<double>(accepted) / kTrials, exact.accepted, spread);
    EXPECT_GT(exact.accepted, 0.3);
  } else if (policy->name() == "eagle2") {  // chosen children: the target's mass on them
    tree.reset(kPrompt.back());
    drafter.propose(kPrompt, test_case.budget, {0, 1.0F, need, nullptr}, tree);
    double mass = 0.0;
    for (int32_t node = 1; node < tree.size(); ++node) {
      double reached = 1.0;
      for (int32_t at = node; at > 0; at = tree.parent()[at]) {
        reached *= p.after(
            test::path_tokens(tree, tree.parent()[at]))[static_cast<size_t>(tree.token()[at])];
      }
      mass += reached;
    }
    EXPECT_NEAR(static_cast<double>(accepted) / kTrials, mass,
                4.0 / std::sqrt(static_cast<double>(kTrials)));
  }
}

INSTANTIATE_TEST_SUITE_P(
    EveryVerifier, KernelLaw,
    testing::Values(Case{"match", "gumbel", {}, {4, 2}}, Case{"match", "eagle2", {}, {4, 2}},
                    Case{"rejection", "chain", {}, {2, 2}}, Case{"block", "chain", {}, {2, 2}},
                    Case{"specinfer", "chain", {{"chain.chains", "2"}}, {4, 2}},
                    Case{"kseq", "chain", {{"chain.chains", "2"}}, {4, 2}},
                    Case{"swor", "rsd-c", {{"rsd-c.branching", "2-1"}}, {4, 2}},
                    Case{"swor", "dyspec", {}, {3, 2}}, Case{"traversal", "dyspec", {}, {3, 2}},
                    Case{"traversal", "rsd-c", {{"rsd-c.branching", "2-1"}}, {4, 2}},
                    Case{"greedy-draft", "greedy-draft", {{"greedy-draft.children", "2"}}, {4, 2}}),
    [](const auto& tested) {
      std::string name = tested.param.verifier + "_" + tested.param.policy;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

}  // namespace
}  // namespace forerun
