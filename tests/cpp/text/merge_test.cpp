#include "text/merge.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>

#include "text/special_matcher.h"

namespace forerun {
namespace {

using Rules = std::map<std::pair<int32_t, int32_t>, MergeTable::Rule>;

// The definition: again and again the pair of lowest rank, the leftmost of equals.
std::vector<int32_t> merge_slowly(std::vector<int32_t> ids, const Rules& rules) {
  for (;;) {
    size_t best = ids.size();
    int32_t rank = INT32_MAX;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto it = rules.find({ids[i], ids[i + 1]});
      if (it != rules.end() && it->second.rank < rank) {
        best = i;
        rank = it->second.rank;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = rules.at({ids[best], ids[best + 1]}).merged;
    ids.erase(ids.begin() + static_cast<int64_t>(best) + 1);
  }
}

std::vector<int32_t> merge(const std::vector<int32_t>& ids, const MergeTable& table,
                           Merger& merger) {
  merger.clear();
  for (size_t i = 0; i < ids.size(); ++i) merger.append(ids[i], static_cast<uint32_t>(i));
  merger.merge(table);
  std::vector<int32_t> out;
  merger.for_each([&](const Merger::Symbol& symbol) { out.push_back(symbol.id); });
  return out;
}

TEST(Merger, EqualsTheDefinitionOnRandomRules) {
  std::mt19937 random(3);
  Merger merger;
  for (int round = 0; round < 300; ++round) {
    Rules rules;
    MergeTable table;
    int32_t next = 3;
    for (int32_t i = 0; i < 12; ++i) {
      const auto left = static_cast<int32_t>(random() % next),
                 right = static_cast<int32_t>(random() % next);
      // Some rules share a rank, as equal scores do.
      if (rules.emplace(std::pair(left, right), MergeTable::Rule{i / 2, next}).second) {
        table.add(left, right, {i / 2, next});
        ++next;
      }
    }
    for (int text = 0; text < 10; ++text) {
      std::vector<int32_t> ids(random() % 40);
      for (int32_t& id : ids)
        id = static_cast<int32_t>(random() % 4) - (random() % 20 == 0 ? 4 : 0);
      for (int32_t& id : ids) id = std::max(id, -1);
      ASSERT_EQ(merge(ids, table, merger), merge_slowly(ids, rules));
    }
  }
}

TEST(Merger, AMillionEqualSymbolsTakeNearLinearTime) {
  MergeTable table;
  for (int32_t id = 0; id < 12; ++id) table.add(id, id, {id, id + 1});
  Merger merger;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(merge(std::vector<int32_t>(1 << 20, 0), table, merger).size(), size_t{1} << 8);
  // Quadratic behaviour would take hours; the bound leaves room for sanitizers on a busy machine.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(SpecialMatcher, FindsTheLeftmostLongestAllowedToken) {
  const std::vector<std::pair<std::string, bool>> tokens = {{"<a>", false}, {"<a><b>", false},
                                                            {"<b>", true},  {"a><", true},
                                                            {"b", false},   {"<a><", true}};
  SpecialMatcher matcher;
  for (size_t i = 0; i < tokens.size(); ++i)
    matcher.add(tokens[i].first, static_cast<int32_t>(i), tokens[i].second);
  std::mt19937 random(5);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t n = random() % 12; n > 0; --n) text += "<ab>"[random() % 4];
    const bool parse = round % 2 == 0;
    SpecialMatcher::Match expected{text.size(), text.size(), -1};
    for (size_t at = 0; at < text.size() && expected.token < 0; ++at) {
      for (size_t i = 0; i < tokens.size(); ++i) {
        const auto& [token, always] = tokens[i];
        const bool here = text.compare(at, token.size(), token) == 0 && (parse || always);
        if (here && (expected.token < 0 || at + token.size() > expected.end)) {
          expected = {at, at + token.size(), static_cast<int32_t>(i)};
        }
      }
    }
    const SpecialMatcher::Match found = matcher.find(text, 0, parse);
    ASSERT_EQ(found.token, expected.token) << text;
    ASSERT_EQ(found.begin, expected.begin) << text;
    ASSERT_EQ(found.end, expected.end) << text;
  }
}

}  // namespace
}  // namespace forerun
