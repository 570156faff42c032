#pragma once

#include <cstddef>
#include <cstdint>

// The memory of the emulated GPU. A buffer ends at a page that nobody may touch, begins at most one
// page after one, and is full of poison when it is made. The host may not touch it either: it is
// open only while a DeviceMemoryOpen lives. Page-locked host memory is ordinary memory that is
// remembered.
namespace forerun::emulated {

constexpr int64_t kAlignment = 64;  // what the back end promises; a real GPU aligns to 256

std::byte* allocate_device(int64_t bytes);     // nullptr when less is left
bool free_device(void* data);                  // false: no buffer begins there
void clear_device(void* data, int64_t bytes);  // whole pages are given back, which reads as zeros
int64_t device_bytes_total();
int64_t device_bytes_left();
bool is_device(const void* data, int64_t bytes);  // all of it within one buffer

void* allocate_pinned(int64_t bytes);
bool free_pinned(void* data);
bool is_pinned(const void* data, int64_t bytes);

class DeviceMemoryOpen {
 public:
  DeviceMemoryOpen();
  ~DeviceMemoryOpen();
  DeviceMemoryOpen(const DeviceMemoryOpen&) = delete;
  DeviceMemoryOpen& operator=(const DeviceMemoryOpen&) = delete;
};

// "17 bytes after a buffer of 4096 bytes", or "" where none is near.
const char* describe_address(const void* at);

}  // namespace forerun::emulated
