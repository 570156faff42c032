#include "cuda_emulator/report.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda_emulator/block.h"
#include "cuda_emulator/memory.h"

namespace forerun::emulated {
namespace {

void print_place() {
  if (running.launch == nullptr) return;
  std::fprintf(stderr, "  in a kernel %s\n  block (%u, %u, %u)", running.launch->kernel.c_str(),
               blockIdx.x, blockIdx.y, blockIdx.z);
  if (running.lane != nullptr) {
    const Index3& thread = running.lane->thread;
    std::fprintf(stderr, ", thread (%u, %u, %u)", thread.x, thread.y, thread.z);
  }
  std::fprintf(stderr, "\n");
}

// Not made for signals, but the program is over: what matters is the text.
void on_signal(int signal, siginfo_t* info, void*) {
  const char* where = describe_address(info->si_addr);
  if (running.launch == nullptr && where[0] == '\0') {
    std::signal(signal, SIG_DFL);
    return;  // comes again
  }
  if (signal == SIGILL) {
    std::fprintf(stderr,
                 "emulated GPU: a misaligned access or an index out of an array's bounds\n");
  } else {
    std::fprintf(stderr, "emulated GPU: an access at %p%s%s\n", info->si_addr,
                 where[0] == '\0' ? "" : ", ", where);
  }
  print_place();
  std::abort();
}

}  // namespace

void fault(const std::string& text) {
  std::fprintf(stderr, "emulated GPU: %s\n", text.c_str());
  print_place();
  std::abort();
}

void watch_for_faults() {
  static bool watching = false;
  if (!watching) {
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO;
    for (const int signal : {SIGSEGV, SIGBUS, SIGILL}) sigaction(signal, &action, nullptr);
    watching = true;
  }
}

}  // namespace forerun::emulated
