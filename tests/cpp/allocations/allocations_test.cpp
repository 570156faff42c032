// A program of its own, since it replaces the operators new and delete of the whole process.
// Counts the allocations of decode steps after warm-up, within a page of keys and values.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <ostream>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "model/tiny_head.h"

namespace {
std::atomic<int64_t> allocations{0};

void* counted(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* data = std::malloc(size > 0 ? size : 1);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}
}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete[](void* data, std::size_t) noexcept { std::free(data); }

namespace forerun {
namespace {

// What a step gives its caller: the list of results and the tokens of one.
constexpr int64_t kOfTheResult = 2;

struct Setting {
  std::string name;
  std::string draft;
  int32_t fixed_draft;
  Sampling sampling;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

class DecodeStep : public testing::TestWithParam<Setting> {};

TEST_P(DecodeStep, AllocatesOnlyItsResult) {
  const Setting& setting = GetParam();
  const test::TinyModelFile target(test::TinyModel{});
  const test::TinyModelFile small(test::TinyModel{.layers = 1});
  const test::TinyHeadFile head(test::TinyHead{.blocks = 2, .columns = 100});
  EngineOptions options;
  options.target = target.path();
  options.draft = setting.draft == "model"  ? "model:" + small.path()
                  : setting.draft == "head" ? "head:" + head.path()
                                            : setting.draft;
  options.fixed_draft = setting.fixed_draft;
  options.threads = 2;
  const auto engine = Engine::load(options);
  Session session = engine->session(setting.sampling, 7);
  session.append("abcabdabcabcabdabcabeabcabc");
  while (session.length() < 130) session.step();
  // Rows are written from here on up to slot 191: the page of slots 128 to 191 is there.
  int64_t steps = 0;
  while (session.length() < 165) {
    const int64_t before = allocations.load();
    session.step();
    const int64_t made = allocations.load() - before;
    EXPECT_LE(made, kOfTheResult) << "at " << session.length() << " tokens";
    ++steps;
  }
  EXPECT_GE(steps, 3);
}

INSTANTIATE_TEST_SUITE_P(
    Settings, DecodeStep,
    testing::Values(
        Setting{"Plain", "none", -1, {}}, Setting{"Sampled", "none", -1, {.temperature = 1.0F}},
        Setting{"TopK", "none", -1, {.temperature = 1.0F, .top_k = 20, .top_p = 0.9F}},
        Setting{"TopP", "none", -1, {.temperature = 1.0F, .top_p = 0.9F, .min_p = 0.01F}},
        Setting{"Penalised", "none", -1, {.temperature = 1.0F, .frequency_penalty = 0.5F}},
        Setting{"Ngram", "ngram", 6, {}}, Setting{"Recycle", "recycle", 12, {}},
        Setting{"Suffix", "suffix", 9, {}}, Setting{"Trigram", "trigram", 12, {}},
        Setting{"Auto", "auto", 16, {}},
        Setting{"Both", "ngram+recycle", 16, {.temperature = 0.7F}},
        Setting{"Controlled", "ngram+recycle", -1, {}}, Setting{"Model", "model", 8, {}},
        Setting{"Head", "head", 8, {}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace forerun
