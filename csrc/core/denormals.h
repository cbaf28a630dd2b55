// SPDX-License-Identifier: Apache-2.0
// Treats denormal floats as zero while it lives: arithmetic on them costs up to a hundred times a normal one.
#ifndef ZOO_CORE_DENORMALS_H_
#define ZOO_CORE_DENORMALS_H_

#include <cstdint>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace zoo {

class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved_); }
#elif defined(__aarch64__)
  FlushDenormals() noexcept {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (uint64_t{1} << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }
#else
  FlushDenormals() noexcept = default;
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__aarch64__)
  uint64_t saved_ = 0;
#elif defined(__x86_64__)
  uint32_t saved_ = 0;
#endif
};

}  // namespace zoo

#endif  // ZOO_CORE_DENORMALS_H_
