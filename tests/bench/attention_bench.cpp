// Attention of one layer at the shape of a 1.5B model (12 heads, 2 key heads of 128): what
// decoding, a draft tree and a prompt chunk cost after a long context, for each type of keys and
// values. Prints one JSON line; "gbs": keys and values read at one row.
//   attention_bench [threads] [TYPE ...]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/cpu_features.h"

namespace forerun {
namespace {

constexpr int32_t kHeads = 12, kKvHeads = 2, kHeadDim = 128;
constexpr int32_t kLayers = 4;  // so that the caches do not hold what is read
constexpr int32_t kMostRows = 256;

struct Rows {
  std::vector<AttentionRow> row;
  std::vector<int32_t> path;
};

// A prompt chunk, or a draft tree of which half of the rows branch.
Rows rows_of(int32_t context, int32_t count, bool tree) {
  Rows rows;
  for (int32_t i = 0; i < count; ++i) {
    if (!tree) {
      rows.row.push_back({0, context + i, context + i, context + i + 1, 0});
      continue;
    }
    std::vector<int32_t> path;  // nodes 2k are a chain, nodes 2k + 1 their side branches
    for (int32_t node = 0; node < i; node += 2) path.push_back(context + node);
    path.push_back(context + i);
    rows.row.push_back({0, context + static_cast<int32_t>(path.size()) - 1, context + i, context,
                        static_cast<int32_t>(rows.path.size())});
    rows.path.insert(rows.path.end(), path.begin(), path.end());
  }
  return rows;
}

struct Cache {
  KvLayout layout;
  std::vector<Buffer> buffers;
  std::vector<std::byte*> pages;
};

Cache make_cache(Backend& backend, DType type, int32_t slots) {
  Cache cache;
  cache.layout = {kLayers, kKvHeads, kHeadDim, type};
  for (int32_t slot = 0; slot < slots; slot += KvLayout::kPageSlots) {
    cache.buffers.push_back(backend.allocate(cache.layout.page_bytes()));
    cache.pages.push_back(static_cast<std::byte*>(cache.buffers.back().data()));
  }
  return cache;
}

class Case {
 public:
  Case(Backend& backend, DType type, int32_t context)
      : backend_(backend),
        cache_(make_cache(backend, type, context + kMostRows)),
        q_(size_t{kMostRows} * kHeads * kHeadDim),
        kv_(size_t{kMostRows} * kKvHeads * kHeadDim),
        out_(q_.size()) {
    std::mt19937_64 generator(1);
    std::normal_distribution<float> normal;
    for (float& value : q_) value = normal(generator);
    for (float& value : kv_) value = normal(generator);
    for (int32_t begin = 0; begin < context; begin += kMostRows) {
      const Rows rows = rows_of(begin, kMostRows, false);
      for (int32_t layer = 0; layer < kLayers; ++layer) store(rows, layer);
    }
  }

  // ms of one layer, the fastest of some repeats: other work on the machine is not measured.
  double milliseconds(const Rows& rows) {
    for (int32_t layer = 0; layer < kLayers; ++layer) store(rows, layer), attend(rows, layer);
    std::vector<double> taken;
    double total = 0.0;
    while (taken.size() < 5 || (total < 150.0 && taken.size() < 400)) {
      const auto start = std::chrono::steady_clock::now();
      for (int32_t layer = 0; layer < kLayers; ++layer) attend(rows, layer);
      const std::chrono::duration<double, std::milli> one =
          std::chrono::steady_clock::now() - start;
      taken.push_back(one.count() / kLayers);
      total += one.count();
    }
    return *std::min_element(taken.begin(), taken.end());
  }

 private:
  AttentionBatch batch(const Rows& rows) {
    span_ = cache_.pages;
    return {cache_.layout, rows.row, rows.path, {&span_, 1}};
  }
  void store(const Rows& rows, int32_t layer) {
    const auto count = static_cast<int32_t>(rows.row.size());
    backend_.store_kv(batch(rows), layer, Tensor(kv_.data(), count, kKvHeads * kHeadDim),
                      Tensor(kv_.data(), count, kKvHeads * kHeadDim));
  }
  void attend(const Rows& rows, int32_t layer) {
    const auto count = static_cast<int32_t>(rows.row.size());
    backend_.attention(batch(rows), layer, Tensor(q_.data(), count, kHeads * kHeadDim), 0.088F,
                       Tensor(out_.data(), count, kHeads * kHeadDim));
  }

  Backend& backend_;
  Cache cache_;
  std::vector<float> q_, kv_, out_;
  std::span<std::byte* const> span_;
};

int run(int argc, char** argv) {
  const auto backend = make_cpu_backend(argc > 1 ? std::atoi(argv[1]) : 0);
  std::printf("{\"cpu\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"bandwidth_gbs\": %.2f",
              cpu_features().model.c_str(), isa_name(selected_isa()), backend->threads(),
              measure_read_bandwidth(backend->threads(), int64_t{256} << 20));
  std::printf(", \"cases\": [");
  bool first = true;
  for (const DType type : {DType::kF16, DType::kF32, DType::kQ8_0}) {
    const std::string name(dtype_info(type).name);
    if (argc > 2 && std::find(argv + 2, argv + argc, name) == argv + argc) continue;
    for (const int32_t context : {1024, 4096, 8192}) {
      Case one(*backend, type, context);
      const KvLayout layout{1, kKvHeads, kHeadDim, type};
      const double bytes =
          static_cast<double>(layout.page_bytes()) / KvLayout::kPageSlots * context;
      std::printf("%s{\"type\": \"%s\", \"context\": %d, \"mb\": %.2f, \"layer_ms\": {",
                  first ? "" : ", ", name.c_str(), context, bytes / 1e6);
      first = false;
      double single = 0.0;
      for (const int32_t rows : {1, 2, 4, 8, 16, 32}) {
        const double ms = one.milliseconds(rows_of(context, rows, true));
        if (rows == 1) single = ms;
        std::printf("%s\"%d\": %.3f", rows == 1 ? "" : ", ", rows, ms);
      }
      std::printf("}, \"gbs\": %.1f, \"prompt_256_ms\": %.2f}", bytes / single / 1e6,
                  one.milliseconds(rows_of(context, kMostRows, false)));
      std::fflush(stdout);
    }
  }
  std::printf("]}\n");
  return 0;
}

}  // namespace
}  // namespace forerun

int main(int argc, char** argv) { return forerun::run(argc, argv); }
