// SPDX-License-Identifier: Apache-2.0
// Kernels of the image family and the plans that they read. Rules as in core/kernels.h.
#ifndef ZOO_IMAGE_KERNELS_H_
#define ZOO_IMAGE_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

enum { kColumnRows = 64, kPatternValues = 48, kCoefficientBits = 22 };

// One axis of a separable filter in 22-bit fixed point. Taps go in pairs: two coefficients w = hi * 2^15 + lo lie in the 16-bit
// halves of the words lo0 | lo1 and hi0 | hi1, so that one multiply-and-add of 16-bit pairs serves two taps, exactly.
struct FixedTaps {
  int32_t out;           // outputs
  int32_t pairs;         // room for each output
  const int32_t* first;  // [out] first input
  const int32_t* used;   // [out] pairs used; the second tap of the last may lie one beyond the input, with coefficient 0
  const int32_t* words;  // [out][pairs][2]: lo, hi
};

// The same in floating point.
struct FloatTaps {
  int32_t out, room;
  const int32_t* first;  // [out]
  const int32_t* used;   // [out]
  const float* weight;   // [out][room]
};

// Two taps with 11-bit coefficients that sum to 2048.
struct LinearTaps {
  int32_t out;
  int32_t step;            // values from the first to the second tap; 0: the axis has one pixel
  int32_t safe;            // leading outputs for which reading 4 values at the second tap stays within the row
  const int32_t* first;    // [out], in values
  const int32_t* weights;  // [out][4]: four times the two coefficients in 16-bit halves
};

struct ImageKernels {
  // out[c][r] = in[r][c]; out has 16 more columns than rows where rows is no multiple of 16.
  void (*transpose)(const uint8_t* in, int64_t in_stride, int64_t rows, int64_t cols, uint8_t* out, int64_t out_stride);
  // The horizontal pass on 64 image rows that lie in columns: in [width * channels][64]. Output x of channel c goes to
  // out + (x * step_x + c * step_c) * 64.
  void (*fixed_columns)(const FixedTaps* taps, const uint8_t* in, int32_t channels, int64_t step_x, int64_t step_c, uint8_t* out);
  // Row y of the vertical pass over `rows` rows of n values. out has room for n rounded up to 64; scratch for 128 * taps->pairs.
  void (*fixed_row)(const FixedTaps* taps, int32_t y, const uint8_t* in, int64_t rows, int64_t stride, int64_t n, uint8_t* out, uint8_t* scratch);
  // OpenCV's fixed-point bilinear: a row of the horizontal pass in 1/128 grey levels (4 more values are written), then two of them.
  void (*linear_row)(const LinearTaps* taps, int32_t channels, const uint8_t* in, int16_t* out);
  void (*linear_blend)(const int16_t* a, const int16_t* b, int32_t wa, int32_t wb, int64_t n, uint8_t* out);
  // Row y of the vertical pass in floating point, then its horizontal pass (4 more values are read and written).
  void (*float_row)(const FloatTaps* taps, int32_t y, const uint8_t* in, int64_t stride, int64_t n, float* out);
  void (*float_columns)(const FloatTaps* taps, int32_t channels, const float* in, float* out);
  // Nearest whole number, within 0 to 255; ties go to the even one, or up.
  void (*round_row)(const float* in, int64_t n, bool ties_up, uint8_t* out);
  // (x - mean) * scale, by pattern of 48 values, or split into planes of `plane` values with one mean and scale each.
  void (*normalize_u8)(const uint8_t* in, int64_t n, const float* mean, const float* scale, float* out);
  void (*normalize_f32)(const float* in, int64_t n, const float* mean, const float* scale, float* out);
  void (*planes_u8)(const uint8_t* in, int64_t n, int32_t channels, const float* mean, const float* scale, float* out, int64_t plane);
  void (*planes_f32)(const float* in, int64_t n, int32_t channels, const float* mean, const float* scale, float* out, int64_t plane);
  void (*grey)(const uint8_t* in, int64_t n, int32_t channels, uint8_t* out);
  // m: from output to input coordinates.
  void (*warp)(const uint8_t* in, int64_t height, int64_t width, int32_t channels, const double* m, int64_t out_height, int64_t out_width, uint8_t* out);
};

}  // namespace zoo

#endif  // ZOO_IMAGE_KERNELS_H_
