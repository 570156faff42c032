#pragma once

#include <cstddef>

namespace forerun::emulated {

// A thread of a block: a stack of its own, entered and left by hand. start() makes the next enter()
// call `entry`, which must not return; leave() goes back to the latest enter(). What lies below the
// stack is a page that nobody may touch.
class Fiber {
 public:
  static constexpr size_t kStackBytes = 256 * 1024;

  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void start(void (*entry)());
  void enter();
  void leave();

 private:
  static void begin();
  void make_stack();

  std::byte* stack_ = nullptr;  // the lowest address, above the guard page
  void (*entry_)() = nullptr;
  void* inside_ = nullptr;  // where the fiber, and who entered it, will go on
  void* outside_ = nullptr;
};

}  // namespace forerun::emulated
