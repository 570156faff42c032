#include "draft/datastore.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "io/byte_cursor.h"

namespace forerun {

std::shared_ptr<const Datastore> Datastore::open(const std::string& path, int32_t vocab,
                                                 uint64_t fingerprint) {
  const std::shared_ptr<Datastore> store(new Datastore(MappedFile::open(path)));
  const std::span<const std::byte> bytes = store->file_->bytes();
  ByteCursor cursor(bytes, store->file_->path());
  const std::string_view magic = cursor.take(8, "magic");
  if (magic != "FRSTORE1") {
    cursor.fail("not a datastore: it begins with " + in_quotes(magic) + ", expected 'FRSTORE1'");
  }
  const auto version = cursor.read<uint32_t>("version");
  store->vocab_ = cursor.read<uint32_t>("vocabulary");
  const auto tokens = cursor.read<uint64_t>("tokens");
  const auto found = cursor.read<uint64_t>("fingerprint");
  const uint64_t hash =
      hash_bytes({reinterpret_cast<const char*>(bytes.data()), cursor.position()});
  if (cursor.read<uint64_t>("hash") != hash) cursor.fail("is damaged");
  store->hash_ = cursor.read<uint64_t>("hash of the content");
  if (version != 1) {
    cursor.fail_unsupported("version " + std::to_string(version) + ", expected 1");
  }
  if (found != fingerprint) cursor.fail("was built for a model with another vocabulary");
  if (store->vocab_ > static_cast<uint32_t>(vocab)) {
    cursor.fail("a vocabulary of " + std::to_string(store->vocab_) + " tokens, expected at most " +
                std::to_string(vocab));
  }
  cursor.set_field("content");
  cursor.check_count(tokens, sizeof(int32_t) + sizeof(uint32_t), "tokens");
  if (cursor.remaining() != tokens * (sizeof(int32_t) + sizeof(uint32_t))) {
    cursor.fail(std::to_string(cursor.remaining()) + " bytes, expected 8 for each of " +
                std::to_string(tokens) + " tokens");
  }
  const std::byte* content = bytes.data() + cursor.position();
  store->tokens_ = {reinterpret_cast<const int32_t*>(content), static_cast<size_t>(tokens)};
  store->suffixes_ = {reinterpret_cast<const uint32_t*>(content + tokens * sizeof(int32_t)),
                      static_cast<size_t>(tokens)};
  return store;
}

void Datastore::check() const {
  if (hash_values(suffixes_, hash_values(tokens_)) != hash_) {
    bad_file(file_->path(), "content", "is damaged");
  }
}

int32_t Datastore::token(uint64_t position) const {
  if (position >= tokens_.size()) return kEnd;
  const int32_t token = tokens_[position];
  return token >= 0 && static_cast<uint32_t>(token) < vocab_ ? token : kEnd;
}

// Negative when the suffix at `position` comes before the run, 0 when it begins with it.
int Datastore::compare(uint64_t position, std::span<const int32_t> run) const {
  for (size_t i = 0; i < run.size(); ++i) {
    const int32_t here = token(position + i);
    if (here != run[i]) return here < run[i] ? -1 : 1;
  }
  return 0;
}

Datastore::Range Datastore::find(std::span<const int32_t> run) const {
  const auto begin = std::partition_point(suffixes_.begin(), suffixes_.end(),
                                          [&](uint32_t at) { return compare(at, run) < 0; });
  const auto end = std::partition_point(begin, suffixes_.end(),
                                        [&](uint32_t at) { return compare(at, run) <= 0; });
  return {static_cast<uint64_t>(begin - suffixes_.begin()),
          static_cast<uint64_t>(end - suffixes_.begin())};
}

}  // namespace forerun
