#include "draft/datastore.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>

#include "base/error.h"
#include "base/hash.h"
#include "draft/contract.h"
#include "draft/retrieval.h"
#include "io/temp_folder.h"

namespace forerun {
namespace {

constexpr int32_t kVocab = 6;
constexpr uint64_t kMark = 77;

class DatastoreFile : public testing::Test {
 protected:
  std::shared_ptr<const Datastore> built(const std::vector<std::vector<int32_t>>& texts,
                                         int32_t vocab = kVocab) const {
    build_datastore(path_, texts, vocab, kMark);
    auto store = Datastore::open(path_, vocab, kMark);
    store->check();
    return store;
  }
  std::string content() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void replace(const std::string& bytes) const {
    std::filesystem::remove(path_);  // a mapped file is not changed in place
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  test::TempFolder folder_;
  std::string path_ = folder_.path() + "/texts.store";
};

std::vector<std::vector<int32_t>> some_texts(uint32_t seed, int count) {
  std::mt19937 random(seed);
  std::vector<std::vector<int32_t>> texts(static_cast<size_t>(count));
  for (auto& text : texts) {
    text.resize(random() % 60);
    for (int32_t& token : text) token = static_cast<int32_t>(random() % kVocab);
  }
  texts.front() = {1, 2, 3};
  return texts;
}

DraftTree proposed(const std::shared_ptr<const Datastore>& store,
                   const std::vector<int32_t>& context, const Budget& budget) {
  DraftTree tree;
  tree.reset(context.back());
  RetrievalDrafter(store).propose(context, budget, {}, tree);
  return tree;
}

TEST_F(DatastoreFile, FindsEveryPlaceOfARunAndNoOther) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const auto texts = some_texts(seed, 12);
    const auto store = built(texts);
    std::vector<int32_t> all;
    for (const auto& text : texts) {
      all.insert(all.end(), text.begin(), text.end());
      all.push_back(-1);
    }
    ASSERT_EQ(store->size(), all.size());
    std::mt19937 random(seed);
    for (int round = 0; round < 60; ++round) {
      std::vector<int32_t> run(1 + random() % 5);
      for (int32_t& token : run) token = static_cast<int32_t>(random() % kVocab);
      std::vector<uint64_t> expected, found;
      for (size_t at = 0; at + run.size() <= all.size(); ++at) {
        if (std::equal(run.begin(), run.end(), all.begin() + static_cast<ptrdiff_t>(at))) {
          expected.push_back(at);
        }
      }
      const Datastore::Range range = store->find(run);
      for (uint64_t i = range.begin; i < range.end; ++i) found.push_back(store->suffix(i));
      std::sort(found.begin(), found.end());
      EXPECT_EQ(found, expected);
    }
  }
}

TEST_F(DatastoreFile, ProposesWithTheLongestSuffixThatOccurs) {
  std::vector<int32_t> text(60, 0);
  for (int32_t length = 2; length <= 20; ++length) {
    // The text ends the run of `length` ones with a 2, every shorter run with something else.
    text.assign(1, 5);
    for (int32_t shorter = 2; shorter < length; ++shorter) {
      text.push_back(5);
      text.insert(text.end(), static_cast<size_t>(shorter), 1);
      text.push_back(4);
    }
    text.push_back(0);
    text.insert(text.end(), static_cast<size_t>(length), 1);
    text.push_back(2);
    const auto store = built({text});
    std::vector<int32_t> context(20, 3);
    context.push_back(0);
    context.insert(context.end(), static_cast<size_t>(length), 1);
    if (length >= RetrievalDrafter::kLongest) continue;  // no run of that length is told apart
    const DraftTree tree = proposed(store, context, {1});
    ASSERT_EQ(tree.drafted(), 1);
    EXPECT_EQ(tree.token()[1], 2) << length;
    EXPECT_FLOAT_EQ(tree.score()[1], match_score(length + 1));
  }
}

TEST_F(DatastoreFile, HasNoTokensBeyondItsEnd) {
  const auto store = built({{1, 2, 3}});
  EXPECT_EQ(store->token(2), 3);
  for (const uint64_t position : {3U, 4U, 5U, 6U, 7U, 1000U}) {
    EXPECT_EQ(store->token(position), TokenText::kEnd);
  }
}

TEST_F(DatastoreFile, SortsTheSuffixesOfRepetitiveTexts) {
  const auto store = built({std::vector<int32_t>(3000, 4), std::vector<int32_t>(500, 4)});
  const std::vector<int32_t> run(400, 4);
  const Datastore::Range range = store->find(run);
  EXPECT_EQ(range.end - range.begin, 3000U - 399 + 500 - 399);
}

TEST_F(DatastoreFile, ProposesWhatFollowsTheLongestSuffixMostOften) {
  const auto store = built({{1, 2, 3, 4}, {1, 2, 3, 4, 5}, {1, 2, 3, 0}, {0, 2, 3, 1, 1}});
  const DraftTree tree = proposed(store, {5, 5, 1, 2, 3}, {3});
  ASSERT_EQ(tree.drafted(), 3);
  EXPECT_EQ(tree.token()[1], 4);
  const int32_t five = tree.child_with(1, 5);
  EXPECT_GT(five, 0);
  EXPECT_GT(tree.child_with(0, 0), 0);
  EXPECT_GT(tree.score()[1], tree.score()[tree.child_with(0, 0)]);
  EXPECT_EQ(proposed(store, {5, 5, 0}, {3}).drafted(), 0);
  EXPECT_EQ(proposed(store, {1}, {3}).drafted(), 0);
  EXPECT_EQ(proposed(store, {1, 2, 3}, {0}).drafted(), 0);
}

TEST_F(DatastoreFile, TheDrafterKeepsTheContractOfDrafters) {
  const auto store = built(some_texts(3, 40), 5 + 1);
  test::DrafterContract contract;
  contract.vocab = kVocab;
  contract.make = [&] { return std::make_unique<RetrievalDrafter>(store); };
  for (uint32_t seed = 0; seed < 6; ++seed) contract.check(seed);
}

TEST_F(DatastoreFile, EveryAlteredByteAndLengthIsRefused) {
  built({{1, 2, 3, 1, 2, 4}, {2, 3}});
  const std::string good = content();
  const auto opens = [&] {
    try {
      Datastore::open(path_, kVocab, kMark)->check();
    } catch (const Error& error) {
      EXPECT_NE(error.kind(), ErrorKind::kBadArgument) << error.what();
      return false;
    }
    return true;
  };
  EXPECT_TRUE(opens());
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 16);
    replace(bad);
    EXPECT_FALSE(opens()) << at;
  }
  for (size_t length = 0; length < good.size(); ++length) {
    replace(good.substr(0, length));
    EXPECT_FALSE(opens()) << length;
  }
  replace(good + std::string(8, 0));
  EXPECT_FALSE(opens());
  replace(good);
  EXPECT_THROW(Datastore::open(path_, kVocab, kMark + 1), Error);  // another vocabulary
  EXPECT_THROW(Datastore::open(path_, kVocab - 1, kMark), Error);  // ids that the model lacks
}

// Nobody checked the content: whatever it holds, look-ups stay inside and ids in the vocabulary.
TEST_F(DatastoreFile, AnyContentIsHarmless) {
  built(some_texts(1, 10));
  const std::string good = content();
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::string bad = good;
    for (uint32_t i = 0; i < 1 + random() % 200; ++i) {
      bad[48 + random() % (bad.size() - 48)] = static_cast<char>(random());
    }
    replace(bad);
    const auto store = Datastore::open(path_, kVocab, kMark);
    std::vector<int32_t> context(20);
    for (int32_t& token : context) token = static_cast<int32_t>(random() % kVocab);
    const DraftTree tree = proposed(store, context, {40});
    for (const int32_t token : tree.token()) EXPECT_TRUE(token >= 0 && token < kVocab);
  }
}

TEST_F(DatastoreFile, NothingAndIdsOutsideTheVocabularyAreNotBuilt) {
  EXPECT_THROW(build_datastore(path_, {}, kVocab, kMark), Error);
  const std::vector<std::vector<int32_t>> outside = {{1, kVocab}}, empty = {{}, {}};
  EXPECT_THROW(build_datastore(path_, outside, kVocab, kMark), Error);
  EXPECT_THROW(build_datastore(path_, empty, kVocab, kMark), Error);
  const std::vector<std::vector<int32_t>> one = {{1}};
  EXPECT_THROW(build_datastore("/nowhere/at/all", one, kVocab, kMark), Error);
}

}  // namespace
}  // namespace forerun
