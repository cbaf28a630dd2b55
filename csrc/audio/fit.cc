// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "zoo/signal.h"

namespace zoo {

Status FitOptions::Validate() const {
  if (length < 1 || length > (int64_t{1} << 31)) {
    return InvalidArgument("fit: length is " + std::to_string(length) + " samples; it must lie between 1 and 2147483648");
  }
  return Status::Ok();
}

int64_t FitOptions::Offset(int64_t samples) const noexcept {
  const int64_t d = length - samples;
  if (d >= 0) return pad == Align::kCenter ? d / 2 : pad == Align::kStart ? d : 0;
  return crop == Align::kCenter ? -(-d / 2) : crop == Align::kStart ? 0 : d;
}

Range FitOptions::Needed(Range out, int64_t samples) const noexcept {
  const int64_t offset = Offset(samples);
  const int64_t lo = std::clamp<int64_t>(out.begin - offset, 0, samples);
  return {lo, std::clamp<int64_t>(out.end - offset, lo, samples)};
}

Status FitOptions::Compute(Span<const float> part, int64_t first, int64_t total, Range out, Span<float> to) const noexcept {
  const int64_t offset = Offset(total), stop = first + static_cast<int64_t>(part.size());
  const Range need = Needed(out, total);
  if (static_cast<int64_t>(to.size()) != out.size()) return InvalidArgument("fit: the output has the wrong size");
  if (need.size() > 0 && (need.begin < first || need.end > stop)) {
    return InvalidArgument("fit: samples " + std::to_string(need.begin) + " to " + std::to_string(need.end) +
                           " are needed, " + std::to_string(first) + " to " + std::to_string(stop) + " were given");
  }
  if (need.size() == 0) {
    std::memset(to.data(), 0, to.size() * sizeof(float));
    return Status::Ok();
  }
  const int64_t before = need.begin + offset - out.begin, after = out.end - (need.end + offset);
  std::memset(to.data(), 0, static_cast<size_t>(before) * sizeof(float));
  std::memcpy(to.data() + before, part.data() + (need.begin - first), static_cast<size_t>(need.size()) * sizeof(float));
  std::memset(to.data() + before + need.size(), 0, static_cast<size_t>(after) * sizeof(float));
  return Status::Ok();
}

}  // namespace zoo
