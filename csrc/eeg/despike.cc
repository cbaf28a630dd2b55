// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "zoo/eeg.h"

namespace zoo {

Status DespikeOptions::Validate() const {
  if (!(limit > 0) || !std::isfinite(limit)) return InvalidArgument("despike: limit is " + std::to_string(limit) + "; it must be positive");
  return Status::Ok();
}

void Despike(Span<const double> in, Range held, int64_t total, int64_t channels, double limit, Range out, double* to) noexcept {
  for (int64_t row = out.begin; row < out.end; ++row) {
    // at either end the one neighbour counts twice, so that a spike there goes too
    const int64_t before = row > 0 ? row - 1 : std::min<int64_t>(1, total - 1), after = row + 1 < total ? row + 1 : std::max<int64_t>(0, total - 2);
    const double* const a = in.data() + (before - held.begin) * channels;
    const double* const x = in.data() + (row - held.begin) * channels;
    const double* const b = in.data() + (after - held.begin) * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double median = std::max(std::min(a[c], b[c]), std::min(std::max(a[c], b[c]), x[c]));
      *to++ = std::abs(x[c] - median) > limit ? median : x[c];
    }
  }
}

}  // namespace zoo
