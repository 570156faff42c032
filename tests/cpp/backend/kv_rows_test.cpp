#include "backend/cpu/kv_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "backend/attention_fixture.h"
#include "backend/kv_slots.h"

namespace forerun::test::attention {
namespace {

constexpr Model kModel{4, 2, 64};

Model of_type(DType type) {
  Model model = kModel;
  model.type = type;
  return model;
}

void store(Backend& backend, Cache& cache, const Model& model, Text& text,
           const std::vector<int32_t>& slots, int32_t layer = 0) {
  std::vector<AttentionRow> rows;
  for (const int32_t slot : slots) rows.push_back({0, slot, slot, slot + 1, 0});
  const std::span<std::byte* const> pages(cache.pages);
  const auto count = static_cast<int32_t>(slots.size());
  backend.store_kv(batch_of(cache, rows, {}, {&pages, 1}), layer,
                   Tensor(text.k.data(), count, model.kv_cols()),
                   Tensor(text.v.data(), count, model.kv_cols()));
}

struct Block {  // one of the blocks of 32 of a row
  uint16_t d;
  int8_t code[32];
};

// Head `head`, values [32 b, 32 b + 32) of layer 0 in a Q8_0 page, read by the description of
// KvLayout.
Block block_of(const std::byte* page, bool key, int32_t slot, int32_t head, int32_t b) {
  constexpr int32_t kDim = 64, kBytes = 64 * kDim + 64 * 2 * (kDim / 32);
  const std::byte* at = page + ((key ? 0 : 2) + head) * kBytes;
  Block block;
  std::memcpy(&block.d, at + 64 * kDim + (b * 64 + slot) * 2, 2);
  for (int32_t i = 0; i < 32; ++i) {
    const int32_t d = b * 32 + i;
    block.code[i] =
        static_cast<int8_t>(at[key ? (d / 4 * 64 + slot) * 4 + d % 4 : slot * kDim + d]);
  }
  return block;
}

// d = amax / 127 as a half float, code = x * 127 / amax to the nearest.
void expect_definition(const Block& block, const float* x) {
  float amax = 0.0F;
  for (int i = 0; i < 32; ++i) amax = std::max(amax, std::abs(x[i]));
  EXPECT_EQ(block.d, float_to_half(amax / 127.0F));
  for (int i = 0; i < 32; ++i) {
    const double exact = amax > 0.0F ? double{x[i]} * 127.0 / amax : 0.0;
    EXPECT_NEAR(block.code[i], exact, 0.5001) << x[i];
  }
}

TEST(KvRows, StoresBlocksOf32AsQ8_0Defines) {
  const Model model = of_type(DType::kQ8_0);
  for (const std::string& isa : kernel_sets()) {
    const auto backend = cpu_backend(isa, 2);
    Cache cache(*backend, model.layout(), 2);
    Text text(model, 5, 3);
    for (size_t i = 0; i < 128; ++i) text.k[i] *= i < 64 ? 1e-3F : 3e3F;  // row 0: small, large
    std::fill_n(text.v.begin(), 32, 0.0F);
    const std::vector<int32_t> slots = {0, 1, 63, 64, 127};
    store(*backend, cache, model, text, slots);
    for (size_t row = 0; row < slots.size(); ++row) {
      for (int32_t part = 0; part < 4; ++part) {
        const std::byte* page = cache.pages[static_cast<size_t>(slots[row] / 64)];
        const size_t at = row * 128 + static_cast<size_t>(part) * 32;
        expect_definition(block_of(page, true, slots[row] % 64, part / 2, part % 2), &text.k[at]);
        expect_definition(block_of(page, false, slots[row] % 64, part / 2, part % 2), &text.v[at]);
      }
    }
  }
}

TEST(KvRows, StoresValuesThatAreNotFiniteAsAScaleThatIsNotANumber) {
  const Model model = of_type(DType::kQ8_0);
  const auto backend = cpu_backend("scalar", 1);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Cache cache(*backend, model.layout(), 1);
    Text text(model, 1, 3);
    text.k[40] = bad;
    store(*backend, cache, model, text, {7});
    EXPECT_TRUE(std::isnan(half_to_float(block_of(cache.pages[0], true, 7, 0, 1).d)));
    EXPECT_TRUE(std::isfinite(half_to_float(block_of(cache.pages[0], true, 7, 0, 0).d)));
  }
}

class KvRowsOfType : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, KvRowsOfType, testing::ValuesIn(kv_types()),
                         [](const auto& one) { return std::string(dtype_info(one.param).name); });

// What a row becomes depends on nothing but the row: the page is the same however it was filled.
TEST_P(KvRowsOfType, StoresARowTheSameInAnyBatchSlotThreadCountAndInstructionSet) {
  const Model model = of_type(GetParam());
  Text text(model, 40, 9);
  std::vector<std::byte> expected;
  for (const std::string& isa : kernel_sets()) {
    for (int threads = 1; threads <= 2; ++threads) {
      const auto backend = cpu_backend(isa, threads);
      Cache together(*backend, model.layout(), 1), apart(*backend, model.layout(), 1);
      std::vector<int32_t> slots(40);
      for (int32_t i = 0; i < 40; ++i) slots[static_cast<size_t>(i)] = (i * 11 + 5) % 64;
      store(*backend, together, model, text, slots);
      for (size_t i = slots.size(); i-- > 0;) {
        Text one(model, 0, 1);
        const auto begin = static_cast<ptrdiff_t>(i) * model.kv_cols();
        one.k.assign(text.k.begin() + begin, text.k.begin() + begin + model.kv_cols());
        one.v.assign(text.v.begin() + begin, text.v.begin() + begin + model.kv_cols());
        store(*backend, apart, model, one, {slots[i]});
        Cache elsewhere(*backend, model.layout(), 2);
        store(*backend, elsewhere, model, one, {100});
        ASSERT_EQ(slot_content(model.layout(), elsewhere.pages[1], 36),
                  slot_content(model.layout(), together.pages[0], slots[i]));
      }
      const std::byte* page = together.pages[0];
      const auto bytes = static_cast<size_t>(model.layout().page_bytes());
      if (expected.empty()) expected.assign(page, page + bytes);
      EXPECT_EQ(std::memcmp(page, expected.data(), bytes), 0) << isa;
      EXPECT_EQ(std::memcmp(apart.pages[0], expected.data(), bytes), 0) << isa;
    }
  }
}

TEST_P(KvRowsOfType, PutsEveryByteOfAPageToOneSlot) {
  const KvLayout layout{3, 2, 64, GetParam()};
  std::vector<std::byte> page(static_cast<size_t>(layout.page_bytes()));
  size_t seen = 0;
  for (int32_t slot = 0; slot < 64; ++slot) {
    for (std::byte* byte : slot_bytes(layout, page.data(), slot)) {
      ASSERT_EQ(*byte, std::byte{0});
      *byte = std::byte{1};
      ++seen;
    }
  }
  EXPECT_EQ(seen, page.size());
}

TEST_P(KvRowsOfType, MovesSlotsOfAllLayersInOrderAndNothingElse) {
  const KvLayout layout{2, 2, 64, GetParam()};
  for (int threads = 1; threads <= 2; ++threads) {
    const auto backend = cpu_backend("scalar", threads);
    Cache cache(*backend, layout, 2);
    std::mt19937 random(5);
    for (std::byte* page : cache.pages) {
      for (int64_t i = 0; i < layout.page_bytes(); ++i) page[i] = static_cast<std::byte>(random());
    }
    const auto content = [&](int32_t slot) {
      return slot_content(layout, cache.pages[static_cast<size_t>(slot / 64)], slot % 64);
    };
    std::vector<std::vector<std::byte>> want;
    for (int32_t slot = 0; slot < 128; ++slot) want.push_back(content(slot));
    const std::vector<int32_t> from = {62, 65, 69, 70};
    const std::vector<int32_t> to = {61, 62, 65, 70};
    for (size_t i = 0; i < from.size(); ++i) {
      want[static_cast<size_t>(to[i])] = want[static_cast<size_t>(from[i])];
    }
    backend->move_kv(layout, cache.pages, from, to);
    for (int32_t slot = 0; slot < 128; ++slot) {
      ASSERT_EQ(content(slot), want[static_cast<size_t>(slot)]) << slot;
    }
  }
}

TEST(KvRows, RefusesTypesThatACacheCannotHave) {
  const auto backend = cpu_backend("scalar", 1);
  EXPECT_NO_THROW(backend->check_kv({1, 1, 80, DType::kF16}));
  EXPECT_NO_THROW(backend->check_kv({1, 1, 80, DType::kF32}));
  EXPECT_NO_THROW(backend->check_kv({1, 1, 96, DType::kQ8_0}));
  const auto refused = [&](const KvLayout& layout, const std::string& part) {
    try {
      backend->check_kv(layout);
      FAIL() << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  refused({1, 1, 80, DType::kQ8_0}, "80");
  refused({1, 1, 64, DType::kQ4_0}, "Q4_0");
}

}  // namespace
}  // namespace forerun::test::attention
