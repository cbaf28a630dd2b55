// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <new>
#include <type_traits>

#include "core/kernels.h"
#include "image/kernels.h"
#include "zoo/image.h"

namespace zoo {

Status NormalizeOptions::Validate() const {
  if (!(scale > 0) || !std::isfinite(scale)) return InvalidArgument("normalize: scale is " + std::to_string(scale) + "; it must be positive");
  for (const auto& [name, list] : {std::pair<const char*, const std::vector<double>*>{"mean", &mean}, {"std", &std}}) {
    if (list->size() > static_cast<size_t>(kMaxChannels)) {
      return InvalidArgument(std::string("normalize: ") + name + " has " + std::to_string(list->size()) + " values; give one, or one a channel");
    }
    for (size_t i = 0; i < list->size(); ++i) {
      const double v = (*list)[i];
      if (std::isfinite(v) && (list == &mean || v > 0)) continue;
      return InvalidArgument(std::string("normalize: ") + name + "[" + std::to_string(i) + "] is " + std::to_string(v) + "; it must be finite" + (list == &mean ? "" : " and positive"));
    }
  }
  return Status::Ok();
}

Status NormalizeOptions::ValidateChannels(int64_t channels) const {
  for (const auto& [name, list] : {std::pair<const char*, const std::vector<double>*>{"mean", &mean}, {"std", &std}}) {
    if (list->size() <= 1 || static_cast<int64_t>(list->size()) == channels) continue;
    return InvalidSignal(std::string("normalize: ") + name + " has " + std::to_string(list->size()) + " values, the image " + std::to_string(channels) +
                         " channels; give one, or one a channel");
  }
  return Status::Ok();
}

Result<Normalize> Normalize::Create(const NormalizeOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  auto kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  Normalize n;
  n.options_ = options;
  n.kernels_ = kernels.value();
  const auto at = [](const std::vector<double>& list, size_t c, double fallback) { return list.empty() ? fallback : list.size() == 1 ? list[0] : c < list.size() ? list[c] : fallback; };
  for (size_t channels = 1; channels <= static_cast<size_t>(kMaxChannels); ++channels) {
    for (size_t i = 0; i < static_cast<size_t>(kPatternValues); ++i) {
      // (x - mean / scale) * (scale / std): one rounding fewer than the formula, and nothing for a compiler to contract
      const size_t c = i % channels;
      n.patterns_[channels - 1].mean[i] = static_cast<float>(at(options.mean, c, 0) / options.scale);
      n.patterns_[channels - 1].scale[i] = static_cast<float>(options.scale / at(options.std, c, 1));
    }
  }
  return n;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

template <class T>
Status Normalize::Run(const ImageSize& size, Span<const T> in, Span<float> out) const noexcept {
  ZOO_RETURN_IF_ERROR(ValidateImage("normalize", size));
  ZOO_RETURN_IF_ERROR(options_.ValidateChannels(size.channels));
  if (in.size() != static_cast<size_t>(size.count()) || out.size() != in.size()) {
    return InvalidArgument("normalize: " + std::to_string(in.size()) + " values in and " + std::to_string(out.size()) + " out do not fit the image");
  }
  const Pattern& p = patterns_[size.channels - 1];
  const ImageKernels& k = kernels_->image;
  const int64_t pixels = size.height * size.width;
  const int32_t channels = static_cast<int32_t>(size.channels);
  if (options_.layout == ImageLayout::kChw) {
    if constexpr (std::is_same_v<T, float>) {
      k.planes_f32(in.data(), pixels, channels, p.mean, p.scale, out.data(), pixels);
    } else {
      k.planes_u8(in.data(), pixels, channels, p.mean, p.scale, out.data(), pixels);
    }
  } else if constexpr (std::is_same_v<T, float>) {
    k.normalize_f32(in.data(), size.count(), p.mean, p.scale, out.data());
  } else {
    k.normalize_u8(in.data(), size.count(), p.mean, p.scale, out.data());
  }
  return Status::Ok();
}

Status Normalize::Compute(const ImageSize& size, Span<const uint8_t> in, Span<float> out) const noexcept { return Run(size, in, out); }
Status Normalize::Compute(const ImageSize& size, Span<const float> in, Span<float> out) const noexcept { return Run(size, in, out); }

}  // namespace zoo
