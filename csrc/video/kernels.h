// SPDX-License-Identifier: Apache-2.0
// Kernels of the video family. Rules as in core/kernels.h.
#ifndef ZOO_VIDEO_KERNELS_H_
#define ZOO_VIDEO_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

struct VideoKernels {
  // Sum of |a[i] - b[i]|.
  int64_t (*absolute_difference)(const uint8_t* a, const uint8_t* b, int64_t n);
  // OpenCV's hue (0 to 179), saturation and value of n pixels of 3 bytes as planes of n.
  void (*hsv)(const uint8_t* in, int64_t n, bool bgr, uint8_t* out);
  // (clip(x, -bound, bound) + bound) * scale to the nearest whole number, ties to even.
  void (*flow_bytes)(const float* in, int64_t n, float bound, float scale, uint8_t* out);
};

}  // namespace zoo

#endif  // ZOO_VIDEO_KERNELS_H_
