// SPDX-License-Identifier: Apache-2.0
// Curves over time from classes in an order (bins of a range), and how they are smoothed. Source: fact sheet 5, section 5.
#ifndef ZOO_CURVE_H_
#define ZOO_CURVE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

// A causal Butterworth low-pass from rest, a moving mean, a median.
struct SmoothOptions {
  double cutoff = 0;  // Hz, below half of the rate; 0: no low-pass
  double rate = 1;    // Hz, that the low-pass is designed for
  int32_t order = 6;  // 1 to 32
  int64_t mean = 1, median = 1;  // steps, odd
  Status Validate() const;
};

// Mean over `window` (odd) values about each; near an end that of the first or last `window` ones. With fewer values than a
// window, the longest odd one that fits. out: as many as values.
Status MovingMean(Span<const double> values, int64_t window, Span<double> out) noexcept;

// Median over `window` (odd) values about each; beyond the ends the end values go on. The window fits as for the mean. An error
// where a value is not finite.
Status MovingMedian(Span<const double> values, int64_t window, Span<double> out) noexcept;

// Values of a curve from the bin of each step: low-pass and mean of the bins, 0 to count - 1, which are then mapped to
// low .. high, and a median. An error where there are no steps.
Status MakeCurve(Span<const int32_t> bins, int64_t count, double low, double high, const SmoothOptions& smooth, Span<float> out,
                 const std::string& isa = "") noexcept;

}  // namespace zoo

#endif  // ZOO_CURVE_H_
