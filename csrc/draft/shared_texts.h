#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "draft/text_index.h"

namespace forerun {

// What the finished requests of an engine wrote, for later requests of the same tenant only
// (SuffixDecoding's global tree). Never takes more than max_bytes: the oldest text leaves first,
// whoever it belongs to. Not thread-safe; the engine's step lock guards it.
class SharedTexts {
 public:
  static constexpr uint64_t kLeastBytes = uint64_t{1} << 20;
  static constexpr size_t kMostTenants = 256;
  static constexpr size_t kLongestName = 128;

  explicit SharedTexts(uint64_t max_bytes);  // Error(kBadArgument) below kLeastBytes

  static void check_name(const std::string& tenant);  // Error(kBadArgument) when it is too long

  void add(const std::string& tenant, std::span<const int32_t> text);
  // The tenant's mark in texts(), 0 when it has no text here.
  uint32_t owner(const std::string& tenant) const;
  const TextIndex& texts() const { return texts_; }
  uint64_t bytes() const;

 private:
  static constexpr uint64_t kTenantBytes = 384;  // of a map entry with its name, at most
  struct Tenant {
    uint32_t owner = 0;
    uint64_t last = 0;  // end of its latest text
  };
  Tenant& tenant(const std::string& name);

  TextIndex texts_;
  std::map<std::string, Tenant> tenants_;
  uint32_t owners_ = 0;  // given out so far; never given twice
};

}  // namespace forerun
