// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <new>

#include "zoo/signal.h"

namespace zoo {

Status MinMaxOptions::Validate() const {
  if (low.size() != high.size()) {
    return InvalidArgument("min_max: low has " + std::to_string(low.size()) + " values and high " + std::to_string(high.size()) +
                           "; give both for each column, or neither");
  }
  for (size_t i = 0; i < low.size(); ++i) {
    if (!std::isfinite(low[i]) || !std::isfinite(high[i]) || high[i] < low[i]) {
      return InvalidArgument("min_max: low[" + std::to_string(i) + "] is " + std::to_string(low[i]) + " and high[" + std::to_string(i) +
                             "] " + std::to_string(high[i]) + "; both must be finite, high not below low");
    }
  }
  return Status::Ok();
}

Result<MinMax> MinMax::Create(const MinMaxOptions& options) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  MinMax m;
  m.options_ = options;
  for (size_t i = 0; i < options.low.size(); ++i) m.scale_.push_back(Scale(options.low[i], options.high[i]));
  return m;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

double MinMax::Scale(double low, double high) noexcept { return high > low ? 1.0 / (high - low) : 0.0; }

Status MinMax::Compute(Span<const float> in, int64_t columns, Span<float> out) const noexcept {
  if (columns < 1 || in.size() == 0 || in.size() % static_cast<size_t>(columns) != 0 || out.size() != in.size()) {
    return InvalidArgument("min_max: " + std::to_string(in.size()) + " values are not rows of " + std::to_string(columns));
  }
  const int64_t rows = static_cast<int64_t>(in.size()) / columns;
  if (!scale_.empty()) {
    if (static_cast<int64_t>(scale_.size()) != columns) {
      return InvalidArgument("min_max: low and high have " + std::to_string(scale_.size()) + " values, the input has " +
                             std::to_string(columns) + " columns");
    }
    const double* const low = options_.low.data();
    const double* const scale = scale_.data();
    for (int64_t r = 0; r < rows; ++r) {
      const float* const from = in.data() + r * columns;
      float* const to = out.data() + r * columns;
      for (int64_t c = 0; c < columns; ++c) {
        to[c] = static_cast<float>(std::min(std::max((static_cast<double>(from[c]) - low[c]) * scale[c], 0.0), 1.0));
      }
    }
    return Status::Ok();
  }
  for (int64_t c = 0; c < columns; ++c) {
    float low = in[static_cast<size_t>(c)], high = low;
    for (int64_t r = 1; r < rows; ++r) {
      const float value = in[static_cast<size_t>(r * columns + c)];
      low = std::min(low, value), high = std::max(high, value);
    }
    const double from = low, scale = Scale(low, high);
    for (int64_t r = 0; r < rows; ++r) {
      const size_t i = static_cast<size_t>(r * columns + c);
      out[i] = static_cast<float>(std::min(std::max((static_cast<double>(in[i]) - from) * scale, 0.0), 1.0));
    }
  }
  return Status::Ok();
}

}  // namespace zoo
