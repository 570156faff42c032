#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <system_error>

#include "base/error.h"
#include "base/hash.h"
#include "draft/datastore.h"

namespace forerun {
namespace {

constexpr uint64_t kMostTokens = UINT32_MAX - 1;

// All suffixes in order, by doubling the length of the prefix that is sorted (Manber and Myers;
// Larsson and Sadakane: groups that are single already are skipped).
std::vector<uint32_t> sorted_suffixes(const std::vector<int32_t>& tokens) {
  const size_t count = tokens.size();
  std::vector<uint32_t> suffixes(count), rank(count), next(count);
  std::iota(suffixes.begin(), suffixes.end(), 0U);
  std::sort(suffixes.begin(), suffixes.end(), [&](uint32_t a, uint32_t b) {
    return tokens[a] != tokens[b] ? tokens[a] < tokens[b] : a < b;
  });
  // The rank of a group is the index of its last member.
  for (size_t end = count; end > 0;) {
    size_t begin = end - 1;
    while (begin > 0 && tokens[suffixes[begin - 1]] == tokens[suffixes[begin]]) --begin;
    for (size_t i = begin; i < end; ++i) rank[suffixes[i]] = static_cast<uint32_t>(end - 1);
    end = begin;
  }
  for (size_t length = 1; length < count; length *= 2) {
    const auto after = [&](uint32_t at) -> uint64_t {
      return at + length < count ? uint64_t{rank[at + length]} + 1 : 0;
    };
    bool done = true;
    for (size_t begin = 0; begin < count;) {
      const size_t end = size_t{rank[suffixes[begin]]} + 1;
      if (end - begin > 1) {
        done = false;
        std::sort(suffixes.begin() + static_cast<ptrdiff_t>(begin),
                  suffixes.begin() + static_cast<ptrdiff_t>(end), [&](uint32_t a, uint32_t b) {
                    return after(a) != after(b) ? after(a) < after(b) : a < b;
                  });
      }
      begin = end;
    }
    if (done) break;
    for (size_t end = count; end > 0;) {
      size_t begin = end - 1;
      while (begin > 0 && rank[suffixes[begin - 1]] == rank[suffixes[begin]] &&
             after(suffixes[begin - 1]) == after(suffixes[begin])) {
        --begin;
      }
      for (size_t i = begin; i < end; ++i) next[suffixes[i]] = static_cast<uint32_t>(end - 1);
      end = begin;
    }
    rank.swap(next);
  }
  return suffixes;
}

void check(const std::vector<int32_t>& text, int32_t vocab) {
  for (const int32_t token : text) {
    if (token >= 0 && token < vocab) continue;
    throw Error(ErrorKind::kBadArgument, "datastore: token " + std::to_string(token) +
                                             " is outside the vocabulary of " +
                                             std::to_string(vocab));
  }
}

template <typename Value>
void write(std::ofstream& file, std::span<const Value> values) {
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size_bytes()));
}

}  // namespace

void build_datastore(const std::string& path, std::span<const std::vector<int32_t>> texts,
                     int32_t vocab, uint64_t fingerprint) {
  uint64_t total = 0;
  for (const std::vector<int32_t>& text : texts) {
    check(text, vocab);
    total += text.size() + 1;
  }
  if (total == texts.size() || total > kMostTokens) {
    throw Error(ErrorKind::kBadArgument, "datastore: " + std::to_string(total - texts.size()) +
                                             " tokens, expected 1 to " +
                                             std::to_string(kMostTokens - texts.size()));
  }
  std::vector<int32_t> tokens;
  tokens.reserve(total);
  for (const std::vector<int32_t>& text : texts) {
    tokens.insert(tokens.end(), text.begin(), text.end());
    tokens.push_back(TokenText::kEnd);
  }
  const std::vector<uint32_t> suffixes = sorted_suffixes(tokens);

  std::string header = "FRSTORE1";
  const auto put = [&header](auto value) {
    header.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  put(uint32_t{1});
  put(static_cast<uint32_t>(vocab));
  put(total);
  put(fingerprint);
  put(hash_bytes(header));
  put(hash_values(std::span<const uint32_t>(suffixes),
                  hash_values(std::span<const int32_t>(tokens))));
  const std::string unfinished = path + ".part";
  std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
  file << header;
  write(file, std::span<const int32_t>(tokens));
  write(file, std::span<const uint32_t>(suffixes));
  file.close();
  if (!file || std::rename(unfinished.c_str(), path.c_str()) != 0) {
    throw Error(ErrorKind::kBadArgument,
                path + ": cannot be written: " + std::generic_category().message(errno));
  }
}

}  // namespace forerun
