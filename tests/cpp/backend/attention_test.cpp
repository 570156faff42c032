#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "backend/attention_fixture.h"
#include "backend/kv_slots.h"

namespace forerun::test::attention {
namespace {

double half_of(double value) { return half_to_float(float_to_half(static_cast<float>(value))); }

// What 32 values become as Q8_0: the nearest multiple of d = amax / 127; a stored d is a half
// float.
void round_to_codes(double* x, bool half_scale) {
  double amax = 0.0;
  for (int i = 0; i < 32; ++i) amax = std::max(amax, std::abs(x[i]));
  const double d = half_scale ? half_of(amax / 127.0) : amax / 127.0;
  for (int i = 0; i < 32; ++i) x[i] = std::nearbyint(x[i] * 127.0 / amax) * d;
}

std::vector<double> as_type(DType type, const std::vector<float>& rows, bool query) {
  std::vector<double> out(rows.begin(), rows.end());
  if (type == DType::kF16 && !query) {
    for (double& x : out) x = half_of(x);
  }
  if (type == DType::kQ8_0) {
    for (size_t i = 0; i < out.size(); i += 32) round_to_codes(out.data() + i, !query);
  }
  return out;
}

// softmax(q k^T scale) v in double, of queries, keys and values as the arithmetic of a type sees
// them.
class Reference {
 public:
  Reference(const Model& model, const Text& text, DType type) : model_(model) {
    std::vector<float> scaled = text.q;
    for (float& x : scaled) x *= kScale;
    q_ = as_type(type, scaled, true);
    k_ = as_type(type, text.k, false);
    v_ = as_type(type, text.v, false);
  }

  std::vector<double> row(int32_t row, int32_t head) const {
    const int32_t width = model_.head_dim;
    const int32_t kv = head / (model_.heads / model_.kv_heads) * width;
    const double* q = q_.data() + row * model_.q_cols() + head * width;
    std::vector<double> weight;
    for (int32_t token = 0; token <= row; ++token) {
      weight.push_back(
          std::inner_product(q, q + width, k_.data() + token * model_.kv_cols() + kv, 0.0));
    }
    const double most = *std::max_element(weight.begin(), weight.end());
    double sum = 0.0;
    for (double& w : weight) sum += w = std::exp(w - most);
    std::vector<double> out(static_cast<size_t>(width), 0.0);
    for (int32_t token = 0; token <= row; ++token) {
      const double* v = v_.data() + token * model_.kv_cols() + kv;
      for (size_t d = 0; d < out.size(); ++d) {
        out[d] += weight[static_cast<size_t>(token)] / sum * v[d];
      }
    }
    return out;
  }

 private:
  Model model_;
  std::vector<double> q_, k_, v_;
};

std::vector<Model> models() {
  std::vector<Model> all;
  for (const DType type : kv_types()) {
    for (Model model :
         {Model{6, 2, 64}, {9, 3, 32}, {12, 2, 128}, {9, 3, 16}, {2, 2, 80}, {1, 1, 6}}) {
      if (type == DType::kQ8_0 && model.head_dim % 32 != 0) continue;
      model.type = type;
      all.push_back(model);
    }
  }
  return all;
}

std::string name_of(const Model& model) {
  return std::string(dtype_info(model.type).name) + ", head_dim " + std::to_string(model.head_dim);
}

struct Errors {
  double largest = 0.0, root_mean_square = 0.0;
};

Errors errors_of(const Model& model, const std::string& isa, DType seen_as) {
  constexpr int32_t kTokens = 150;
  Text text(model, kTokens, 5);
  const Reference reference(model, text, seen_as);
  const auto backend = cpu_backend(isa, 2);
  Cache cache(*backend, model.layout(), 3);
  const std::vector<float> out = run_text(*backend, cache, model, text, kTokens, 50);
  Errors errors;
  double squares = 0.0, count = 0.0;
  for (int32_t row : {0, 1, 62, 63, 64, 65, 127, 128, 149}) {
    for (int32_t head = 0; head < model.heads; ++head) {
      const std::vector<double> want = reference.row(row, head);
      const float* found = out.data() + row * model.q_cols() + head * model.head_dim;
      for (size_t d = 0; d < want.size(); ++d) {
        const double error = std::abs(found[d] - want[d]);
        // a NaN is an error of any size
        errors.largest = error <= errors.largest ? errors.largest : error;
        squares += error * error, count += 1.0;
      }
    }
  }
  errors.root_mean_square = std::sqrt(squares / count);
  return errors;
}

// Tolerances are those of fp32 sums. Q8_0 also rounds the weights to multiples of the largest
// scale / 32766; 64 of them, half a step off and times codes of about 60, are 1e-3 at most here.
TEST(CpuAttention, EqualsTheSoftmaxInDouble) {
  for (const Model& model : models()) {
    for (const std::string& isa : kernel_sets()) {
      EXPECT_LT(errors_of(model, isa, model.type).largest, model.type == DType::kQ8_0 ? 1e-3 : 2e-5)
          << name_of(model) << " " << isa;
    }
  }
}

// Against keys, values and queries that nobody rounded: values have a variance of 1, scores one of
// up to 12.
TEST(CpuAttention, LosesLittleByRoundingKeysAndValues) {
  for (const Model& model : models()) {
    const double bound = model.type == DType::kQ8_0  ? 2e-2
                         : model.type == DType::kF16 ? 1e-3
                                                     : 1e-6;
    EXPECT_LT(errors_of(model, "scalar", DType::kF32).root_mean_square, bound) << name_of(model);
  }
}

TEST(CpuAttention, GivesTheSameBitsForEveryChunkingThreadCountAndInstructionSet) {
  constexpr int32_t kTokens = 150;
  for (const Model& model : {Model{6, 2, 64}, Model{3, 3, 16}, Model{2, 2, 40},
                             Model{5, 1, 32, DType::kF32}, Model{2, 2, 40, DType::kF32},
                             Model{6, 2, 64, DType::kQ8_0}, Model{7, 1, 32, DType::kQ8_0}}) {
    Text text(model, kTokens, 15);
    std::vector<float> expected;
    for (const std::string& isa : kernel_sets()) {
      for (int threads = 1; threads <= 3; ++threads) {
        const auto backend = cpu_backend(isa, threads);
        for (int32_t chunk : {1, 7, 16, 77, 150}) {
          if (chunk == 1 && threads != 2) continue;
          if (isa == "scalar" && (chunk != 77 || threads == 3)) continue;
          Cache cache(*backend, model.layout(), 4);
          const std::vector<float> out = run_text(*backend, cache, model, text, kTokens, chunk);
          if (expected.empty()) expected = out;
          ASSERT_TRUE(same_bits(out.data(), expected.data(), out.size()))
              << isa << " threads " << threads << " chunk " << chunk << " " << name_of(model);
        }
      }
    }
  }
}

// More blocks than the scratch of split works holds, so that they come in waves.
TEST(CpuAttention, GivesTheSameBitsWhenTheBlocksComeInWaves) {
  const Model model{192, 1, 256};
  constexpr int32_t kTokens = 2700;
  Text text(Model{1, 1, 256}, kTokens, 17);
  std::vector<float> q = random_floats(static_cast<size_t>(model.q_cols()), 19), expected;
  for (int threads = 1; threads <= 2; ++threads) {
    const auto backend = make_cpu_backend(threads);
    Cache cache(*backend, model.layout(), kTokens / 64 + 1);
    std::vector<AttentionRow> rows;
    for (int32_t i = 0; i < kTokens; ++i) rows.push_back(causal_row(i));
    const std::span<std::byte* const> pages(cache.pages);
    backend->store_kv(batch_of(cache, rows, {}, {&pages, 1}), 0,
                      Tensor(text.k.data(), kTokens, model.kv_cols()),
                      Tensor(text.v.data(), kTokens, model.kv_cols()));
    std::vector<float> out(q.size());
    backend->attention(batch_of(cache, {&rows.back(), 1}, {}, {&pages, 1}), 0,
                       Tensor(q.data(), 1, model.q_cols()), kScale,
                       Tensor(out.data(), 1, model.q_cols()));
    if (expected.empty()) expected = out;
    EXPECT_TRUE(same_bits(out.data(), expected.data(), out.size())) << threads;
  }
}

// A random tree behind a prefix: every node's row must equal that of its own branch run causally.
void check_tree(const Model& model, std::initializer_list<int32_t> prefixes) {
  for (int32_t prefix : prefixes) {
    constexpr int32_t kNodes = 40;
    Text text(model, prefix + kNodes, 25);
    std::vector<int32_t> parent(kNodes, -1);
    std::mt19937 generator(static_cast<uint32_t>(prefix) + 3);
    for (int32_t i = 1; i < kNodes; ++i)
      parent[static_cast<size_t>(i)] = static_cast<int32_t>(generator() % i);
    for (int32_t i = 1; i < 12; ++i)
      parent[static_cast<size_t>(i)] = i - 1;  // deep enough to cross a page
    const auto scattered = [](int32_t node) {
      return (node * 7 + 3) % kNodes;
    };  // any slots will do
    std::vector<std::vector<int32_t>> branch(kNodes);
    std::vector<AttentionRow> rows;
    std::vector<int32_t> path;
    for (int32_t i = 0; i < kNodes; ++i) {
      if (i > 0)
        branch[static_cast<size_t>(i)] =
            branch[static_cast<size_t>(parent[static_cast<size_t>(i)])];
      branch[static_cast<size_t>(i)].push_back(i);
      AttentionRow row;
      row.position = prefix + static_cast<int32_t>(branch[static_cast<size_t>(i)].size()) - 1;
      row.slot = prefix + scattered(i);
      row.prefix = prefix;
      row.path_begin = static_cast<int32_t>(path.size());
      for (int32_t node : branch[static_cast<size_t>(i)]) path.push_back(prefix + scattered(node));
      rows.push_back(row);
    }
    for (const std::string& isa : kernel_sets()) {
      const auto backend = cpu_backend(isa, 2);
      Cache cache(*backend, model.layout(), 4);
      if (prefix > 0) run_text(*backend, cache, model, text, prefix, 64);
      const std::vector<float> out = forward(*backend, cache, model, text, prefix, rows, path);
      for (int32_t node = 0; node < kNodes; node += isa == "scalar" ? 9 : 2) {
        Text line(model, 0, 1);
        const auto append = [&](int32_t token) {
          const auto add = [token](std::vector<float>& to, const std::vector<float>& from,
                                   int32_t cols) {
            to.insert(to.end(), from.begin() + token * cols, from.begin() + (token + 1) * cols);
          };
          add(line.q, text.q, model.q_cols());
          add(line.k, text.k, model.kv_cols());
          add(line.v, text.v, model.kv_cols());
        };
        for (int32_t i = 0; i < prefix; ++i) append(i);
        for (int32_t ancestor : branch[static_cast<size_t>(node)]) append(prefix + ancestor);
        const int32_t length =
            prefix + static_cast<int32_t>(branch[static_cast<size_t>(node)].size());
        Cache fresh(*backend, model.layout(), 4);
        const std::vector<float> causal = run_text(*backend, fresh, model, line, length, length);
        ASSERT_TRUE(same_bits(out.data() + node * model.q_cols(),
                              causal.data() + (length - 1) * model.q_cols(),
                              static_cast<size_t>(model.q_cols())))
            << name_of(model) << " " << isa << " prefix " << prefix << " node " << node;
      }
    }
  }
}

TEST(CpuAttention, GivesATreeRowTheBitsOfItsBranchWrittenCausally) {
  check_tree({6, 2, 32}, {0, 1, 50, 60, 64, 130});
  check_tree({6, 2, 32, DType::kF32}, {0, 50, 130});
  check_tree({6, 2, 32, DType::kQ8_0}, {0, 1, 50, 60, 64, 130});
}

class CpuAttentionOfType : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, CpuAttentionOfType, testing::ValuesIn(kv_types()),
                         [](const auto& one) { return std::string(dtype_info(one.param).name); });

TEST_P(CpuAttentionOfType, KeepsSequencesOfOneBatchApartAndReadsSharedPages) {
  const Model model{4, 2, 32, GetParam()};
  Text text(model, 80, 35);
  for (const std::string& isa : kernel_sets()) {
    const auto backend = cpu_backend(isa, 2);
    Cache first(*backend, model.layout(), 2);
    const std::vector<float> expected = run_text(*backend, first, model, text, 80, 80);
    Cache own(*backend, model.layout(), 2);
    run_text(*backend, own, model, text, 64, 64);
    Cache fork(*backend, model.layout(), 2);
    fork.pages[0] = own.pages[0];  // a fork shares the full page
    const std::span<std::byte* const> pages[2] = {own.pages, fork.pages};
    std::vector<AttentionRow> rows;
    std::vector<float> q, k, v;
    for (int32_t sequence = 0; sequence < 2; ++sequence) {
      const int32_t count = sequence == 0 ? 16 : 5;
      for (int32_t i = 64; i < 64 + count; ++i) {
        AttentionRow row = causal_row(i);
        row.sequence = sequence;
        rows.push_back(row);
        q.insert(q.end(), text.q.begin() + i * model.q_cols(),
                 text.q.begin() + (i + 1) * model.q_cols());
        k.insert(k.end(), text.k.begin() + i * model.kv_cols(),
                 text.k.begin() + (i + 1) * model.kv_cols());
        v.insert(v.end(), text.v.begin() + i * model.kv_cols(),
                 text.v.begin() + (i + 1) * model.kv_cols());
      }
    }
    const auto count = static_cast<int32_t>(rows.size());
    std::vector<float> out(q.size());
    const AttentionBatch batch = batch_of(own, rows, {}, pages);
    backend->store_kv(batch, 0, Tensor(k.data(), count, model.kv_cols()),
                      Tensor(v.data(), count, model.kv_cols()));
    backend->attention(batch, 0, Tensor(q.data(), count, model.q_cols()), kScale,
                       Tensor(out.data(), count, model.q_cols()));
    const float* tail = expected.data() + 64 * model.q_cols();
    EXPECT_TRUE(same_bits(out.data(), tail, static_cast<size_t>(16 * model.q_cols()))) << isa;
    EXPECT_TRUE(
        same_bits(out.data() + 16 * model.q_cols(), tail, static_cast<size_t>(5 * model.q_cols())))
        << isa;
  }
}

TEST_P(CpuAttentionOfType, NeverReadsSlotsThatTheRowDoesNotSee) {
  const Model model{2, 1, 32, GetParam()};
  Text text(model, 70, 45);
  for (const std::string& isa : kernel_sets()) {
    const auto backend = cpu_backend(isa, 1);
    Cache clean(*backend, model.layout(), 2);
    const std::vector<float> expected = run_text(*backend, clean, model, text, 70, 70);
    Cache dirty(*backend, model.layout(), 2);
    for (std::byte* page : dirty.pages) {
      for (int64_t i = 0; i < model.layout().page_bytes(); ++i) page[i] = std::byte{0xFF};  // NaN
    }
    const std::vector<float> out = run_text(*backend, dirty, model, text, 70, 1);
    EXPECT_TRUE(same_bits(out.data(), expected.data(), out.size())) << isa;
  }
}

// A row or a head whose values are not numbers gives NaN, the others their usual bits.
TEST_P(CpuAttentionOfType, LetsNothingButTheirReadersSeeNotANumber) {
  const Model model{2, 2, 32, GetParam()};
  std::vector<float> expected;
  for (const std::string& isa : kernel_sets()) {
    const auto backend = cpu_backend(isa, 1);
    Text text(model, 70, 47);
    Cache clean(*backend, model.layout(), 2);
    const std::vector<float> good = run_text(*backend, clean, model, text, 70, 70);
    text.k[10 * 64 + 3] = std::numeric_limits<float>::quiet_NaN();  // head 0 from row 10 on
    text.v[65 * 64 + 35] = std::numeric_limits<float>::infinity();  // head 1 from row 65 on
    Cache cache(*backend, model.layout(), 2);
    const std::vector<float> out = run_text(*backend, cache, model, text, 70, 70);
    for (int32_t row = 0; row < 70; ++row) {
      for (int32_t d = 0; d < 64; ++d) {
        const auto i = static_cast<size_t>(row * 64 + d);
        if (d < 32 && row >= 10) {
          ASSERT_TRUE(std::isnan(out[i])) << isa << " row " << row;
        } else if (d >= 32 && row >= 65) {
          ASSERT_EQ(std::isfinite(out[i]), GetParam() != DType::kQ8_0 && d != 35)
              << isa << " " << d;
        } else {
          ASSERT_EQ(out[i], good[i]) << isa << " row " << row;
        }
      }
    }
  }
}

TEST(CpuAttention, RefusesRowsOutsideTheirPages) {
  const Model model{1, 1, 16};
  Text text(model, 1, 65);
  const auto backend = cpu_backend("scalar", 1);
  Cache cache(*backend, model.layout(), 1);
  const auto refused = [&](AttentionRow row, const std::vector<int32_t>& path = {}) {
    EXPECT_THROW(forward(*backend, cache, model, text, 0, {row}, path), Error);
  };
  refused({0, 64, 64, 65, 0});
  refused({0, -1, 0, 0, 0});
  refused({1, 0, 0, 1, 0});
  refused({0, 3, 3, 5, 0});
  refused({0, 1, 1, 1, 0});
  refused({0, 1, 1, 1, 0}, {64});
}

}  // namespace
}  // namespace forerun::test::attention
