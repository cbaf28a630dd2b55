// SPDX-License-Identifier: Apache-2.0
#include "zoo/curve.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "zoo/eeg.h"

namespace zoo {
namespace {

int64_t Fitting(int64_t window, size_t size) {
  const int64_t n = static_cast<int64_t>(size);
  return std::min(window, n - 1 + n % 2);
}

Status Check(Span<const double> values, int64_t window) {
  if (window < 1 || window % 2 == 0) return InvalidArgument("curve: the window is " + std::to_string(window) + " steps; it must be odd");
  return values.empty() ? InvalidSignal("curve: there are no steps") : Status::Ok();
}

FilterOptions LowPass(const SmoothOptions& o) {
  FilterOptions f;
  f.rate = o.rate, f.kind = FilterKind::kLowpass, f.freqs = {o.cutoff}, f.order = o.order;
  return f;
}

}  // namespace

Status SmoothOptions::Validate() const {
  if (mean < 1 || mean % 2 == 0 || median < 1 || median % 2 == 0) {
    return InvalidArgument("curve: mean is " + std::to_string(mean) + ", median " + std::to_string(median) + "; both must be odd");
  }
  return cutoff == 0 ? Status::Ok() : LowPass(*this).Validate();
}

Status MovingMean(Span<const double> values, int64_t window, Span<double> out) noexcept try {
  ZOO_RETURN_IF_ERROR(Check(values, window));
  const size_t n = values.size(), width = static_cast<size_t>(Fitting(window, n)), half = width / 2;
  double sum = 0;
  for (const double v : values) sum += v;
  // Differences of running sums: the cost does not grow with the window. Centred, so that they stay small.
  const double middle = sum / static_cast<double>(n);
  std::vector<double> sums(n + 1);
  for (size_t i = 0; i < n; ++i) sums[i + 1] = sums[i] + (values[i] - middle);
  for (size_t i = half; i < n - half; ++i) out[i] = (sums[i + half + 1] - sums[i - half]) / static_cast<double>(width) + middle;
  std::fill(out.begin(), out.begin() + half, out[half]);
  std::fill(out.begin() + (n - half), out.end(), out[n - half - 1]);
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status MovingMedian(Span<const double> values, int64_t window, Span<double> out) noexcept try {
  ZOO_RETURN_IF_ERROR(Check(values, window));
  if (!std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); })) return InvalidSignal("curve: a value is not finite");
  const int64_t n = static_cast<int64_t>(values.size()), half = Fitting(window, values.size()) / 2;
  // the window in order: the value that leaves it is found again, and the one that enters is put where it belongs
  std::vector<double> held;
  const auto at = [&](int64_t i) { return values[static_cast<size_t>(std::clamp<int64_t>(i, 0, n - 1))]; };
  for (int64_t i = -half; i <= half; ++i) held.push_back(at(i));
  std::sort(held.begin(), held.end());
  for (int64_t i = 0; i < n; ++i) {
    out[static_cast<size_t>(i)] = held[static_cast<size_t>(half)];
    held.erase(std::lower_bound(held.begin(), held.end(), at(i - half)));
    const double next = at(i + half + 1);
    held.insert(std::upper_bound(held.begin(), held.end(), next), next);
  }
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status MakeCurve(Span<const int32_t> bins, int64_t count, double low, double high, const SmoothOptions& smooth, Span<float> out,
                 const std::string& isa) noexcept try {
  ZOO_RETURN_IF_ERROR(smooth.Validate());
  if (count < 2) return InvalidArgument("curve: there are " + std::to_string(count) + " bins; it needs 2 or more");
  if (bins.empty()) return InvalidSignal("curve: there are no steps");
  const double scale = (high - low) / static_cast<double>(count - 1);
  if (smooth.cutoff == 0 && smooth.mean == 1 && smooth.median == 1) {
    std::transform(bins.begin(), bins.end(), out.begin(), [&](int32_t bin) { return static_cast<float>(low + bin * scale); });
    return Status::Ok();
  }
  std::vector<double> values(bins.begin(), bins.end()), other(bins.size());
  if (smooth.cutoff != 0) {
    const auto filter = Filter::Create(LowPass(smooth), isa);
    if (!filter.ok()) return filter.status();
    std::vector<double> memory(static_cast<size_t>(filter.value().MemorySize(1)));
    filter.value().Continue({values.data(), values.size()}, 1, true, memory.data(), other.data());
    values.swap(other);
  }
  if (smooth.mean > 1) {
    ZOO_RETURN_IF_ERROR(MovingMean({values.data(), values.size()}, smooth.mean, {other.data(), other.size()}));
    values.swap(other);
  }
  for (double& v : values) v = low + v * scale;
  if (smooth.median > 1) {
    ZOO_RETURN_IF_ERROR(MovingMedian({values.data(), values.size()}, smooth.median, {other.data(), other.size()}));
    values.swap(other);
  }
  std::transform(values.begin(), values.end(), out.begin(), [](double v) { return static_cast<float>(v); });
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

}  // namespace zoo
