// SPDX-License-Identifier: Apache-2.0
// Image kernels. Compiled once for each instruction set (see csrc/README.md); no standard library in here.
#include "image/kernels.h"
#include "core/simd.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace zoo {
namespace ZOO_TARGET {
namespace {

typedef uint8_t B4 __attribute__((vector_size(4)));
typedef uint8_t B16 __attribute__((vector_size(16)));
typedef int32_t V4 __attribute__((vector_size(16)));

// -------------------------------------------------------------------------------------------------- transposition

#if defined(__clang__)
#define ZOO_INTERLEAVE(a, b, k) \
  __builtin_shufflevector(a, b, k, k + 16, k + 1, k + 17, k + 2, k + 18, k + 3, k + 19, k + 4, k + 20, k + 5, k + 21, k + 6, k + 22, k + 7, k + 23)
#else
#define ZOO_INTERLEAVE(a, b, k) \
  __builtin_shuffle(a, b, (B16{k, k + 16, k + 1, k + 17, k + 2, k + 18, k + 3, k + 19, k + 4, k + 20, k + 5, k + 21, k + 6, k + 22, k + 7, k + 23}))
#endif

// Four perfect shuffles of the rows transpose a 16 x 16 block.
ZOO_INLINE void Shuffle(const B16 (&a)[16], B16 (&b)[16]) {
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = ZOO_INTERLEAVE(a[i], a[i + 8], 0);
    b[2 * i + 1] = ZOO_INTERLEAVE(a[i], a[i + 8], 8);
  }
}

ZOO_INLINE void Tile(const uint8_t* in, int64_t in_stride, uint8_t* out, int64_t out_stride, int64_t rows_out) {
  B16 a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = LoadU<B16>(in + i * in_stride);
  Shuffle(a, b);
  Shuffle(b, a);
  Shuffle(a, b);
  Shuffle(b, a);
  if (rows_out == 16) {
    for (int i = 0; i < 16; ++i) StoreU(out + i * out_stride, a[i]);
  } else {
    for (int i = 0; i < rows_out; ++i) StoreU(out + i * out_stride, a[i]);
  }
}

void Transpose(const uint8_t* in, int64_t in_stride, int64_t rows, int64_t cols, uint8_t* out, int64_t out_stride) {
  for (int64_t c = 0; c < cols; c += 16) {
    const int64_t wide = cols - c < 16 ? cols - c : 16;
    for (int64_t r = 0; r < rows; r += 16) {
      const int64_t high = rows - r < 16 ? rows - r : 16;
      const uint8_t* from = in + r * in_stride + c;
      uint8_t* to = out + c * out_stride + r;
      if (wide == 16 && high == 16) {
        Tile(from, in_stride, to, out_stride, 16);
        continue;
      }
      uint8_t part[256] = {};
      for (int64_t i = 0; i < high; ++i) {
        for (int64_t j = 0; j < wide; ++j) part[i * 16 + j] = from[i * in_stride + j];
      }
      Tile(part, 16, to, out_stride, wide);
    }
  }
}

// ------------------------------------------------------------------------------------- separable filters, 22 bits

#if defined(__AVX512BW__)
typedef __m512i VB;
ZOO_INLINE VB LoadBytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
ZOO_INLINE void StoreBytes(uint8_t* p, VB v) { _mm512_storeu_si512(p, v); }
ZOO_INLINE VB Zero() { return _mm512_setzero_si512(); }
ZOO_INLINE VB Splat32(int32_t x) { return _mm512_set1_epi32(x); }
ZOO_INLINE VB Lo8(VB a, VB b) { return _mm512_unpacklo_epi8(a, b); }
ZOO_INLINE VB Hi8(VB a, VB b) { return _mm512_unpackhi_epi8(a, b); }
ZOO_INLINE VB MulAdd(VB a, VB b) { return _mm512_madd_epi16(a, b); }
ZOO_INLINE VB Add32(VB a, VB b) { return _mm512_add_epi32(a, b); }
ZOO_INLINE VB Left(VB a) { return _mm512_slli_epi32(a, 15); }
ZOO_INLINE VB Right(VB a) { return _mm512_srai_epi32(a, kCoefficientBits); }
ZOO_INLINE VB Pack(VB a, VB b, VB c, VB d) { return _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)); }
#elif defined(__AVX2__)
typedef __m256i VB;
ZOO_INLINE VB LoadBytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
ZOO_INLINE void StoreBytes(uint8_t* p, VB v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
ZOO_INLINE VB Zero() { return _mm256_setzero_si256(); }
ZOO_INLINE VB Splat32(int32_t x) { return _mm256_set1_epi32(x); }
ZOO_INLINE VB Lo8(VB a, VB b) { return _mm256_unpacklo_epi8(a, b); }
ZOO_INLINE VB Hi8(VB a, VB b) { return _mm256_unpackhi_epi8(a, b); }
ZOO_INLINE VB MulAdd(VB a, VB b) { return _mm256_madd_epi16(a, b); }
ZOO_INLINE VB Add32(VB a, VB b) { return _mm256_add_epi32(a, b); }
ZOO_INLINE VB Left(VB a) { return _mm256_slli_epi32(a, 15); }
ZOO_INLINE VB Right(VB a) { return _mm256_srai_epi32(a, kCoefficientBits); }
ZOO_INLINE VB Pack(VB a, VB b, VB c, VB d) { return _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)); }
#elif defined(__SSE2__)
typedef __m128i VB;
ZOO_INLINE VB LoadBytes(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
ZOO_INLINE void StoreBytes(uint8_t* p, VB v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
ZOO_INLINE VB Zero() { return _mm_setzero_si128(); }
ZOO_INLINE VB Splat32(int32_t x) { return _mm_set1_epi32(x); }
ZOO_INLINE VB Lo8(VB a, VB b) { return _mm_unpacklo_epi8(a, b); }
ZOO_INLINE VB Hi8(VB a, VB b) { return _mm_unpackhi_epi8(a, b); }
ZOO_INLINE VB MulAdd(VB a, VB b) { return _mm_madd_epi16(a, b); }
ZOO_INLINE VB Add32(VB a, VB b) { return _mm_add_epi32(a, b); }
ZOO_INLINE VB Left(VB a) { return _mm_slli_epi32(a, 15); }
ZOO_INLINE VB Right(VB a) { return _mm_srai_epi32(a, kCoefficientBits); }
ZOO_INLINE VB Pack(VB a, VB b, VB c, VB d) { return _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)); }
#endif

// out[i] = (sum over taps of w * in[tap * stride + i] + 2^21) >> 22, within 0 to 255. Sums wrap modulo 2^32 on their way; the
// result fits. Widening by unpacking within 128-bit lanes leaves the order that packing restores.
ZOO_INLINE void Combine(const int32_t* words, int32_t pairs, const uint8_t* in, int64_t stride, int64_t n, uint8_t* out) {
  const int32_t half = 1 << (kCoefficientBits - 1);
#if defined(__SSE2__)
  for (int64_t i = 0; i < n; i += ZOO_VECTOR_BYTES) {
    VB lo[4], hi[4];
    for (int v = 0; v < 4; ++v) lo[v] = Splat32(half), hi[v] = Zero();
    const uint8_t* p = in + i;
    for (int32_t k = 0; k < pairs; ++k, p += 2 * stride) {
      const VB a = LoadBytes(p), b = LoadBytes(p + stride);
      const VB wl = Splat32(words[2 * k]), wh = Splat32(words[2 * k + 1]);
      const VB ab = Lo8(a, b), cd = Hi8(a, b);
      const VB x[4] = {Lo8(ab, Zero()), Hi8(ab, Zero()), Lo8(cd, Zero()), Hi8(cd, Zero())};
      for (int v = 0; v < 4; ++v) {
        lo[v] = Add32(lo[v], MulAdd(x[v], wl));
        hi[v] = Add32(hi[v], MulAdd(x[v], wh));
      }
    }
    for (int v = 0; v < 4; ++v) lo[v] = Right(Add32(lo[v], Left(hi[v])));
    StoreBytes(out + i, Pack(lo[0], lo[1], lo[2], lo[3]));
  }
#else
  for (int64_t i = 0; i < n; i += 64) {
    uint32_t acc[64];
    for (int v = 0; v < 64; ++v) acc[v] = static_cast<uint32_t>(half);
    const uint8_t* p = in + i;
    for (int32_t k = 0; k < pairs; ++k, p += 2 * stride) {
      const int32_t l = words[2 * k], h = words[2 * k + 1];
      const uint32_t w0 = (static_cast<uint32_t>(static_cast<int16_t>(h)) << 15) + (static_cast<uint32_t>(l) & 0x7fff);
      const uint32_t w1 = (static_cast<uint32_t>(h >> 16) << 15) + (static_cast<uint32_t>(l) >> 16);
      for (int v = 0; v < 64; ++v) acc[v] += w0 * p[v] + w1 * p[stride + v];
    }
    for (int v = 0; v < 64; ++v) {
      const int32_t y = static_cast<int32_t>(acc[v]) >> kCoefficientBits;
      out[i + v] = static_cast<uint8_t>(y < 0 ? 0 : y > 255 ? 255 : y);
    }
  }
#endif
}

void FixedColumns(const FixedTaps* taps, const uint8_t* in, int32_t channels, int64_t step_x, int64_t step_c, uint8_t* out) {
  for (int32_t x = 0; x < taps->out; ++x) {
    const uint8_t* from = in + static_cast<int64_t>(taps->first[x]) * channels * kColumnRows;
    const int32_t* words = taps->words + static_cast<int64_t>(x) * taps->pairs * 2;
    for (int32_t c = 0; c < channels; ++c) {
      Combine(words, taps->used[x], from + c * kColumnRows, channels * kColumnRows, kColumnRows, out + (x * step_x + c * step_c) * kColumnRows);
    }
  }
}

void FixedRow(const FixedTaps* taps, int32_t y, const uint8_t* in, int64_t rows, int64_t stride, int64_t n, uint8_t* out, uint8_t* scratch) {
  const int32_t* words = taps->words + static_cast<int64_t>(y) * taps->pairs * 2;
  const int32_t pairs = taps->used[y];
  const int64_t first = taps->first[y], whole = first + 2 * pairs <= rows ? n / 64 * 64 : 0;
  const uint8_t* from = in + first * stride;
  Combine(words, pairs, from, stride, whole, out);
  // what is narrower than a block, or has a last tap below the image, in a copy that may be read to its end
  for (int64_t i = whole; i < n; i += 64) {
    const int64_t wide = n - i < 64 ? n - i : 64;
    for (int32_t k = 0; k < 2 * pairs; ++k) {
      if (first + k < rows) {
        __builtin_memcpy(scratch + k * 64, from + k * stride + i, static_cast<size_t>(wide));
      } else {
        __builtin_memset(scratch + k * 64, 0, 64);
      }
    }
    Combine(words, pairs, scratch, 64, 64, out + i);
  }
}

// ------------------------------------------------------------------------------------------- bilinear, 11 bits

void LinearRow(const LinearTaps* taps, int32_t channels, const uint8_t* in, int16_t* out) {
  int32_t x = 0;
#if defined(__AVX2__)
  for (; x + 2 <= taps->safe; x += 2) {  // a pixel in each half
    int32_t p[4];
    __builtin_memcpy(p, in + taps->first[x], 4);
    __builtin_memcpy(p + 1, in + taps->first[x + 1], 4);
    __builtin_memcpy(p + 2, in + taps->first[x] + taps->step, 4);
    __builtin_memcpy(p + 3, in + taps->first[x + 1] + taps->step, 4);
    const __m128i a = _mm_insert_epi32(_mm_cvtsi32_si128(p[0]), p[1], 1), b = _mm_insert_epi32(_mm_cvtsi32_si128(p[2]), p[3], 1);
    const __m256i ab = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
    const __m256i y = _mm256_srai_epi32(_mm256_madd_epi16(ab, LoadU<__m256i>(taps->weights + 4 * x)), 4), packed = _mm256_packs_epi32(y, y);
    // what lies beyond a pixel is written again by the next one
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + x * channels), _mm256_castsi256_si128(packed));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + (x + 1) * channels), _mm256_extracti128_si256(packed, 1));
  }
#endif
#if defined(__SSE2__)
  for (; x < taps->safe; ++x) {
    int32_t a, b;
    __builtin_memcpy(&a, in + taps->first[x], 4);
    __builtin_memcpy(&b, in + taps->first[x] + taps->step, 4);
    const __m128i ab = _mm_unpacklo_epi8(_mm_unpacklo_epi8(_mm_cvtsi32_si128(a), _mm_cvtsi32_si128(b)), _mm_setzero_si128());
    const __m128i y = _mm_srai_epi32(_mm_madd_epi16(ab, LoadU<__m128i>(taps->weights + 4 * x)), 4);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + x * channels), _mm_packs_epi32(y, y));
  }
#endif
  for (; x < taps->out; ++x) {
    const uint8_t* p = in + taps->first[x];
    const int32_t wa = taps->weights[4 * x] & 0xffff, wb = taps->weights[4 * x] >> 16;
    for (int32_t c = 0; c < channels; ++c) out[x * channels + c] = static_cast<int16_t>((p[c] * wa + p[taps->step + c] * wb) >> 4);
  }
}

void LinearBlend(const int16_t* a, const int16_t* b, int32_t wa, int32_t wb, int64_t n, uint8_t* out) {
  const int16_t sa = static_cast<int16_t>(wa), sb = static_cast<int16_t>(wb);
  for (int64_t i = 0; i < n; ++i) {
    const int16_t s = static_cast<int16_t>(((a[i] * sa) >> 16) + ((b[i] * sb) >> 16));
    const int16_t y = static_cast<int16_t>((s + 2) >> 2);
    out[i] = static_cast<uint8_t>(y < 0 ? 0 : y > 255 ? 255 : y);
  }
}

// ------------------------------------------------------------------------------------------------ floating point

void FloatRow(const FloatTaps* taps, int32_t y, const uint8_t* in, int64_t stride, int64_t n, float* out) {
  const float* w = taps->weight + static_cast<int64_t>(y) * taps->room;
  const uint8_t* p = in + taps->first[y] * stride;
  const int32_t used = taps->used[y];
  if (used == 2) {
    const float w0 = w[0], w1 = w[1];
    const uint8_t* q = p + stride;
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(p[i]) * w0 + static_cast<float>(q[i]) * w1;
    return;
  }
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(p[i]) * w[0];
  for (int32_t k = 1; k < used; ++k) {
    const float wk = w[k];
    const uint8_t* q = p + k * stride;
    for (int64_t i = 0; i < n; ++i) out[i] += static_cast<float>(q[i]) * wk;
  }
}

void FloatColumns(const FloatTaps* taps, int32_t channels, const float* in, float* out) {
  for (int32_t x = 0; x < taps->out; ++x) {
    const float* p = in + static_cast<int64_t>(taps->first[x]) * channels;
    const float* w = taps->weight + static_cast<int64_t>(x) * taps->room;
    F4 sum = LoadU<F4>(p) * w[0];
    for (int32_t k = 1; k < taps->used[x]; ++k) sum += LoadU<F4>(p + k * channels) * w[k];
    StoreU(out + x * channels, sum);  // what lies beyond the pixel is written again by the next one
  }
}

void RoundRow(const float* in, int64_t n, bool ties_up, uint8_t* out) {
  // adding 1.5 * 2^23 leaves the nearest whole number, ties to even, in the low bits
  const float magic = 12582912.0f, up = ties_up ? 1.0f / 1024 : 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    const float x = in[i] + up, y = (x < 0.0f ? 0.0f : x > 255.0f ? 255.0f : x) + magic;
    int32_t bits;
    __builtin_memcpy(&bits, &y, 4);
    out[i] = static_cast<uint8_t>(bits & 0xff);
  }
}

template <class T>
ZOO_INLINE void NormalizeRow(const T* in, int64_t n, const float* mean, const float* scale, float* out) {
  int64_t i = 0;
  for (; i + kPatternValues <= n; i += kPatternValues) {
    for (int j = 0; j < kPatternValues; ++j) out[i + j] = (static_cast<float>(in[i + j]) - mean[j]) * scale[j];
  }
  for (int j = 0; i + j < n; ++j) out[i + j] = (static_cast<float>(in[i + j]) - mean[j]) * scale[j];
}
void NormalizeU8(const uint8_t* in, int64_t n, const float* mean, const float* scale, float* out) { NormalizeRow(in, n, mean, scale, out); }
void NormalizeF32(const float* in, int64_t n, const float* mean, const float* scale, float* out) { NormalizeRow(in, n, mean, scale, out); }

template <int C, class T>
ZOO_INLINE void SplitPlanes(const T* in, int64_t n, const float* mean, const float* scale, float* out, int64_t plane) {
  // a block of pixels at a time, so that it is in the first-level cache for every plane
  for (int64_t b = 0; b < n; b += 1024) {
    const int64_t end = n - b < 1024 ? n : b + 1024;
    for (int c = 0; c < C; ++c) {
      const float m = mean[c], s = scale[c];
      float* to = out + c * plane;
      for (int64_t i = b; i < end; ++i) to[i] = (static_cast<float>(in[i * C + c]) - m) * s;
    }
  }
}
template <class T>
ZOO_INLINE void Planes(const T* in, int64_t n, int32_t channels, const float* mean, const float* scale, float* out, int64_t plane) {
  switch (channels) {
    case 1: SplitPlanes<1>(in, n, mean, scale, out, plane); break;
    case 2: SplitPlanes<2>(in, n, mean, scale, out, plane); break;
    case 3: SplitPlanes<3>(in, n, mean, scale, out, plane); break;
    default: SplitPlanes<4>(in, n, mean, scale, out, plane); break;
  }
}
void PlanesU8(const uint8_t* in, int64_t n, int32_t channels, const float* mean, const float* scale, float* out, int64_t plane) {
  Planes(in, n, channels, mean, scale, out, plane);
}
void PlanesF32(const float* in, int64_t n, int32_t channels, const float* mean, const float* scale, float* out, int64_t plane) {
  Planes(in, n, channels, mean, scale, out, plane);
}

template <int C>
ZOO_INLINE void GreyRow(const uint8_t* in, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<uint8_t>((in[i * C] * 19595 + in[i * C + 1] * 38470 + in[i * C + 2] * 7471 + 0x8000) >> 16);
  }
}
void Grey(const uint8_t* in, int64_t n, int32_t channels, uint8_t* out) {
  if (channels == 3) return GreyRow<3>(in, n, out);
  GreyRow<4>(in, n, out);
}

// ------------------------------------------------------------------------------------------------------- warping

// Four bytes; the compiler would convert them one by one.
ZOO_INLINE F4 Pixel(const uint8_t* p) {
#if defined(__SSE2__)
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  const __m128i zero = _mm_setzero_si128();
  return _mm_cvtepi32_ps(_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(word), zero), zero));
#else
  return __builtin_convertvector(LoadU<B4>(p), F4);
#endif
}

// To whole numbers, halves up, as four bytes.
ZOO_INLINE uint32_t PixelBytes(F4 v) {
#if defined(__SSE2__)
  const __m128i y = _mm_cvttps_epi32(v + 0.5f);
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_packus_epi16(_mm_packs_epi32(y, y), y)));
#else
  const V4 y = __builtin_convertvector(v + 0.5f, V4);
  return static_cast<uint32_t>(y[0] | y[1] << 8 | y[2] << 16 | y[3] << 24);
#endif
}

// A pixel near or beyond the edges: what lies outside is black.
ZOO_INLINE F4 EdgePixel(const uint8_t* in, int64_t height, int64_t width, int32_t channels, int64_t y, int64_t x) {
  F4 v = {};
  if (y < 0 || y >= height || x < 0 || x >= width) return v;
  const uint8_t* p = in + (y * width + x) * channels;
  for (int c = 0; c < channels; ++c) v[c] = static_cast<float>(p[c]);
  return v;
}

// Coordinates of 64 output pixels in the image: whole part and fraction. Those beyond the image stay beyond it, but near.
struct Places {
  int32_t whole[64];
  float part[64];
};
ZOO_INLINE void Locate(double step, double start, int64_t x, double limit, Places* __restrict places) {
  const double at = static_cast<double>(x);
  for (int j = 0; j < 64; ++j) {
    double s = step * (at + j) + start;
    s = s > -2.0 ? s : -2.0;
    s = s < limit ? s : limit;
    const int32_t whole = static_cast<int32_t>(s + 2.0) - 2;  // the conversion cuts towards zero
    places->whole[j] = whole;
    places->part[j] = static_cast<float>(s - whole);
  }
}

void Warp(const uint8_t* in, int64_t height, int64_t width, int32_t channels, const double* m, int64_t out_height, int64_t out_width, uint8_t* out) {
  const int64_t row = width * channels, size = height * row;
  const uint8_t* const end = out + out_height * out_width * channels;
  Places px, py;
  for (int64_t y = 0; y < out_height; ++y) {
    const double row_x = m[1] * static_cast<double>(y) + m[2], row_y = m[4] * static_cast<double>(y) + m[5];
    uint8_t* to = out + y * out_width * channels;
    for (int64_t x = 0; x < out_width; ++x, to += channels) {
      const int64_t j = x % 64;
      if (j == 0) {
        Locate(m[0], row_x, x, static_cast<double>(width), &px);
        Locate(m[3], row_y, x, static_cast<double>(height), &py);
      }
      const int64_t ix = px.whole[j], iy = py.whole[j];
      if (ix < -1 || ix >= width || iy < -1 || iy >= height) {
        for (int32_t c = 0; c < channels; ++c) to[c] = 0;
        continue;
      }
      F4 a, b, c, d;
      // four values are read at each pixel, perhaps three beyond the last one needed
      const int64_t at = iy * row + ix * channels;
      if (ix >= 0 && iy >= 0 && ix + 1 < width && at + row + channels + 4 <= size) {
        const uint8_t* p = in + at;
        a = Pixel(p), b = Pixel(p + channels), c = Pixel(p + row), d = Pixel(p + row + channels);
      } else {
        a = EdgePixel(in, height, width, channels, iy, ix), b = EdgePixel(in, height, width, channels, iy, ix + 1);
        c = EdgePixel(in, height, width, channels, iy + 1, ix), d = EdgePixel(in, height, width, channels, iy + 1, ix + 1);
      }
      const F4 top = a + (b - a) * px.part[j], bottom = c + (d - c) * px.part[j];
      const uint32_t bytes = PixelBytes(top + (bottom - top) * py.part[j]);
      if (to + 4 <= end) {
        __builtin_memcpy(to, &bytes, 4);  // what lies beyond the pixel is written again by the next one
      } else {
        for (int32_t k = 0; k < channels; ++k) to[k] = static_cast<uint8_t>(bytes >> (8 * k));
      }
    }
  }
}

}  // namespace

extern const ImageKernels kImageKernels;
const ImageKernels kImageKernels = {
    Transpose, FixedColumns, FixedRow, LinearRow, LinearBlend, FloatRow, FloatColumns, RoundRow,
    NormalizeU8, NormalizeF32, PlanesU8, PlanesF32, Grey, Warp,
};

}  // namespace ZOO_TARGET
}  // namespace zoo
