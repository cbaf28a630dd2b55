// SPDX-License-Identifier: Apache-2.0
// Kernels of the EEG family. Rules as in core/kernels.h.
#ifndef ZOO_EEG_KERNELS_H_
#define ZOO_EEG_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

enum { kFirSlack = 8 };  // values beyond its input that the FIR kernel may read

struct EegKernels {
  // A gain and second-order sections, [sections][b1, b2, a1, a2] with b0 = 1, over `n` samples of interleaved channels that
  // lie `step` values apart (negative: backward). unit: b2 = 1 in all. state: [sections][2][channels]. y may be x.
  void (*sections)(double gain, const double* coef, int32_t sections, int32_t unit, const double* x, int64_t n, int64_t step,
                   int64_t channels, double* state, double* y);
  // y[i] = sum_k taps[k] * x[i + k * channels]; x is readable kFirSlack values beyond the last one used.
  void (*fir)(const double* taps, int64_t count, const double* x, int64_t n, int64_t channels, double* y);
  // n samples of each lane's own pointer, `stride` apart -> out[n][lanes].
  void (*gather)(const double* const* lanes, int64_t n, int64_t stride, double* out);
  // Half of an inverse transform by a forward one. Spectrum [n / 2 + 1][2][lanes] of real frames times a real response ->
  // packed frames r[n] whose transform R gives the product's frames by `unfold`: y[i] = Re R[i] + Im R[i].
  void (*fold)(const double* spectrum, const double* response, int64_t n, double* packed);
  void (*unfold)(const double* spectrum, int64_t n, double* packed);
  // n samples of up to `lanes` channels, `channels` apart -> out[n][lanes], less their mean when asked; the lanes beyond
  // `used` hold any numbers.
  void (*pack)(const double* x, int64_t n, int64_t channels, int32_t used, int32_t detrend, double* out);
  // Bins lo to hi of the transform of packed frames of n samples, directly: out[bin - lo][lane] += power. circle: cos and
  // sin of 2 pi k / n.
  void (*dft)(const double* packed, const double* window, const double* circle, int64_t n, int64_t lo, int64_t hi, double* out);
  // out[band][lane] = sum over bins of weight * power[bin]; weights are [bands][bins].
  void (*bands)(const double* power, const double* weight, int64_t bins, int64_t bands, double* out);
  // Index of the first NaN or Inf, or -1.
  int64_t (*find_nonfinite)(const double* x, int64_t n);
  // sum += x
  void (*accumulate)(const double* x, int64_t n, double* sum);
};

}  // namespace zoo

#endif  // ZOO_EEG_KERNELS_H_
