// For processors that fiber_x86_64.cpp does not know: slower, each switch asks the kernel.
#include <ucontext.h>

#include <memory>

#include "cuda_emulator/fiber.h"

namespace forerun::emulated {
namespace {

Fiber* entered = nullptr;
ucontext_t* context(void* at) { return static_cast<ucontext_t*>(at); }

}  // namespace

void Fiber::begin() { entered->entry_(); }

void Fiber::start(void (*entry)()) {
  if (stack_ == nullptr) {  // both contexts live as long as the program, like the fibers
    make_stack();
    inside_ = std::make_unique<ucontext_t>().release();
    outside_ = std::make_unique<ucontext_t>().release();
  }
  entry_ = entry;
  getcontext(context(inside_));
  context(inside_)->uc_stack.ss_sp = stack_;
  context(inside_)->uc_stack.ss_size = kStackBytes;
  context(inside_)->uc_link = nullptr;
  makecontext(context(inside_), &Fiber::begin, 0);
}

void Fiber::enter() {
  entered = this;
  swapcontext(context(outside_), context(inside_));
}

void Fiber::leave() { swapcontext(context(inside_), context(outside_)); }

}  // namespace forerun::emulated
