// Matrix products at the shapes of a 1.5B model: how much of the read bandwidth M = 1 reaches, and
// what M rows cost beside one. Prints one JSON line.
//   linear_bench [threads] [TYPE ...]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/blocks.h"
#include "base/cpu_features.h"

namespace forerun {
namespace {

constexpr int kBatches[] = {1, 2, 3, 4, 6, 8, 12, 16, 32, 64};

struct Shape {
  int32_t rows, cols;
};

std::vector<std::byte> random_weights(DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(dtype_bytes(dtype, int64_t{shape.rows} * shape.cols));
  std::vector<std::byte> data(bytes + 8);
  std::mt19937_64 generator(1);
  for (size_t i = 0; i < bytes; i += 8) {
    // half floats of any two bytes stay finite and small
    const uint64_t word = generator() & 0x2F2F2F2F2F2F2F2FULL;
    std::memcpy(data.data() + i, &word, sizeof(word));
  }
  return data;
}

double seconds_of(Backend& backend, const Weight& weight, std::vector<float>& x,
                  std::vector<float>& out, int rows) {
  LinearTask task;
  task.weight = &weight;
  task.out = Tensor(out.data(), rows, weight.rows);
  const Tensor input(x.data(), rows, weight.cols);
  backend.linear(input, {&task, 1});
  std::vector<double> taken;
  double total = 0.0;
  while (taken.size() < 5 || (total < 0.15 && taken.size() < 200)) {
    const auto start = std::chrono::steady_clock::now();
    backend.linear(input, {&task, 1});
    const std::chrono::duration<double> one = std::chrono::steady_clock::now() - start;
    taken.push_back(one.count());
    total += one.count();
  }
  std::sort(taken.begin(), taken.end());
  return taken[taken.size() / 2];
}

// Each matrix is eight layers high, so that the caches do not hold it.
void measure(Backend& backend, DType dtype, const Shape& shape, double bandwidth) {
  const std::vector<std::byte> data = random_weights(dtype, shape);
  const auto weight = backend.pack({dtype, shape.rows, shape.cols, data.data()});
  std::vector<float> x(static_cast<size_t>(64) * static_cast<size_t>(shape.cols));
  std::mt19937_64 generator(2);
  std::normal_distribution<float> normal;
  for (float& value : x) value = normal(generator);
  std::vector<float> out(static_cast<size_t>(64) * static_cast<size_t>(shape.rows));
  std::printf("{\"type\": \"%s\", \"rows\": %d, \"cols\": %d, \"mb\": %.1f",
              std::string(dtype_info(dtype).name).c_str(), shape.rows, shape.cols,
              static_cast<double>(weight->bytes) / 1e6);
  double one = 0.0;
  for (int rows : kBatches) {
    const double seconds = seconds_of(backend, *weight, x, out, rows);
    if (rows == 1) {
      one = seconds;
      const double speed = static_cast<double>(weight->bytes) / seconds / 1e9;
      std::printf(", \"gbs\": %.2f, \"fraction\": %.3f, \"ratio\": {", speed, speed / bandwidth);
    }
    std::printf("%s\"%d\": %.2f", rows == 1 ? "" : ", ", rows, seconds / one);
  }
  std::printf("}}");
}

int run(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  const auto backend = make_cpu_backend(threads);
  const double bandwidth = measure_read_bandwidth(backend->threads(), int64_t{256} << 20);
  std::printf(
      "{\"cpu\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"bandwidth_gbs\": %.2f, \"cases\": [",
      cpu_features().model.c_str(), isa_name(selected_isa()), backend->threads(), bandwidth);
  const Shape layer_shapes[] = {{8960 * 8, 1536}, {1536 * 8, 8960}};
  bool first = true;
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (dtype == DType::kI8 || dtype == DType::kI32) continue;
    const std::string name(dtype_info(dtype).name);
    if (argc > 2 && std::find(argv + 2, argv + argc, name) == argv + argc) continue;
    std::vector<Shape> shapes(std::begin(layer_shapes), std::end(layer_shapes));
    if (dtype == DType::kQ6_K) shapes.push_back({151936, 1536});
    for (const Shape& shape : shapes) {
      if (!first) std::printf(", ");
      first = false;
      measure(*backend, dtype, shape, bandwidth);
    }
  }
  std::printf("]}\n");
  return 0;
}

}  // namespace
}  // namespace forerun

int main(int argc, char** argv) { return forerun::run(argc, argv); }
