// SPDX-License-Identifier: Apache-2.0
// Audio kernels. Compiled once for each instruction set (see csrc/README.md); no standard library in here.
#include "audio/kernels.h"
#include "core/simd.h"
#include "core/simd_log.h"

namespace zoo {
namespace ZOO_TARGET {
namespace {

enum { W = kD };  // frames a batch: one in each lane of a double vector

// ---------------------------------------------------------------------------------------------- FFT butterflies

struct C {
  VD re, im;
};

ZOO_INLINE C Get(const double* z) { return {Load<VD>(z), Load<VD>(z + W)}; }
ZOO_INLINE void Put(double* z, C v) {
  Store(z, v.re);
  Store(z + W, v.im);
}
ZOO_INLINE C Add(C a, C b) { return {a.re + b.re, a.im + b.im}; }
ZOO_INLINE C Sub(C a, C b) { return {a.re - b.re, a.im - b.im}; }
ZOO_INLINE C MulMinusI(C a) { return {a.im, -a.re}; }
ZOO_INLINE C Mul(C a, double wr, double wi) { return {a.re * wr - a.im * wi, a.re * wi + a.im * wr}; }

ZOO_INLINE void Dft(C (&x)[2]) {
  const C a = x[0];
  x[0] = Add(a, x[1]);
  x[1] = Sub(a, x[1]);
}

ZOO_INLINE void Dft(C (&x)[3]) {
  const double s = 0.86602540378443864676;
  const C t = Add(x[1], x[2]), d = Sub(x[1], x[2]);
  const C m = {x[0].re - 0.5 * t.re, x[0].im - 0.5 * t.im};
  x[0] = Add(x[0], t);
  x[1] = {m.re + s * d.im, m.im - s * d.re};
  x[2] = {m.re - s * d.im, m.im + s * d.re};
}

ZOO_INLINE void Dft4(C& x0, C& x1, C& x2, C& x3) {
  const C a = Add(x0, x2), b = Sub(x0, x2), c = Add(x1, x3), d = MulMinusI(Sub(x1, x3));
  x0 = Add(a, c);
  x1 = Add(b, d);
  x2 = Sub(a, c);
  x3 = Sub(b, d);
}
ZOO_INLINE void Dft(C (&x)[4]) { Dft4(x[0], x[1], x[2], x[3]); }

ZOO_INLINE void Dft(C (&x)[5]) {
  const double c1 = 0.30901699437494742410, c2 = -0.80901699437494742410;
  const double s1 = 0.95105651629515357212, s2 = 0.58778525229247312917;
  const C p1 = Add(x[1], x[4]), m1 = Sub(x[1], x[4]), p2 = Add(x[2], x[3]), m2 = Sub(x[2], x[3]);
  const C a = {x[0].re + c1 * p1.re + c2 * p2.re, x[0].im + c1 * p1.im + c2 * p2.im};
  const C b = {x[0].re + c2 * p1.re + c1 * p2.re, x[0].im + c2 * p1.im + c1 * p2.im};
  const C u = {s1 * m1.im + s2 * m2.im, -s1 * m1.re - s2 * m2.re};
  const C v = {s2 * m1.im - s1 * m2.im, s1 * m2.re - s2 * m1.re};
  x[0] = {x[0].re + p1.re + p2.re, x[0].im + p1.im + p2.im};
  x[1] = Add(a, u);
  x[4] = Sub(a, u);
  x[2] = Add(b, v);
  x[3] = Sub(b, v);
}

ZOO_INLINE void Dft(C (&x)[8]) {
  const double s = 0.70710678118654752440;
  Dft4(x[0], x[2], x[4], x[6]);
  Dft4(x[1], x[3], x[5], x[7]);
  const C o1 = {(x[3].re + x[3].im) * s, (x[3].im - x[3].re) * s};
  const C o2 = MulMinusI(x[5]);
  const C o3 = {(x[7].im - x[7].re) * s, (x[7].re + x[7].im) * -s};
  const C e0 = x[0], e1 = x[2], e2 = x[4], e3 = x[6], o0 = x[1];
  x[0] = Add(e0, o0);
  x[4] = Sub(e0, o0);
  x[1] = Add(e1, o1);
  x[5] = Sub(e1, o1);
  x[2] = Add(e2, o2);
  x[6] = Sub(e2, o2);
  x[3] = Add(e3, o3);
  x[7] = Sub(e3, o3);
}

// One butterfly: inputs already in x, outputs twiddled and stored `m` complex points apart.
template <int R>
ZOO_INLINE void Finish(C (&x)[R], const double* tw, double* z, int64_t m) {
  Dft(x);
  Put(z, x[0]);
  for (int q = 1; q < R; ++q) Put(z + q * m * 2 * W, Mul(x[q], tw[2 * q - 2], tw[2 * q - 1]));
}

// kM: the butterflies of a block when known at compile time, else 0.
template <int R, int kM>
__attribute__((noinline)) void Pass(double* z, int64_t blocks, int64_t m_any, const double* twiddle) {
  const int64_t m = kM > 0 ? kM : m_any;
  for (int64_t b = 0; b < blocks; ++b) {
    double* zb = z + b * R * m * 2 * W;
    const double* tw = twiddle;
    for (int64_t j = 0; j < m; ++j, tw += 2 * (R - 1)) {
      C x[R];
      for (int q = 0; q < R; ++q) x[q] = Get(zb + (j + q * m) * 2 * W);
      if (kM == 1) {  // all factors are 1
        Dft(x);
        for (int q = 0; q < R; ++q) Put(zb + q * 2 * W, x[q]);
      } else {
        Finish<R>(x, tw, zb + j * 2 * W, m);
      }
    }
  }
}

template <int R>
void RunRadix(double* z, int64_t blocks, int64_t m, const double* tw) {
  switch (m) {
    case 1: Pass<R, 1>(z, blocks, m, tw); break;
    case 4: Pass<R, 4>(z, blocks, m, tw); break;
    case 8: Pass<R, 8>(z, blocks, m, tw); break;
    case 16: Pass<R, 16>(z, blocks, m, tw); break;
    default: Pass<R, 0>(z, blocks, m, tw); break;
  }
}

void RunPass(int radix, double* z, int64_t blocks, int64_t m, const double* tw) {
  switch (radix) {
    case 8: RunRadix<8>(z, blocks, m, tw); break;
    case 4: RunRadix<4>(z, blocks, m, tw); break;
    case 2: RunRadix<2>(z, blocks, m, tw); break;
    case 5: RunRadix<5>(z, blocks, m, tw); break;
    default: RunRadix<3>(z, blocks, m, tw); break;
  }
}

// -------------------------------------------------------------------------------------- load, window, transpose

// W samples of each of W frames, from `at` on.
ZOO_INLINE void LoadBlock(const float* const* frames, int64_t at, VD (&v)[W]) {
#if ZOO_VECTOR_BYTES == 64
  F8 r[8];
  for (int h = 0; h < 2; ++h) {
    // rows i and i + 4 share a register: the halves come from memory, which saves a third of the shuffles
    for (int i = 0; i < 4; ++i) r[4 * h + i] = Join(LoadU<F4>(frames[i] + at + 4 * h), LoadU<F4>(frames[i + 4] + at + 4 * h));
    TransposeHalves(r[4 * h], r[4 * h + 1], r[4 * h + 2], r[4 * h + 3]);
  }
  for (int i = 0; i < 8; ++i) v[i] = ToDouble(r[i]);
#elif ZOO_VECTOR_BYTES == 32
  F4 r[4];
  for (int i = 0; i < 4; ++i) r[i] = LoadU<F4>(frames[i] + at);
  Transpose(r);
  for (int i = 0; i < 4; ++i) v[i] = ToDouble(r[i]);
#else
  for (int i = 0; i < W; ++i) v[i] = VD{static_cast<double>(frames[0][at + i]), static_cast<double>(frames[1][at + i])};
#endif
}

// What happens to samples between memory and window: nothing, or pre-emphasis and the removal of an offset a frame.
struct Plain {
  static __attribute__((always_inline)) VD Before(const float* const*, int64_t) { return VD{}; }
  __attribute__((always_inline)) VD Sample(VD x, VD) const { return x; }
};
struct Emphasis {
  double factor;
  VD offset;
  // The samples before those at `at`; the first one is its own.
  static __attribute__((always_inline)) VD Before(const float* const* frames, int64_t at) {
    VD v = {};
    for (int l = 0; l < W; ++l) v[l] = static_cast<double>(frames[l][at == 0 ? 0 : at - 1]);
    return v;
  }
  __attribute__((always_inline)) VD Sample(VD x, VD before) const { return x - factor * before - offset; }
};

// First pass together with loading: needs blocks of a whole number of W samples.
template <int R, class Filter>
__attribute__((noinline)) void FirstPass(const SpectrumPlan* plan, const float* const* frames, const Filter& filter, double* z) {
  const int64_t m = plan->half / R, stride = plan->block_stride;
  const double* tw = plan->twiddle[0];
  VD before[R];
  for (int q = 0; q < R; ++q) before[q] = Filter::Before(frames, 2 * q * m);
  for (int64_t j = 0; j < m; j += W / 2) {
    VD v[R][W];
    for (int q = 0; q < R; ++q) {
      const int64_t at = 2 * (j + q * m);
      if (at + W > plan->window_first && at < plan->window_end) {
        LoadBlock(frames, at, v[q]);
        for (int i = 0; i < W; ++i) {
          const VD x = v[q][i];
          v[q][i] = filter.Sample(x, before[q]) * plan->window[at + i];
          before[q] = x;
        }
      } else {
        for (int i = 0; i < W; ++i) v[q][i] = VD{};
        before[q] = Filter::Before(frames, at + W);
      }
    }
    for (int c = 0; c < W / 2; ++c, tw += 2 * (R - 1)) {
      C x[R];
      for (int q = 0; q < R; ++q) x[q] = {v[q][2 * c], v[q][2 * c + 1]};
      Finish<R>(x, tw, z + (j + c) * 2 * W, stride);
    }
  }
}

// The same for sizes whose blocks do not fit: sample by sample.
template <int R, class Filter>
__attribute__((noinline)) void FirstPassAny(const SpectrumPlan* plan, const float* const* frames, const Filter& filter, double* z) {
  const int64_t m = plan->half / R, stride = plan->block_stride;
  const double* tw = plan->twiddle[0];
  for (int64_t j = 0; j < m; ++j, tw += 2 * (R - 1)) {
    C x[R];
    for (int q = 0; q < R; ++q) {
      const int64_t at = 2 * (j + q * m);
      VD re = {}, im = {};
      for (int l = 0; l < W; ++l) {
        re[l] = static_cast<double>(frames[l][at]);
        im[l] = static_cast<double>(frames[l][at + 1]);
      }
      x[q].re = filter.Sample(re, Filter::Before(frames, at)) * plan->window[at];
      x[q].im = filter.Sample(im, re) * plan->window[at + 1];
    }
    Finish<R>(x, tw, z + j * 2 * W, stride);
  }
}

template <int R, class Filter>
void First(const SpectrumPlan* plan, const float* const* frames, const Filter& filter, double* z) {
  if (plan->half / R % (W / 2) == 0) {
    FirstPass<R>(plan, frames, filter, z);
  } else {
    FirstPassAny<R>(plan, frames, filter, z);
  }
}

// First pass of frames in float64 that lie in the lanes.
template <int R>
__attribute__((noinline)) void FirstPacked(const SpectrumPlan* plan, const double* packed, double* z) {
  const int64_t m = plan->half / R, stride = plan->block_stride;
  const double* tw = plan->twiddle[0];
  for (int64_t j = 0; j < m; ++j, tw += 2 * (R - 1)) {
    C x[R];
    for (int q = 0; q < R; ++q) {
      const int64_t at = 2 * (j + q * m);
      x[q] = {Load<VD>(packed + at * W) * plan->window[at], Load<VD>(packed + (at + 1) * W) * plan->window[at + 1]};
    }
    Finish<R>(x, tw, z + j * 2 * W, stride);
  }
}

// The remaining passes of one block, which stays in the first-level cache.
void TransformBlock(const SpectrumPlan* plan, double* z) {
  int64_t blocks = 1, length = plan->half / plan->radix[0];
  for (int s = 1; s < plan->stages; ++s) {
    const int64_t m = length / plan->radix[s];
    RunPass(plan->radix[s], z, blocks, m, plan->twiddle[s]);
    blocks *= plan->radix[s];
    length = m;
  }
}

// Within 2^-28, enough for values that are rounded to float32 in the end; 0 gives 1e-145.
ZOO_INLINE VD SquareRoot(VD p) {
#if ZOO_VECTOR_BYTES == 64
  const VD q = p > 1e-290 ? p : 1e-290 - VD{};
  const VD y = _mm512_rsqrt14_pd(q), s = q * y;
  return s + 0.5 * y * (q - s * s);
#else
  return Sqrt(p);
#endif
}

template <int kKind>
ZOO_INLINE void Emit(double* out, int64_t index, VD re, VD im) {
  if (kKind == kSpectrumComplex) {
    Store(out + index * 2 * W, re);
    Store(out + index * 2 * W + W, im);
    return;
  }
  const VD p = re * re + im * im;
  Store(out + index * W, kKind == kSpectrumMagnitude ? SquareRoot(p) : p);
}

// From the spectrum Z of the complex signal x[2j] + i x[2j+1] (halved) to the real signal's bins: block q holds the
// bins k = q mod r0, and bin half - k, which each needs, lies in block r0 - q.
// kAll: all bins but perhaps the first and the last are wanted.
template <int kKind, bool kAll>
__attribute__((noinline)) void UntanglePair(const SpectrumPlan* plan, const double* zq, const double* zn, int64_t q,
                                            int64_t lo, int64_t hi, double* out) {
  const int64_t half = plan->half, r0 = plan->radix[0], m = half / r0;
  const int32_t* pos = plan->position;
  const int64_t first = q == 0 ? 1 : 0, sum = q == 0 ? m : m - 1;  // bin j of one block meets bin sum - j of the other
  const int64_t stop = zq == zn ? sum / 2 + 1 : m;
  const double* factor = plan->untangle + 2 * (q + r0 * first);
  int64_t k = q + r0 * first - lo, n = half - q - r0 * first - lo;
  for (int64_t j = first; j < stop; ++j, k += r0, n -= r0, factor += 2 * r0) {
    const C a = Get(zq + static_cast<int64_t>(pos[j]) * 2 * W), b = Get(zn + static_cast<int64_t>(pos[sum - j]) * 2 * W);
    const C e = {a.re + b.re, a.im - b.im};
    const C o = Mul({a.re - b.re, a.im + b.im}, factor[0], factor[1]);
    if (kAll || (k >= 0 && k < hi - lo)) Emit<kKind>(out, k, e.re + o.re, e.im + o.im);
    if (kAll || (n >= 0 && n < hi - lo)) Emit<kKind>(out, n, e.re - o.re, o.im - e.im);
  }
}

template <int kKind, bool kAll>
void Untangle(const SpectrumPlan* plan, double* z, int64_t lo, int64_t hi, double* out) {
  const int64_t half = plan->half, r0 = plan->radix[0], stride = plan->block_stride * 2 * W;
  TransformBlock(plan, z);
  const C z0 = Get(z);
  const VD zero = z0.re - z0.re;
  if (lo == 0) Emit<kKind>(out, 0, 2.0 * (z0.re + z0.im), zero);
  if (hi == half + 1) Emit<kKind>(out, half - lo, 2.0 * (z0.re - z0.im), zero);
  UntanglePair<kKind, kAll>(plan, z, z, 0, lo, hi, out);
  for (int64_t q = 1; 2 * q <= r0; ++q) {
    double* zq = z + q * stride;
    double* zn = z + (r0 - q) * stride;
    TransformBlock(plan, zq);
    if (zn != zq) TransformBlock(plan, zn);
    UntanglePair<kKind, kAll>(plan, zq, zn, q, lo, hi, out);
  }
}

template <int kKind>
void Untangle(const SpectrumPlan* plan, double* z, int64_t lo, int64_t hi, double* out) {
  if (lo <= 1 && hi >= plan->half) {
    Untangle<kKind, true>(plan, z, lo, hi, out);
  } else {
    Untangle<kKind, false>(plan, z, lo, hi, out);
  }
}

void UntangleKind(const SpectrumPlan* plan, double* work, int32_t kind, int32_t lo, int32_t hi, double* out) {
  switch (kind) {
    case kSpectrumPower: Untangle<kSpectrumPower>(plan, work, lo, hi, out); break;
    case kSpectrumMagnitude: Untangle<kSpectrumMagnitude>(plan, work, lo, hi, out); break;
    default: Untangle<kSpectrumComplex>(plan, work, lo, hi, out); break;
  }
}

template <class Filter>
ZOO_INLINE void FilteredSpectrum(const SpectrumPlan* plan, const float* const* frames, const Filter& filter, double* work, int32_t kind,
                                 int32_t lo, int32_t hi, double* out) {
  switch (plan->radix[0]) {
    case 8: First<8>(plan, frames, filter, work); break;
    case 4: First<4>(plan, frames, filter, work); break;
    case 2: First<2>(plan, frames, filter, work); break;
    case 5: First<5>(plan, frames, filter, work); break;
    default: First<3>(plan, frames, filter, work); break;
  }
  UntangleKind(plan, work, kind, lo, hi, out);
}

void SpectrumPacked(const SpectrumPlan* plan, const double* packed, double* work, int32_t kind, int32_t lo, int32_t hi,
                    double* out) {
  switch (plan->radix[0]) {
    case 8: FirstPacked<8>(plan, packed, work); break;
    case 4: FirstPacked<4>(plan, packed, work); break;
    case 2: FirstPacked<2>(plan, packed, work); break;
    case 5: FirstPacked<5>(plan, packed, work); break;
    default: FirstPacked<3>(plan, packed, work); break;
  }
  UntangleKind(plan, work, kind, lo, hi, out);
}

void Spectrum(const SpectrumPlan* plan, const float* const* frames, double* work, int32_t kind, int32_t lo, int32_t hi, double* out) {
  FilteredSpectrum(plan, frames, Plain{}, work, kind, lo, hi, out);
}

void EmphasizedSpectrum(const SpectrumPlan* plan, const float* const* frames, double factor, const double* offset, double* work,
                        int32_t kind, int32_t lo, int32_t hi, double* out) {
  FilteredSpectrum(plan, frames, Emphasis{factor, Load<VD>(offset)}, work, kind, lo, hi, out);
}

// ------------------------------------------------------------------------------------------ bands, decibels, DCT

#if ZOO_VECTOR_BYTES > 16
ZOO_INLINE FW Narrow(const double* p) { return ToFloat(Load<VD>(p)); }
ZOO_INLINE FW Narrow(const float* p) { return LoadU<FW>(p); }
#endif

// W columns at a time: the transposed block holds one lane's values of them in each row.
template <class T>
ZOO_INLINE void ToRows(const T* in, int64_t cols, int64_t rows, float* out) {
  int64_t c = 0;
#if ZOO_VECTOR_BYTES == 64
  for (; c + 8 <= cols; c += 8) {
    F8 r[8], t[8];
    for (int i = 0; i < 8; ++i) r[i] = Narrow(in + (c + i) * W);
    for (int h = 0; h < 2; ++h) TransposeHalves(r[4 * h], r[4 * h + 1], r[4 * h + 2], r[4 * h + 3]);
    for (int i = 0; i < 4; ++i) {
      t[i] = ZOO_SHUF8(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
      t[i + 4] = ZOO_SHUF8(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    if (rows == 8) {
      for (int l = 0; l < 8; ++l) StoreU(out + l * cols + c, t[l]);
    } else {
      for (int64_t l = 0; l < rows; ++l) StoreU(out + l * cols + c, t[l]);
    }
  }
#elif ZOO_VECTOR_BYTES == 32
  for (; c + 4 <= cols; c += 4) {
    F4 r[4];
    for (int i = 0; i < 4; ++i) r[i] = Narrow(in + (c + i) * W);
    Transpose(r);
    if (rows == 4) {
      for (int l = 0; l < 4; ++l) StoreU(out + l * cols + c, r[l]);
    } else {
      for (int64_t l = 0; l < rows; ++l) StoreU(out + l * cols + c, r[l]);
    }
  }
#endif
  for (; c < cols; ++c) {
    for (int64_t l = 0; l < rows; ++l) out[l * cols + c] = static_cast<float>(in[c * W + l]);
  }
}
void ToRowsF64(const double* in, int64_t cols, int64_t rows, float* out) { ToRows(in, cols, rows, out); }
void ToRowsF32(const float* in, int64_t cols, int64_t rows, float* out) { ToRows(in, cols, rows, out); }

void Bands(const BandPlan* plan, const double* in, float* out) {
  for (int32_t b = 0; b < plan->bands; ++b) {
    const double* p = in + static_cast<int64_t>(plan->first[b]) * W;
    const double* w = plan->weight + plan->offset[b];
    const int32_t n = plan->count[b];
    VD even = {}, odd = {};
    int32_t k = 0;
    for (; k + 1 < n; k += 2) {
      even += Load<VD>(p + k * W) * w[k];
      odd += Load<VD>(p + (k + 1) * W) * w[k + 1];
    }
    if (k < n) even += Load<VD>(p + k * W) * w[k];
    even += odd;
#if ZOO_VECTOR_BYTES > 16
    StoreU(out + b * W, ToFloat(even));
#else
    for (int l = 0; l < W; ++l) out[b * W + l] = static_cast<float>(even[l]);
#endif
  }
}

float Decibel(float* x, int64_t n, float amin, float subtract) {
  const float inf = __builtin_inff();
  VF best = Splat(-inf);
  for (int64_t i = 0; i < n; i += kF) {
    const VF v = Max(LoadU<VF>(x + i), Splat(amin));
    VF y = Decibels(v) - subtract;
    y = v > 3.4028234663852886e38f ? Splat(inf) : y;
    best = Max(y, best);
    StoreU(x + i, y);
  }
  float top = best[0];
  for (int l = 1; l < kF; ++l) top = best[l] > top ? best[l] : top;
  return top;
}

typedef uint64_t VL __attribute__((vector_size(ZOO_VECTOR_BYTES)));

// log(x) of positive normal numbers: x = m 2^e with m in [sqrt(1/2), sqrt(2)), and log(m) = 2 artanh(s) of
// s = (m - 1) / (m + 1), |s| <= 0.172, by its series; the first term left out is s^12 / 13, 5e-11 of the result.
ZOO_INLINE VD Log(VD x) {
  const uint64_t root = 0x3fe6a09e667f3bcd, one = 0x3ff0000000000000, magic = 0x4330000000000000;
  VL bits;
  __builtin_memcpy(&bits, &x, sizeof(x));
  bits -= root;
  const VL exponent = ((bits + one) >> 52) | magic;  // 2^52 + 1023 + e
  bits = (bits & 0xfffffffffffff) + root;
  VD m, e;
  __builtin_memcpy(&m, &bits, sizeof(m));
  __builtin_memcpy(&e, &exponent, sizeof(e));
  e -= 4503599627370496.0 + 1023.0;
  const VD s = (m - 1.0) / (m + 1.0), z = s * s;
  VD y = z * (2.0 / 11) + 2.0 / 9;
  y = y * z + 2.0 / 7;
  y = y * z + 2.0 / 5;
  y = y * z + 2.0 / 3;
  y = y * z + 2.0;
  return e * 0.69314718055994530942 + y * s;
}

void Logarithm(const float* x, int64_t n, float floor, double scale, float* out) {
  for (int64_t i = 0; i < n; i += W) {
#if ZOO_VECTOR_BYTES > 16
    FW v = LoadU<FW>(x + i);
    v = v > floor ? v : floor - FW{};
    StoreU(out + i, ToFloat(Log(ToDouble(v)) * scale));
#else
    VD v;
    for (int l = 0; l < W; ++l) v[l] = static_cast<double>(x[i + l] > floor ? x[i + l] : floor);
    const VD y = Log(v) * scale;
    for (int l = 0; l < W; ++l) out[i + l] = static_cast<float>(y[l]);
#endif
  }
}

void Raise(float* x, int64_t n, float floor) {
  const VF f = Splat(floor);
  for (int64_t i = 0; i < n; i += kF) StoreU(x + i, Max(LoadU<VF>(x + i), f));
}

// G rows by NV vectors of columns.
template <int G, int NV>
ZOO_INLINE void ProjectTile(const float* in, int64_t inner, int64_t sm, int64_t sr, const float* basis,
                            int64_t cols_padded, float* out, int64_t cols, int64_t room) {
  VF acc[G][NV] = {};
  for (int64_t m = 0; m < inner; ++m) {
    VF b[NV];
    for (int v = 0; v < NV; ++v) b[v] = LoadU<VF>(basis + m * cols_padded + v * kF);
    for (int g = 0; g < G; ++g) {
      const float x = in[m * sm + g * sr];
      for (int v = 0; v < NV; ++v) acc[g][v] += b[v] * x;
    }
  }
  for (int g = 0; g < G; ++g) {
    if (room >= NV * kF) {
      for (int v = 0; v < NV; ++v) StoreU(out + g * cols + v * kF, acc[g][v]);
    } else {
      float tail[NV * kF];
      for (int v = 0; v < NV; ++v) StoreU(tail + v * kF, acc[g][v]);
      __builtin_memcpy(out + g * cols, tail, static_cast<size_t>(room) * sizeof(float));
    }
  }
}

template <int G>
__attribute__((noinline)) void ProjectRows(const float* in, int64_t inner, int64_t sm, int64_t sr, const float* basis,
                                           int64_t cols_padded, int64_t cols, float* out) {
  int64_t c = 0;
  while (c < cols) {
    const int64_t room = cols - c;
    if (room > 2 * kF) {
      ProjectTile<G, 3>(in, inner, sm, sr, basis + c, cols_padded, out + c, cols, room);
      c += 3 * kF;
    } else if (room > kF) {
      ProjectTile<G, 2>(in, inner, sm, sr, basis + c, cols_padded, out + c, cols, room);
      c += 2 * kF;
    } else {
      ProjectTile<G, 1>(in, inner, sm, sr, basis + c, cols_padded, out + c, cols, room);
      c += kF;
    }
  }
}

void Project(const float* in, int64_t rows, int64_t inner, int64_t sm, int64_t sr, const float* basis,
             int64_t cols_padded, int64_t cols, float* out) {
  int64_t r = 0;
#if ZOO_VECTOR_BYTES == 64
  for (; r + 8 <= rows; r += 8) ProjectRows<8>(in + r * sr, inner, sm, sr, basis, cols_padded, cols, out + r * cols);
#endif
  for (; r + 4 <= rows; r += 4) ProjectRows<4>(in + r * sr, inner, sm, sr, basis, cols_padded, cols, out + r * cols);
  for (; r < rows; ++r) ProjectRows<1>(in + r * sr, inner, sm, sr, basis, cols_padded, cols, out + r * cols);
}

// -------------------------------------------------------------------------------------------------- resampling

enum { kTileVectors = kTile / kF };
// Tiles at a time: as many accumulators as registers hold beside the coefficients.
#if ZOO_VECTOR_BYTES == 64
enum { kBlock = 8 };
#elif ZOO_VECTOR_BYTES == 32
enum { kBlock = 6 };
#elif defined(__aarch64__)
enum { kBlock = 4 };
#else
enum { kBlock = 2 };
#endif

// N tiles with the same coefficients, of periods `dx` inputs and `dout` outputs apart. Every sum runs over the window in
// order, here as in AnyTiles: same bits. size: outputs of the tile.
template <int N>
__attribute__((noinline)) void SameTiles(const float* c, const float* x, int64_t dx, int32_t window, float* out,
                                         int64_t dout, int32_t size) {
  VF acc[N][kTileVectors] = {};
  for (int32_t k = 0; k < window; ++k, c += kTile) {
    VF w[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) w[v] = Load<VF>(c + v * kF);
    for (int n = 0; n < N; ++n) {
      for (int v = 0; v < kTileVectors; ++v) acc[n][v] += w[v] * x[n * dx + k];
    }
  }
  for (int n = 0; n < N; ++n) {
    if (size == kTile) {
      for (int v = 0; v < kTileVectors; ++v) StoreU(out + n * dout + v * kF, acc[n][v]);
    } else {
      float tile[kTile];
      for (int v = 0; v < kTileVectors; ++v) StoreU(tile + v * kF, acc[n][v]);
      __builtin_memcpy(out + n * dout, tile, static_cast<size_t>(size) * sizeof(float));
    }
  }
}

// N tiles of any coefficients and windows.
template <int N>
__attribute__((noinline)) void AnyTiles(const float* const* c, const float* const* x, int32_t window, float (*out)[kTile]) {
  VF acc[N][kTileVectors] = {};
  for (int32_t k = 0; k < window; ++k) {
    for (int n = 0; n < N; ++n) {
      for (int v = 0; v < kTileVectors; ++v) acc[n][v] += Load<VF>(c[n] + k * kTile + v * kF) * x[n][k];
    }
  }
  for (int n = 0; n < N; ++n) {
    for (int v = 0; v < kTileVectors; ++v) StoreU(out[n] + v * kF, acc[n][v]);
  }
}

ZOO_INLINE float Dot(const float* c, const float* x, int32_t taps) {
  VF acc = {};
  for (int32_t k = 0; k < taps; k += kF) acc += Load<VF>(c + k) * LoadU<VF>(x + k);
  return Sum(acc);
}

void Interpolate(const ResamplePlan* p, const float* xs, int64_t begin, int64_t end, float* out) {
  for (int64_t i = begin; i < end; ++i) {
    const __int128 t = static_cast<__int128>(i) * p->step;  // may pass 2^63 on absurd rates
    const int64_t at = static_cast<int64_t>(t / p->phases), phase = static_cast<int64_t>(t % p->phases);
    const double u = static_cast<double>(phase) * (p->rows - 1) / static_cast<double>(p->phases);
    const int64_t r = static_cast<int64_t>(u);
    const float a = static_cast<float>(u - static_cast<double>(r));
    const float y0 = Dot(p->coef + r * p->window, xs + at, p->window);
    const float y1 = Dot(p->coef + (r + 1) * p->window, xs + at, p->window);
    out[i - begin] = y0 + a * (y1 - y0);
  }
}

void Resample(const ResamplePlan* p, const float* x, int64_t x_first, int64_t begin, int64_t end, float* out) {
  if (p->tiles == 0) {
    Interpolate(p, x - x_first - p->before, begin, end, out);
    return;
  }
  enum { kAny = kBlock < 4 ? kBlock : 4 };
  const int64_t tile_size = static_cast<int64_t>(p->window) * kTile;
  int64_t period = begin / p->outputs;
  if (period * p->outputs > begin) --period;
  for (int64_t at = begin; at < end;) {
    const int64_t start = period * p->outputs;
    const float* xs = x + (period * p->inputs - x_first);
    if (at == start && start + kBlock * p->outputs <= end) {
      for (int32_t g = 0; g < p->tiles; ++g) {
        const int64_t left = p->outputs - g * kTile;
        SameTiles<kBlock>(p->coef + g * tile_size, xs + p->first[g], p->inputs, p->window, out + (start + g * kTile - begin),
                          p->outputs, left < kTile ? static_cast<int32_t>(left) : kTile);
      }
      period += kBlock;
      at += kBlock * p->outputs;
      continue;
    }
    // the next few tiles, of whatever period
    const float* c[kAny];
    const float* xt[kAny];
    float tile[kAny][kTile];
    int64_t from[kAny], size[kAny], skip[kAny];
    int n = 0;
    for (; n < kAny && at < end; ++n) {
      const int64_t rest = at - period * p->outputs, g = rest / kTile;
      const int64_t stop = period * p->outputs + (g + 1 == p->tiles ? p->outputs : (g + 1) * kTile);
      c[n] = p->coef + g * tile_size;
      xt[n] = x + (period * p->inputs - x_first) + p->first[g];
      from[n] = at - begin;
      skip[n] = rest - g * kTile;
      size[n] = (stop < end ? stop : end) - at;
      at += size[n];
      if (at - period * p->outputs == p->outputs) {
        ++period;
        if (at + kBlock * p->outputs <= end) {
          ++n;
          break;
        }
      }
    }
    for (int m = n; m < kAny; ++m) c[m] = c[n - 1], xt[m] = xt[n - 1];
    AnyTiles<kAny>(c, xt, p->window, tile);
    for (int m = 0; m < n; ++m) __builtin_memcpy(out + from[m], tile[m] + skip[m], static_cast<size_t>(size[m]) * sizeof(float));
  }
}

// Neighbouring sums at a time, as registers hold them: two accumulators each, since one would wait for itself, and the rows of
// both sides.
#if ZOO_VECTOR_BYTES == 64 || defined(__aarch64__)
enum { kNear = 4, kTurn = 4 };
#else
enum { kNear = 3, kTurn = 6 };
#endif

// Sums of c[k] * (f[k] + b[-k]), f and b moving away from each other by one row of lanes a step; neighbouring sums lie one
// such row apart, so that the rows slide through the registers. Even and odd k have accumulators of their own.
ZOO_INLINE void AddPairs(VF (&acc)[2][kNear], const float* f, const float* b, const float* c, int32_t pairs, int64_t row) {
  VF wf[kNear], wb[kNear];
  for (int r = 0; r < kNear; ++r) wf[r] = Load<VF>(f + r * row), wb[r] = Load<VF>(b + r * row);
  f += kNear * row;
  b -= row;
  for (int32_t k = 0; k < pairs; k += kTurn) {
    for (int u = 0; u < kTurn; ++u) {
      const float w = c[k + u];
      for (int r = 0; r < kNear; ++r) acc[u % 2][r] += (wf[(r + u) % kNear] + wb[(r + 2 * kTurn - u) % kNear]) * w;
      wf[u % kNear] = Load<VF>(f);
      wb[kNear - 1 - u % kNear] = Load<VF>(b);
      f += row;
      b -= row;
    }
  }
}

// to[j][l] = x[l * apart + j] for indices in [lo, hi), else 0.
void ToLanes(const float* x, int64_t lo, int64_t hi, int64_t apart, int64_t rows, float* to) {
  for (int64_t l = 0; l < kF; l += 4) {
    for (int64_t j = 0; j < rows; j += 4) {
      const int64_t at = l * apart + j;
      float* t = to + j * kF + l;
      if (at >= lo && at + 3 * apart + 4 <= hi) {
        F4 r[4];
        for (int i = 0; i < 4; ++i) r[i] = LoadU<F4>(x + at + i * apart);
        Transpose(r);
        for (int i = 0; i < 4; ++i) Store(t + i * kF, r[i]);
      } else {
        for (int64_t i = 0; i < 4; ++i) {
          for (int64_t m = 0; m < 4; ++m) {
            const int64_t from = at + i * apart + m;
            t[m * kF + i] = from >= lo && from < hi ? x[from] : 0.0f;
          }
        }
      }
    }
  }
}

// to[l * rows + j] = from[j][l] for indices of `to` in [lo, hi).
void FromLanes(const float* from, int64_t rows, int64_t lo, int64_t hi, float* to) {
  for (int64_t l = 0; l < kF; l += 4) {
    for (int64_t j = 0; j < rows; j += 4) {
      F4 r[4];
      for (int i = 0; i < 4; ++i) r[i] = Load<F4>(from + (j + i) * kF + l);
      Transpose(r);
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t at = (l + i) * rows + j;
        if (at >= lo && at + 4 <= hi) {
          StoreU(to + at, r[i]);
        } else {
          for (int64_t m = 0; m < 4; ++m) {
            if (at + m >= lo && at + m < hi) to[at + m] = r[i][m];
          }
        }
      }
    }
  }
}

// Each lane takes a part of the outputs by itself. Every sum has the same order wherever its output lies: same bits.
void ResamplePairs(const ResamplePlan* p, const float* x, int64_t x_first, int64_t begin, int64_t end, float* work, float* out) {
  const int64_t up = p->phases == 2 ? 1 : 0, pairs = p->pairs;
  const float* even = p->coef;
  const float* odd = p->coef + pairs;
  // rows before an output's own: what its pairs reach, and what is loaded ahead
  const int64_t lead = up ? pairs + 4 : 2 * pairs + 4, most = up ? 2 * kPairSpan : kPairSpan / 2, unit = up ? 24 : 12;
  const int64_t last = (up ? (end - 1) >> 1 : 2 * (end - 1)) - p->before + p->window;
  float* const lanes = work;
  float* const sums = work + kPairRows * kF;
  for (int64_t at = begin; at < end;) {
    const int64_t start = up ? at & ~int64_t{1} : at, count = end - start;  // outputs to come, from an even one on
    const int64_t whole = (count + kF - 1) / kF;
    const int64_t each = whole < most ? (whole + unit - 1) / unit * unit : most;  // a lane's
    const int64_t span = up ? each / 2 : 2 * each;
    const int64_t first = (up ? start >> 1 : 2 * start) - lead, readable = (up ? at >> 1 : 2 * at) - p->before;
    ToLanes(x + (first - x_first), readable - first, last - first, span, span + 2 * lead, lanes);
    const float* c = lanes + lead * kF;
    for (int64_t i = 0; i < each; i += up ? 2 * kNear : kNear, c += (up ? 1 : 2) * kNear * kF) {
      VF a[2][kNear] = {};
      AddPairs(a, c, c, even, p->pairs, up ? kF : 2 * kF);
      if (up) {
        VF b[2][kNear] = {};
        AddPairs(b, c + kF, c, odd, p->pairs, kF);
        for (int r = 0; r < kNear; ++r) {
          Store(sums + (i + 2 * r) * kF, a[0][r] + a[1][r]);
          Store(sums + (i + 2 * r + 1) * kF, b[0][r] + b[1][r]);
        }
      } else {
        AddPairs(a, c + kF, c - kF, odd, p->pairs, 2 * kF);
        for (int r = 0; r < kNear; ++r) Store(sums + (i + r) * kF, a[0][r] + a[1][r]);
      }
    }
    const int64_t done = count < each * kF ? count : each * kF;
    FromLanes(sums, each, at - start, done, out + (start - begin));
    at = start + done;
  }
}

// ---------------------------------------------------------------------------------------- conversion and checks

int64_t FindNonfinite(const float* x, int64_t n) {
  const int32_t mask = 0x7f800000, one = 0x00800000;
  int64_t i = 0;
  for (; i + 32 * kF <= n; i += 32 * kF) {
    VI seen[4] = {};  // the sign bit of exponent + 1 is set only when the exponent is all ones
    for (int u = 0; u < 32; u += 4) {
      for (int v = 0; v < 4; ++v) seen[v] |= (LoadU<VI>(x + i + (u + v) * kF) & mask) + one;
    }
    seen[0] |= seen[1] | seen[2] | seen[3];
    int32_t any = 0;
    for (int l = 0; l < kF; ++l) any |= seen[0][l];
    if (any < 0) break;
  }
  for (; i < n; ++i) {
    int32_t b;
    __builtin_memcpy(&b, x + i, 4);
    if ((b & mask) == mask) return i;
  }
  return -1;
}

template <class T, class A>
ZOO_INLINE void Mix(const T* x, int64_t frames, int32_t channels, A scale, float* out) {
  if (channels == 1) {
    for (int64_t i = 0; i < frames; ++i) out[i] = static_cast<float>(static_cast<A>(x[i]) * scale);
    return;
  }
  const double mean = static_cast<double>(scale) / channels;
  for (int64_t i = 0; i < frames; ++i) {
    double sum = 0;
    for (int32_t c = 0; c < channels; ++c) sum += static_cast<double>(x[i * channels + c]);
    out[i] = static_cast<float>(sum * mean);
  }
}

void MixF32(const float* x, int64_t n, int32_t c, float s, float* out) { Mix<float, float>(x, n, c, s, out); }
void MixF64(const double* x, int64_t n, int32_t c, double s, float* out) { Mix<double, double>(x, n, c, s, out); }
void MixI16(const int16_t* x, int64_t n, int32_t c, float s, float* out) { Mix<int16_t, float>(x, n, c, s, out); }
void MixI32(const int32_t* x, int64_t n, int32_t c, double s, float* out) { Mix<int32_t, double>(x, n, c, s, out); }

}  // namespace

extern const AudioKernels kAudioKernels;
const AudioKernels kAudioKernels = {
    Spectrum, EmphasizedSpectrum, ToRowsF64, ToRowsF32, SpectrumPacked, Bands, Decibel, Raise, Project, Resample, ResamplePairs, Logarithm, FindNonfinite, MixF32, MixF64, MixI16, MixI32,
};

}  // namespace ZOO_TARGET
}  // namespace zoo
