// SPDX-License-Identifier: Apache-2.0
// Correlation of a stretch of the waveform with the stretch after it, for many lengths of the stretch at a time: one length
// in each vector lane. Without contraction to FMA, and sample by sample: every lane has the bits of the plain loop, on which
// openSMILE's choice of periods depends.
#include "lld/kernels.h"
#include "core/simd.h"

namespace zoo {
namespace ZOO_TARGET {

void Correlate(const double* x, const double* sums, int32_t low, int32_t high, double* out);

namespace {

enum { W = kD, G = W == 8 ? 2 : 4 };  // G vectors at a time hide the latency of the sums

ZOO_INLINE VD Splat(double x) { return x - VD{}; }

struct Moments {
  VD xy[G], xx[G], yy[G];
};

// kMasked: lane l of vector g takes part in steps i < low + g * W + l only.
template <bool kMasked>
ZOO_INLINE void Sum(const double* y, VD active, VD (&total)[G]) {
  for (int g = 0; g < G; ++g) {
    const VD v = LoadU<VD>(y + g * W);
    total[g] = kMasked ? (active + static_cast<double>(g * W) > VD{} ? total[g] + v : total[g]) : total[g] + v;
  }
}

template <bool kMasked>
ZOO_INLINE void Add(double x, const double* y, VD active, const VD (&mean_x)[G], const VD (&mean_y)[G], Moments& m) {
  for (int g = 0; g < G; ++g) {
    const VD dx = Splat(x) - mean_x[g], dy = LoadU<VD>(y + g * W) - mean_y[g];
    const VD xy = m.xy[g] + dx * dy, xx = m.xx[g] + dx * dx, yy = m.yy[g] + dy * dy;
    if (kMasked) {
      const auto on = active + static_cast<double>(g * W) > VD{};
      m.xy[g] = on ? xy : m.xy[g];
      m.xx[g] = on ? xx : m.xx[g];
      m.yy[g] = on ? yy : m.yy[g];
    } else {
      m.xy[g] = xy;
      m.xx[g] = xx;
      m.yy[g] = yy;
    }
  }
}

ZOO_INLINE VD Root(VD v) {
  for (int l = 0; l < W; ++l) v[l] = __builtin_sqrt(v[l]);
  return v;
}

}  // namespace

void Correlate(const double* x, const double* sums, int32_t low, int32_t high, double* out) {
  VD lane;
  for (int l = 0; l < W; ++l) lane[l] = l;
  for (int32_t lag = low; lag <= high; lag += G * W, out += G * W) {
    VD mean_x[G], mean_y[G] = {};
    const int32_t last = lag + G * W - 1;  // the longest stretch of these
    for (int32_t i = 0; i < lag; ++i) Sum<false>(x + lag + i, lane, mean_y);
    for (int32_t i = lag; i < last; ++i) Sum<true>(x + lag + i, lane + static_cast<double>(lag - i), mean_y);
    for (int g = 0; g < G; ++g) {
      const VD n = lane + static_cast<double>(lag + g * W);
      mean_x[g] = LoadU<VD>(sums + lag + g * W) / n;
      mean_y[g] /= n;
    }
    Moments m = {};
    for (int32_t i = 0; i < lag; ++i) Add<false>(x[i], x + lag + i, lane, mean_x, mean_y, m);
    for (int32_t i = lag; i < last; ++i) Add<true>(x[i], x + lag + i, lane + static_cast<double>(lag - i), mean_x, mean_y, m);
    for (int g = 0; g < G; ++g) StoreU(out + g * W, m.xy[g] / (Root(m.xx[g]) * Root(m.yy[g])));
  }
}

}  // namespace ZOO_TARGET
}  // namespace zoo
