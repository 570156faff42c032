#include "backend/profiler.h"

#include <gtest/gtest.h>

#include <string>

#include "backend/cpu_fixture.h"

namespace forerun {
namespace {

using test::random_floats;
using test::RandomMatrix;

class Profiler : public testing::Test {
 protected:
  TraceSpan only_span() {
    const std::vector<TraceSpan> spans = recorder_->take();
    EXPECT_EQ(spans.size(), 1U);
    return spans.empty() ? TraceSpan{} : spans[0];
  }
  static Tensor tensor(std::vector<float>& values, int32_t rows) {
    return {values.data(), rows, static_cast<int32_t>(values.size()) / rows};
  }

  std::shared_ptr<TraceRecorder> recorder_ = std::make_shared<TraceRecorder>(64);
  std::unique_ptr<Backend> plain_ = make_cpu_backend(1);
  std::unique_ptr<Backend> profiled_ = make_profiling_backend(make_cpu_backend(1), recorder_);
};

void expect_span(const TraceSpan& span, const char* name, int32_t rows, int64_t bytes,
                 int64_t operations) {
  EXPECT_STREQ(span.name, name);
  EXPECT_EQ(span.track, TraceTrack::kOperation);
  EXPECT_EQ(span.rows, rows);
  EXPECT_EQ(span.bytes, bytes);
  EXPECT_EQ(span.operations, operations);
}

TEST_F(Profiler, AProductHasItsRoleTheBytesOfItsWeightsAndTwoOperationsPerWeightAndRow) {
  const RandomMatrix first(DType::kF32, 32, 48, 1), second(DType::kF32, 16, 48, 2);
  std::vector<float> x = random_floats(3 * 48, 3), one(3 * 32), two(3 * 16), want(3 * 32);
  const auto weight = profiled_->pack(first.host), other = profiled_->pack(second.host);
  const LinearTask tasks[] = {{weight.get(), nullptr, tensor(one, 3), "linear.test"},
                              {other.get(), nullptr, tensor(two, 3)}};
  profiled_->linear(tensor(x, 3), tasks);
  expect_span(only_span(), "linear.test", 3, 4 * 48 * (32 + 16), 2 * 3 * 48 * (32 + 16));

  const auto expected = plain_->pack(first.host);
  const LinearTask same[] = {{expected.get(), nullptr, tensor(want, 3)}};
  plain_->linear(tensor(x, 3), same);
  EXPECT_TRUE(test::same_bits(one.data(), want.data(), one.size()));
}

TEST_F(Profiler, AGatedProductIsOneProductOfBothWeights) {
  const RandomMatrix first(DType::kF32, 32, 48, 1), second(DType::kF32, 32, 48, 2);
  std::vector<float> x = random_floats(3 * 48, 3), gate(3 * 32), up(3 * 32), same(3 * 32);
  const auto a = profiled_->pack(first.host), b = profiled_->pack(second.host);
  const Tensor input = tensor(x, 3);
  profiled_->gated_linear(input, {a.get(), nullptr, tensor(gate, 3), "linear.gate_up"},
                          {b.get(), nullptr, tensor(up, 3)});
  expect_span(only_span(), "linear.gate_up", 3, 4 * 48 * 64, 2 * 3 * 48 * 64);
  plain_->gated_linear(input, {a.get(), nullptr, tensor(same, 3)},
                       {b.get(), nullptr, tensor(up, 3)});
  EXPECT_TRUE(test::same_bits(gate.data(), same.data(), gate.size()));
}

TEST_F(Profiler, RowOperationsCountTheirOperands) {
  std::vector<float> x = random_floats(2 * 64, 1), y = random_floats(2 * 64, 2), out(2 * 64);
  const Tensor a = tensor(x, 2), b = tensor(y, 2), c = tensor(out, 2);
  profiled_->rms_norm(a, y.data(), 1e-5F, c);
  expect_span(only_span(), "rms_norm", 2, 2 * 2 * 64 * 4, 4 * 2 * 64);
  profiled_->head_norm(a, 2, y.data(), 1e-5F);
  expect_span(only_span(), "head_norm", 2, 2 * 2 * 64 * 4, 4 * 2 * 64);
  profiled_->swiglu(a, b, c);
  expect_span(only_span(), "swiglu", 2, 3 * 2 * 64 * 4, 4 * 2 * 64);
  profiled_->add(a, b);
  expect_span(only_span(), "add", 2, 3 * 2 * 64 * 4, 2 * 64);
  profiled_->blend(a, b, b, c);
  expect_span(only_span(), "blend", 2, 4 * 2 * 64 * 4, 6 * 2 * 64);
  profiled_->add_rms_norm(a, b, y.data(), 1e-5F, c);
  expect_span(only_span(), "add_rms_norm", 2, 4 * 2 * 64 * 4, 5 * 2 * 64);
  profiled_->rope(a, 2, tensor(out, 4).first_rows(2), false);
  expect_span(only_span(), "rope", 2, 2 * 2 * 64 * 4, 3 * 2 * 64);
  const int32_t rows[] = {1};
  profiled_->gather_rows(a, rows, c.first_rows(1));
  expect_span(only_span(), "gather_rows", 1, 2 * 64 * 4, 0);
  std::vector<int32_t> ids(4);
  std::vector<float> values(4);
  profiled_->top_k(a, 2, ids, values);
  expect_span(only_span(), "top_k", 2, 2 * 64 * 4, 2 * 64);
}

// Two sequences of one key head of 16 values. The first has 5 positions and a tree of 3 nodes in
// slots 5 to 7, two of them children of the first; the second has one row at position 9.
TEST_F(Profiler, AttentionReadsEachSequenceOnceAndWorksOnWhatEveryRowSees) {
  const KvLayout layout{2, 1, 16};
  const auto bytes_of_position = layout.page_bytes() / (2 * 64);  // of one layer
  EXPECT_EQ(bytes_of_position, 2 * 2 * 16);                       // half floats of K and V
  std::vector<std::vector<std::byte>> memory(2, std::vector<std::byte>(layout.page_bytes()));
  std::byte* const first[] = {memory[0].data()};
  std::byte* const second[] = {memory[1].data()};
  const std::span<std::byte* const> pages[] = {first, second};
  const AttentionRow rows[] = {{0, 5, 5, 6, 0}, {0, 6, 6, 7, 0}, {0, 6, 7, 6, 0}, {1, 9, 9, 10, 0}};
  const int32_t path[] = {7};
  const AttentionBatch batch{layout, rows, path, pages};
  std::vector<float> q = random_floats(4 * 32, 1), kv = random_floats(4 * 16, 2), out(4 * 32);

  profiled_->store_kv(batch, 1, tensor(kv, 4), tensor(kv, 4));
  expect_span(only_span(), "store_kv", 4, 2 * 4 * 16 * 4 + 4 * bytes_of_position, 0);
  profiled_->attention(batch, 1, tensor(q, 4), 0.25F, tensor(out, 4));
  expect_span(only_span(), "attention", 4, (8 + 10) * bytes_of_position, 4 * (6 + 7 + 7 + 10) * 32);
  const int32_t from[] = {7}, to[] = {6};
  profiled_->move_kv(layout, first, from, to);
  expect_span(only_span(), "move_kv", 1, 2 * 2 * bytes_of_position, 0);
}

TEST_F(Profiler, IsTheInnerBackEndInEverythingElse) {
  EXPECT_EQ(profiled_->name(), plain_->name());
  EXPECT_EQ(profiled_->description(), plain_->description());
  EXPECT_EQ(profiled_->threads(), 1);
  EXPECT_TRUE(profiled_->host_visible());
  EXPECT_EQ(profiled_->recorder(), recorder_.get());
  EXPECT_EQ(plain_->recorder(), nullptr);
  const Buffer buffer = profiled_->allocate(64), copy = profiled_->allocate(64);
  float values[16] = {1.0F, 2.0F}, back[16] = {};
  profiled_->upload(buffer.data(), values, 64);
  profiled_->copy(copy.data(), buffer.data(), 64);
  profiled_->download(back, copy.data(), 64);
  profiled_->synchronize();
  EXPECT_TRUE(test::same_bits(values, back, 16));
  EXPECT_TRUE(recorder_->take().empty());
}

}  // namespace
}  // namespace forerun
