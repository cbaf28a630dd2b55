// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <new>

#include "zoo/signal.h"

namespace zoo {

Status StandardizeOptions::Validate() const {
  if (mean.size() != std.size()) {
    return InvalidArgument("standardize: mean has " + std::to_string(mean.size()) + " values and std " +
                           std::to_string(std.size()) + "; give both for each column, or neither");
  }
  for (size_t i = 0; i < std.size(); ++i) {
    if (!std::isfinite(mean[i])) return InvalidArgument("standardize: mean[" + std::to_string(i) + "] is not finite");
    if (!(std[i] > 0.0) || !std::isfinite(std[i])) {
      return InvalidArgument("standardize: std[" + std::to_string(i) + "] is " + std::to_string(std[i]) + "; it must be positive");
    }
  }
  if (!(epsilon >= 0.0) || !std::isfinite(epsilon)) return InvalidArgument("standardize: epsilon is " + std::to_string(epsilon) + "; it must not be negative");
  return Status::Ok();
}

Result<Standardize> Standardize::Create(const StandardizeOptions& options) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Standardize s;
  s.options_ = options;
  for (size_t i = 0; i < options.std.size(); ++i) {
    s.scale_.push_back(static_cast<float>(1.0 / options.std[i]));
    s.shift_.push_back(static_cast<float>(options.mean[i]));
  }
  return s;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Standardize::Compute(Span<const float> in, int64_t columns, Span<float> out) const noexcept {
  if (columns < 1 || in.size() == 0 || in.size() % static_cast<size_t>(columns) != 0 || out.size() != in.size()) {
    return InvalidArgument("standardize: " + std::to_string(in.size()) + " values are not rows of " + std::to_string(columns));
  }
  const size_t cols = static_cast<size_t>(columns), rows = in.size() / cols;
  if (!scale_.empty()) {
    if (scale_.size() != cols) {
      return InvalidArgument("standardize: mean and std have " + std::to_string(scale_.size()) + " values, the input has " +
                             std::to_string(columns) + " columns");
    }
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < cols; ++c) out[r * cols + c] = (in[r * cols + c] - shift_[c]) * scale_[c];
    }
    return Status::Ok();
  }
  for (size_t c = 0; c < cols; ++c) {
    double sum = 0, squares = 0;
    for (size_t r = 0; r < rows; ++r) sum += in[r * cols + c];
    const double mean = sum / static_cast<double>(rows);
    for (size_t r = 0; r < rows; ++r) squares += (in[r * cols + c] - mean) * (in[r * cols + c] - mean);
    const double scale = 1.0 / (std::sqrt(squares / static_cast<double>(rows)) + options_.epsilon);
    for (size_t r = 0; r < rows; ++r) out[r * cols + c] = static_cast<float>((in[r * cols + c] - mean) * (std::isfinite(scale) ? scale : 0.0));
  }
  return Status::Ok();
}

}  // namespace zoo
