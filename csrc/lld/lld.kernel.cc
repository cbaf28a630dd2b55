// SPDX-License-Identifier: Apache-2.0
// LLD kernels. Compiled once for each instruction set (see csrc/README.md); no standard library in here.
#include "lld/kernels.h"
#include "core/simd.h"

namespace zoo {
namespace ZOO_TARGET {

void Correlate(const double* x, const double* sums, int32_t low, int32_t high, double* out);  // periods.exact.kernel.cc

namespace {

enum { W = kD };

ZOO_INLINE VD Splat(double x) { return x - VD{}; }

void Power(const double* spectrum, int32_t bins, double* out) {
  for (int32_t k = 0; k < bins; ++k) {
    const VD re = Load<VD>(spectrum + 2 * k * W), im = Load<VD>(spectrum + (2 * k + 1) * W);
    Store(out + k * W, re * re + im * im);
  }
}

void Autocorrelation(const ResampleSpectrumPlan* plan, const double* spectrum, double* work, double* r) {
  const int32_t harmonics = plan->harmonics, samples = plan->samples;
  double* turned = work;
  for (int32_t k = 0; k < harmonics; ++k) {
    const double c = plan->turn[2 * k], s = plan->turn[2 * k + 1];
    const VD re = Load<VD>(spectrum + 2 * (k + 1) * W), im = Load<VD>(spectrum + (2 * (k + 1) + 1) * W);
    Store(turned + 2 * k * W, re * c - im * s);
    Store(turned + (2 * k + 1) * W, re * s + im * c);
  }
  work += 2 * harmonics * W;
  const VD dc = Load<VD>(spectrum);
  const double* wave = plan->wave;
  for (int32_t j = 0; 2 * j < samples; j += kResampleTile) {
    VD even[kResampleTile], odd[kResampleTile] = {};
    for (int t = 0; t < kResampleTile; ++t) even[t] = dc;
    for (int32_t k = 0; k < harmonics; ++k, wave += 2 * kResampleTile) {
      const VD re = Load<VD>(turned + 2 * k * W), im = Load<VD>(turned + (2 * k + 1) * W);
      for (int t = 0; t < kResampleTile; ++t) {
        even[t] += re * wave[2 * t];
        odd[t] += im * wave[2 * t + 1];
      }
    }
    for (int t = 0; t < kResampleTile && samples / 2 + j + t < samples; ++t) {
      Store(work + ((samples - 1) / 2 - j - t) * W, even[t] - odd[t]);
      Store(work + (samples / 2 + j + t) * W, even[t] + odd[t]);
    }
  }
  if (plan->nyquist != nullptr) {
    const VD top = Load<VD>(spectrum + 2 * plan->half * W);
    for (int32_t i = 0; i < plan->samples; ++i) Store(work + i * W, Load<VD>(work + i * W) + top * plan->nyquist[i]);
  }
  VD sum[kLpcOrder + 1] = {};
  for (int32_t i = 0; i < kLpcOrder; ++i) {
    const VD y = Load<VD>(work + i * W);
    for (int32_t lag = 0; lag <= i; ++lag) sum[lag] += y * Load<VD>(work + (i - lag) * W);
  }
  for (int32_t i = kLpcOrder; i < plan->samples; ++i) {
    const VD y = Load<VD>(work + i * W);
    for (int32_t lag = 0; lag <= kLpcOrder; ++lag) sum[lag] += y * Load<VD>(work + (i - lag) * W);
  }
  for (int32_t lag = 0; lag <= kLpcOrder; ++lag) Store(r + lag * W, sum[lag]);
}

void Octave(const OctavePlan* plan, const double* y, double* work, double* out) {
  const int32_t n = plan->bins;
  double* second = work;  // the right-hand side on the way up, second derivatives on the way down
  VD u = {};
  Store(second, u);
  for (int32_t i = 1; i + 1 < n; ++i) {
    const double* f = plan->forward + 4 * i;
    u = Load<VD>(y + (i + 1) * W) * f[0] + Load<VD>(y + i * W) * f[1] + Load<VD>(y + (i - 1) * W) * f[2] + u * f[3];
    Store(second + i * W, u);
  }
  VD d = {};
  Store(second + (n - 1) * W, d);
  for (int32_t i = n - 2; i >= 0; --i) {
    d = d * plan->back[i] + Load<VD>(second + i * W);
    Store(second + i * W, d);
  }
  for (int32_t i = 0; i < n; ++i) {
    const double* w = plan->weight + 4 * i;
    const int64_t k = static_cast<int64_t>(plan->knot[i]) * W;
    Store(out + i * W, Load<VD>(y + k) * w[0] + Load<VD>(y + k + W) * w[1] + Load<VD>(second + k) * w[2] +
                           Load<VD>(second + k + W) * w[3]);
  }
}

void Harmonics(const HarmonicPlan* plan, const double* in, double* out, double* mean) {
  const int32_t n = plan->points;
  const double share = 1.0 / plan->harmonics;
  const VD zero = {};
  VD total = {};
  for (int32_t j = 0; j < n; ++j) {
    VD s = Load<VD>(in + j * W);
    for (int32_t h = 1; h < plan->harmonics && j + plan->shift[h] < n; ++h) s += Load<VD>(in + (j + plan->shift[h]) * W) * plan->scale[h];
    s *= share;
    s = s < zero ? zero : s;
    // peaks are compared as floats: what is level in them has no peak
#if ZOO_VECTOR_BYTES > 16
    s = ToDouble(ToFloat(s));
#else
    for (int l = 0; l < W; ++l) s[l] = static_cast<double>(static_cast<float>(s[l]));
#endif
    Store(out + j * W, s);
    total += s;
  }
  Store(mean, total / static_cast<double>(n));
}

void Peaks(const double* in, int32_t points, double* where) {
  VD at[3] = {Splat(-1), Splat(-1), Splat(-1)};
  VD best = {};
  const VD zero = {};
  VD before = Load<VD>(in), here = Load<VD>(in + W);
  for (int32_t i = 1; i + 1 < points; ++i) {
    const VD after = Load<VD>(in + (i + 1) * W);
    const auto peak = (before < here) & (here > after) & ((here > best) | (best == zero));
    const VD index = Splat(i);
    at[2] = peak ? at[1] : at[2];
    at[1] = peak ? at[0] : at[1];
    at[0] = peak ? index : at[0];
    best = peak ? here : best;
    before = here;
    here = after;
  }
  for (int c = 0; c < 3; ++c) Store(where + c * W, at[c]);
}

}  // namespace

extern const LldKernels kLldKernels;
const LldKernels kLldKernels = {Power, Autocorrelation, Octave, Harmonics, Peaks, Correlate};

}  // namespace ZOO_TARGET
}  // namespace zoo
