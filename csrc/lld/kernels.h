// SPDX-License-Identifier: Apache-2.0
// Kernels of the LLD family and the plans that they read. Rules as in core/kernels.h. "[lane]": one frame in each lane of
// a double vector, as in audio/kernels.h; lanes never mix.
#ifndef ZOO_LLD_KERNELS_H_
#define ZOO_LLD_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

enum { kMaxLagGroup = 16, kLpcOrder = 8, kMaxHarmonics = 16, kResampleTile = 8 };

// Samples of a band-limited signal from its spectrum, y[i] = re[0] + nyquist[i] re[half] + sum over k = 1 .. harmonics of
// re[k] cos(k a i) - im[k] sin(k a i). Two samples at the same distance from the middle share their products: `turn` moves
// the origin there, and `wave` has the factors of re and im for tiles of kResampleTile distances:
// [tile][harmonic][kResampleTile][2].
struct ResampleSpectrumPlan {
  int32_t samples;
  int32_t harmonics;
  int32_t half;        // the bin of `nyquist`
  const double* turn;  // [harmonics][2]: re and im
  const double* wave;
  const double* nyquist;  // [samples], or null: not used
};

// A natural cubic spline through a spectrum's bins over an octave scale, read at equidistant points.
struct OctavePlan {
  int32_t bins;
  const double* forward;  // [bins][4]: factors of y[i + 1], y[i], y[i - 1] and of the result before
  const double* back;     // [bins]: factor of the second derivative after
  const int32_t* knot;    // [bins]: the bin below a point
  const double* weight;   // [bins][4]: of y[knot], y[knot + 1] and both second derivatives
};

struct HarmonicPlan {
  int32_t points;
  int32_t harmonics;
  int32_t shift[kMaxHarmonics];  // points between a harmonic and its fundamental
  double scale[kMaxHarmonics];
};

struct LldKernels {
  // spectrum[bin][2][lane] -> power[bin][lane]
  void (*power)(const double* spectrum, int32_t bins, double* out);
  // Autocorrelation of the resampled signal at lags 0 .. kLpcOrder, r[lag][lane]. work: [2 harmonics +
  // samples][lane].
  void (*autocorrelation)(const ResampleSpectrumPlan* plan, const double* spectrum, double* work, double* r);
  // magnitude[bin][lane] -> out[point][lane]. work: 2 * bins * lanes.
  void (*octave)(const OctavePlan* plan, const double* magnitude, double* work, double* out);
  // Mean of the harmonics' spectra, at least 0, as floats in out[point][lane]; and its mean over the points, mean[lane].
  void (*harmonics)(const HarmonicPlan* plan, const double* in, double* out, double* mean);
  // The last three of the growing series of peaks of each lane, latest first: where[3][lane], -1: none.
  void (*peaks)(const double* in, int32_t points, double* where);
  // Correlation coefficient of x[0 .. lag) with x[lag .. 2 lag), for lags low .. high and up to kMaxLagGroup - 1 more: out
  // has a whole number of groups, and 2 (high + kMaxLagGroup) values of x and of their running sums must be readable.
  void (*correlate)(const double* x, const double* sums, int32_t low, int32_t high, double* out);
};

}  // namespace zoo

#endif  // ZOO_LLD_KERNELS_H_
