#include "cuda_emulator/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace forerun::emulated {

void Fiber::make_stack() {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, page, PROT_NONE);
  stack_ = static_cast<std::byte*>(memory) + page;
}

Fiber::~Fiber() {
  if (stack_ == nullptr) return;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  munmap(stack_ - page, kStackBytes + page);
}

}  // namespace forerun::emulated
