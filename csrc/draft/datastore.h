#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "draft/continuations.h"
#include "io/mapped_file.h"

namespace forerun {

// Texts on disk with all their suffixes in order (a suffix array), so that every place where a run
// of tokens occurs is one range, found by bisection (REST, arXiv 2311.08252). Mapped, not read:
// a large one costs only the pages that are touched.
//   "FRSTORE1", version u32, vocabulary size u32, tokens u64, fingerprint of the vocabulary u64,
//   hash of the above u64, hash of the rest u64; then tokens i32[], suffixes u32[]. -1 between
//   texts. All little-endian.
// Opening checks the header and that the sizes fit the file; check() reads all of it. Whatever the
// rest holds, no access leaves the file and no token outside the vocabulary is ever returned:
// each suffix and token is checked where it is used.
class Datastore final : public TokenText {
 public:
  // Error(kBadFile) for a file that is malformed or of another vocabulary.
  static std::shared_ptr<const Datastore> open(const std::string& path, int32_t vocab,
                                               uint64_t fingerprint);
  // Error(kBadFile) unless the content is what was written.
  void check() const;

  uint64_t size() const { return tokens_.size(); }
  int32_t token(uint64_t position) const override;

  struct Range {
    uint64_t begin = 0, end = 0;  // of suffixes
    bool empty() const { return begin >= end; }
  };
  // Where the run occurs; an empty range when nowhere.
  Range find(std::span<const int32_t> run) const;
  uint64_t suffix(uint64_t index) const { return suffixes_[index]; }  // index < size()

 private:
  explicit Datastore(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {}
  int compare(uint64_t position, std::span<const int32_t> run) const;

  std::shared_ptr<const MappedFile> file_;
  std::span<const int32_t> tokens_;
  std::span<const uint32_t> suffixes_;
  uint32_t vocab_ = 0;
  uint64_t hash_ = 0;
};

// Writes a datastore of these texts. Error(kBadArgument) for no tokens, more than 2^32 - 2, an id
// outside the vocabulary, or a file that cannot be written. Takes 12 bytes of memory per token.
FORERUN_API void build_datastore(const std::string& path,
                                 std::span<const std::vector<int32_t>> texts, int32_t vocab,
                                 uint64_t fingerprint);

}  // namespace forerun
