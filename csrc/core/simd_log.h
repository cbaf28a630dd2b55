// SPDX-License-Identifier: Apache-2.0
// Logarithms of float vectors, for kernel sources only (rules as in core/simd.h).
#ifndef ZOO_CORE_SIMD_LOG_H_
#define ZOO_CORE_SIMD_LOG_H_

#include "core/simd.h"

namespace zoo {
namespace ZOO_TARGET {

ZOO_INLINE VF Splat(float x) { return x - VF{}; }
ZOO_INLINE VF Max(VF a, VF b) { return a > b ? a : b; }

// log(x) = y + e log(2) of positive normal numbers: x = m 2^e with m in [sqrt(1/2), sqrt(2)), y = log(m) by Cephes'
// polynomial.
struct LogParts {
  VF y, e;
};
ZOO_INLINE LogParts SplitLog(VF x) {
  const int32_t base = 0x3f3504f3;
  VI bits;
  __builtin_memcpy(&bits, &x, sizeof(x));
  bits -= base;
  const VF e = __builtin_convertvector(bits >> 23, VF);
  bits = (bits & 0x7fffff) + base;
  VF m;
  __builtin_memcpy(&m, &bits, sizeof(m));
  const VF f = m - 1.0f, z = f * f;
  VF y = f * 7.0376836292e-2f - 1.1514610310e-1f;
  y = y * f + 1.1676998740e-1f;
  y = y * f - 1.2420140846e-1f;
  y = y * f + 1.4249322787e-1f;
  y = y * f - 1.6668057665e-1f;
  y = y * f + 2.0000714765e-1f;
  y = y * f - 2.4999993993e-1f;
  y = y * f + 3.3333331174e-1f;
  return {f + (y * f * z - 0.5f * z), e};
}

// 10 log10(x) and ln(x), within 2 ulp: the factor of e is in two parts, so that e times the first is exact.
ZOO_INLINE VF Decibels(VF x) {
  const LogParts p = SplitLog(x);
  return p.e * 3.01025390625f + (p.y * 4.342944819032518f + p.e * 4.6050389811952137e-5f);
}
ZOO_INLINE VF Ln(VF x) {
  const LogParts p = SplitLog(x);
  return p.e * 0.693359375f + (p.y - p.e * 2.12194440054690583e-4f);
}

}  // namespace ZOO_TARGET
}  // namespace zoo

#endif  // ZOO_CORE_SIMD_LOG_H_
