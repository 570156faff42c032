#include "draft/shared_texts.h"

#include <algorithm>

#include "base/error.h"

namespace forerun {
namespace {

uint64_t tokens_in(uint64_t max_bytes, uint64_t tenants_bytes) {
  if (max_bytes < SharedTexts::kLeastBytes) {
    throw Error(ErrorKind::kBadArgument, "shared texts: " + std::to_string(max_bytes) +
                                             " bytes, expected at least " +
                                             std::to_string(SharedTexts::kLeastBytes));
  }
  return (max_bytes - tenants_bytes) / TextIndex::kTokenBytes;
}

}  // namespace

SharedTexts::SharedTexts(uint64_t max_bytes)
    : texts_(tokens_in(max_bytes, kMostTenants * kTenantBytes)) {}

void SharedTexts::check_name(const std::string& tenant) {
  if (tenant.size() <= kLongestName) return;
  throw Error(ErrorKind::kBadArgument, "a tenant's name has " + std::to_string(tenant.size()) +
                                           " bytes, expected at most " +
                                           std::to_string(kLongestName));
}

uint64_t SharedTexts::bytes() const { return texts_.bytes() + tenants_.size() * kTenantBytes; }

uint32_t SharedTexts::owner(const std::string& name) const {
  const auto found = tenants_.find(name);
  return found == tenants_.end() ? 0 : found->second.owner;
}

SharedTexts::Tenant& SharedTexts::tenant(const std::string& name) {
  check_name(name);
  const auto found = tenants_.find(name);
  if (found != tenants_.end()) return found->second;
  // Room for one more: those without text left, else the one that has been silent for longest.
  std::erase_if(tenants_, [&](const auto& entry) { return entry.second.last < texts_.begin(); });
  if (tenants_.size() >= kMostTenants) {
    tenants_.erase(std::min_element(
        tenants_.begin(), tenants_.end(),
        [](const auto& a, const auto& b) { return a.second.last < b.second.last; }));
  }
  Tenant& fresh = tenants_[name];
  fresh = {++owners_, texts_.length()};
  return fresh;
}

void SharedTexts::add(const std::string& name, std::span<const int32_t> text) {
  if (text.empty()) return;
  Tenant& from = tenant(name);
  for (const int32_t token : text) texts_.append(token, from.owner);
  texts_.append(TokenText::kEnd, from.owner);
  from.last = texts_.length();
}

}  // namespace forerun
