// SPDX-License-Identifier: Apache-2.0
#include "functionals/kernels.h"

#include "core/simd.h"

namespace zoo {
namespace ZOO_TARGET {
namespace {

constexpr float kInf = __builtin_inff();

ZOO_INLINE VF Splat(float v) { return v - VF{}; }
ZOO_INLINE VD SplatD(double v) { return v - VD{}; }
ZOO_INLINE VI SplatI(int32_t v) { return v - VI{}; }
ZOO_INLINE VF Min(VF a, VF b) { return a < b ? a : b; }
ZOO_INLINE VF Max(VF a, VF b) { return a > b ? a : b; }

// kD floats as doubles.
ZOO_INLINE VD Widen(const float* p) {
#if ZOO_VECTOR_BYTES >= 32
  return ToDouble(LoadU<FW>(p));
#else
  return VD{p[0], p[1]};
#endif
}

typedef decltype(VD{} < VD{}) MaskD;
ZOO_INLINE VD Keep(MaskD mask, VD v) { return mask ? v : VD{}; }
ZOO_INLINE VD Abs(VD v) {
  typedef int64_t VL __attribute__((vector_size(ZOO_VECTOR_BYTES)));
  return (VD)((VL)v & (int64_t{0x7fffffffffffffff} - VL{}));
}

int64_t Take(const float* in, int64_t rows, float limit, float* out) {
  // runs of columns: A, its deltas, B, its deltas
  const VF top = Splat(limit), tiny = Splat(1.17549435e-38f), zero = {};
  VI bad = {};
  for (int64_t r = 0; r < rows; ++r, in += 76, out += kStatLanes) {
    __builtin_memcpy(out, in, 34 * sizeof(float));
    __builtin_memcpy(out + 34, in + 38, 34 * sizeof(float));
    __builtin_memcpy(out + 68, in + 34, 4 * sizeof(float));
    __builtin_memcpy(out + 72, in + 72, 4 * sizeof(float));
    __builtin_memset(out + 76, 0, 4 * sizeof(float));
    for (int32_t l = 0; l < kStatLanes; l += kF) {
      const VF x = Load<VF>(out + l);
      const VF size = x < zero ? -x : x;
      bad |= ~(size <= top);
      Store(out + l, size >= tiny ? x : zero);
    }
    for (int32_t l = kPlainLanes; l < 76; ++l) out[l] = out[l] == 0.f ? kInf : out[l];
  }
  int32_t any = 0;
  for (int32_t i = 0; i < kF; ++i) any |= bad[i];
  if (!any) return -1;
  in -= rows * 76;
  int64_t at = 0;
  while (in[at] <= limit && in[at] >= -limit) ++at;
  return at;
}

ZOO_INLINE void Order(VF& a, VF& b) {
  const VF low = Min(a, b);
  b = Max(a, b);
  a = low;
}

ZOO_INLINE void OrderRows(float* a, float* b) {
  VF x = Load<VF>(a), y = Load<VF>(b);
  Order(x, y);
  Store(a, x);
  Store(b, y);
}

// Sorting is a network of comparisons, the same in every lane: 8 rows at a time in registers, then bitonic merges of
// runs of 8, 16, ... rows. A run that the end cuts short counts as filled up with +Inf, which no comparison moves.

// Rows [begin, end), a multiple of 8, each 8 of them bitonic: sorts each 8.
ZOO_INLINE void FinishEights(float* s, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; b += 8) {
    VF r[8];
    for (int i = 0; i < 8; ++i) r[i] = Load<VF>(s + (b + i) * kF);
    for (int i = 0; i < 4; ++i) Order(r[i], r[i + 4]);
    for (int i = 0; i < 8; i += 4) Order(r[i], r[i + 2]), Order(r[i + 1], r[i + 3]);
    for (int i = 0; i < 8; i += 2) Order(r[i], r[i + 1]);
    for (int i = 0; i < 8; ++i) Store(s + (b + i) * kF, r[i]);
  }
}

// Rows [begin, end), each 2 k of them bitonic: sorts each 2 k. Two strides a pass, and one block after the other, so
// that each stays in the cache.
void Clean(float* s, int64_t begin, int64_t end, int64_t k) {
  while (k >= 16) {
    const int64_t h = k / 2;
    for (int64_t b = begin; b < end; b += 2 * k) {
      const int64_t full = b + h < end - 3 * h ? b + h : end - 3 * h;
      int64_t x = b;
      for (; x < full; ++x) {
        float *p0 = s + x * kF, *p1 = p0 + h * kF, *p2 = p1 + h * kF, *p3 = p2 + h * kF;
        VF r0 = Load<VF>(p0), r1 = Load<VF>(p1), r2 = Load<VF>(p2), r3 = Load<VF>(p3);
        Order(r0, r2);
        Order(r1, r3);
        Order(r0, r1);
        Order(r2, r3);
        Store(p0, r0);
        Store(p1, r1);
        Store(p2, r2);
        Store(p3, r3);
      }
      for (; x < b + h; ++x) {
        float *p0 = s + x * kF, *p1 = p0 + h * kF, *p2 = p1 + h * kF;
        if (x + k < end) OrderRows(p0, p2);
        if (x + h < end) OrderRows(p0, p1);
      }
    }
    k /= 4;
    if (k >= 64) {
      for (int64_t b = begin; b < end; b += 2 * k) Clean(s, b, b + 2 * k < end ? b + 2 * k : end, k);
      return;
    }
  }
  if (k == 8) {
    for (int64_t b = begin; b < end; b += 16) {
      for (int64_t x = b; x < b + 8 && x + 8 < end; ++x) OrderRows(s + x * kF, s + (x + 8) * kF);
    }
  }
  FinishEights(s, begin, end);
}

// Rows [begin, end): sorted runs of `run` rows become one, for each two of them.
ZOO_INLINE void Merge(float* s, int64_t begin, int64_t end, int64_t run) {
  for (int64_t b = begin; b + run < end; b += 2 * run) {
    const int64_t last = b + 2 * run - 1, stop = b + 2 * run < end ? b + 2 * run : end;
    for (int64_t x = last - stop + 1 + b; x < b + run; ++x) OrderRows(s + x * kF, s + (last - x + b) * kF);
    Clean(s, b, stop, run / 2);
  }
}

void Sort(const float* rows, int64_t n, int32_t lane, float* sorted) {
  const int64_t end = (n + 7) / 8 * 8;
  for (int64_t i = 0; i < n; ++i) Store(sorted + i * kF, Load<VF>(rows + i * kStatLanes + lane));
  for (int64_t i = n; i < n / 8 * 8 + 8; ++i) Store(sorted + i * kF, Splat(kInf));
  for (int64_t b = 0; b < end; b += 8) {
    float* s = sorted + b * kF;
    VF r[8];
    for (int i = 0; i < 8; ++i) r[i] = Load<VF>(s + i * kF);
    for (int i = 0; i < 8; i += 4) Order(r[i], r[i + 2]), Order(r[i + 1], r[i + 3]);
    for (int i = 0; i < 4; ++i) Order(r[i], r[i + 4]);
    for (int i = 0; i < 8; i += 2) Order(r[i], r[i + 1]);
    Order(r[2], r[4]), Order(r[3], r[5]);
    Order(r[1], r[4]), Order(r[3], r[6]);
    Order(r[1], r[2]), Order(r[3], r[4]), Order(r[5], r[6]);
    for (int i = 0; i < 8; ++i) Store(s + i * kF, r[i]);
  }
  const int64_t chunk = 256;  // rows that stay in the first-level cache
  for (int64_t b = 0; b < end; b += chunk) {
    const int64_t stop = b + chunk < end ? b + chunk : end;
    for (int64_t run = 8; run < stop - b; run *= 2) Merge(sorted, b, stop, run);
  }
  for (int64_t run = chunk; run < end; run *= 2) Merge(sorted, 0, end, run);
}

// What stands at a place after `gone` has left: what stood there, or, from `gone` on, what stood behind it.
ZOO_INLINE VF Without(VF here, VF next, VF gone) { return here < gone ? here : next; }

void Slide(float* sorted, int64_t n, const float* gone, const float* come, int64_t count, int32_t lane) {
  int64_t i = 0;
  for (; i + 2 <= count; i += 2) {  // two exchanges a pass, the second one place behind the first
    const VF g1 = Load<VF>(gone + i * kStatLanes + lane), g2 = Load<VF>(gone + (i + 1) * kStatLanes + lane);
    const VF c1 = Load<VF>(come + i * kStatLanes + lane), c2 = Load<VF>(come + (i + 1) * kStatLanes + lane);
    VF here = Load<VF>(sorted), before1 = Splat(-kInf), before2 = before1, waiting = {};
    for (int64_t s = 0; s < n; ++s) {
      const VF next = Load<VF>(sorted + (s + 1) * kF);
      const VF left1 = Without(here, next, g1);
      const VF done1 = Max(Min(left1, c1), before1);
      before1 = left1, here = next;
      if (s > 0) {
        const VF left2 = Without(waiting, done1, g2);
        Store(sorted + (s - 1) * kF, Max(Min(left2, c2), before2));
        before2 = left2;
      }
      waiting = done1;
    }
    const VF left2 = Without(waiting, Splat(kInf), g2);
    Store(sorted + (n - 1) * kF, Max(Min(left2, c2), before2));
  }
  if (i < count) {
    const VF g = Load<VF>(gone + i * kStatLanes + lane), c = Load<VF>(come + i * kStatLanes + lane);
    VF here = Load<VF>(sorted), before = Splat(-kInf);
    for (int64_t s = 0; s < n; ++s) {
      const VF next = Load<VF>(sorted + (s + 1) * kF);
      const VF left = Without(here, next, g);
      Store(sorted + s * kF, Max(Min(left, c), before));
      before = left, here = next;
    }
  }
}

// Some: lanes in which rows with +Inf do not count.
template <bool Some>
ZOO_INLINE void SumLanes(const float* rows, int64_t n, int32_t l, WindowStats* s) {
  VD i = {}, sum = {}, moment = {};
  for (int64_t r = 0; r < n; ++r) {
    VD x = Widen(rows + r * kStatLanes + l);
    VD one = SplatD(1);
    if (Some) {
      const MaskD counts = x < SplatD(__builtin_inf());
      x = Keep(counts, x), one = Keep(counts, one);
    }
    sum += x;
    moment += x * i;
    i += one;
  }
  Store(s->count + l, i);
  Store(s->sum + l, sum);
  Store(s->moment + l, moment);
}

void Sums(const float* rows, int64_t n, WindowStats* s) {
  int32_t l = 0;
  for (; l + kD <= kPlainLanes; l += kD) SumLanes<false>(rows, n, l, s);
  for (; l < kStatLanes; l += kD) SumLanes<true>(rows, n, l, s);
}

template <bool Some>
ZOO_INLINE void PowerLanes(const float* rows, int64_t n, int32_t l, WindowStats* s) {
  const VD mean = Load<VD>(s->mean + l), slope = Load<VD>(s->slope + l), offset = Load<VD>(s->offset + l);
  VD i = {}, p2 = {}, p3 = {}, p4 = {}, e1 = {}, e2 = {};
  for (int64_t r = 0; r < n; ++r) {
    const VD x = Widen(rows + r * kStatLanes + l);
    VD d = x - mean, e = x - (slope * i + offset), one = SplatD(1);
    if (Some) {
      const MaskD counts = x < SplatD(__builtin_inf());
      d = Keep(counts, d), e = Keep(counts, e), one = Keep(counts, one);
    }
    const VD d2 = d * d, d3 = d2 * d;
    p2 += d2;
    p3 += d3;
    p4 += d3 * d;
    e1 += Abs(e);
    e2 += e * e;
    i += one;
  }
  Store(s->power2 + l, p2);
  Store(s->power3 + l, p3);
  Store(s->power4 + l, p4);
  Store(s->error1 + l, e1);
  Store(s->error2 + l, e2);
}

template <bool Some>
ZOO_INLINE void PlaceLanes(const float* rows, int64_t n, int32_t l, WindowStats* s) {
  const VF max = Load<VF>(s->max + l), min = Load<VF>(s->min + l);
  const VF level75 = Load<VF>(s->level75 + l), level90 = Load<VF>(s->level90 + l);
  VI max_at = {}, min_at = {}, upto75 = {}, upto90 = {}, i = SplatI(static_cast<int32_t>(n));
  if (Some) {
    for (int32_t k = 0; k < kF; ++k) i[k] = static_cast<int32_t>(s->count[l + k]);
  }
  for (int64_t r = n; r-- > 0;) {  // backwards: the first place is the last one written
    const VF x = Load<VF>(rows + r * kStatLanes + l);
    if (Some) {
      i += x < Splat(kInf);
    } else {
      i -= 1;
    }
    max_at = x == max ? i : max_at;
    min_at = x == min ? i : min_at;
    upto75 -= x <= level75;
    upto90 -= x <= level90;
  }
  Store(s->max_at + l, max_at);
  Store(s->min_at + l, min_at);
  Store(s->upto75 + l, upto75);
  Store(s->upto90 + l, upto90);
}

void Residuals(const float* rows, int64_t n, WindowStats* s) {
  int32_t l = 0;
  for (; l + kD <= kPlainLanes; l += kD) PowerLanes<false>(rows, n, l, s);
  for (; l < kStatLanes; l += kD) PowerLanes<true>(rows, n, l, s);
  l = 0;
  for (; l + kF <= kPlainLanes; l += kF) PlaceLanes<false>(rows, n, l, s);
  for (; l < kStatLanes; l += kF) PlaceLanes<true>(rows, n, l, s);
}

}  // namespace

extern const FunctionalsKernels kFunctionalsKernels;
const FunctionalsKernels kFunctionalsKernels = {kF, Take, Sort, Slide, Sums, Residuals};

}  // namespace ZOO_TARGET
}  // namespace zoo
