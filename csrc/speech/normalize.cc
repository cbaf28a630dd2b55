// SPDX-License-Identifier: Apache-2.0
// Context windows and normalisation by mean and variance.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>

#include "core/buffer.h"
#include "core/kernels.h"
#include "speech/columns.h"
#include "zoo/speech.h"

namespace zoo {
namespace {

Status CheckRows(const char* op, size_t in, int64_t columns, size_t out, int64_t out_values) {
  if (columns >= 1 && in > 0 && in % static_cast<size_t>(columns) == 0 && static_cast<int64_t>(out) == out_values) return Status::Ok();
  return InvalidArgument(std::string(op) + ": " + std::to_string(in) + " values in rows of " + std::to_string(columns) + " do not fit an output of " +
                         std::to_string(out));
}

Status CheckRange(const char* op, size_t values, int64_t columns, int64_t first, Range need, Range out, int64_t total) {
  const int64_t held = first + static_cast<int64_t>(values) / columns;
  if (out.begin >= 0 && out.end <= total && need.begin >= first && need.end <= held) return Status::Ok();
  return InvalidArgument(std::string(op) + ": rows " + std::to_string(need.begin) + " to " + std::to_string(need.end) + " are needed, " +
                         std::to_string(first) + " to " + std::to_string(held) + " were given");
}

}  // namespace

// --------------------------------------------------------------------------------------------------------- context

Status ContextOptions::Validate() const {
  for (const auto& [name, value] : {std::pair<const char*, int64_t>{"before", before}, {"after", after}}) {
    if (value < 0 || value > 10000) return InvalidArgument(std::string(name) + " is " + std::to_string(value) + "; it must lie between 0 and 10000");
  }
  return Status::Ok();
}

Range ContextOptions::Needed(Range out, int64_t rows) const noexcept {
  return {std::clamp<int64_t>(out.begin - before, 0, rows), std::clamp<int64_t>(out.end + after, 0, rows)};
}

Status ContextOptions::Compute(Span<const float> part, int64_t first, int64_t total, int64_t columns, Range out,
                               Span<float> to) const noexcept {
  ZOO_RETURN_IF_ERROR(CheckRows("context", part.size(), columns, to.size(), out.size() * Width(columns)));
  ZOO_RETURN_IF_ERROR(CheckRange("context", part.size(), columns, first, Needed(out, total), out, total));
  const size_t row = static_cast<size_t>(columns) * sizeof(float);
  float* p = to.data();
  for (int64_t t = out.begin; t < out.end; ++t, p += Width(columns)) {
    // the rows around a row follow one another in memory
    const int64_t lo = std::max<int64_t>(t - before, 0), hi = std::min(t + after + 1, total), lead = lo - (t - before);
    if (lead > 0) std::memset(p, 0, static_cast<size_t>(lead) * row);
    std::memcpy(p + lead * columns, part.data() + (lo - first) * columns, static_cast<size_t>(hi - lo) * row);
    const int64_t tail = t + after + 1 - hi;
    if (tail > 0) std::memset(p + (lead + hi - lo) * columns, 0, static_cast<size_t>(tail) * row);
  }
  return Status::Ok();
}

// ------------------------------------------------------------------------------------------------------------ cmvn

Status CmvnOptions::Validate() const {
  if (norm_means || !norm_vars) return Status::Ok();
  return InvalidArgument("norm_vars needs norm_means: the variance is that around the mean");
}

Result<Cmvn> Cmvn::Create(const CmvnOptions& options, const std::string& isa) {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  return Cmvn(options, k.value());
}

Status Cmvn::Compute(Span<const float> in, int64_t columns, Span<float> out) const noexcept {
  ZOO_RETURN_IF_ERROR(CheckRows("cmvn", in.size(), columns, out.size(), static_cast<int64_t>(in.size())));
  if (!options_.norm_means) {
    std::copy(in.begin(), in.end(), out.begin());
    return Status::Ok();
  }
  const bool vars = options_.norm_vars;
  NormalizeColumns(kernels_->speech, in.data(), static_cast<int64_t>(in.size()) / columns, columns, out.data(),
                   [vars](double variance) { return vars ? 1.0 / std::sqrt(std::max(variance, 1e-20)) : 1.0; });
  return Status::Ok();
}

// --------------------------------------------------------------------------------------------------------- sliding

Status SlidingCmvnOptions::Validate() const {
  if (window < 1 || window > 1000000) return InvalidArgument("window is " + std::to_string(window) + "; it must lie between 1 and 1000000");
  if (center || (min_window >= 1 && min_window <= window)) return Status::Ok();
  return InvalidArgument("min_window is " + std::to_string(min_window) + "; it must lie between 1 and window = " + std::to_string(window));
}

// Kaldi's: of constant length once it has left the start, kept within the rows at both ends.
Range SlidingCmvnOptions::Window(int64_t row, int64_t rows) const noexcept {
  int64_t begin = row - (center ? window / 2 : window), end = center ? begin + window : std::max(row + 1, min_window);
  if (begin < 0) {
    if (center) end -= begin;
    begin = 0;
  }
  if (end > rows) {
    begin = std::max<int64_t>(0, begin - (end - rows));
    end = rows;
  }
  return {begin, end};
}

int64_t SlidingCmvnOptions::Ready(int64_t rows) const noexcept {
  if (!center) return rows >= min_window ? rows : 0;
  return rows >= window ? rows - window + window / 2 + 1 : 0;
}

Result<SlidingCmvn> SlidingCmvn::Create(const SlidingCmvnOptions& options, const std::string& isa) {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  return SlidingCmvn(options, k.value());
}

Range SlidingCmvn::Needed(Range out, int64_t rows) const noexcept {
  if (out.size() == 0) return {0, 0};
  return {options_.Window(out.begin, rows).begin, options_.Window(out.end - 1, rows).end};
}

namespace {

struct SlidingState : SlidingCmvn::State {
  Buffer<double> suffix;  // [row of the block][2 * columns]: sums from the row to the end of its block
  Buffer<double> prefix;  // [2 * columns]: sums from the start of the next block
};

}  // namespace

Result<std::unique_ptr<SlidingCmvn::State>> SlidingCmvn::NewState() const {
  std::unique_ptr<SlidingState> s(new (std::nothrow) SlidingState);
  if (!s) return OutOfMemory();
  return std::unique_ptr<State>(std::move(s));
}

Status SlidingCmvn::Reserve(int64_t rows, int64_t columns, State& state) const noexcept {
  SlidingState& s = static_cast<SlidingState&>(state);
  const int64_t length = std::min(rows, options_.window + 1) + 1;
  if (!s.suffix.Reserve(static_cast<size_t>(length * 2 * columns)) || !s.prefix.Reserve(static_cast<size_t>(2 * columns))) return OutOfMemory();
  return Status::Ok();
}

// No sum is ever reduced by what leaves the window: the rows are cut into blocks as long as a window, so that a window is
// the end of one block and the start of the next. Sums to the end of a block are made backwards once a block, sums from its
// start row by row. Two additions a row, no cancellation, and the same bits wherever a range begins.
Status SlidingCmvn::Compute(Span<const float> part, int64_t first, int64_t total, int64_t columns, Range out, Span<float> to,
                            State& state) const noexcept {
  ZOO_RETURN_IF_ERROR(CheckRows("cmvn_sliding", part.size(), columns, to.size(), out.size() * columns));
  ZOO_RETURN_IF_ERROR(CheckRange("cmvn_sliding", part.size(), columns, first, Needed(out, total), out, total));
  SlidingState& s = static_cast<SlidingState&>(state);
  const SpeechKernels& k = kernels_->speech;
  const int32_t squares = options_.norm_vars ? 1 : 0;
  const int64_t length = options_.window + (options_.center ? 0 : 1), width = 2 * columns;
  if (static_cast<int64_t>(s.suffix.capacity()) < (std::min(total, length) + 1) * width || static_cast<int64_t>(s.prefix.capacity()) < width) {
    return InvalidArgument("cmvn_sliding: the state was not reserved for this input");
  }
  const float* x = part.data() - first * columns;
  double *suffix = s.suffix.data(), *prefix = s.prefix.data();
  int64_t block = -1, border = -1, summed = 0;  // suffix: of rows from `block` to border; prefix: from border to summed
  for (int64_t t = out.begin; t < out.end; ++t) {
    const Range w = options_.Window(t, total);
    // a window that starts a block, or is shorter than one, lies in that block alone
    const int64_t start = w.begin / length * length, next = w.begin == start ? start : start + length;
    if (next != border) {
      border = summed = next;
      block = w.begin;
      std::fill(prefix, prefix + width, 0.0);
      std::fill(suffix, suffix + width, 0.0);  // the empty sum at the border; rows lie before it, nearest first
      for (int64_t r = border - 1; r >= block; --r) {
        k.add_row(x + r * columns, columns, squares, suffix + (border - 1 - r) * width, suffix + (border - r) * width);
      }
    }
    for (; summed < w.end; ++summed) k.add_row(x + summed * columns, columns, squares, prefix, prefix);
    float* row = to.data() + (t - out.begin) * columns;
    if (squares && w.size() == 1) {
      std::fill(row, row + columns, 0.0f);
      continue;
    }
    k.normalize_row(x + t * columns, suffix + (border - w.begin) * width, prefix, columns, squares, static_cast<double>(w.size()), 1e-10, row);
  }
  return Status::Ok();
}

// ------------------------------------------------------------------------------------------------------ whole signal

Result<WaveNormalize> WaveNormalize::Create(double epsilon, const std::string& isa) {
  if (!(epsilon > 0) || !std::isfinite(epsilon)) return InvalidArgument("epsilon is " + std::to_string(epsilon) + "; it must be positive");
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  return WaveNormalize(epsilon, k.value());
}

Status WaveNormalize::Compute(Span<const float> in, Span<float> out) const noexcept {
  ZOO_RETURN_IF_ERROR(CheckRows("wave_normalize", in.size(), 1, out.size(), static_cast<int64_t>(in.size())));
  const SpeechKernels& k = kernels_->speech;
  const int64_t n = static_cast<int64_t>(in.size());
  const double mean = k.sum(in.data(), n) / static_cast<double>(n);
  const double scale = 1.0 / std::sqrt(k.squares(in.data(), n, mean) / static_cast<double>(n) + epsilon_);
  constexpr int64_t kColumns = 64;  // the signal as rows of so many samples, and a rest
  double means[kColumns], scales[kColumns];
  std::fill(means, means + kColumns, mean);
  std::fill(scales, scales + kColumns, scale);
  const int64_t body = n / kColumns * kColumns;
  k.affine(in.data(), n / kColumns, kColumns, kColumns, means, scales, out.data());
  k.affine(in.data() + body, 1, n - body, kColumns, means, scales, out.data() + body);
  return Status::Ok();
}

}  // namespace zoo
