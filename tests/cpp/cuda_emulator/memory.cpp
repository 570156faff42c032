#include "cuda_emulator/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "cuda_emulator/block.h"
#include "cuda_emulator/report.h"

namespace forerun::emulated {
namespace {

constexpr int64_t kMostPoison = int64_t{1} << 20;  // at either end of a large buffer

struct Region {
  std::byte* mapped = nullptr;  // with a page before and one after that nobody may touch
  int64_t pages_bytes = 0;      // between them
  std::byte* data = nullptr;
  int64_t bytes = 0;
};

struct Memory {
  std::map<const std::byte*, Region> device;  // by data
  std::map<const std::byte*, int64_t> pinned;
  int64_t used = 0;
  int open = 0;
};
Memory& memory() {
  static auto* all = new Memory;  // never destroyed: buffers are given back until the very end
  return *all;
}

int64_t page_bytes() {
  static const int64_t bytes = sysconf(_SC_PAGESIZE);
  return bytes;
}

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

void protect(const Region& region, bool open) {
  mprotect(region.mapped + page_bytes(), static_cast<size_t>(region.pages_bytes),
           open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

// The last entry that begins at or before an address.
template <typename Map>
auto before(Map& map, const void* at) {
  auto found = map.upper_bound(static_cast<const std::byte*>(at));
  return found == map.begin() ? map.end() : std::prev(found);
}

// A kernel that wrote past the end of a buffer, but not as far as the page after it.
void check_slack(const Region& region) {
  const std::byte* end = region.data + round_up(region.bytes, kAlignment);
  for (const std::byte* at = region.data + region.bytes; at != end; ++at) {
    if (*at != std::byte{kPoison}) {
      fault("something was written " + std::to_string(at - region.data - region.bytes) +
            " bytes after a buffer of " + std::to_string(region.bytes) + " bytes");
    }
  }
}

}  // namespace

int64_t device_bytes_total() {
  const char* wanted = std::getenv("FORERUN_EMULATED_GPU_MIB");
  return (wanted != nullptr ? std::atoll(wanted) : 2048) << 20;
}

int64_t device_bytes_left() { return device_bytes_total() - memory().used; }

std::byte* allocate_device(int64_t bytes) {
  const int64_t size = round_up(bytes > 0 ? bytes : 1, kAlignment);
  if (size > device_bytes_left()) return nullptr;
  Region region;
  region.pages_bytes = round_up(size, page_bytes());
  void* mapped = mmap(nullptr, static_cast<size_t>(region.pages_bytes + 2 * page_bytes()),
                      PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  region.mapped = static_cast<std::byte*>(mapped);
  region.data = region.mapped + page_bytes() + region.pages_bytes - size;
  region.bytes = bytes;
  protect(region, true);
  const auto poisoned = static_cast<size_t>(std::min(size, kMostPoison));
  std::memset(region.data, kPoison, poisoned);
  std::memset(region.data + size - poisoned, kPoison, poisoned);
  if (memory().open == 0) protect(region, false);
  memory().used += size;
  memory().device.emplace(region.data, region);
  return region.data;
}

bool free_device(void* data) {
  const auto found = memory().device.find(static_cast<const std::byte*>(data));
  if (found == memory().device.end()) return false;
  const Region& region = found->second;
  protect(region, true);
  check_slack(region);
  munmap(region.mapped, static_cast<size_t>(region.pages_bytes + 2 * page_bytes()));
  memory().used -= round_up(region.bytes, kAlignment);
  memory().device.erase(found);
  return true;
}

void clear_device(void* data, int64_t bytes) {
  auto* first = static_cast<std::byte*>(data);
  const auto address = reinterpret_cast<int64_t>(data);
  const int64_t begin = round_up(address, page_bytes()) - address;
  const int64_t end = (address + bytes) / page_bytes() * page_bytes() - address;
  if (end - begin < kMostPoison) {
    std::memset(first, 0, static_cast<size_t>(bytes));
    return;
  }
  std::memset(first, 0, static_cast<size_t>(begin));
  madvise(first + begin, static_cast<size_t>(end - begin), MADV_DONTNEED);
  std::memset(first + end, 0, static_cast<size_t>(bytes - end));
}

bool is_device(const void* data, int64_t bytes) {
  const auto found = before(memory().device, data);
  return found != memory().device.end() &&
         static_cast<const std::byte*>(data) + bytes <= found->first + found->second.bytes;
}

void* allocate_pinned(int64_t bytes) {
  void* data = std::malloc(static_cast<size_t>(bytes));
  if (data == nullptr) return nullptr;
  std::memset(data, kPoison, static_cast<size_t>(bytes));
  memory().pinned.emplace(static_cast<const std::byte*>(data), bytes);
  return data;
}

bool free_pinned(void* data) {
  if (memory().pinned.erase(static_cast<const std::byte*>(data)) == 0) return false;
  std::free(data);
  return true;
}

bool is_pinned(const void* data, int64_t bytes) {
  const auto found = before(memory().pinned, data);
  return found != memory().pinned.end() &&
         static_cast<const std::byte*>(data) + bytes <= found->first + found->second;
}

DeviceMemoryOpen::DeviceMemoryOpen() {
  if (memory().open++ > 0) return;
  for (const auto& [data, region] : memory().device) protect(region, true);
}

DeviceMemoryOpen::~DeviceMemoryOpen() {
  if (--memory().open > 0) return;
  for (const auto& [data, region] : memory().device) {
    check_slack(region);
    protect(region, false);
  }
}

const char* describe_address(const void* at) {
  static char text[160];
  const auto* address = static_cast<const std::byte*>(at);
  for (const auto& [data, region] : memory().device) {
    if (address < region.mapped ||
        address >= region.mapped + region.pages_bytes + 2 * page_bytes()) {
      continue;
    }
    const int64_t offset = address - data;
    const bool inside = offset >= 0 && offset < region.bytes;
    std::snprintf(text, sizeof(text), "%lld bytes %s a buffer of %lld bytes%s",
                  static_cast<long long>(offset < 0 ? -offset
                                         : inside   ? offset
                                                    : offset - region.bytes),
                  offset < 0 ? "before"
                  : inside   ? "into"
                             : "after the end of",
                  static_cast<long long>(region.bytes), inside ? ", from the host" : "");
    return text;
  }
  return "";
}

}  // namespace forerun::emulated
