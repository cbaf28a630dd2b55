// SPDX-License-Identifier: Apache-2.0
#include "flow/dense.h"

#include <algorithm>
#include <cmath>

namespace zoo {
namespace {

constexpr int32_t kMaxSide = 16384;

// Index of a sample beyond the ends: the signal is mirrored about its end samples.
int32_t Reflect(int32_t i, int32_t n) {
  if (n == 1) return 0;
  while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
  return i;
}

std::string Number(double v) {
  std::string s = std::to_string(v);
  s.erase(s.find_last_not_of('0') + 1);
  if (!s.empty() && s.back() == '.') s.pop_back();
  return s;
}

Status OutOfRange(const char* op, const char* name, double value, double lo, double hi) {
  return InvalidArgument(std::string(op) + ": " + name + " is " + Number(value) + "; it must lie between " + Number(lo) + " and " +
                         Number(hi));
}

}  // namespace

Status Axis::Build(int32_t in, int32_t out, double step, const std::vector<double>& blur) {
  const int32_t radius = static_cast<int32_t>(blur.size()) / 2;
  const int32_t taps = std::min(in, 2 * radius + 2), stride = static_cast<int32_t>(PlaneStride(out));
  if (!start_.Reserve(static_cast<size_t>(stride)) || !weight_.Reserve(static_cast<size_t>(stride) * static_cast<size_t>(taps))) return OutOfMemory();
  std::fill_n(start_.data(), stride, 0);
  std::fill_n(weight_.data(), int64_t{stride} * taps, 0.0f);
  std::vector<double> sum(static_cast<size_t>(taps));
  for (int32_t x = 0; x < out; ++x) {
    const double at = std::min(std::max((x + 0.5) * step - 0.5, 0.0), in - 1.0);
    const int32_t left = static_cast<int32_t>(at);
    const double part = at - left;
    const int32_t start = std::min(std::max(left - radius, 0), in - taps);
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int32_t side = 0; side < 2; ++side) {
      const double share = side == 0 ? 1 - part : part;
      if (share == 0) continue;
      for (int32_t k = -radius; k <= radius; ++k) {
        sum[static_cast<size_t>(Reflect(left + side + k, in) - start)] += share * blur[static_cast<size_t>(k + radius)];
      }
    }
    start_[static_cast<size_t>(x)] = start;
    for (int32_t t = 0; t < taps; ++t) weight_[static_cast<size_t>(t * stride + x)] = static_cast<float>(sum[static_cast<size_t>(t)]);
  }
  plan_ = {in, out, taps, stride, 0, 0, start_.data(), weight_.data()};
  // the longest run is in the middle, if there is one
  int32_t begin = out / 2, end = begin + 1;
  while (begin > 0 && start_[static_cast<size_t>(begin - 1)] + 1 == start_[static_cast<size_t>(begin)]) --begin;
  while (end < out && start_[static_cast<size_t>(end - 1)] + 1 == start_[static_cast<size_t>(end)]) ++end;
  plan_.run_begin = begin;
  plan_.run_end = end;
  return Status::Ok();
}

Status CheckOption(const char* op, const char* name, double value, double lo, double hi) {
  return value >= lo && value <= hi ? Status::Ok() : OutOfRange(op, name, value, lo, hi);
}

Status CheckOption(const char* op, const char* name, int32_t value, int32_t lo, int32_t hi) {
  return value >= lo && value <= hi ? Status::Ok() : OutOfRange(op, name, value, lo, hi);
}

Status CheckFlowSize(const char* op, int64_t width, int64_t height) {
  if (width >= 1 && height >= 1 && width <= kMaxSide && height <= kMaxSide) return Status::Ok();
  return InvalidArgument(std::string(op) + ": frames are " + std::to_string(width) + " x " + std::to_string(height) +
                         " pixels; sides must lie between 1 and " + std::to_string(kMaxSide));
}

Status CheckFrame(const char* op, size_t values, int32_t width, int32_t height) {
  if (width > 0 && values == static_cast<size_t>(width) * static_cast<size_t>(height)) return Status::Ok();
  return InvalidArgument(std::string(op) + ": a frame has " + std::to_string(values) + " pixels; the state is for " +
                         std::to_string(width) + " x " + std::to_string(height) + " (Reserve)");
}

}  // namespace zoo
