// SPDX-License-Identifier: Apache-2.0
// Kernels of the speech family: frames before the FFT, logarithms after it, statistics of columns. Rules as in core/kernels.h.
#ifndef ZOO_SPEECH_KERNELS_H_
#define ZOO_SPEECH_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

// What Kaldi does to a frame before its window, on samples times `scale`.
struct FramePlan {
  int32_t length;    // samples
  float scale;
  float preemphasis;  // y[i] = x[i] - preemphasis * x[i - 1], with x[-1] = x[0]
  int32_t remove_mean;
};

struct SpeechKernels {
  // y[0, length) from x[0, length). With energy != null: the sum of squares before pre-emphasis.
  void (*prepare)(const FramePlan* plan, const float* x, float* y, float* energy);
  // sum of (y[i] * w[i])^2
  float (*energy)(const float* y, const float* w, int64_t n);
  // x <- ln(max(floor, x)) in place, +inf for what is above float32 or NaN; n is a multiple of 16.
  void (*ln)(float* x, int64_t n, float floor);

  // Matrices [rows, cols] whose rows lie `stride` values apart. sum[c] = sum of x[r][c] in the order of the rows.
  void (*column_sums)(const float* x, int64_t rows, int64_t cols, int64_t stride, double* sum);
  // sum[c] = sum of (x[r][c] - mean[c])^2
  void (*column_squares)(const float* x, int64_t rows, int64_t cols, int64_t stride, const double* mean, double* sum);
  // out = (x - shift[c]) * scale[c], rows as far apart as those of x; out does not overlap x
  void (*affine)(const float* x, int64_t rows, int64_t cols, int64_t stride, const double* shift, const double* scale, float* out);

  // Sums over windows that slide. to = from + x, and with squares: to[cols + c] = from[cols + c] + x[c]^2.
  void (*add_row)(const float* x, int64_t cols, int32_t squares, const double* from, double* to);
  // The window's sums are a + b over 1 / inverse rows. out = x - mean, and with squares divided by the standard
  // deviation, the variance being at least `floor`.
  void (*normalize_row)(const float* x, const double* a, const double* b, int64_t cols, int32_t squares, double inverse,
                        double floor, float* out);
};

}  // namespace zoo

#endif  // ZOO_SPEECH_KERNELS_H_
