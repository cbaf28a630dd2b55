// SPDX-License-Identifier: Apache-2.0
// Kernels of the flow family that all methods share, and those of dense inverse search. Rules as in core/kernels.h.
#ifndef ZOO_FLOW_KERNELS_H_
#define ZOO_FLOW_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

// Pixels of replicated border around every image of a pyramid. A patch that hangs out of the image by its whole width is
// read like any other.
enum { kFlowBorder = 16, kFlowPatch = 8, kFlowSlots = 16 };

// An image of a pyramid: `pixels` is its first pixel, rows are `pitch` floats apart, with a border all around.
struct FlowImage {
  int32_t width, height;
  int64_t pitch;
  float* pixels;
};

// Patches on one scale. Their corners lie `stride` pixels apart, the last ones at the far edges.
struct DisPlan {
  int32_t stride, columns, rows;
  int32_t steps;  // of descent at most, a pass
  float damping;  // added to a patch's structure tensor: one with no more texture than noise stays where it starts
  FlowImage prev, next;
  const float* gx;  // gradients of prev, without border, rows prev.pitch apart
  const float* gy;
  float* u;  // [rows][columns]
  float* v;
};

// Refinement on one scale. Even and odd columns of a row are stored apart (first the even ones), each in `half` floats of
// which the first kFlowBorder are border: a red or black pixel's neighbours are then vectors too.
struct RefinePlan {
  FlowImage prev, next;
  float* u;  // flow in and out, rows `dense` floats apart
  float* v;
  int64_t dense;
  int32_t iterations;
  float smoothness;  // its weight against the data's
  int64_t half;
  float* mean;   // of prev and the warped next; rows next.pitch apart with a border, as the next three
  float* diff;   // warped next - prev
  float* dx;
  float* dy;
  float* terms;  // [height][9][2 * half]
  float* su;     // [height + 2][2 * half], split flow between rows of zeros
  float* sv;
  float* slots;  // [kFlowSlots][6][2 * half], rows of the linear system while they are in use
  float* edge;   // [2 * half]: 1 where a pixel has one to the right
  float* relax;  // [2 * half]: the relaxation factor, 0 beyond the row
};

struct FlowKernels {
  // Luminance of interleaved RGB, bit for bit OpenCV's RGB2GRAY.
  void (*grey)(const uint8_t* rgb, int64_t pixels, uint8_t* out);
  // Levels of a pyramid: the frame itself, means of 2 x 2 of its pixels, means of 2 x 2 of a level. Borders are filled.
  void (*convert)(const uint8_t* in, int64_t stride, const FlowImage& out);
  void (*halve_frame)(const uint8_t* in, int64_t stride, const FlowImage& out);
  void (*halve)(const FlowImage& in, const FlowImage& out);
  // Smoothed central differences.
  void (*gradient)(const FlowImage& in, float* gx, float* gy);
  // One pass of the inverse search over all patches, forwards or backwards.
  void (*search)(const DisPlan* plan, int32_t backwards);
  // Mean of the flows of the patches that cover a pixel, weighted by how well they fit there. sums: 3 * dense floats.
  void (*densify)(const DisPlan* plan, float* sums, float* u, float* v, int64_t dense);
  void (*refine)(const RefinePlan* plan);
  // Bilinear, to `scale` times the side, times `scale`. pairs: 2 * (width + 4) floats.
  void (*enlarge)(const float* u, const float* v, int64_t dense, int32_t width, int32_t height, int32_t scale, float* pairs,
                  int32_t out_width, int32_t out_height, float* out);
};

}  // namespace zoo

#endif  // ZOO_FLOW_KERNELS_H_
