// SPDX-License-Identifier: Apache-2.0
// Jitter and shimmer: the waveform is cut into pitch periods by correlation of each stretch with the next.
#ifndef ZOO_LLD_PERIODS_H_
#define ZOO_LLD_PERIODS_H_

#include <cstdint>

#include "core/buffer.h"
#include "lld/kernels.h"
#include "zoo/status.h"

namespace zoo {

struct PeriodRow {
  float jitter = 0, jitter_ddp = 0, shimmer = 0;
};

class PeriodTracker {
 public:
  // rate, f0_min: Hz; no pitch is lower than f0_min.
  Status Init(double rate, double hop_seconds, double search_range, double f0_min, const LldKernels* kernels);
  void Start() noexcept;
  // Samples before `start`, the next frame's first, that the next call reads: what the search left over counts only where it
  // ends at that distance. What is read never goes back behind what earlier frames read.
  int64_t backlog(int64_t start) const noexcept { return start - behind_ == position_ ? behind_ : 0; }
  // start: first sample of the frame. f0: Hz, 0 where unvoiced. wave[0] is sample `first`; samples from start - backlog(start) to the end
  // of the pitch frame must be readable.
  PeriodRow Next(const float* wave, int64_t first, int64_t start, float f0) noexcept;

 private:
  const LldKernels* kernels_ = nullptr;
  double period_ = 0, range_ = 0;  // s of a sample; relative
  int64_t step_ = 0, longest_ = 0;
  Buffer<float> samples_;
  Buffer<double> wide_, sums_, correlations_;  // the samples as doubles, their running sums, one value a lag

  int64_t position_ = 0;  // where the last frame's search ended
  int64_t behind_ = 0;    // samples between it and the end of what that frame was to cover
  float last_period_ = 0, last_difference_ = 0;  // s
  PeriodRow last_;
};

}  // namespace zoo

#endif  // ZOO_LLD_PERIODS_H_
