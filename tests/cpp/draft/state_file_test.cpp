#include "draft/state_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <random>

#include "base/error.h"
#include "draft/recycle.h"
#include "draft/shared_texts.h"
#include "draft/trigram_table.h"
#include "io/temp_folder.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 40;

class StateFile : public testing::Test {
 protected:
  static std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void replace(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }
  // Empty, or why it was refused.
  static std::string refusal(const std::function<void()>& read) {
    try {
      read();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadFile) << error.what();
      return error.what();
    }
    return {};
  }
  test::TempFolder folder_;
  std::string path_ = folder_.path() + "/learned.drafts";
};

void teach(RecycleTable& table) {
  std::mt19937 random(1);
  for (int32_t token = 0; token < kVocab; ++token) {
    std::vector<int32_t> row;
    for (int i = 0; i < 8; ++i) row.push_back(static_cast<int32_t>(random() % kVocab));
    table.store(token, row);
    table.count(token % 9);
  }
}

std::vector<int32_t> text(uint32_t seed, size_t length) {
  std::mt19937 random(seed);
  std::vector<int32_t> out(length);
  for (int32_t& token : out) token = static_cast<int32_t>(random() % kVocab);
  return out;
}

TEST_F(StateFile, WhatWasLearntComesBack) {
  RecycleTable ranks(kVocab), ranks_again(kVocab);
  TrigramTable trigrams(TrigramTable::kLeastBytes), trigrams_again(TrigramTable::kLeastBytes);
  SharedTexts texts(SharedTexts::kLeastBytes), texts_again(SharedTexts::kLeastBytes);
  teach(ranks);
  trigrams.read(7, text(1, 3000));
  trigrams.rank(7, 1, 2, text(2, 8));
  texts.add("anna", text(3, 50));
  texts.add("", text(4, 60));
  texts.add("anna", text(5, 1));
  StateWriter out(99);
  out.begin_section("recycle");
  ranks.save(out);
  out.begin_section("trigram");
  trigrams.save(out);
  out.begin_section("suffix");
  texts.save(out);
  out.write(path_);

  const StateReader in(path_, 99);
  ranks_again.load(in.section("recycle"));
  trigrams_again.load(in.section("trigram"), kVocab);
  texts_again.load(in.section("suffix"), kVocab);
  std::vector<TrigramTable::Successor> a, b;
  for (int32_t token = 0; token < kVocab; ++token) {
    EXPECT_EQ(ranks_again.row(token), ranks.row(token));
    for (int32_t before = -1; before < kVocab; ++before) {
      trigrams.successors(7, before, token, a);
      trigrams_again.successors(7, before, token, b);
      ASSERT_EQ(a.size(), b.size());
      for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].token, b[i].token);
        EXPECT_EQ(a[i].share, b[i].share);
      }
    }
  }
  EXPECT_EQ(ranks_again.rates(), ranks.rates());
  ASSERT_EQ(texts_again.texts().length(), texts.texts().length());
  for (uint64_t at = 0; at < texts.texts().length(); ++at) {
    EXPECT_EQ(texts_again.texts().token(at), texts.texts().token(at));
  }
  EXPECT_EQ(texts_again.owner("anna"), texts_again.texts().owner(0));
  EXPECT_NE(texts_again.owner(""), texts_again.owner("anna"));
  EXPECT_EQ(texts_again.owner("bert"), 0U);
}

TEST_F(StateFile, ASlotThatNamesATokenTwiceIsRefused) {
  for (const int32_t second : {4, 3}) {
    StateWriter out(99);
    out.begin_section("trigram");
    out.put(TrigramTable::kRanks);
    out.put(uint64_t{1});
    out.put(uint64_t{5});  // key
    out.put(uint32_t{1});
    out.put_all(std::span<const int32_t>(std::vector<int32_t>{3, second, 0, 0, 0, 0, 0, 0}));
    out.put_all(std::span<const uint16_t>(std::vector<uint16_t>{900, 800, 0, 0, 0, 0, 0, 0}));
    out.write(path_);
    TrigramTable table(TrigramTable::kLeastBytes);
    const std::string why =
        refusal([&] { table.load(StateReader(path_, 99).section("trigram"), kVocab); });
    EXPECT_EQ(why.empty(), second == 4);
    EXPECT_EQ(why.find("a token twice") != std::string::npos, second == 3) << why;
  }
}

TEST_F(StateFile, EveryAlteredByteEveryLengthAndAnotherVocabularyAreRefused) {
  RecycleTable table(6);
  table.store(3, std::vector<int32_t>{1, 2, 3});
  StateWriter out(99);
  out.begin_section("recycle");
  table.save(out);
  out.begin_section("empty");
  out.write(path_);
  const std::string good = content(path_);
  EXPECT_EQ(refusal([&] { StateReader(path_, 99); }), "");
  EXPECT_NE(refusal([&] { StateReader(path_, 98); }).find("another vocabulary"), std::string::npos);
  EXPECT_NE(refusal([&] { StateReader(path_, 99).section("trigram"); }).find("no such section"),
            std::string::npos);
  std::mt19937 random(2);
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
    replace(bad);
    EXPECT_NE(refusal([&] { StateReader(path_, 99); }), "") << at;
  }
  for (size_t length = 0; length < good.size(); ++length) {
    replace(good.substr(0, length));
    EXPECT_NE(refusal([&] { StateReader(path_, 99); }), "") << length;
  }
  replace(good + "x");
  EXPECT_NE(refusal([&] { StateReader(path_, 99); }), "");
  replace("");
  EXPECT_NE(refusal([&] { StateReader(path_, 99); }), "");
}

// The hashes fit, the content does not: whoever wrote it, ids outside the vocabulary stay out.
TEST_F(StateFile, ContentThatNoDrafterSavedIsRefusedOrHarmless) {
  std::mt19937 random(3);
  const auto saved = [](const char* name) {
    StateWriter out(1);
    out.begin_section(name);
    if (name[0] == 'r') {
      RecycleTable table(kVocab);
      teach(table);
      table.save(out);
    } else if (name[0] == 't') {
      TrigramTable table(TrigramTable::kLeastBytes);
      table.read(0, text(1, 30));
      table.save(out);
    } else {
      SharedTexts texts(SharedTexts::kLeastBytes);
      texts.add("anna", text(3, 20));
      texts.add("b", text(4, 9));
      texts.save(out);
    }
    return out;
  };
  int refused = 0;
  for (const char* name : {"recycle", "trigram", "suffix"}) {
    saved(name).write(path_);
    const ByteCursor whole = StateReader(path_, 1).section(name);
    const std::string file = content(path_);
    const std::string good = file.substr(file.size() - whole.remaining());
    for (int round = 0; round < 400; ++round) {
      std::string bad = good;
      for (uint32_t i = 0; i < 1 + random() % 3; ++i) {
        bad[random() % bad.size()] = static_cast<char>(random());
      }
      if (random() % 4 == 0) bad.resize(random() % bad.size());
      StateWriter out(1);
      out.begin_section(name);
      out.put_all(std::span<const char>(bad));
      out.write(path_);
      RecycleTable ranks(kVocab);
      TrigramTable trigrams(TrigramTable::kLeastBytes);
      SharedTexts texts(SharedTexts::kLeastBytes);
      const StateReader reader(path_, 1);
      const std::string why = refusal([&] {
        if (name[0] == 'r') ranks.load(reader.section(name));
        if (name[0] == 't') trigrams.load(reader.section(name), kVocab);
        if (name[0] == 's') texts.load(reader.section(name), kVocab);
      });
      refused += why.empty() ? 0 : 1;
      if (!why.empty()) continue;
      std::vector<TrigramTable::Successor> next;
      for (int32_t token = 0; token < kVocab; ++token) {
        for (const int32_t id : ranks.row(token)) EXPECT_LT(id, kVocab);
        trigrams.successors(0, -1, token, next);
        for (const auto& s : next) EXPECT_TRUE(s.token >= 0 && s.token < kVocab);
      }
      for (uint64_t at = 0; at < texts.texts().length(); ++at) {
        EXPECT_LT(texts.texts().token(at), kVocab);
      }
    }
  }
  EXPECT_GT(refused, 600);
}

TEST_F(StateFile, APathThatCannotBeWrittenIsAnError) {
  StateWriter out(1);
  EXPECT_THROW(out.write("/nowhere/at/all.drafts"), Error);
  EXPECT_THROW(StateReader("/nowhere/at/all.drafts", 1), Error);
}

}  // namespace
}  // namespace forerun
