// SPDX-License-Identifier: Apache-2.0
// Kernels of the speech family: energies of frames, logarithms of bands, statistics of columns. Rules as in core/kernels.h.
#ifndef ZOO_SPEECH_KERNELS_H_
#define ZOO_SPEECH_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

struct SpeechKernels {
  double (*sum)(const float* x, int64_t n);
  // sum of (x[i] - mean)^2
  double (*squares)(const float* x, int64_t n, double mean);
  // sum of (w[i] (x[i] - factor * x[i - 1] - offset))^2 with x[-1] = x[0]
  double (*emphasized_squares)(const float* x, const double* w, int64_t n, double factor, double offset);
  // x <- ln(max(floor, x)) in place, +inf for what is above float32 or NaN; n is a multiple of 16.
  void (*ln)(float* x, int64_t n, float floor);
  // out[r][c] = sum over m of in[m * stride + r] * basis[m][c], summed in float64; basis is [inner][cols_padded], cols_padded
  // a multiple of 48.
  void (*project)(const float* in, int64_t rows, int64_t inner, int64_t stride, const float* basis, int64_t cols_padded, int64_t cols,
                  float* out);

  // Matrices [rows, cols] whose rows lie `stride` values apart. sum[c] = sum of x[r][c] in the order of the rows.
  void (*column_sums)(const float* x, int64_t rows, int64_t cols, int64_t stride, double* sum);
  // sum[c] = sum of (x[r][c] - mean[c])^2
  void (*column_squares)(const float* x, int64_t rows, int64_t cols, int64_t stride, const double* mean, double* sum);
  // out = (x - shift[c]) * scale[c], rows as far apart as those of x; out does not overlap x
  void (*affine)(const float* x, int64_t rows, int64_t cols, int64_t stride, const double* shift, const double* scale, float* out);

  // Sums over windows that slide. to = from + x, and with squares: to[cols + c] = from[cols + c] + x[c]^2.
  void (*add_row)(const float* x, int64_t cols, int32_t squares, const double* from, double* to);
  // The window's sums are a + b over `rows` rows. out = x - mean, and with squares divided by the standard
  // deviation, the variance being at least `floor`.
  void (*normalize_row)(const float* x, const double* a, const double* b, int64_t cols, int32_t squares, double rows,
                        double floor, float* out);
};

}  // namespace zoo

#endif  // ZOO_SPEECH_KERNELS_H_
