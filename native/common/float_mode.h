#pragma once

#include <xmmintrin.h>

namespace ucm {

/**
 * Fixes the thread's floating-point mode for a scope: round to nearest, denormals are zero, no
 * traps. ONNX Runtime changes the mode of the threads it touches; results must not depend on
 * whether the caller or a pool worker computed them.
 */
class ScopedFloatMode {
  public:
    ScopedFloatMode() : saved_(_mm_getcsr()) { _mm_setcsr(kMode); }
    ~ScopedFloatMode() { _mm_setcsr(saved_); }
    ScopedFloatMode(const ScopedFloatMode&) = delete;
    ScopedFloatMode& operator=(const ScopedFloatMode&) = delete;

  private:
    /** All exceptions masked (0x1f80), flush to zero (0x8000), denormals are zero (0x0040). */
    static constexpr unsigned kMode = 0x9fc0;
    unsigned saved_;
};

}  // namespace ucm
