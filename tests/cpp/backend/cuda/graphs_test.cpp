// Steps replayed as graphs give what the same operations give one by one, whatever changes between
// them: rows, context, pages, scratch that grows, sequences that join.
#include <dlfcn.h>

#include <functional>
#include <numeric>

#include "backend/cuda/fixture.h"
#include "backend/cuda/small_model.h"
#include "backend/profiler.h"
#include "base/error.h"
#include "base/trace.h"
#include "io/checkpoint.h"
#include "model/model.h"

namespace forerun::cuda_test {
namespace {

class CudaGraphs : public testing::Test {
 protected:
  void SetUp() override {
    const CudaStatus status = cuda_status();
    if (!status.available) GTEST_SKIP() << "no GPU: " << status.text;
  }
};

// Two sequences over one model and workspace.
struct Steps {
  Steps(const std::string& path, std::shared_ptr<Backend> gpu)
      : model(Model::load(open_checkpoint(path), std::move(gpu))),
        workspace(*model, 64, 64, 2),
        caches{KvCache(model->backend(), model->kv_layout(), 700),
               KvCache(model->backend(), model->kv_layout(), 700)} {}

  // Rows for each of the sequences, each row after the one before it; their logits and taps.
  std::vector<float> step(const std::vector<std::vector<int32_t>>& tokens) {
    static constexpr int32_t kTaps[] = {1, -1};
    batch.clear();
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].empty()) continue;
      batch.add_causal(caches[i], tokens[i], static_cast<int32_t>(tokens[i].size()));
    }
    const Forward out = model->forward(batch, workspace, {model->all_layers(), nullptr, kTaps});
    std::vector<float> values = host(out.logits), taps = host(out.taps);
    values.insert(values.end(), taps.begin(), taps.end());
    for (size_t i = 0; i < tokens.size(); ++i)
      caches[i].commit_rows(static_cast<int32_t>(tokens[i].size()));
    return values;
  }
  std::vector<float> host(const Tensor& tensor) {
    std::vector<float> values(static_cast<size_t>(int64_t{tensor.rows} * tensor.cols));
    model->backend().download(values.data(), tensor.data, static_cast<int64_t>(values.size()) * 4);
    return values;
  }

  std::shared_ptr<const Model> model;
  Workspace workspace;
  std::vector<KvCache> caches;
  Batch batch;
};

std::vector<int32_t> some_tokens(std::mt19937& random, size_t count) {
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 256);
  return tokens;
}

// Graphs that the emulated GPU was asked to launch so far; -1 on a real one.
int64_t graph_launches() {
  void* library = dlopen("libforerun_cuda.so", RTLD_NOW | RTLD_NOLOAD);
  void* found = library != nullptr ? dlsym(library, "forerun_emulated_graph_launches") : nullptr;
  return found != nullptr ? reinterpret_cast<int64_t (*)()>(found)() : -1;
}

// The oracle: a model under a profile, which waits after every operation and knows no graphs. It
// reads all earlier tokens as one prompt per sequence, and then the rows of the step.
TEST_F(CudaGraphs, ReplayedStepsGiveTheBitsOfStepsThatWereLaunchedOneByOne) {
  const test::TinyModelFile file{small_model(2)};
  Steps steps(file.path(), make_cuda_backend(0));
  std::mt19937 random(5);
  std::vector<std::vector<int32_t>> all(2);
  const size_t shapes[][2] = {{1, 0}, {1, 0}, {1, 0}, {5, 0},  {5, 0}, {1, 1}, {1, 1},
                              {1, 1}, {3, 2}, {3, 2}, {60, 0}, {1, 1}, {5, 0}, {1, 0}};
  int step = 0, replayed = 0;
  for (int round = 0; round < 3; ++round) {
    for (const auto& shape : shapes) {
      const std::vector<std::vector<int32_t>> tokens = {some_tokens(random, shape[0]),
                                                        some_tokens(random, shape[1])};
      const int64_t before = graph_launches();
      const std::vector<float> found = steps.step(tokens);
      replayed += static_cast<int>(graph_launches() - before);
      const bool checked = ++step % 8 == 0;
      if (checked) {
        const auto recorder = std::make_shared<TraceRecorder>(16);
        Steps fresh(file.path(), make_profiling_backend(make_cuda_backend(0), recorder));
        for (size_t i = 0; i < 2; ++i) {
          for (size_t at = 0; at < all[i].size(); at += 64) {
            std::vector<std::vector<int32_t>> chunk(2);
            const size_t count = std::min<size_t>(64, all[i].size() - at);
            chunk[i].assign(all[i].begin() + static_cast<int64_t>(at),
                            all[i].begin() + static_cast<int64_t>(at + count));
            fresh.step(chunk);
          }
        }
        ASSERT_TRUE(same_bits(found, fresh.step(tokens))) << "step " << step;
      }
      for (size_t i = 0; i < 2; ++i)
        all[i].insert(all[i].end(), tokens[i].begin(), tokens[i].end());
    }
  }
  // But for the first time of 1, 2, 5 and 60 rows, each with up to 256 positions and with more.
  if (emulated()) {
    EXPECT_EQ(replayed, step - 8);
  }
}

// The second call finds too little room for its indices, and the first is noted before.
TEST_F(CudaGraphs, ABufferThatGrowsWithinASequenceKeepsWhatWasThere) {
  const std::unique_ptr<Backend> gpu = make_cuda_backend(0);
  const Rows x(*gpu, random_floats(8 * 16, 1), 8), a(*gpu, 3000, 16), b(*gpu, 3000, 16);
  std::vector<int32_t> ids(3000), reversed(3000);
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<int32_t>(i * 3 + static_cast<size_t>(round)) % 8;
      reversed[i] = 7 - ids[i];
    }
    gpu->sequence([&] {
      gpu->gather_rows(x.tensor, ids, a.tensor);
      gpu->gather_rows(x.tensor, reversed, b.tensor);
    });
    const std::vector<float> from = x.values(), first = a.values(), second = b.values();
    for (size_t i = 0; i < ids.size(); ++i) {
      ASSERT_EQ(first[16 * i + 5], from[16 * static_cast<size_t>(ids[i]) + 5]) << i;
      ASSERT_EQ(second[16 * i + 5], from[16 * static_cast<size_t>(reversed[i]) + 5]) << i;
    }
  }
}

TEST_F(CudaGraphs, SequencesRefuseWhatCannotBeReplayed) {
  const std::unique_ptr<Backend> gpu = make_cuda_backend(0);
  const Rows x(*gpu, random_floats(2 * 64, 1), 2), out(*gpu, 2, 64);
  const auto refuses = [&](const std::function<void()>& work) {
    EXPECT_THROW(gpu->sequence(work), Error);
  };
  std::vector<float> host(64);
  std::vector<int32_t> id(1);
  refuses([&] { gpu->upload(x.tensor.data, host.data(), 256); });
  refuses([&] { gpu->download(host.data(), x.tensor.data, 256); });
  refuses([&] { gpu->copy(x.tensor.data, out.tensor.data, 256); });
  refuses([&] { gpu->allocate(64); });
  refuses([&] { gpu->top_k(x.tensor.first_rows(1), 1, id, std::span(host).first(1)); });
  refuses([&] { gpu->choose(x.tensor, std::vector<TokenDraw>(1), id); });
  refuses([&] { gpu->sequence([] {}); });
  const KvLayout layout{1, 1, 64, DType::kF16};
  const Buffer page = gpu->allocate(layout.page_bytes());
  std::byte* const pages[] = {static_cast<std::byte*>(page.data())};
  const std::span<std::byte* const> sequences[] = {pages};
  const std::vector<AttentionRow> first = {{0, 0, 0, 1}}, second = {{0, 1, 1, 2}};
  const auto store = [&](const std::vector<AttentionRow>& rows) {
    gpu->store_kv({layout, rows, {}, sequences}, 0, x.tensor.first_rows(1), x.tensor.first_rows(1));
  };
  refuses([&] {
    store(first);
    store(second);
  });
  for (int i = 0; i < 3; ++i) gpu->sequence([&] { store(second); });  // and go on after all that
  gpu->sequence([&] { gpu->add(out.tensor, x.tensor); });
  EXPECT_EQ(x.values(), random_floats(2 * 64, 1));
}

}  // namespace
}  // namespace forerun::cuda_test
