// SPDX-License-Identifier: Apache-2.0
// EEG kernels: channels, or the values of successive samples, lie in the lanes. Compiled once for each instruction set.
#include "core/simd.h"
#include "eeg/kernels.h"

namespace zoo {
namespace ZOO_TARGET {
namespace {

enum { W = kD };
typedef double D2 __attribute__((vector_size(16)));

// ------------------------------------------------------------------------------------------------- recursive filters

// Channels that fill a vector.
template <class V>
struct Full {
  typedef V Type;
  __attribute__((always_inline)) V Get(const double* p) const { return LoadU<V>(p); }
  __attribute__((always_inline)) void Put(double* p, V v) const { StoreU(p, v); }
};
#if defined(__AVX512F__)
struct Some {
  typedef VD Type;
  __mmask8 mask;
  __attribute__((always_inline)) VD Get(const double* p) const { return _mm512_maskz_loadu_pd(mask, p); }
  __attribute__((always_inline)) void Put(double* p, VD v) const { _mm512_mask_storeu_pd(p, mask, v); }
};
#else
// A single channel runs in half of a vector: scalar code would be free to fuse other products, and give other bits.
struct Single {
  typedef D2 Type;
  __attribute__((always_inline)) D2 Get(const double* p) const { return D2{*p, 0.0}; }
  __attribute__((always_inline)) void Put(double* p, D2 v) const { *p = v[0]; }
};
#endif

// S sections over one vector of channels, states in registers. Direct form II transposed, as SciPy's, with b0 taken out of
// all sections as one gain: an addition where a product was. kUnit: b2 = 1, as it is with all zeros on the unit circle.
template <int S, bool kUnit, class L>
__attribute__((noinline)) void RunSections(L lanes, double gain, const double* coef, const double* x, int64_t n, int64_t step,
                                           int64_t channels, double* state, double* y) {
  typedef typename L::Type V;
  V s0[S], s1[S];
  for (int s = 0; s < S; ++s) {
    s0[s] = lanes.Get(state + 2 * s * channels);
    s1[s] = lanes.Get(state + (2 * s + 1) * channels);
  }
  for (int64_t t = 0; t < n; ++t, x += step, y += step) {
    V v = lanes.Get(x) * gain;
    for (int s = 0; s < S; ++s) {
      const double* c = coef + 4 * s;
      const V out = v + s0[s];
      s0[s] = (v * c[0] + s1[s]) - out * c[2];
      s1[s] = (kUnit ? v : v * c[1]) - out * c[3];
      v = out;
    }
    lanes.Put(y, v);
  }
  for (int s = 0; s < S; ++s) {
    lanes.Put(state + 2 * s * channels, s0[s]);
    lanes.Put(state + (2 * s + 1) * channels, s1[s]);
  }
}

template <bool kUnit, class L>
void SectionsOf(L lanes, double gain, const double* coef, int32_t sections, const double* x, int64_t n, int64_t step,
                int64_t channels, double* state, double* y) {
  while (sections > 0) {
    const int32_t some = sections < 8 ? sections : 8;
    switch (some) {
      case 1: RunSections<1, kUnit>(lanes, gain, coef, x, n, step, channels, state, y); break;
      case 2: RunSections<2, kUnit>(lanes, gain, coef, x, n, step, channels, state, y); break;
      case 3: RunSections<3, kUnit>(lanes, gain, coef, x, n, step, channels, state, y); break;
      case 4: RunSections<4, kUnit>(lanes, gain, coef, x, n, step, channels, state, y); break;
      case 5: RunSections<5, kUnit>(lanes, gain, coef, x, n, step, channels, state, y); break;
      case 6: RunSections<6, kUnit>(lanes, gain, coef, x, n, step, channels, state, y); break;
      case 7: RunSections<7, kUnit>(lanes, gain, coef, x, n, step, channels, state, y); break;
      default: RunSections<8, kUnit>(lanes, gain, coef, x, n, step, channels, state, y); break;
    }
    sections -= some;
    coef += 4 * some;
    state += 2 * some * channels;
    gain = 1;
    x = y;  // the rest of a long cascade works in place
  }
}

template <bool kUnit>
void SectionsBlock(double gain, const double* coef, int32_t sections, const double* x, int64_t n, int64_t step, int64_t channels,
              double* state, double* y) {
  int64_t c = 0;
  for (; c + W <= channels; c += W) SectionsOf<kUnit>(Full<VD>{}, gain, coef, sections, x + c, n, step, channels, state + c, y + c);
#if defined(__AVX512F__)
  const __mmask8 rest = static_cast<__mmask8>((1u << (channels - c)) - 1);
  if (c < channels) SectionsOf<kUnit>(Some{rest}, gain, coef, sections, x + c, n, step, channels, state + c, y + c);
#else
#if ZOO_VECTOR_BYTES >= 32
  if (c + 2 <= channels) SectionsOf<kUnit>(Full<D2>{}, gain, coef, sections, x + c, n, step, channels, state + c, y + c), c += 2;
#endif
  if (c < channels) SectionsOf<kUnit>(Single{}, gain, coef, sections, x + c, n, step, channels, state + c, y + c);
#endif
}

// Block after block of samples, so that the channels beside a vector's find their lines in the first-level cache.
void Sections(double gain, const double* coef, int32_t sections, int32_t unit, const double* x, int64_t n, int64_t step,
              int64_t channels, double* state, double* y) {
  const int64_t block = channels < 64 ? 1024 / channels : 16;
  for (int64_t t = 0; t < n; t += block) {
    const int64_t rows = n - t < block ? n - t : block;
    if (unit) {
      SectionsBlock<true>(gain, coef, sections, x + t * step, rows, step, channels, state, y + t * step);
    } else {
      SectionsBlock<false>(gain, coef, sections, x + t * step, rows, step, channels, state, y + t * step);
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------- FIR

template <int NV>
ZOO_INLINE void FirTile(const double* taps, int64_t count, const double* x, int64_t channels, double* y, int64_t room) {
  VD acc[NV] = {};
  for (int64_t k = 0; k < count; ++k, x += channels) {
    const double h = taps[k];
    for (int v = 0; v < NV; ++v) acc[v] += LoadU<VD>(x + v * W) * h;
  }
  if (room >= NV * W) {
    for (int v = 0; v < NV; ++v) StoreU(y + v * W, acc[v]);
  } else {
    double tail[NV * W];
    for (int v = 0; v < NV; ++v) StoreU(tail + v * W, acc[v]);
    __builtin_memcpy(y, tail, static_cast<size_t>(room) * sizeof(double));
  }
}

// Every value is one chain of multiply-adds over the taps, wherever it lies in a tile: same bits.
void Fir(const double* taps, int64_t count, const double* x, int64_t n, int64_t channels, double* y) {
  enum { kWide = 8 };
  int64_t i = 0;
  for (; i + kWide * W <= n; i += kWide * W) FirTile<kWide>(taps, count, x + i, channels, y + i, kWide * W);
  for (; i + 2 * W <= n; i += 2 * W) FirTile<2>(taps, count, x + i, channels, y + i, 2 * W);
  for (; i < n; i += W) FirTile<1>(taps, count, x + i, channels, y + i, n - i);
}

void Gather(const double* const* lanes, int64_t n, int64_t stride, double* out) {
  for (int64_t i = 0; i < n; ++i) {
    VD v;
    for (int l = 0; l < W; ++l) v[l] = lanes[l][i * stride];
    Store(out + i * W, v);
  }
}

void Fold(const double* spectrum, const double* response, int64_t n, double* packed) {
  for (int64_t k = 0; 2 * k <= n; ++k) {
    const VD re = Load<VD>(spectrum + 2 * k * W) * response[k], im = Load<VD>(spectrum + (2 * k + 1) * W) * response[k];
    Store(packed + k * W, re + im);
    if (k > 0 && 2 * k < n) Store(packed + (n - k) * W, re - im);
  }
}

void Unfold(const double* spectrum, int64_t n, double* packed) {
  for (int64_t k = 0; 2 * k <= n; ++k) {
    const VD re = Load<VD>(spectrum + 2 * k * W), im = Load<VD>(spectrum + (2 * k + 1) * W);
    Store(packed + k * W, re + im);
    if (k > 0 && 2 * k < n) Store(packed + (n - k) * W, re - im);
  }
}

// --------------------------------------------------------------------------------------------------------- band power

ZOO_INLINE VD LoadLanes(const double* x, int32_t used) {
  VD v = {};
  for (int32_t l = 0; l < used; ++l) v[l] = x[l];
  return v;
}

void Pack(const double* x, int64_t n, int64_t channels, int32_t used, int32_t detrend, double* out) {
  // Whole vectors as long as they stay inside; the lanes beyond `used` then hold other channels, which nobody reads.
  int64_t whole = ((n - 1) * channels + used - W) / channels + 1;
  if ((n - 1) * channels + used < W) whole = 0;
  VD sum[4] = {};
  int64_t i = 0;
  for (; i + 4 <= whole; i += 4) {
    for (int u = 0; u < 4; ++u) {
      const VD v = LoadU<VD>(x + (i + u) * channels);
      sum[u] += v;
      Store(out + (i + u) * W, v);
    }
  }
  for (; i < n; ++i) {
    const VD v = i < whole ? LoadU<VD>(x + i * channels) : LoadLanes(x + i * channels, used);
    sum[i % 4] += v;
    Store(out + i * W, v);
  }
  if (!detrend) return;
  const VD mean = ((sum[0] + sum[1]) + (sum[2] + sum[3])) / static_cast<double>(n);
  for (i = 0; i < n; ++i) Store(out + i * W, Load<VD>(out + i * W) - mean);
}

void DirectTransform(const double* packed, const double* window, const double* circle, int64_t n, int64_t lo, int64_t hi, double* out) {
  for (int64_t k = lo; k < hi; ++k) {
    VD re = {}, im = {};
    int64_t at = 0;
    for (int64_t i = 0; i < n; ++i) {
      const VD v = Load<VD>(packed + i * W) * window[i];
      re += v * circle[2 * at];
      im += v * circle[2 * at + 1];
      at += k;
      if (at >= n) at -= n;
    }
    double* to = out + (k - lo) * W;
    Store(to, Load<VD>(to) + (re * re + im * im));
  }
}

void Bands(const double* power, const double* weight, int64_t bins, int64_t bands, double* out) {
  for (int64_t b = 0; b < bands; ++b, weight += bins) {
    VD sum = {};
    for (int64_t k = 0; k < bins; ++k) sum += Load<VD>(power + k * W) * weight[k];
    Store(out + b * W, sum);
  }
}

typedef int64_t VL __attribute__((vector_size(ZOO_VECTOR_BYTES)));

int64_t FindNonfinite(const double* x, int64_t n) {
  const int64_t mask = 0x7ff0000000000000, one = 0x0010000000000000;
  int64_t i = 0;
  for (; i + 16 * W <= n; i += 16 * W) {
    VL seen[4] = {};  // the sign bit of exponent + 1 is set only when the exponent is all ones
    for (int u = 0; u < 16; u += 4) {
      for (int v = 0; v < 4; ++v) seen[v] |= (LoadU<VL>(x + i + (u + v) * W) & mask) + one;
    }
    seen[0] |= seen[1] | seen[2] | seen[3];
    int64_t any = 0;
    for (int l = 0; l < W; ++l) any |= seen[0][l];
    if (any < 0) break;
  }
  for (; i < n; ++i) {
    int64_t b;
    __builtin_memcpy(&b, x + i, 8);
    if ((b & mask) == mask) return i;
  }
  return -1;
}

void Accumulate(const double* x, int64_t n, double* sum) {
  for (int64_t i = 0; i < n; i += W) Store(sum + i, Load<VD>(sum + i) + Load<VD>(x + i));
}

}  // namespace

extern const EegKernels kEegKernels;
const EegKernels kEegKernels = {Sections, Fir, Gather, Fold, Unfold, Pack, DirectTransform, Bands, FindNonfinite, Accumulate};

}  // namespace ZOO_TARGET
}  // namespace zoo
