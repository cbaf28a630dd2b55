// SPDX-License-Identifier: Apache-2.0
#include "zoo/functionals.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "functionals/kernels.h"
#include "zoo/isa.h"

namespace zoo {
namespace {

constexpr int32_t kPitch = 34;       // column of the pitch in the user's rows
constexpr int32_t kCommon = 16;      // functionals before the percentiles; two follow them
constexpr int32_t kMembers = 8;      // columns of group B and its deltas
constexpr int32_t kPlain = 21, kSparse = 19;  // functionals of a column of A, of B
constexpr int64_t kBlock = 64;        // windows for which rows are taken over at once; fewer,
constexpr int64_t kBlockRows = 4096;  // when their hops sum up to more rows than these and than a window
constexpr int64_t kContext = 300;    // rows before a window that tell which of its pitch values are smoothed from neighbours

enum Percentile : int32_t { kQuarter, kHalf, kThreeQuarters, kLow, kHigh, kPercentiles };
constexpr double kShare[kPercentiles] = {0.25, 0.5, 0.75, 0.01, 0.99};

// Rows that a sorted window of n takes.
int64_t SortedRows(int64_t n) { return n / 8 * 8 + 8; }

// A percentile of n sorted values: the two around it and their weights.
struct Rank {
  int64_t at[kPercentiles], next[kPercentiles];
  float weight[kPercentiles], next_weight[kPercentiles];

  explicit Rank(int64_t n) {
    for (int32_t k = 0; k < kPercentiles; ++k) {
      const double place = kShare[k] * static_cast<double>(n - 1);
      at[k] = static_cast<int64_t>(place);
      const double above = place - static_cast<double>(at[k]);
      next[k] = at[k] + (above > 0);
      next_weight[k] = static_cast<float>(above);
      weight[k] = above > 0 ? static_cast<float>(static_cast<double>(next[k]) - place) : 1.f;
    }
  }
};

// Statistics of a window and what is made of them. Kernels fill in WindowStats, the rest is plain arithmetic over all lanes,
// compiled once and without contraction, so that it has the same bits on every instruction set.
struct Window {
  WindowStats stats;
  alignas(64) float percentile[kPercentiles][kStatLanes];
  alignas(64) float value[kPlain][kStatLanes];

  // From one vector of lanes of a sorted window.
  void Sorted(const float* sorted, int64_t n, int32_t lanes, int32_t lane, const Rank& whole) noexcept {
    const int32_t plain = std::clamp(kPlainLanes - lane, 0, lanes);
    for (int32_t l = 0; l < plain; ++l) {
      stats.min[lane + l] = sorted[l];
      stats.max[lane + l] = sorted[(n - 1) * lanes + l];
    }
    for (int32_t k = 0; k < kPercentiles; ++k) {
      const float* a = sorted + whole.at[k] * lanes;
      const float* b = sorted + whole.next[k] * lanes;
      for (int32_t l = 0; l < plain; ++l) percentile[k][lane + l] = a[l] * whole.weight[k] + b[l] * whole.next_weight[k];
    }
    for (int32_t l = plain; l < std::min(lanes, kPlainLanes + kMembers - lane); ++l) {
      const int64_t count = static_cast<int64_t>(stats.count[lane + l]);
      if (count == 0) {
        stats.min[lane + l] = stats.max[lane + l] = 0;
        continue;  // Write() puts zeros
      }
      stats.min[lane + l] = sorted[l];
      stats.max[lane + l] = sorted[(count - 1) * lanes + l];
      const Rank rank(count);
      for (int32_t k = 0; k < kPercentiles; ++k) {
        const float below = sorted[rank.at[k] * lanes + l], above = sorted[rank.next[k] * lanes + l];
        percentile[k][lane + l] = below * rank.weight[k] + above * rank.next_weight[k];
      }
    }
  }

  // Mean, regression line and levels: after `sums` and Sorted, before `residuals`.
  void Line() noexcept {
    WindowStats& s = stats;
    for (int32_t l = 0; l < kStatLanes; ++l) {
      const double n = s.count[l];
      // the mean is a float32, as are the sums made of it
      const double mean = static_cast<float>(s.sum[l] / n), sum = mean * n;
      const double pairs = n * (n - 1.0), s1 = pairs / 2.0, s2 = pairs * (2.0 * n - 1.0) / 6.0, ratio = s1 / s2;
      const double offset = (sum - s.moment[l] * ratio) / (n - s1 * ratio), slope = (s.moment[l] - offset * s1) / s2;
      s.mean[l] = mean;
      s.offset[l] = offset;
      s.slope[l] = slope;
      const float range = s.max[l] - s.min[l];
      s.level75[l] = 0.75f * range + s.min[l];
      s.level90[l] = 0.90f * range + s.min[l];
    }
    // exceptions in loops of their own: the compiler makes vectors of a loop without branches
    for (int32_t l = 0; l < kStatLanes; ++l) {
      if (s.count[l] <= 1) s.offset[l] = s.sum[l], s.slope[l] = 0;
    }
  }

  // The functionals of all columns, in the order of the output.
  void Write(float* out) noexcept {
    const WindowStats& s = stats;
    for (int32_t l = 0; l < kStatLanes; ++l) {
      const double n = s.count[l];
      const float size = static_cast<float>(n);
      value[0][l] = static_cast<float>(s.max_at[l]) / size;
      value[1][l] = static_cast<float>(s.min_at[l]) / size;
      value[2][l] = static_cast<float>(s.mean[l]);
      value[3][l] = static_cast<float>(s.slope[l]);
      value[4][l] = static_cast<float>(s.offset[l]);
      value[5][l] = static_cast<float>(s.error1[l] / n);
      value[6][l] = static_cast<float>(s.error2[l] / n);
      const double variance = s.power2[l] / n, deviation = std::sqrt(variance);
      value[7][l] = static_cast<float>(deviation);
      value[8][l] = static_cast<float>(s.power3[l] / (n * variance * deviation));
      value[9][l] = static_cast<float>(s.power4[l] / (n * variance * variance));
      const float q1 = percentile[kQuarter][l], q2 = percentile[kHalf][l], q3 = percentile[kThreeQuarters][l];
      value[10][l] = q1;
      value[11][l] = q2;
      value[12][l] = q3;
      value[13][l] = q2 - q1;
      value[14][l] = q3 - q2;
      value[15][l] = q3 - q1;
      value[16][l] = percentile[kLow][l];
      value[17][l] = percentile[kHigh][l];
      value[18][l] = std::fabs(percentile[kHigh][l] - percentile[kLow][l]);
      value[19][l] = (size - static_cast<float>(s.upto75[l])) / size;
      value[20][l] = (size - static_cast<float>(s.upto90[l])) / size;
    }
    for (int32_t l = 0; l < kStatLanes; ++l) {
      if (!(s.power2[l] > 0)) value[8][l] = value[9][l] = 0;
    }
    for (int32_t k = 0; k < kPlain; ++k) {
      for (int32_t l = 0; l < kPlainLanes; ++l) out[l * kPlain + k] = value[k][l];
    }
    out += kPlainLanes * kPlain;
    for (int32_t l = kPlainLanes; l < kPlainLanes + kMembers; ++l, out += kSparse) {
      if (s.count[l] == 0) {
        std::fill(out, out + kSparse, 0.f);
        continue;
      }
      for (int32_t k = 0; k < kCommon; ++k) out[k] = value[k][l];
      out[kCommon] = value[17][l];
      out[kCommon + 1] = value[19][l];
      out[kCommon + 2] = value[20][l];
    }
  }
};

// Tells voiced from unvoiced frames of the contour behind the column of pitch, which is its mean over three frames. The mean
// can be undone, x[t + 1] = 3 y[t] - x[t] - x[t - 1], from a row of zeros on, or from the start, since the first frame
// of the contour is never voiced. Rounding grows with the distance from there, and is far below the lowest pitch.
class Contour {
 public:
  // limit: rows behind the start, or the last row of zeros, from which the mean is undone; behind that, y > 0 is voiced.
  Contour(bool start, int64_t limit) : limit_(limit), age_(start ? 0 : limit + 1) {}

  // Whether the frame of the next row, whose smoothed pitch is y, is voiced.
  bool Next(float y) noexcept {
    const bool zero = y == 0.f;
    if (zero) age_ = 0, x_ = before_ = 0;
    const bool voiced = age_ <= limit_ ? x_ > kLowest : !zero;
    const double next = 3.0 * y - x_ - before_;
    before_ = x_, x_ = next;
    if (age_ <= limit_) ++age_;
    return voiced;
  }

 private:
  static constexpr double kLowest = 10;  // Hz; pitch below 50 Hz is not looked for
  int64_t limit_, age_;
  double x_ = 0, before_ = 0;
};

Status CheckPeriod(const char* op, double period) {
  if (period >= 1e-6 && period <= 1000) return Status::Ok();
  return InvalidArgument(std::string(op) + ": period is " + std::to_string(period) +
                         " s; it must lie between 1e-6 and 1000");
}

Status BadValue(const char* op, const float* in, int64_t first, int64_t at) {
  const std::string where = std::string(op) + ": row " + std::to_string(first + at / kDescriptors) + ", column " +
                            std::to_string(at % kDescriptors);
  if (!std::isfinite(in[at])) return InvalidSignal(where + " is not finite");
  return InvalidSignal(where + " is beyond 1e18 in size, so that its squared error would overflow float32; "
                               "scale the descriptors");
}

struct Scratch {
  Buffer<float> rows, sorted;
  Window window;
};

// One window whose rows are at hand and whose lanes come sorted from `sorted(lane)`.
template <class Sorter>
void Describe(const FunctionalsKernels& k, const float* rows, int64_t n, const Rank& rank, Window* w, float* out,
              Sorter&& sorted) {
  k.sums(rows, n, &w->stats);
  for (int32_t lane = 0; lane < kStatLanes; lane += k.lanes) w->Sorted(sorted(lane), n, k.lanes, lane, rank);
  w->Line();
  k.residuals(rows, n, &w->stats);
  w->Write(out);
}

}  // namespace

// ----------------------------------------------------------------------------------------------------- whole segment

Status FunctionalsOptions::Validate() const {
  if (tail < 0) return InvalidArgument("functionals: tail is " + std::to_string(tail) + " rows; it must not be negative");
  return CheckPeriod("functionals", period);
}

struct Functionals::Impl {
  FunctionalsOptions options;
  const FunctionalsKernels* kernels;
};

namespace {
struct FunctionalsState : Functionals::State {
  Scratch scratch;
};
}  // namespace

Functionals::Functionals(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Functionals::Functionals(Functionals&&) noexcept = default;
Functionals::~Functionals() = default;
const FunctionalsOptions& Functionals::options() const noexcept { return impl_->options; }

Result<Functionals> Functionals::Create(const FunctionalsOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  return Functionals(std::unique_ptr<Impl>(new Impl{options, &k.value()->functionals}));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<Functionals::State>> Functionals::NewState() const {
  std::unique_ptr<State> s(new (std::nothrow) FunctionalsState());
  if (!s) return OutOfMemory();
  return s;
}

Status Functionals::Reserve(int64_t rows, State& state) const noexcept {
  Scratch& s = static_cast<FunctionalsState&>(state).scratch;
  const size_t n = static_cast<size_t>(rows);
  const size_t slots = static_cast<size_t>(SortedRows(rows) * impl_->kernels->lanes);
  if (!s.rows.Reserve(n * kStatLanes) || !s.sorted.Reserve(slots)) return OutOfMemory();
  return Status::Ok();
}

Status Functionals::Compute(Span<const float> in, Span<float> out, State& state) const noexcept {
  const int64_t n = static_cast<int64_t>(in.size()) / kDescriptors;
  if (n < 1 || n * kDescriptors != static_cast<int64_t>(in.size()) || out.size() != kFunctionals) {
    return InvalidArgument("functionals: " + std::to_string(in.size()) +
                           " values are not rows of 76, or the output does not hold 1582");
  }
  Scratch& s = static_cast<FunctionalsState&>(state).scratch;
  if (s.rows.capacity() < static_cast<size_t>(n * kStatLanes)) {
    return InvalidArgument("functionals: Reserve() was called for fewer rows");
  }
  const FunctionalsKernels& k = *impl_->kernels;
  const int64_t bad = k.take(in.data(), n, kDescriptorLimit, s.rows.data());
  if (bad >= 0) return BadValue("functionals", in.data(), 0, bad);
  const int64_t used = std::max<int64_t>(1, n - impl_->options.tail);
  Describe(k, s.rows.data(), used, Rank(used), &s.window, out.data(), [&](int32_t lane) {
    k.sort(s.rows.data(), used, lane, s.sorted.data());
    return s.sorted.data();
  });
  // The contour of pitch is a frame shorter than the rows: smoothing adds one at the end.
  Contour contour(true, n);
  int64_t onsets = 0;
  bool before = true;
  for (int64_t r = 0; r + 1 < n; ++r) {
    const bool voiced = contour.Next(in[static_cast<size_t>(r * kDescriptors + kPitch)]);
    onsets += voiced && !before;
    before = voiced;
  }
  out[kFunctionals - 2] = static_cast<float>(onsets);
  out[kFunctionals - 1] = static_cast<float>(n - 1) * static_cast<float>(impl_->options.period);
  return Status::Ok();
}

// --------------------------------------------------------------------------------------------------- sliding windows

Status SlidingFunctionalsOptions::Validate() const {
  ZOO_RETURN_IF_ERROR(CheckPeriod("sliding_functionals", period));
  if (window < 1 || window > 65536) {
    return InvalidArgument("window is " + std::to_string(window) + " rows; it must lie between 1 and 65536");
  }
  if (hop < 1 || hop > 65536) {
    return InvalidArgument("hop is " + std::to_string(hop) + " rows; it must lie between 1 and 65536");
  }
  return Status::Ok();
}

Range SlidingFunctionalsOptions::Needed(Range windows) const noexcept {
  if (windows.size() == 0) return {0, 0};
  const int64_t first = windows.begin * hop;
  return {std::max<int64_t>(0, first - kContext), (windows.end - 1) * hop + window};
}

struct SlidingFunctionals::Impl {
  SlidingFunctionalsOptions options;
  const FunctionalsKernels* kernels;
  Rank rank;
  bool slide;     // to the next window; else each is sorted anew
  int64_t block;  // windows for which rows are taken over at once
};

namespace {

struct SlidingState : SlidingFunctionals::State {
  Scratch scratch;
  std::vector<int32_t> onsets;  // up to each of the last `window` rows
};

// To exchange one row in a sorted window costs about as much as one level of sorting it anew: measured for 10 to 400 rows.
bool SlidingIsCheaper(int64_t n, int64_t hop) {
  return hop < n && static_cast<double>(hop) <= std::ceil(std::log2(static_cast<double>(n)));
}

int64_t Block(const SlidingFunctionalsOptions& o) {
  if (o.hop >= o.window) return 1;
  return std::clamp<int64_t>(std::max<int64_t>(o.window, kBlockRows) / o.hop, 1, kBlock);
}

}  // namespace

SlidingFunctionals::SlidingFunctionals(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SlidingFunctionals::SlidingFunctionals(SlidingFunctionals&&) noexcept = default;
SlidingFunctionals::~SlidingFunctionals() = default;
const SlidingFunctionalsOptions& SlidingFunctionals::options() const noexcept { return impl_->options; }

Result<SlidingFunctionals> SlidingFunctionals::Create(const SlidingFunctionalsOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  return SlidingFunctionals(std::unique_ptr<Impl>(
      new Impl{options, &k.value()->functionals, Rank(options.window), SlidingIsCheaper(options.window, options.hop),
               Block(options)}));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<SlidingFunctionals::State>> SlidingFunctionals::NewState() const try {
  auto s = std::make_unique<SlidingState>();
  const SlidingFunctionalsOptions& o = impl_->options;
  const int64_t span = (impl_->block - 1) * o.hop + o.window;
  const int64_t groups = impl_->slide ? kStatLanes : impl_->kernels->lanes;
  if (!s->scratch.rows.Reserve(static_cast<size_t>(span * kStatLanes)) ||
      !s->scratch.sorted.Reserve(static_cast<size_t>(SortedRows(o.window) * groups))) {
    return OutOfMemory();
  }
  s->onsets.resize(static_cast<size_t>(o.window));
  return std::unique_ptr<State>(std::move(s));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status SlidingFunctionals::Compute(Span<const float> part, int64_t first, Range windows, Span<float> out,
                                   State& state) const noexcept {
  const SlidingFunctionalsOptions& o = impl_->options;
  const Range need = o.Needed(windows);
  const int64_t held = static_cast<int64_t>(part.size()) / kDescriptors, n = o.window;
  if (windows.begin < 0 || need.begin < first || need.end > first + held ||
      held * kDescriptors != static_cast<int64_t>(part.size()) ||
      static_cast<int64_t>(out.size()) != windows.size() * kFunctionals) {
    return InvalidArgument("sliding_functionals: rows " + std::to_string(need.begin) + " to " + std::to_string(need.end) +
                           " of 76 values are needed, and room for 1582 values a window");
  }
  SlidingState& s = static_cast<SlidingState&>(state);
  const FunctionalsKernels& k = *impl_->kernels;
  float* rows = s.scratch.rows.data();
  float* sorted = s.scratch.sorted.data();
  const float duration = static_cast<float>(n) * static_cast<float>(o.period);
  Contour contour(need.begin == 0, kContext);
  int64_t heard = need.begin;  // rows that the contour has seen
  int32_t total = 0;
  bool before = true;
  for (int64_t b = windows.begin; b < windows.end; b += impl_->block) {
    const int64_t count = std::min(impl_->block, windows.end - b), begin = b * o.hop, span = (count - 1) * o.hop + n;
    const float* from = part.data() + (begin - first) * kDescriptors;
    const int64_t bad = k.take(from, span, kDescriptorLimit, rows);
    if (bad >= 0) return BadValue("sliding_functionals", from, begin, bad);
    for (int64_t w = 0; w < count; ++w) {
      const float* at = rows + w * o.hop * kStatLanes;
      float* to = out.data() + (b - windows.begin + w) * kFunctionals;
      Describe(k, at, n, impl_->rank, &s.scratch.window, to, [&](int32_t lane) {
        if (!impl_->slide) {
          k.sort(at, n, lane, sorted);
          return sorted;
        }
        float* mine = sorted + SortedRows(n) * lane;
        if (w == 0) {
          k.sort(at, n, lane, mine);
        } else {
          k.slide(mine, n, at - o.hop * kStatLanes, at + (n - o.hop) * kStatLanes, o.hop, lane);
        }
        return mine;
      });
      const int64_t start = begin + w * o.hop;
      for (; heard < start + n; ++heard) {
        const bool voiced = contour.Next(part[static_cast<size_t>((heard - first) * kDescriptors + kPitch)]);
        total += voiced && !before;
        before = voiced;
        s.onsets[static_cast<size_t>(heard % n)] = total;
      }
      to[kFunctionals - 2] = static_cast<float>(total - s.onsets[static_cast<size_t>(start % n)]);
      to[kFunctionals - 1] = duration;
    }
  }
  return Status::Ok();
}

}  // namespace zoo
