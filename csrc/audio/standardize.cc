// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <new>

#include "speech/columns.h"
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

Result<Standardize> Standardize::Create(const StandardizeOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  Standardize s;
  s.options_ = options;
  s.kernels_ = kernels.value();
  for (const double std : options.std) s.scale_.push_back(1.0 / std);
  return s;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Standardize::Compute(Span<const float> in, int64_t columns, Span<float> out) const noexcept {
  if (columns < 1 || in.size() == 0 || in.size() % static_cast<size_t>(columns) != 0 || out.size() != in.size()) {
    return InvalidArgument("standardize: " + std::to_string(in.size()) + " values are not rows of " + std::to_string(columns));
  }
  const SpeechKernels& k = kernels_->speech;
  const int64_t rows = static_cast<int64_t>(in.size()) / columns;
  if (!scale_.empty()) {
    if (static_cast<int64_t>(scale_.size()) != columns) {
      return InvalidArgument("standardize: mean and std have " + std::to_string(scale_.size()) + " values, the input has " +
                             std::to_string(columns) + " columns");
    }
    k.affine(in.data(), rows, columns, columns, options_.mean.data(), scale_.data(), out.data());
    return Status::Ok();
  }
  NormalizeColumns(k, in.data(), rows, columns, out.data(), [this](double variance) {
    const double scale = 1.0 / (std::sqrt(variance) + options_.epsilon);
    return std::isfinite(scale) ? scale : 0.0;
  });
  return Status::Ok();
}

}  // namespace zoo
