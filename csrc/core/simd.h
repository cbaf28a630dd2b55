// SPDX-License-Identifier: Apache-2.0
// Fixed-width vectors on the compiler's vector extension, for kernel sources only. Everything lives in the
// target's own namespace, is forced inline and uses no standard library, so nothing compiled for one
// instruction set can be linked into another's path.
#ifndef ZOO_CORE_SIMD_H_
#define ZOO_CORE_SIMD_H_

#include <stddef.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifndef ZOO_TARGET
#error "compile kernel sources with -DZOO_TARGET=target_<isa>"
#endif

#define ZOO_INLINE static inline __attribute__((always_inline))

namespace zoo {
namespace ZOO_TARGET {

#if defined(__AVX512F__)
#define ZOO_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define ZOO_VECTOR_BYTES 32
#else
#define ZOO_VECTOR_BYTES 16
#endif

typedef double VD __attribute__((vector_size(ZOO_VECTOR_BYTES)));
typedef float VF __attribute__((vector_size(ZOO_VECTOR_BYTES)));
typedef int32_t VI __attribute__((vector_size(ZOO_VECTOR_BYTES)));
enum { kD = ZOO_VECTOR_BYTES / 8, kF = ZOO_VECTOR_BYTES / 4 };
typedef float F4 __attribute__((vector_size(16)));
typedef float F8 __attribute__((vector_size(32)));

template <class V, class T>
ZOO_INLINE V LoadU(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(V));
  return v;
}
template <class V, class T>
ZOO_INLINE void StoreU(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof(V));
}
template <class V, class T>
ZOO_INLINE V Load(const T* p) {
  return *reinterpret_cast<const V*>(__builtin_assume_aligned(p, sizeof(V)));
}
template <class V, class T>
ZOO_INLINE void Store(T* p, V v) {
  *reinterpret_cast<V*>(__builtin_assume_aligned(p, sizeof(V))) = v;
}

// W = kD values between float and double. The compiler splits the 512-bit conversion, hence the intrinsic.
#if ZOO_VECTOR_BYTES == 64
typedef F8 FW;
ZOO_INLINE VD ToDouble(FW v) { return _mm512_cvtps_pd(v); }
ZOO_INLINE FW ToFloat(VD v) { return _mm512_cvtpd_ps(v); }
#elif ZOO_VECTOR_BYTES == 32
typedef F4 FW;
ZOO_INLINE VD ToDouble(FW v) { return __builtin_convertvector(v, VD); }
ZOO_INLINE FW ToFloat(VD v) { return __builtin_convertvector(v, FW); }
#endif

// The compiler makes eight scalar roots of the plain loop.
ZOO_INLINE VD Sqrt(VD v) {
#if ZOO_VECTOR_BYTES == 64
  return _mm512_sqrt_pd(v);
#elif ZOO_VECTOR_BYTES == 32
  return _mm256_sqrt_pd(v);
#elif defined(__SSE2__)
  return _mm_sqrt_pd(v);
#else
  for (int l = 0; l < kD; ++l) v[l] = __builtin_sqrt(v[l]);
  return v;
#endif
}

#if defined(__clang__)
#define ZOO_SHUF4(a, b, i0, i1, i2, i3) __builtin_shufflevector(a, b, i0, i1, i2, i3)
#define ZOO_SHUF8(a, b, i0, i1, i2, i3, i4, i5, i6, i7) \
  __builtin_shufflevector(a, b, i0, i1, i2, i3, i4, i5, i6, i7)
#else
typedef int32_t I4 __attribute__((vector_size(16)));
typedef int32_t I8 __attribute__((vector_size(32)));
#define ZOO_SHUF4(a, b, i0, i1, i2, i3) __builtin_shuffle(a, b, (I4{i0, i1, i2, i3}))
#define ZOO_SHUF8(a, b, i0, i1, i2, i3, i4, i5, i6, i7) \
  __builtin_shuffle(a, b, (I8{i0, i1, i2, i3, i4, i5, i6, i7}))
#endif

// r[i][j] <- r[j][i]
ZOO_INLINE void Transpose(F4 (&r)[4]) {
  const F4 t0 = ZOO_SHUF4(r[0], r[1], 0, 4, 1, 5), t1 = ZOO_SHUF4(r[0], r[1], 2, 6, 3, 7);
  const F4 t2 = ZOO_SHUF4(r[2], r[3], 0, 4, 1, 5), t3 = ZOO_SHUF4(r[2], r[3], 2, 6, 3, 7);
  r[0] = ZOO_SHUF4(t0, t2, 0, 1, 4, 5);
  r[1] = ZOO_SHUF4(t0, t2, 2, 3, 6, 7);
  r[2] = ZOO_SHUF4(t1, t3, 0, 1, 4, 5);
  r[3] = ZOO_SHUF4(t1, t3, 2, 3, 6, 7);
}

#if ZOO_VECTOR_BYTES >= 64
ZOO_INLINE F8 Join(F4 lo, F4 hi) { return _mm256_insertf128_ps(_mm256_castps128_ps256(lo), hi, 1); }

// Transposes the 4 x 4 block in each 128-bit half.
ZOO_INLINE void TransposeHalves(F8& a, F8& b, F8& c, F8& d) {
  const F8 t0 = ZOO_SHUF8(a, b, 0, 8, 1, 9, 4, 12, 5, 13), t1 = ZOO_SHUF8(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
  const F8 t2 = ZOO_SHUF8(c, d, 0, 8, 1, 9, 4, 12, 5, 13), t3 = ZOO_SHUF8(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
  a = ZOO_SHUF8(t0, t2, 0, 1, 8, 9, 4, 5, 12, 13);
  b = ZOO_SHUF8(t0, t2, 2, 3, 10, 11, 6, 7, 14, 15);
  c = ZOO_SHUF8(t1, t3, 0, 1, 8, 9, 4, 5, 12, 13);
  d = ZOO_SHUF8(t1, t3, 2, 3, 10, 11, 6, 7, 14, 15);
}
#endif

// The sum of all lanes, always by the same tree: lane i + lane i + half, and so on.
ZOO_INLINE float Sum(F4 v) {
  const float a = v[0] + v[2], b = v[1] + v[3];
  return a + b;
}
#if ZOO_VECTOR_BYTES >= 32
ZOO_INLINE float Sum(F8 v) {
  F4 h[2];
  __builtin_memcpy(h, &v, sizeof(v));
  return Sum(h[0] + h[1]);
}
#endif
#if ZOO_VECTOR_BYTES >= 64
ZOO_INLINE float Sum(VF v) {
  F8 h[2];
  __builtin_memcpy(h, &v, sizeof(v));
  return Sum(h[0] + h[1]);
}
#endif

}  // namespace ZOO_TARGET
}  // namespace zoo

#endif  // ZOO_CORE_SIMD_H_
