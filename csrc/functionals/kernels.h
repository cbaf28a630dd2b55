// SPDX-License-Identifier: Apache-2.0
// Kernels of the functionals. Columns lie in the vector lanes. Rules as in core/kernels.h.
#ifndef ZOO_FUNCTIONALS_KERNELS_H_
#define ZOO_FUNCTIONALS_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

enum {
  kStatLanes = 80,  // a row of descriptors, padded: a multiple of every vector
  kPlainLanes = 68  // group A and its deltas; the lanes behind them hold +Inf in rows that do not count
};

// Statistics of one window, one value a lane. Arrays are aligned to 64 bytes.
struct alignas(64) WindowStats {
  // by `sums`
  double count[kStatLanes];   // rows that count
  double sum[kStatLanes];     // of x
  double moment[kStatLanes];  // of x * i, where i counts those rows
  // read by `residuals`
  double mean[kStatLanes];
  double slope[kStatLanes], offset[kStatLanes];  // the regression line slope * i + offset
  float max[kStatLanes], min[kStatLanes];
  float level75[kStatLanes], level90[kStatLanes];
  // by `residuals`
  double power2[kStatLanes], power3[kStatLanes], power4[kStatLanes];  // sums of (x - mean)^k
  double error1[kStatLanes], error2[kStatLanes];                      // sums of |x - line| and of its square
  int32_t max_at[kStatLanes], min_at[kStatLanes];                     // the first i with that value
  int32_t upto75[kStatLanes], upto90[kStatLanes];                     // rows with x <= level
};

struct FunctionalsKernels {
  int32_t lanes;  // floats a vector
  // [rows][76] as the user gives them -> [rows][kStatLanes]: the columns in the order of the output, zeros of group B as
  // +Inf, denormals and -0 as +0. Returns the index of the first value that is NaN or larger than `limit`, or -1.
  int64_t (*take)(const float* in, int64_t rows, float limit, float* out);
  // Lanes [lane, lane + lanes) of n rows -> sorted [n / 8 * 8 + 8][lanes], +Inf behind the last.
  void (*sort)(const float* rows, int64_t n, int32_t lane, float* sorted);
  // sorted as left by `sort`: takes out rows gone[0 .. count) and puts in rows come[0 .. count).
  void (*slide)(float* sorted, int64_t n, const float* gone, const float* come, int64_t count, int32_t lane);
  void (*sums)(const float* rows, int64_t n, WindowStats* stats);
  void (*residuals)(const float* rows, int64_t n, WindowStats* stats);
};

}  // namespace zoo

#endif  // ZOO_FUNCTIONALS_KERNELS_H_
