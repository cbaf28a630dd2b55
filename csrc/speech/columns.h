// SPDX-License-Identifier: Apache-2.0
// Statistics of the columns of a matrix.
#ifndef ZOO_SPEECH_COLUMNS_H_
#define ZOO_SPEECH_COLUMNS_H_

#include <algorithm>

#include "speech/kernels.h"

namespace zoo {

// out = (x - mean) * scale(variance) of each column of a row-major [rows, cols] matrix; population variance.
template <class Scale>
void NormalizeColumns(const SpeechKernels& k, const float* x, int64_t rows, int64_t cols, float* out, Scale scale) noexcept {
  constexpr int64_t kTile = 64;
  double mean[kTile], factor[kTile];
  for (int64_t c = 0; c < cols; c += kTile) {
    const int64_t n = std::min(kTile, cols - c);
    k.column_sums(x + c, rows, n, cols, mean);
    for (int64_t i = 0; i < n; ++i) mean[i] /= static_cast<double>(rows);
    k.column_squares(x + c, rows, n, cols, mean, factor);
    for (int64_t i = 0; i < n; ++i) factor[i] = scale(factor[i] / static_cast<double>(rows));
    k.affine(x + c, rows, n, cols, mean, factor, out + c);
  }
}

}  // namespace zoo

#endif  // ZOO_SPEECH_COLUMNS_H_
