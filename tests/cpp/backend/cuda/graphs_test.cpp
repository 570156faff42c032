// Steps replayed as graphs give what the same operations give one by one, whatever changes between
// them: rows, context, pages, scratch that grows, sequences that join.
#include <functional>
#include <numeric>

#include "backend/cuda/fixture.h"
#include "io/checkpoint.h"
#include "model/model.h"
#include "model/tiny_model.h"

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
  explicit Steps(const std::string& path)
      : model(Model::load(open_checkpoint(path), make_cuda_backend(0))),
        workspace(model->backend(), model->config(), 64, 64, 2),
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

// The oracle: a model that has seen no step of that kind before, so that nothing is replayed. It
// reads all earlier tokens as one prompt per sequence, and then the rows of the step.
TEST_F(CudaGraphs, ReplayedStepsGiveTheBitsOfStepsThatWereLaunchedOneByOne) {
  const test::TinyModelFile file{test::TinyModel{}};
  Steps steps(file.path());
  std::mt19937 random(5);
  std::vector<std::vector<int32_t>> all(2);
  const size_t shapes[][2] = {{1, 0}, {1, 0}, {1, 0}, {5, 0},  {5, 0}, {1, 1}, {1, 1},
                              {1, 1}, {3, 2}, {3, 2}, {60, 0}, {1, 1}, {5, 0}, {1, 0}};
  int step = 0;
  for (int round = 0; round < 3; ++round) {
    for (const auto& shape : shapes) {
      const std::vector<std::vector<int32_t>> tokens = {some_tokens(random, shape[0]),
                                                        some_tokens(random, shape[1])};
      const std::vector<float> found = steps.step(tokens);
      const bool checked = ++step % 5 == 0;
      if (checked) {
        Steps fresh(file.path());
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
}

}  // namespace
}  // namespace forerun::cuda_test
