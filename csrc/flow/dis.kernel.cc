// SPDX-License-Identifier: Apache-2.0
// Dense inverse search. Compiled once for each instruction set (see csrc/README.md); no standard library in here.
#include "core/simd.h"
#include "flow/kernels.h"

namespace zoo {
namespace ZOO_TARGET {
namespace {

enum { kB = kFlowBorder, kP = kFlowPatch };

// Squared distances in pixels: of a neighbour's flow that is not worth a try, of a step that ends the descent.
constexpr float kSame = 0.0002f, kSmallStep = 0.001f;
// Part of a Gauss-Newton step that is taken, and of the cost that must remain for the descent to end: a patch that follows
// its own noise to the end is worse than one that stops near the flow of the scale before (measured, tests/oracle/test_flow_dis.py).
constexpr float kStep = 0.4f, kUseful = 0.6f;

// ------------------------------------------------------------------------------------------------------------- images

void Grey(const uint8_t* rgb, int64_t pixels, uint8_t* out) {
  for (int64_t i = 0; i < pixels; ++i) {
    out[i] = static_cast<uint8_t>((9798 * rgb[3 * i] + 19235 * rgb[3 * i + 1] + 3735 * rgb[3 * i + 2] + 16384) >> 15);
  }
}

// Repeats the edge pixels of a row into its border.
ZOO_INLINE void PadRow(float* row, int32_t width, int32_t border) {
  const float left = row[0], right = row[width - 1];
  for (int32_t x = 1; x <= border; ++x) row[-x] = left;
  for (int32_t x = 0; x < border; ++x) row[width + x] = right;
}

void PadImage(const FlowImage& m) {
  for (int32_t y = 0; y < m.height; ++y) PadRow(m.pixels + y * m.pitch, m.width, kB);
  const size_t bytes = static_cast<size_t>(m.width + 2 * kB) * sizeof(float);
  float* const last = m.pixels + (m.height - 1) * m.pitch - kB;
  for (int32_t y = 1; y <= kB; ++y) {
    __builtin_memcpy(m.pixels - kB - y * m.pitch, m.pixels - kB, bytes);
    __builtin_memcpy(last + y * m.pitch, last, bytes);
  }
}

void Convert(const uint8_t* in, int64_t stride, const FlowImage& out) {
  for (int32_t y = 0; y < out.height; ++y) {
    const uint8_t* a = in + y * stride;
    float* to = out.pixels + y * out.pitch;
    for (int32_t x = 0; x < out.width; ++x) to[x] = static_cast<float>(a[x]);
  }
  PadImage(out);
}

template <class T>
ZOO_INLINE void HalveRows(const T* in, int64_t stride, const FlowImage& out) {
  for (int32_t y = 0; y < out.height; ++y) {
    const T* __restrict a = in + 2 * y * stride;
    const T* __restrict b = a + stride;
    float* __restrict to = out.pixels + y * out.pitch;
    for (int32_t x = 0; x < out.width; ++x) {
      to[x] = 0.25f * static_cast<float>((a[2 * x] + a[2 * x + 1]) + (b[2 * x] + b[2 * x + 1]));
    }
  }
  PadImage(out);
}

void HalveFrame(const uint8_t* in, int64_t stride, const FlowImage& out) { HalveRows(in, stride, out); }
void Halve(const FlowImage& in, const FlowImage& out) { HalveRows<float>(in.pixels, in.pitch, out); }

void Gradient(const FlowImage& in, float* gx, float* gy) {
  for (int32_t y = 0; y < in.height; ++y) {
    const float* b = in.pixels + y * in.pitch;
    const float* a = b - in.pitch;
    const float* c = b + in.pitch;
    for (int32_t x = 0; x < in.width; x += kF) {  // beyond the row: border, and memory that is ours
      const VF a0 = LoadU<VF>(a + x - 1), a1 = LoadU<VF>(a + x), a2 = LoadU<VF>(a + x + 1);
      const VF b0 = LoadU<VF>(b + x - 1), b2 = LoadU<VF>(b + x + 1);
      const VF c0 = LoadU<VF>(c + x - 1), c1 = LoadU<VF>(c + x), c2 = LoadU<VF>(c + x + 1);
      const VF d = c0 - a0, e = c2 - a2;
      StoreU(gx + y * in.pitch + x, 0.125f * ((a2 - a0) + (c2 - c0) + 2.0f * (b2 - b0)));
      StoreU(gy + y * in.pitch + x, 0.125f * (d + e + 2.0f * (c1 - a1)));
    }
  }
}

// ------------------------------------------------------------------------------------------------------------- search

// The sums of all lanes of four vectors.
ZOO_INLINE F4 SumFour(F8 a, F8 b, F8 c, F8 d) {
  F4 h[2], r[4];
  const F8 v[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    __builtin_memcpy(h, &v[i], sizeof(h));
    r[i] = h[0] + h[1];
  }
  Transpose(r);
  return (r[0] + r[1]) + (r[2] + r[3]);
}

// A position in an image, clamped so that a patch there lies within the border, split for interpolation.
struct Spot {
  const float* at;
  float fx, fy;
};

ZOO_INLINE Spot Locate(const FlowImage& m, float x, float y) {
  const float x_max = static_cast<float>(m.width), y_max = static_cast<float>(m.height);
  x = x > -8.0f ? (x < x_max ? x : x_max) : -8.0f;
  y = y > -8.0f ? (y < y_max ? y : y_max) : -8.0f;
  const int32_t xi = static_cast<int32_t>(x + 16.0f) - 16, yi = static_cast<int32_t>(y + 16.0f) - 16;
  return {m.pixels + yi * m.pitch + xi, x - static_cast<float>(xi), y - static_cast<float>(yi)};
}

struct Patch {
  F8 t[kP], gx[kP], gy[kP];
  float h11, h12, h22;  // inverse of the gradients' structure tensor, times kStep
};

struct Fit {
  float u, v;
  float cost;    // sum of squared differences, without that of the means
  float bx, by;  // gradients times differences
};

ZOO_INLINE void LoadPatch(const DisPlan& p, int32_t x, int32_t y, Patch* out) {
  const float* t = p.prev.pixels + y * p.prev.pitch + x;
  const float* gx = p.gx + y * p.prev.pitch + x;
  const float* gy = p.gy + y * p.prev.pitch + x;
  F8 xx = {}, xy = {}, yy = {}, sx = {}, sy = {};
  for (int r = 0; r < kP; ++r, t += p.prev.pitch, gx += p.prev.pitch, gy += p.prev.pitch) {
    const F8 a = LoadU<F8>(gx), b = LoadU<F8>(gy);
    out->t[r] = LoadU<F8>(t);
    out->gx[r] = a;
    out->gy[r] = b;
    xx += a * a;
    xy += a * b;
    yy += b * b;
    sx += a;
    sy += b;
  }
  const F4 h = SumFour(xx, xy, yy, sx);
  const float mx = h[3] * (1.0f / 64), my = SumFour(sy, sy, sy, sy)[0] * (1.0f / 64);
  for (int r = 0; r < kP; ++r) {
    out->gx[r] -= mx;
    out->gy[r] -= my;
  }
  const float a = h[0] + p.damping, d = h[2] + p.damping, det = kStep / (a * d - h[1] * h[1]);
  out->h11 = d * det;
  out->h12 = -h[1] * det;
  out->h22 = a * det;
}

ZOO_INLINE Fit Evaluate(const DisPlan& p, const Patch& q, float x, float y, float u, float v) {
  const Spot s = Locate(p.next, x + u, y + v);
  const float* at = s.at;
  F8 a = LoadU<F8>(at), b = LoadU<F8>(at + 1);
  F8 above = a + s.fx * (b - a);
  F8 sum = {}, square = {}, bx = {}, by = {};
  for (int r = 0; r < kP; ++r) {
    at += p.next.pitch;
    a = LoadU<F8>(at);
    b = LoadU<F8>(at + 1);
    const F8 below = a + s.fx * (b - a);
    const F8 d = above + s.fy * (below - above) - q.t[r];
    sum += d;
    square += d * d;
    bx += d * q.gx[r];
    by += d * q.gy[r];
    above = below;
  }
  const F4 all = SumFour(sum, square, bx, by);
  return {u, v, all[1] - all[0] * all[0] * (1.0f / 64), all[2], all[3]};
}

void Search(const DisPlan* plan, int32_t backwards) {
  const DisPlan& p = *plan;
  const int32_t step = backwards ? -1 : 1;
  for (int32_t i = 0; i < p.rows; ++i) {
    const int32_t row = backwards ? p.rows - 1 - i : i;
    const int32_t y = row * p.stride < p.prev.height - kP ? row * p.stride : p.prev.height - kP;
    float* const u = p.u + static_cast<int64_t>(row) * p.columns;
    float* const v = p.v + static_cast<int64_t>(row) * p.columns;
    for (int32_t j = 0; j < p.columns; ++j) {
      const int32_t c = backwards ? p.columns - 1 - j : j;
      const int32_t x = c * p.stride < p.prev.width - kP ? c * p.stride : p.prev.width - kP;
      // flows of the neighbours that this pass has done, where they differ enough to be worth a try
      float others[2][2];
      int32_t count = 0;
      const auto consider = [&](float cu, float cv) __attribute__((always_inline)) {
        const float du = cu - u[c], dv = cv - v[c];
        if (du * du + dv * dv > kSame) others[count][0] = cu, others[count][1] = cv, ++count;
      };
      if (j > 0) consider(u[c - step], v[c - step]);
      if (i > 0) consider(u[c - step * p.columns], v[c - step * p.columns]);
      if (backwards && count == 0) continue;
      Patch q;
      LoadPatch(p, x, y, &q);
      const float fx = static_cast<float>(x), fy = static_cast<float>(y);
      Fit best = Evaluate(p, q, fx, fy, u[c], v[c]);
      for (int32_t k = 0; k < count; ++k) {
        const Fit other = Evaluate(p, q, fx, fy, others[k][0], others[k][1]);
        if (other.cost < best.cost) best = other;
      }
      const Fit start = best;
      // The last step is taken on trust. Costs alone would favour whole pixels, where nothing is blurred by interpolation.
      bool done = false;
      for (int32_t t = 0; t < p.steps; ++t) {
        const float du = q.h11 * best.bx + q.h12 * best.by, dv = q.h12 * best.bx + q.h22 * best.by;
        best.u -= du;
        best.v -= dv;
        if (done || du * du + dv * dv < kSmallStep) break;
        const float before = best.cost;
        best = Evaluate(p, q, fx, fy, best.u, best.v);
        done = best.cost >= kUseful * before;
      }
      // a descent that has left its surroundings is not to be trusted
      const float du = best.u - start.u, dv = best.v - start.v;
      const bool near = du * du + dv * dv <= static_cast<float>(kP * kP);
      u[c] = near ? best.u : start.u;
      v[c] = near ? best.v : start.v;
    }
  }
}

// ---------------------------------------------------------------------------------------------------------- densify

template <int kStride>
ZOO_INLINE F8 Shift(F8 a) {
  const F8 zero = {};
  return kStride == 3 ? ZOO_SHUF8(a, zero, 3, 4, 5, 6, 7, 8, 8, 8) : ZOO_SHUF8(a, zero, 4, 5, 6, 7, 8, 8, 8, 8);
}

struct Sums {
  F8 weight, u, v;
};

// Adds what a row of one patch says about its 8 pixels.
ZOO_INLINE void AddRow(const DisPlan& p, int32_t x, int32_t y, float u, float v, Sums* s) {
  const Spot spot = Locate(p.next, static_cast<float>(x) + u, static_cast<float>(y) + v);
  F8 a = LoadU<F8>(spot.at), b = LoadU<F8>(spot.at + 1);
  const F8 above = a + spot.fx * (b - a);
  a = LoadU<F8>(spot.at + p.next.pitch);
  b = LoadU<F8>(spot.at + p.next.pitch + 1);
  const F8 below = a + spot.fx * (b - a);
  const F8 d = above + spot.fy * (below - above) - LoadU<F8>(p.prev.pixels + y * p.prev.pitch + x);
  const F8 one = {1, 1, 1, 1, 1, 1, 1, 1};
  const F8 size = d < 0.0f ? -d : d;
  const F8 w = one / (size > one ? size : one);
  s->weight += w;
  s->u += w * u;
  s->v += w * v;
}

template <int kStride>
void DensifyBy(const DisPlan& p, float* sums, float* u, float* v, int64_t dense) {
  float* const sw = sums;
  float* const su = sums + dense;
  float* const sv = sums + 2 * dense;
  const int32_t width = p.prev.width, last_y = p.prev.height - kP;
  const int32_t regular = (width - kP) / kStride + 1;  // columns of patches at multiples of the stride
  for (int32_t y = 0; y < p.prev.height; ++y) {
    // patches that cover the row: corners from y - 7 to y
    int32_t first = y < kP ? 0 : (y - kP) / kStride + 1, end = y / kStride + 1;
    if (end > p.rows || y >= last_y) end = p.rows;
    if (first >= end) first = end - 1;
    Sums s = {};
    for (int32_t c = 0; c < regular; ++c) {
      for (int32_t r = first; r < end; ++r) {
        const int64_t i = static_cast<int64_t>(r) * p.columns + c;
        AddRow(p, c * kStride, y, p.u[i], p.v[i], &s);
      }
      StoreU(sw + c * kStride, s.weight);
      StoreU(su + c * kStride, s.u);
      StoreU(sv + c * kStride, s.v);
      s.weight = Shift<kStride>(s.weight);
      s.u = Shift<kStride>(s.u);
      s.v = Shift<kStride>(s.v);
    }
    if (regular < p.columns) {  // the last column of patches ends with the image
      const int32_t x = width - kP, filled = (regular - 1) * kStride + kP;
      for (int32_t k = filled; k < width; ++k) sw[k] = su[k] = sv[k] = 0.0f;
      s = {LoadU<F8>(sw + x), LoadU<F8>(su + x), LoadU<F8>(sv + x)};
      for (int32_t r = first; r < end; ++r) {
        const int64_t i = static_cast<int64_t>(r) * p.columns + regular;
        AddRow(p, x, y, p.u[i], p.v[i], &s);
      }
      StoreU(sw + x, s.weight);
      StoreU(su + x, s.u);
      StoreU(sv + x, s.v);
    }
    for (int32_t k = width; k < width + kF; ++k) sw[k] = 1.0f, su[k] = sv[k] = 0.0f;
    const VF one = {};
    for (int32_t x = 0; x < width; x += kF) {
      const VF w = (one + 1.0f) / LoadU<VF>(sw + x);
      StoreU(u + y * dense + x, w * LoadU<VF>(su + x));
      StoreU(v + y * dense + x, w * LoadU<VF>(sv + x));
    }
  }
}

void Densify(const DisPlan* plan, float* sums, float* u, float* v, int64_t dense) {
  if (plan->stride == 3) {
    DensifyBy<3>(*plan, sums, u, v, dense);
  } else {
    DensifyBy<4>(*plan, sums, u, v, dense);
  }
}

// ------------------------------------------------------------------------------------------------------------ enlarge

void Enlarge(const float* u, const float* v, int64_t dense, int32_t width, int32_t height, int32_t scale, float* pairs,
             int32_t out_width, int32_t out_height, float* out) {
  float* const p = pairs + 4;  // one pair before the row, and more behind
  const float size = static_cast<float>(scale);
  for (int32_t y = 0; y < out_height; ++y) {
    const float at = (static_cast<float>(y) + 0.5f) / size - 0.5f;
    int32_t y0 = static_cast<int32_t>(at + 1.0f) - 1;
    const float f = at - static_cast<float>(y0);
    int32_t y1 = y0 + 1 < height ? y0 + 1 : height - 1;
    y0 = y0 < 0 ? 0 : y0 < height ? y0 : height - 1;
    const float wa = size * (1.0f - f), wb = size * f;
    const float* ua = u + y0 * dense;
    const float* ub = u + y1 * dense;
    const float* va = v + y0 * dense;
    const float* vb = v + y1 * dense;
    for (int32_t x = 0; x < width; ++x) {
      p[2 * x] = wa * ua[x] + wb * ub[x];
      p[2 * x + 1] = wa * va[x] + wb * vb[x];
    }
    for (int32_t k = 0; k < 2; ++k) {
      p[k - 2] = p[k];
      p[2 * width + k] = p[2 * width + 2 + k] = p[2 * width - 2 + k];
    }
    float* to = out + static_cast<int64_t>(y) * 2 * out_width;
    int32_t x = 0;
    if (scale == 2) {
      const F4 left = {0.25f, 0.25f, 0.75f, 0.75f}, right = {0.75f, 0.75f, 0.25f, 0.25f};
      for (; x + 2 <= out_width; x += 2) StoreU(to + 2 * x, left * LoadU<F4>(p + x - 2) + right * LoadU<F4>(p + x));
    } else if (scale == 4) {
      const F4 w0 = {0.375f, 0.375f, 0.125f, 0.125f}, w1 = {0.625f, 0.625f, 0.875f, 0.875f};
      const F4 w2 = {0.875f, 0.875f, 0.625f, 0.625f}, w3 = {0.125f, 0.125f, 0.375f, 0.375f};
      for (; x + 4 <= out_width; x += 4) {
        const float* q = p + x / 2;
        const F4 a = {q[-2], q[-1], q[-2], q[-1]}, b = {q[0], q[1], q[0], q[1]}, c = {q[2], q[3], q[2], q[3]};
        StoreU(to + 2 * x, w0 * a + w1 * b);
        StoreU(to + 2 * x + 4, w2 * b + w3 * c);
      }
    }
    for (; x < out_width; ++x) {
      const float ax = (static_cast<float>(x) + 0.5f) / size - 0.5f;
      int32_t x0 = static_cast<int32_t>(ax + 1.0f) - 1;
      const float fx = ax - static_cast<float>(x0);
      for (int32_t k = 0; k < 2; ++k) to[2 * x + k] = p[2 * x0 + k] + fx * (p[2 * x0 + 2 + k] - p[2 * x0 + k]);
    }
  }
}

// ------------------------------------------------------------------------------------------------------------- refine

// Weights of constant brightness and of a constant gradient, halved. OpenCV's are 2.5 and 5 (and 10 of smoothness) on images
// that are not smoothed and differences over two pixels; like it we let derivatives be too large rather than too small, so
// that steps fall short. These values have the smallest errors (tests/oracle/test_flow_dis.py) on stereo, film and texture.
constexpr float kDelta = 1.2f, kGamma = 6.0f;
constexpr float kSide = 0.15f;        // weight of either neighbour when images are smoothed
constexpr float kDerivative = 0.85f;  // of a difference over two pixels
constexpr float kZeta2 = 0.01f;  // keeps normalised derivatives bounded
constexpr float kEps2 = 1e-6f;   // rounds off the penalties
constexpr float kOmega = 1.6f;   // overrelaxation
enum { kSweeps = 10 };            // five of red, five of black

ZOO_INLINE VF Sqrt(VF a) {
#if ZOO_VECTOR_BYTES == 64
  return _mm512_sqrt_ps(a);
#else
  for (int i = 0; i < kF; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
#endif
}

ZOO_INLINE VF Gather(const float* p, VI at) {
#if ZOO_VECTOR_BYTES == 64
  return _mm512_i32gather_ps(reinterpret_cast<__m512i>(at), p, 4);
#else
  VF v;
  for (int i = 0; i < kF; ++i) v[i] = p[at[i]];
  return v;
#endif
}

// Lanes 0, 2, 4 ... and 1, 3, 5 ... of two vectors, and the reverse.
#if ZOO_VECTOR_BYTES == 64
ZOO_INLINE VF Even(VF a, VF b) {
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b);
}
ZOO_INLINE VF Odd(VF a, VF b) {
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), b);
}
ZOO_INLINE VF ZipLow(VF a, VF b) {
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), b);
}
ZOO_INLINE VF ZipHigh(VF a, VF b) {
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), b);
}
#elif ZOO_VECTOR_BYTES == 32
ZOO_INLINE VF Even(VF a, VF b) { return ZOO_SHUF8(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
ZOO_INLINE VF Odd(VF a, VF b) { return ZOO_SHUF8(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
ZOO_INLINE VF ZipLow(VF a, VF b) { return ZOO_SHUF8(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
ZOO_INLINE VF ZipHigh(VF a, VF b) { return ZOO_SHUF8(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
ZOO_INLINE VF Even(VF a, VF b) { return ZOO_SHUF4(a, b, 0, 2, 4, 6); }
ZOO_INLINE VF Odd(VF a, VF b) { return ZOO_SHUF4(a, b, 1, 3, 5, 7); }
ZOO_INLINE VF ZipLow(VF a, VF b) { return ZOO_SHUF4(a, b, 0, 4, 1, 5); }
ZOO_INLINE VF ZipHigh(VF a, VF b) { return ZOO_SHUF4(a, b, 2, 6, 3, 7); }
#endif

ZOO_INLINE VF Clamp(VF x, float lo, float hi) {
  const VF a = VF{} + lo, b = VF{} + hi;
  x = x > a ? x : a;  // also of a NaN
  return x < b ? x : b;
}

// Mean of the first frame and the warped second one, and their difference, not yet smoothed: in dx and dy for now.
void Warp(const RefinePlan& p) {
  const int64_t pitch = p.next.pitch;
  const float x_max = static_cast<float>(p.next.width - 1), y_max = static_cast<float>(p.next.height - 1);
  VF lane;
  for (int i = 0; i < kF; ++i) lane[i] = static_cast<float>(i);
  for (int32_t y = 0; y < p.next.height; ++y) {
    const float* from = p.prev.pixels + y * pitch;
    for (int32_t x = 0; x < p.next.width; x += kF) {
      const VF px = Clamp(lane + static_cast<float>(x) + LoadU<VF>(p.u + y * p.dense + x), 0.0f, x_max);
      const VF py = Clamp(VF{} + static_cast<float>(y) + LoadU<VF>(p.v + y * p.dense + x), 0.0f, y_max);
      const VI xi = __builtin_convertvector(px, VI), yi = __builtin_convertvector(py, VI);
      const VF fx = px - __builtin_convertvector(xi, VF), fy = py - __builtin_convertvector(yi, VF);
      const VI at = yi * static_cast<int32_t>(pitch) + xi;
      const VF a0 = Gather(p.next.pixels, at), a1 = Gather(p.next.pixels + 1, at);
      const VF b0 = Gather(p.next.pixels + pitch, at), b1 = Gather(p.next.pixels + pitch + 1, at);
      const VF a = a0 + fx * (a1 - a0), b = b0 + fx * (b1 - b0);
      const VF warped = a + fy * (b - a), own = LoadU<VF>(from + x);
      StoreU(p.dx + y * pitch + x, 0.5f * (warped + own));
      StoreU(p.dy + y * pitch + x, warped - own);
    }
    PadRow(p.dx + y * pitch, p.next.width, 1);
    PadRow(p.dy + y * pitch, p.next.width, 1);
  }
}

// Takes noise from what derivatives are taken of.
void Smooth(const FlowImage& shape, const float* from, float* to) {
  const int64_t pitch = shape.pitch;
  for (int32_t y = 0; y < shape.height; ++y, from += pitch, to += pitch) {
    const float* above = y > 0 ? from - pitch : from;
    const float* below = y + 1 < shape.height ? from + pitch : from;
    for (int32_t x = 0; x < shape.width; x += kF) {
      const auto column = [&](int32_t at) __attribute__((always_inline)) {
        return (1.0f - 2.0f * kSide) * LoadU<VF>(from + at) + kSide * (LoadU<VF>(above + at) + LoadU<VF>(below + at));
      };
      StoreU(to + x, (1.0f - 2.0f * kSide) * column(x) + kSide * (column(x - 1) + column(x + 1)));
    }
    PadRow(to, shape.width, 1);
  }
}

void Derivatives(const RefinePlan& p) {
  const int64_t pitch = p.next.pitch;
  for (int32_t y = 0; y < p.next.height; ++y) {
    const float* m = p.mean + y * pitch;
    const float* above = y > 0 ? m - pitch : m;
    const float* below = y + 1 < p.next.height ? m + pitch : m;
    for (int32_t x = 0; x < p.next.width; x += kF) {
      StoreU(p.dx + y * pitch + x, kDerivative * (LoadU<VF>(m + x + 1) - LoadU<VF>(m + x - 1)));
      StoreU(p.dy + y * pitch + x, kDerivative * (LoadU<VF>(below + x) - LoadU<VF>(above + x)));
    }
    PadRow(p.dx + y * pitch, p.next.width, 1);
  }
}

// What one equation of constancy says at a pixel, normalised: (gx, gy) . flow + rest = 0.
struct Term {
  VF gx, gy, rest;
};

ZOO_INLINE Term Normalise(VF gx, VF gy, VF diff, VF u, VF v) {
  const VF r = (VF{} + 1.0f) / Sqrt(gx * gx + gy * gy + kZeta2);
  return {gx * r, gy * r, (diff - gx * u - gy * v) * r};
}

// Coefficients of the data terms, and the flow, split into even and odd columns.
void Split(const RefinePlan& p) {
  const int64_t pitch = p.next.pitch, row = 2 * p.half;
  const int32_t width = p.next.width, height = p.next.height;
  for (int64_t i = 0; i < row; ++i) {
    p.su[i] = p.su[(height + 1) * row + i] = 0.0f;
    p.sv[i] = p.sv[(height + 1) * row + i] = 0.0f;
  }
  VF lane;
  for (int i = 0; i < kF; ++i) lane[i] = static_cast<float>(i);
  for (int32_t y = 0; y < height; ++y) {
    const float* z = p.diff + y * pitch;
    const float* gx = p.dx + y * pitch;
    const float* gy = p.dy + y * pitch;
    const int64_t up = y > 0 ? -pitch : 0, down = y + 1 < height ? pitch : 0;
    float* su = p.su + (y + 1) * row;
    float* sv = p.sv + (y + 1) * row;
    float* to = p.terms + static_cast<int64_t>(y) * 9 * row + kB;
    for (int64_t i = 0; i < row; ++i) su[i] = sv[i] = 0.0f;
    su += kB;
    sv += kB;
    for (int32_t x = 0; x < width; x += 2 * kF) {
      VF t[2][9], flow[2][2];
      for (int h = 0; h < 2; ++h) {
        const int32_t at = x + h * kF;
        const VF inside = lane + static_cast<float>(at) < VF{} + static_cast<float>(width) ? VF{} + 1.0f : VF{};
        const VF u = LoadU<VF>(p.u + y * p.dense + at) * inside, v = LoadU<VF>(p.v + y * p.dense + at) * inside;
        const VF xx = kDerivative * (LoadU<VF>(gx + at + 1) - LoadU<VF>(gx + at - 1));
        const VF xy = kDerivative * (LoadU<VF>(gx + at + down) - LoadU<VF>(gx + at + up));
        const VF yy = kDerivative * (LoadU<VF>(gy + at + down) - LoadU<VF>(gy + at + up));
        const VF xz = kDerivative * (LoadU<VF>(z + at + 1) - LoadU<VF>(z + at - 1));
        const VF yz = kDerivative * (LoadU<VF>(z + at + down) - LoadU<VF>(z + at + up));
        const Term a = Normalise(LoadU<VF>(gx + at), LoadU<VF>(gy + at), LoadU<VF>(z + at), u, v);
        const Term b = Normalise(xx, xy, xz, u, v), c = Normalise(xy, yy, yz, u, v);
        const VF all[9] = {a.gx, a.gy, a.rest, b.gx, b.gy, b.rest, c.gx, c.gy, c.rest};
        for (int k = 0; k < 9; ++k) t[h][k] = all[k];
        flow[h][0] = u;
        flow[h][1] = v;
      }
      const int32_t at = x / 2;
      for (int k = 0; k < 9; ++k) {
        StoreU(to + k * row + at, Even(t[0][k], t[1][k]));
        StoreU(to + k * row + p.half + at, Odd(t[0][k], t[1][k]));
      }
      StoreU(su + at, Even(flow[0][0], flow[1][0]));
      StoreU(su + p.half + at, Odd(flow[0][0], flow[1][0]));
      StoreU(sv + at, Even(flow[0][1], flow[1][1]));
      StoreU(sv + p.half + at, Odd(flow[0][1], flow[1][1]));
    }
  }
}

void Merge(const RefinePlan& p) {
  const int64_t row = 2 * p.half;
  for (int32_t y = 0; y < p.next.height; ++y) {
    for (int k = 0; k < 2; ++k) {
      const float* from = (k == 0 ? p.su : p.sv) + (y + 1) * row + kB;
      float* to = (k == 0 ? p.u : p.v) + y * p.dense;
      for (int32_t x = 0; x < p.next.width; x += 2 * kF) {
        const VF a = LoadU<VF>(from + x / 2), b = LoadU<VF>(from + p.half + x / 2);
        StoreU(to + x, ZipLow(a, b));
        StoreU(to + x + kF, ZipHigh(a, b));
      }
    }
  }
}

// A row's slot of the linear system: 1 / a11 and 1 / a22 times the relaxation factor, a12, b1, b2, weight of smoothness.
ZOO_INLINE float* Slot(const RefinePlan& p, int32_t y, int k) {
  return p.slots + ((y & (kFlowSlots - 1)) * 6 + k) * 2 * p.half + kB;
}

// Weights of smoothness of row y from the flow as it stands: of a pixel's edges to the right and below.
ZOO_INLINE void Weigh(const RefinePlan& p, int32_t y) {
  const int64_t row = 2 * p.half;
  const int32_t width = p.next.width;
  float* u = p.su + (y + 1) * row + kB;
  float* v = p.sv + (y + 1) * row + kB;
  const int64_t down = y + 1 < p.next.height ? row : 0;
  // the flow goes on unchanged beyond the row here, and is zero there everywhere else
  const int64_t beyond = (width & 1) * p.half + (width >> 1), last = ((width - 1) & 1) * p.half + ((width - 1) >> 1);
  u[beyond] = u[last];
  v[beyond] = v[last];
  float* w = Slot(p, y, 5);
  for (int odd = 0; odd < 2; ++odd) {
    const int64_t own = odd * p.half, right = odd ? 1 : p.half;
    for (int32_t x = 0; x < (width + 1) / 2; x += kF) {
      const VF cu = LoadU<VF>(u + own + x), cv = LoadU<VF>(v + own + x);
      const VF ux = LoadU<VF>(u + right + x) - cu, vx = LoadU<VF>(v + right + x) - cv;
      const VF uy = LoadU<VF>(u + own + down + x) - cu, vy = LoadU<VF>(v + own + down + x) - cv;
      StoreU(w + own + x, p.smoothness / Sqrt(ux * ux + vx * vx + uy * uy + vy * vy + kEps2));
    }
  }
  u[beyond] = v[beyond] = 0.0f;
}

ZOO_INLINE void Assemble(const RefinePlan& p, int32_t y) {
  const int64_t row = 2 * p.half;
  const int32_t width = p.next.width;
  const float* u = p.su + (y + 1) * row + kB;
  const float* v = p.sv + (y + 1) * row + kB;
  const float* t = p.terms + static_cast<int64_t>(y) * 9 * row + kB;
  const float* w = Slot(p, y, 5);
  const float* w_above = Slot(p, y - 1, 5);
  const float below = y + 1 < p.next.height ? 1.0f : 0.0f;
  float* s[5];
  for (int k = 0; k < 5; ++k) s[k] = Slot(p, y, k);
  for (int odd = 0; odd < 2; ++odd) {
    const int64_t own = odd * p.half, left = odd ? 0 : p.half - 1;
    for (int32_t x = 0; x < (width + 1) / 2; x += kF) {
      const int64_t at = own + x;
      const VF cu = LoadU<VF>(u + at), cv = LoadU<VF>(v + at);
      VF g[9];
      for (int k = 0; k < 9; ++k) g[k] = LoadU<VF>(t + k * row + at);
      const VF za = g[2] + g[0] * cu + g[1] * cv, zb = g[5] + g[3] * cu + g[4] * cv, zc = g[8] + g[6] * cu + g[7] * cv;
      const VF wa = kDelta / Sqrt(za * za + kEps2), wb = kGamma / Sqrt(zb * zb + zc * zc + kEps2);
      const VF smooth = LoadU<VF>(w + left + x) + LoadU<VF>(w_above + at) + LoadU<VF>(w + at) * (LoadU<VF>(p.edge + kB + at) + below);
      const VF a11 = smooth + wa * (g[0] * g[0]) + wb * (g[3] * g[3] + g[6] * g[6]);
      const VF a22 = smooth + wa * (g[1] * g[1]) + wb * (g[4] * g[4] + g[7] * g[7]);
      const VF relax = LoadU<VF>(p.relax + kB + at);
      StoreU(s[0] + at, relax / a11);
      StoreU(s[1] + at, relax / a22);
      StoreU(s[2] + at, wa * (g[0] * g[1]) + wb * (g[3] * g[4] + g[6] * g[7]));
      StoreU(s[3] + at, -wa * (g[0] * g[2]) - wb * (g[3] * g[5] + g[6] * g[8]));
      StoreU(s[4] + at, -wa * (g[1] * g[2]) - wb * (g[4] * g[5] + g[7] * g[8]));
    }
  }
}

// Successive overrelaxation of the red or black pixels of a row.
ZOO_INLINE void Relax(const RefinePlan& p, int32_t y, int32_t black) {
  const int64_t row = 2 * p.half;
  const int odd = (y + black) & 1;
  const int64_t own = odd * p.half, left = odd ? 0 : p.half - 1, right = odd ? 1 : p.half;
  float* u = p.su + (y + 1) * row + kB;
  float* v = p.sv + (y + 1) * row + kB;
  const float* s[6];
  for (int k = 0; k < 6; ++k) s[k] = Slot(p, y, k) + own;
  const float* w_left = Slot(p, y, 5) + left;
  const float* w_above = Slot(p, y - 1, 5) + own;
  for (int32_t x = 0; x < (p.next.width + 1) / 2; x += kF) {
    const VF wl = LoadU<VF>(w_left + x), wa = LoadU<VF>(w_above + x), w = LoadU<VF>(s[5] + x), a12 = LoadU<VF>(s[2] + x);
    const VF su = wl * LoadU<VF>(u + left + x) + w * (LoadU<VF>(u + right + x) + LoadU<VF>(u + own + row + x)) +
                  wa * LoadU<VF>(u + own - row + x) + LoadU<VF>(s[3] + x);
    const VF sv = wl * LoadU<VF>(v + left + x) + w * (LoadU<VF>(v + right + x) + LoadU<VF>(v + own + row + x)) +
                  wa * LoadU<VF>(v + own - row + x) + LoadU<VF>(s[4] + x);
    const VF cu = LoadU<VF>(u + own + x), cv = LoadU<VF>(v + own + x);
    const VF nu = (1.0f - kOmega) * cu + LoadU<VF>(s[0] + x) * (su - a12 * cv);
    const VF nv = (1.0f - kOmega) * cv + LoadU<VF>(s[1] + x) * (sv - a12 * nu);
    StoreU(u + own + x, nu);
    StoreU(v + own + x, nv);
  }
}

// Fixed-point iterations: weights from the flow as it stands, then the linear system that they give, by relaxation.
void Iterate(const RefinePlan& p, int32_t iterations) {
  const int32_t height = p.next.height;
  for (int32_t i = 0; i < iterations; ++i) {
    float* above_first = Slot(p, -1, 5) - kB;
    for (int64_t x = 0; x < 2 * p.half; ++x) above_first[x] = 0.0f;
    // Sweep s of row y needs sweep s - 1 of rows y - 1 to y + 1. Each follows a row behind the one before: the result is that
    // of sweeps over the whole image, but only some rows of the system exist at a time, and stay in the cache.
    for (int32_t front = 0; front < height + kSweeps - 1; ++front) {
      if (front < height) {
        Weigh(p, front);
        Assemble(p, front);
      }
      for (int32_t s = 0; s < kSweeps; ++s) {
        const int32_t y = front - s;
        if (y >= 0 && y < height) Relax(p, y, s & 1);
      }
    }
  }
}

void Refine(const RefinePlan* plan) {
  const RefinePlan& p = *plan;
  const int32_t width = p.next.width;
  for (int64_t i = 0; i < 2 * p.half; ++i) p.edge[i] = p.relax[i] = 0.0f;
  for (int32_t x = 0; x < width; ++x) {
    const int64_t at = kB + (x & 1) * p.half + (x >> 1);
    p.relax[at] = kOmega;
    p.edge[at] = x + 1 < width ? 1.0f : 0.0f;
  }
  for (int y = 0; y < kFlowSlots; ++y) {  // no edges to the left of a row
    for (int odd = 0; odd < 2; ++odd) Slot(p, y, 5)[odd * p.half - 1] = 0.0f;
  }
  // The equations are linear near the flow at which the frame was warped: half of the way they are set up again.
  for (int32_t done = 0, count = 0; done < p.iterations; done += count) {
    count = done == 0 && p.iterations > 1 ? p.iterations / 2 : p.iterations - done;
    Warp(p);
    Smooth(p.next, p.dx, p.mean);
    Smooth(p.next, p.dy, p.diff);
    Derivatives(p);
    Split(p);
    Iterate(p, count);
    Merge(p);
  }
}

}  // namespace

extern const FlowKernels kFlowKernels;
const FlowKernels kFlowKernels = {
    Grey, Convert, HalveFrame, Halve, Gradient, Search, Densify, Refine, Enlarge,
};

}  // namespace ZOO_TARGET
}  // namespace zoo
