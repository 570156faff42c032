// What a step does to choose tokens from a vocabulary of 152k: median microseconds. Prints one JSON
// line.
//   step_bench [threads]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "base/cpu_features.h"
#include "verify/sampler.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 151936;

template <typename Body>
std::vector<double> times_us(int repeats, Body&& body) {
  std::vector<double> taken;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double, std::micro> one = std::chrono::steady_clock::now() - start;
    taken.push_back(one.count());
  }
  std::sort(taken.begin(), taken.end());
  return taken;
}

void print_median(const char* name, const std::vector<double>& times) {
  std::printf(", \"%s\": %.2f", name, times[times.size() / 2]);
}

// A few likely tokens over a normal bulk, as language models give; or hardly any difference.
std::vector<float> logits(bool flat) {
  std::mt19937_64 generator(1);
  std::normal_distribution<float> normal(0.0F, flat ? 0.5F : 2.0F);
  std::vector<float> values(kVocab);
  for (float& value : values) value = normal(generator);
  for (int i = 0; !flat && i < 20; ++i) values[generator() % kVocab] = 16.0F - 0.5F * i;
  return values;
}

void sampling(const char* name, const Sampling& settings, const std::vector<float>& row) {
  Sampler sampler(settings, 7, kVocab);
  int64_t position = 0;
  const auto sample = [&] { sampler.sample(row, position++); };
  times_us(5, sample);
  print_median(name, times_us(101, sample));
}

int run(int argc, char** argv) {
  const auto backend = make_cpu_backend(argc > 1 ? std::atoi(argv[1]) : 0);
  std::printf("{\"cpu\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"vocab\": %d",
              cpu_features().model.c_str(), isa_name(selected_isa()), backend->threads(), kVocab);
  std::vector<float> peaked = logits(false), flat = logits(true);
  sampling("greedy", {}, peaked);
  for (auto& [suffix, row] : {std::pair<const char*, std::vector<float>&>{"", peaked},
                              std::pair<const char*, std::vector<float>&>{"_flat", flat}}) {
    const std::string end = suffix;
    sampling(("noise" + end).c_str(), {.temperature = 1.0F}, row);
    sampling(("top_k_40" + end).c_str(), {.temperature = 1.0F, .top_k = 40}, row);
    sampling(("top_p_95" + end).c_str(), {.temperature = 1.0F, .top_p = 0.95F}, row);
    sampling(("min_p_05" + end).c_str(), {.temperature = 1.0F, .min_p = 0.05F}, row);
    std::vector<int32_t> ids(64);
    std::vector<float> values(64);
    const Tensor x(row.data(), 1, kVocab);
    for (const int32_t k : {8, 64}) {
      print_median(("backend_top_" + std::to_string(k) + end).c_str(),
                   times_us(101, [&] { backend->top_k(x, k, ids, values); }));
    }
  }
  std::printf("}\n");
  return 0;
}

}  // namespace
}  // namespace forerun

int main(int argc, char** argv) { return forerun::run(argc, argv); }
