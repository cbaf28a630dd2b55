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
    // at either end the median is that of the first or last three: a spike there goes too, and one beside it is not spread
    const int64_t middle = std::max<int64_t>(1, std::min(row, total - 2));
    const double* const x = in.data() + (row - held.begin) * channels;
    if (total < 3) {
      to = std::copy_n(x, channels, to);
      continue;
    }
    const double* const a = in.data() + ((row < middle ? row + 1 : row - 1) - held.begin) * channels;
    const double* const b = in.data() + ((row < middle ? row + 2 : row > middle ? row - 2 : row + 1) - held.begin) * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double median = std::max(std::min(a[c], b[c]), std::min(std::max(a[c], b[c]), x[c]));
      *to++ = std::abs(x[c] - median) > limit ? median : x[c];
    }
  }
}

}  // namespace zoo
