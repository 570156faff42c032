#include <cstdint>

#include "cuda_emulator/fiber.h"

// The registers that a function of the System V ABI must keep go onto the stack that is left.
asm(R"(
.text
.globl forerun_emulated_switch
.hidden forerun_emulated_switch
.type forerun_emulated_switch, @function
forerun_emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size forerun_emulated_switch, . - forerun_emulated_switch
)");
extern "C" void forerun_emulated_switch(void** from, void* to);

namespace forerun::emulated {
namespace {

Fiber* entered = nullptr;

}  // namespace

void Fiber::begin() { entered->entry_(); }

void Fiber::start(void (*entry)()) {
  if (stack_ == nullptr) make_stack();
  entry_ = entry;
  // Six registers, the address to return to, one word more: a function finds its stack 8 off 16.
  auto* top = reinterpret_cast<uint64_t*>(stack_ + kStackBytes) - 8;
  for (int i = 0; i < 8; ++i) top[i] = 0;
  top[6] = reinterpret_cast<uint64_t>(&Fiber::begin);
  inside_ = top;
}

void Fiber::enter() {
  entered = this;
  forerun_emulated_switch(&outside_, inside_);
}

void Fiber::leave() { forerun_emulated_switch(&inside_, outside_); }

}  // namespace forerun::emulated
