// SPDX-License-Identifier: Apache-2.0
#include "lld/periods.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lld/parabola.h"
#include "lld/plans.h"

namespace zoo {
namespace {

// Highest minus lowest sample, without the first and the last.
float Swing(const float* x, int64_t n) {
  float high = x[1], low = x[1];
  for (int64_t i = 2; i < n - 1; ++i) {
    high = std::max(high, x[i]);
    low = std::min(low, x[i]);
  }
  return high - low;
}

}  // namespace

Status PeriodTracker::Init(double rate, double hop_seconds, double search_range, double f0_min, const LldKernels* kernels) {
  kernels_ = kernels;
  period_ = 1.0 / rate;
  range_ = search_range;
  step_ = static_cast<int64_t>(std::ceil(hop_seconds / period_));
  longest_ = static_cast<int64_t>(std::ceil((1.0 + search_range) * rate / f0_min)) + 1;
  // a frame spans at most two periods, or its step and what the frame before left over, which is less than two periods
  const size_t span = static_cast<size_t>(4 * longest_ + 2 * step_ + 8), lags = static_cast<size_t>(longest_ + 2 * kMaxLagGroup);
  if (!samples_.Reserve(span) || !wide_.Reserve(span + 2 * lags) || !sums_.Reserve(2 * lags) || !correlations_.Reserve(lags)) return OutOfMemory();
  return Status::Ok();
}

void PeriodTracker::Start() noexcept {
  position_ = behind_ = 0;
  last_period_ = last_difference_ = 0;
  last_ = PeriodRow{};
}

PeriodRow PeriodTracker::Next(const float* wave, int64_t first, int64_t start, float f0) noexcept {
  const int64_t due = step_ + behind_;  // samples that this frame is to cover
  position_ = start - backlog(start);  // the start: the first frame, and where the step is not a whole number
  if (!(f0 > 0.0f)) {
    position_ += due;
    behind_ = 0;
    last_period_ = last_difference_ = 0;
    return last_ = PeriodRow{};
  }

  const double expected = 1.0 / static_cast<double>(f0) / period_;
  const int64_t low = static_cast<int64_t>(std::floor((1.0 - range_) * expected));
  const int64_t high = static_cast<int64_t>(std::ceil((1.0 + range_) * expected));
  const int64_t span = std::max(due, 2 * high + 2);
  float* x = samples_.data();
  double* wide = wide_.data();
  for (int64_t i = 0; i < span; ++i) wide[i] = x[i] = FullScale(wave[position_ - first + i]);

  float lowest = -2.0f;  // of the correlations so far
  float period_sum = 0, periods = 0, difference_sum = 0, differences = 0, second_sum = 0, seconds = 0, swing_sum = 0, swing_change = 0;
  int64_t at = 0, reached = 0;
  while (at < span - 2 * high - 1) {
    double *sums = sums_.data(), *cc = correlations_.data();
    for (int64_t i = 0; i < high + kMaxLagGroup; ++i) sums[i + 1] = sums[i] + wide[at + i];
    kernels_->correlate(wide + at, sums, static_cast<int32_t>(low), static_cast<int32_t>(high), cc);
    int64_t peak = -1;
    for (int64_t i = 1; i < high - low - 1; ++i) {
      if (cc[i - 1] < cc[i] && cc[i] > cc[i + 1] && (peak < 0 || cc[i] > cc[peak])) peak = i;
    }
    if (peak < 0) {
      at += std::lround(expected);
    } else {
      const int64_t length = low + peak, next = at + length;
      const float swing = Swing(x + at, length), next_swing = Swing(x + next, length);
      const double index = static_cast<double>(peak);
      const Vertex top = Parabola({index - 1.0, index, index + 1.0}, {cc[peak - 1], cc[peak], cc[peak + 1]});
      const float correlation = static_cast<float>(top.y);
      if (lowest == -2.0f || lowest > correlation) lowest = correlation;
      // As openSMILE by default: the threshold is the lowest correlation of the frame so far, rounded to float32. The first
      // period of a frame therefore counts only where rounding went down.
      if (top.y > static_cast<double>(lowest)) {
        const float period = static_cast<float>(std::fabs(static_cast<double>(low) + top.x) * period_);
        period_sum += period;
        periods += 1.0f;
        if (last_period_ > 0.0f) {
          const float difference = std::fabs(last_period_ - period);
          difference_sum += difference;
          differences += 1.0f;
          if (last_difference_ > 0.0f) {
            second_sum += std::fabs(last_difference_ - difference);
            seconds += 1.0f;
          }
          last_difference_ = difference;
        }
        last_period_ = period;
        swing_sum += (swing + next_swing) / 2.0f;
        swing_change += std::fabs(swing - next_swing);
      }
      at = next;
    }
    if (at < due - 1) reached = at;
  }
  behind_ = due - reached;
  position_ += reached;

  PeriodRow row;
  if (periods == 0.0f) {  // none was found: the values of the frame before
    last_ = {std::min(last_.jitter, 1.0f), std::min(last_.jitter_ddp, 1.0f), std::min(last_.shimmer, 1.0f)};
    return last_;
  }
  const float mean = period_sum / periods;
  if (differences > 0.0f) row.jitter = last_.jitter = std::min(difference_sum / differences / mean, 1.0f);
  if (seconds > 0.0f) row.jitter_ddp = last_.jitter_ddp = std::min(second_sum / seconds / mean, 1.0f);
  row.shimmer = last_.shimmer = swing_sum > 0.0f ? std::min(swing_change / swing_sum, 1.0f) : 0.0f;
  return row;
}

}  // namespace zoo
