// SPDX-License-Identifier: Apache-2.0
// Kernels of the dense flow methods (Farnebaeck, TV-L1) and the plans that they read. Rules as in core/kernels.h.
// A plane is float [rows][stride], aligned to 64 bytes, the stride a multiple of kPlaneAlign and at least the width: kernels
// compute whole vectors, so values between width and stride are written, and never used.
#ifndef ZOO_FLOW_DENSE_KERNELS_H_
#define ZOO_FLOW_DENSE_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

enum {
  kPlaneAlign = 16,  // floats: the longest vector
  kMaxPolyRadius = 15,
  kPolyTerms = 5,  // coefficients of an expansion: y, x, yy, xx, xy
  kCubicPad = 4,  // pixels of zeros around the texture of the cubic warp
};

// Resampling along one axis: out[x] = sum_t weight[t * stride + x] * in[start[x] + t].
struct AxisPlan {
  int32_t in, out, taps;
  int32_t stride;              // out, rounded up to kPlaneAlign; starts and weights are 0 beyond out
  int32_t run_begin, run_end;  // outputs in between have consecutive starts
  const int32_t* start;
  const float* weight;
};

// Polynomial expansion: separable correlations over 2 * radius + 1 samples; index 0 is the centre. The inverse of the
// 6 x 6 metric is multiplied in.
struct PolyPlan {
  int32_t radius;
  float gauss[kMaxPolyRadius + 1];   // g
  float slope[kMaxPolyRadius + 1];   // x g, for the linear coefficients: odd
  float second[kMaxPolyRadius + 1];  // a g + b x^2 g: the second derivative
  float linear;                      // factor of g across the slope
  float cross;                       // factor of the slope across the slope
};

// A few iterations of Farnebaeck's estimate over a level. Each: moments of every pixel from the flow so far, their mean over
// the window, and the new flow, in place.
struct FarnebackSweep {
  int32_t width, height, stride;
  // Expansions of the two frames, see `expand`.
  const float* first;
  const float* second;
  const float* edge_x;  // [stride] weight of a pixel by its column, for pixels near the border
  const float* edge_y;  // [height]
  float* flow_x;        // planes
  float* flow_y;
  int32_t radius;       // of the window
  const float* window;  // [radius + 1] weights, index 0 is the centre; null: a box
  float scale;          // of the box's sum
  int32_t passes;       // iterations
  float* ring;          // [passes][2 * radius + 1][5][stride] the last rows of moments, or sums of them
  float* sum;           // [passes][5][stride] sums of a box's rows
  float* line;          // 9 * (stride + 2 * radius + 5 * kPlaneAlign) floats
  float* total;         // [5][stride]
};

// The inner problem of TV-L1. Planes have kPlaneAlign more floats a row than their width rounded up, and as many before
// the first row: always zero in the dual planes, so that a difference across the border needs no special case. The row
// before the first of p12, p22, p32 is zero too.
struct TvL1Sweep {
  int32_t width, height, stride;
  float theta, lambda_theta, tau_theta, gamma;
  const float *wx, *wy, *rho, *pull;  // gradient, constant part of the residual, -1 / squared gradient
  float* u[3];  // flow x, y; with gamma also the change of brightness
  float* px[3];  // dual variables of u[i]
  float* py[3];
};

struct DenseFlowKernels {
  void (*load_u8)(const uint8_t* in, int64_t n, float* out);
  // line: in of the columns, rounded up to kPlaneAlign, and kPlaneAlign more floats.
  void (*resample)(const AxisPlan* columns, const AxisPlan* rows, const float* in, int64_t in_stride, float gain, float* line,
                   float* out, int64_t out_stride);
  // out[i] = x[i], y[i] alternating
  void (*interleave)(const float* x, const float* y, int64_t n, float* out);
  // line: 8 * (stride + 2 * kPlaneAlign) floats. pixels: [height * width + width + 2 * kPlaneAlign][kPolyTerms]; what lies
  // behind the last pixel is scratch.
  void (*expand)(const PolyPlan* plan, const float* in, int64_t width, int64_t height, int64_t stride, float* line,
                 float* pixels);
  void (*farneback_sweep)(const FarnebackSweep* sweep);
  // texture: [height + 2 * kCubicPad][width + 2 * kCubicPad][4]: value, its central differences along x and y, 0. The
  // padding is left alone.
  void (*tvl1_texture)(const float* in, int64_t width, int64_t height, int64_t stride, float* texture);
  // The texture at each pixel moved by u, bicubic, zeros outside: see TvL1Sweep. Zero between width and width rounded up.
  void (*tvl1_warp)(const float* texture, const float* first, int64_t first_stride, const float* u1, const float* u2,
                    int64_t width, int64_t height, int64_t stride, float* wx, float* wy, float* rho, float* pull);
  // One inner iteration, in place; returns the sum of the squared changes of u.
  double (*tvl1_iterate)(const TvL1Sweep* sweep);
  // Median of size x size pixels (3 or 5), borders replicated. The two floats before and after each row of `in` are
  // written. line: 5 * (stride + 2 * kPlaneAlign) floats.
  void (*median)(float* in, int64_t width, int64_t height, int64_t stride, int32_t size, float* line, float* out);
};

}  // namespace zoo

#endif  // ZOO_FLOW_DENSE_KERNELS_H_
