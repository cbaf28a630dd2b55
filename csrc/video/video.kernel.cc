// SPDX-License-Identifier: Apache-2.0
// Video kernels. Compiled once for each instruction set (see csrc/README.md); no standard library in here.
#include "video/kernels.h"
#include "core/simd.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace zoo {
namespace ZOO_TARGET {
namespace {

enum { kBlock = 256 };

int64_t AbsoluteDifference(const uint8_t* a, const uint8_t* b, int64_t n) {
  int64_t i = 0, sum = 0;
#if defined(__AVX512BW__)
  __m512i acc = _mm512_setzero_si512();
  for (; i + 64 <= n; i += 64) acc = _mm512_add_epi64(acc, _mm512_sad_epu8(_mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i)));
  typedef int64_t L8 __attribute__((vector_size(64)));
  const L8 lanes = reinterpret_cast<L8>(acc);
  for (int l = 0; l < 8; ++l) sum += lanes[l];
#elif defined(__AVX2__)
  __m256i acc = _mm256_setzero_si256();
  for (; i + 32 <= n; i += 32) {
    acc = _mm256_add_epi64(acc, _mm256_sad_epu8(LoadU<__m256i>(a + i), LoadU<__m256i>(b + i)));
  }
  typedef int64_t L4 __attribute__((vector_size(32)));
  const L4 lanes = reinterpret_cast<L4>(acc);
  for (int l = 0; l < 4; ++l) sum += lanes[l];
#elif defined(__SSE2__)
  __m128i acc = _mm_setzero_si128();
  for (; i + 16 <= n; i += 16) acc = _mm_add_epi64(acc, _mm_sad_epu8(LoadU<__m128i>(a + i), LoadU<__m128i>(b + i)));
  typedef int64_t L2 __attribute__((vector_size(16)));
  const L2 lanes = reinterpret_cast<L2>(acc);
  sum = lanes[0] + lanes[1];
#else
  for (; i + 4096 <= n; i += 4096) {
    int32_t part = 0;
    for (int j = 0; j < 4096; ++j) part += a[i + j] > b[i + j] ? a[i + j] - b[i + j] : b[i + j] - a[i + j];
    sum += part;
  }
#endif
  for (; i < n; ++i) sum += a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
  return sum;
}

// Nearest whole number, ties to even, of |x| < 2^22: adding 1.5 * 2^23 leaves it in the low bits.
ZOO_INLINE int32_t Nearest(float x) {
  const float y = x + 12582912.0f;
  int32_t bits;
  __builtin_memcpy(&bits, &y, 4);
  return bits - 0x4b400000;
}

// OpenCV multiplies by reciprocals rounded to 12 bits below the point. Their quotients are computed here, not looked up: in float32
// they are off by less than 1/16 of the distance that a quotient of such small numbers can have from a tie.
ZOO_INLINE void HsvBlock(const uint8_t* r, const uint8_t* g, const uint8_t* b, int n, uint8_t* __restrict hue, uint8_t* __restrict sat, uint8_t* __restrict val) {
  for (int i = 0; i < n; ++i) {
    const int32_t x = r[i], y = g[i], z = b[i];
    int32_t v = x > y ? x : y, low = x < y ? x : y;
    v = v > z ? v : z;
    low = low < z ? low : z;
    const int32_t d = v - low;
    const int32_t by_value = Nearest(1044480.0f / static_cast<float>(v > 1 ? v : 1));  // 255 * 2^12 / v
    const int32_t by_range = Nearest(122880.0f / static_cast<float>(d > 1 ? d : 1));   // 180 * 2^12 / (6 d)
    int32_t h = v == y ? z - x + 2 * d : x - y + 4 * d;
    h = v == x ? y - z : h;
    h = (h * by_range + 2048) >> 12;
    hue[i] = static_cast<uint8_t>(h < 0 ? h + 180 : h);
    sat[i] = static_cast<uint8_t>((d * by_value + 2048) >> 12);
    val[i] = static_cast<uint8_t>(v);
  }
}

void Hsv(const uint8_t* in, int64_t n, bool bgr, uint8_t* out) {
  uint8_t part[3][kBlock];
  int64_t i = 0;
  for (; i < n; i += kBlock) {
    const int count = n - i < kBlock ? static_cast<int>(n - i) : kBlock;
    const uint8_t* p = in + 3 * i;
    for (int j = 0; j < count; ++j) part[0][j] = p[3 * j], part[1][j] = p[3 * j + 1], part[2][j] = p[3 * j + 2];
    uint8_t* to = out + i;
    if (count == kBlock) {
      HsvBlock(part[bgr ? 2 : 0], part[1], part[bgr ? 0 : 2], kBlock, to, to + n, to + 2 * n);
    } else {
      HsvBlock(part[bgr ? 2 : 0], part[1], part[bgr ? 0 : 2], count, to, to + n, to + 2 * n);
    }
  }
}

// The conversion rounds to nearest, ties to even, in the mode that every thread starts with. What lies below the bound is cut by
// the packing to bytes; what lies above it must not overflow the conversion, nor may a NaN, which becomes its least value: 0.
void FlowBytes(const float* in, int64_t n, float bound, float scale, uint8_t* out) {
  int64_t i = 0;
#if defined(__AVX512BW__)
  const __m512 hi = _mm512_set1_ps(bound), s = _mm512_set1_ps(scale);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (; i + 64 <= n; i += 64) {
    __m512i y[4];
    for (int v = 0; v < 4; ++v) {
      const __m512 x = _mm512_min_ps(hi, _mm512_loadu_ps(in + i + 16 * v));
      y[v] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_add_ps(x, hi), s));
    }
    const __m512i packed = _mm512_packus_epi16(_mm512_packs_epi32(y[0], y[1]), _mm512_packs_epi32(y[2], y[3]));
    _mm512_storeu_si512(out + i, _mm512_permutexvar_epi32(order, packed));
  }
#elif defined(__AVX2__)
  const __m256 hi = _mm256_set1_ps(bound), s = _mm256_set1_ps(scale);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (; i + 32 <= n; i += 32) {
    __m256i y[4];
    for (int v = 0; v < 4; ++v) {
      const __m256 x = _mm256_min_ps(hi, _mm256_loadu_ps(in + i + 8 * v));
      y[v] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_add_ps(x, hi), s));
    }
    const __m256i packed = _mm256_packus_epi16(_mm256_packs_epi32(y[0], y[1]), _mm256_packs_epi32(y[2], y[3]));
    StoreU(out + i, _mm256_permutevar8x32_epi32(packed, order));
  }
#elif defined(__SSE2__)
  const __m128 hi = _mm_set1_ps(bound), s = _mm_set1_ps(scale);
  for (; i + 16 <= n; i += 16) {
    __m128i y[4];
    for (int v = 0; v < 4; ++v) {
      const __m128 x = _mm_min_ps(hi, _mm_loadu_ps(in + i + 4 * v));
      y[v] = _mm_cvtps_epi32(_mm_mul_ps(_mm_add_ps(x, hi), s));
    }
    StoreU(out + i, _mm_packus_epi16(_mm_packs_epi32(y[0], y[1]), _mm_packs_epi32(y[2], y[3])));
  }
#endif
  for (; i < n; ++i) {
    float x = in[i];
    x = x > -bound ? x : -bound;
    x = x < bound ? x : bound;
    float y = (x + bound) * scale;
    y = y < 255.0f ? y : 255.0f;  // also keeps the product from being contracted with a sum, which would round once less
    out[i] = static_cast<uint8_t>(Nearest(y));
  }
}

}  // namespace

extern const VideoKernels kVideoKernels;
const VideoKernels kVideoKernels = {AbsoluteDifference, Hsv, FlowBytes};

}  // namespace ZOO_TARGET
}  // namespace zoo
