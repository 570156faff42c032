// A whole model on the GPU: logits beside those of the CPU, and trees beside plain decoding.
#include <algorithm>
#include <numeric>

#include "backend/cuda/fixture.h"
#include "io/checkpoint.h"
#include "model/model.h"
#include "model/tiny_model.h"

namespace forerun::cuda_test {
namespace {

struct Loaded {
  Loaded(const std::string& path, std::shared_ptr<Backend> backend)
      : model(Model::load(open_checkpoint(path), std::move(backend))),
        workspace(*model, 64, 64),
        cache(model->backend(), model->kv_layout(), 400) {}

  std::vector<float> logits() {
    const Forward out = model->forward(batch, workspace);
    std::vector<float> values(static_cast<size_t>(int64_t{out.logits.rows} * out.logits.cols));
    model->backend().download(values.data(), out.logits.data,
                              static_cast<int64_t>(values.size() * sizeof(float)));
    return values;
  }
  std::vector<float> causal(const std::vector<int32_t>& tokens) {
    batch.clear();
    batch.add_causal(cache, tokens, static_cast<int32_t>(tokens.size()));
    std::vector<float> out = logits();
    cache.commit_rows(static_cast<int32_t>(tokens.size()));
    return out;
  }
  std::vector<float> tree(const DraftTree& draft) {
    batch.clear();
    batch.add_tree(cache, draft);
    return logits();
  }

  std::shared_ptr<const Model> model;
  Workspace workspace;
  KvCache cache;
  Batch batch;
};

class CudaModel : public testing::Test {
 protected:
  void SetUp() override {
    const CudaStatus status = cuda_status();
    if (!status.available) GTEST_SKIP() << "no GPU: " << status.text;
  }
};

std::vector<int32_t> random_tokens(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 256);
  return tokens;
}

// A difference in the last bits makes an activation round to the other int8 code now and then, and
// each layer spreads it: with quantised layers the logits agree to the noise of int8 activations,
// not to the last bits.
TEST_F(CudaModel, LogitsMatchTheCpuForEveryTypeOfWeight) {
  for (const DType dtype : kWeightTypes) {
    for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
      test::TinyModel description;
      description.architecture = architecture;
      description.dtype = dtype;
      const test::TinyModelFile file(description);
      Loaded gpu(file.path(), make_cuda_backend(0)), cpu(file.path(), make_cpu_backend(2));
      for (const size_t count : {size_t{40}, size_t{1}, size_t{5}}) {
        const auto tokens = random_tokens(count, 3);
        const auto wanted = cpu.causal(tokens), found = gpu.causal(tokens);
        EXPECT_LT(relative_error(found, wanted), is_quantized(dtype) ? 0.03 : 2e-3)
            << architecture << " " << dtype_info(dtype).name;
      }
    }
  }
}

TEST_F(CudaModel, TreeLogitsHaveTheBitsOfPlainDecoding) {
  const test::TinyModelFile file{test::TinyModel{}};
  const std::shared_ptr<Backend> backend = make_cuda_backend(0);
  Loaded tree(file.path(), backend), plain(file.path(), backend);
  const auto prompt = random_tokens(60, 9);
  tree.causal(prompt);
  plain.causal(prompt);
  for (int step = 0; step < 8; ++step) {
    std::mt19937 random(static_cast<uint32_t>(step));
    DraftTree draft;
    draft.reset(static_cast<int32_t>(random() % 256));
    while (draft.size() < 30) {
      const auto parent = static_cast<int32_t>(random() % static_cast<uint32_t>(draft.size()));
      draft.add(parent, static_cast<int32_t>(random() % 256), 0.5F, DraftSource::kOther);
    }
    const auto found = tree.tree(draft);
    const size_t vocabulary = found.size() / static_cast<size_t>(draft.size());
    std::vector<int32_t> path;  // of the last node
    for (int32_t node = draft.size() - 1; node >= 0;
         node = draft.parent()[static_cast<size_t>(node)])
      path.push_back(node);
    std::reverse(path.begin(), path.end());
    for (const int32_t node : path) {
      const auto wanted = plain.causal({draft.token()[static_cast<size_t>(node)]});
      const auto first = found.begin() + static_cast<int64_t>(vocabulary) * node;
      ASSERT_TRUE(same_bits({first, first + static_cast<int64_t>(vocabulary)}, wanted))
          << "step " << step << " node " << node;
    }
    tree.cache.commit(path);
  }
}

}  // namespace
}  // namespace forerun::cuda_test
