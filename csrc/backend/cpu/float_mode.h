#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace forerun {

// The default floating-point mode (nearest even, no flush to zero) in the calling thread while it
// lives: a host program may have set another, and the bits must not depend on it. Pool threads have
// the default mode always.
class FloatMode {
 public:
#if defined(__x86_64__)
  FloatMode() : saved_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~FloatMode() { _mm_setcsr(saved_); }
#else
  FloatMode() {}
#endif
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

 private:
  unsigned saved_ = 0;
};

}  // namespace forerun
