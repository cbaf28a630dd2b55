// SPDX-License-Identifier: Apache-2.0
// What Farnebaeck's and the TV-L1 flow share outside the kernels.
#ifndef ZOO_FLOW_DENSE_H_
#define ZOO_FLOW_DENSE_H_

#include <string>
#include <vector>

#include "core/buffer.h"
#include "flow/dense_kernels.h"
#include "zoo/status.h"

namespace zoo {

inline int64_t PlaneStride(int64_t width) { return (width + kPlaneAlign - 1) / kPlaneAlign * kPlaneAlign; }

// Bilinear resampling from `in` to `out` samples whose centres lie `step` input samples apart (clamped at the ends), of the
// signal smoothed with the odd, symmetric `blur` (reflected at the ends without repeating the end; {1}: not smoothed).
class Axis {
 public:
  Status Build(int32_t in, int32_t out, double step, const std::vector<double>& blur);
  const AxisPlan& plan() const noexcept { return plan_; }

 private:
  Buffer<int32_t> start_;
  Buffer<float> weight_;
  AxisPlan plan_{};
};

// Options of type double within [lo, hi], and of whole numbers.
Status CheckOption(const char* op, const char* name, double value, double lo, double hi);
Status CheckOption(const char* op, const char* name, int32_t value, int32_t lo, int32_t hi);
Status CheckFlowSize(const char* op, int64_t width, int64_t height);
Status CheckFrame(const char* op, size_t values, int32_t width, int32_t height);

}  // namespace zoo

#endif  // ZOO_FLOW_DENSE_H_
