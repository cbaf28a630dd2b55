// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <numeric>
#include <utility>

#include "core/buffer.h"
#include "core/denormals.h"
#include "audio/kernels.h"
#include "zoo/signal.h"

namespace zoo {
namespace {

constexpr double kPi = 3.14159265358979323846;
// Kaiser window for 108 dB: flat to 0.902 and stopped from 1.0 of the lower Nyquist frequency on. With 72 zero
// crossings a side the transition is (108 - 7.95) / (2.285 * 144) = 0.304 rad = 0.0968 Nyquist wide.
constexpr double kAttenuation = 108.0;
constexpr double kCrossings = 72.0;
constexpr double kCutoff = 1.0 - 0.5 * 0.0968;
constexpr int64_t kMaxTable = int64_t{1} << 20;  // coefficients; finer ratios interpolate between rows

struct Geometry {
  int64_t phases, step;
  int64_t reach;  // taps a side
};

Geometry GeometryOf(const ResampleOptions& o) {
  const int64_t g = std::gcd(o.rate_in, o.rate_out);
  const double ratio = std::max(1.0, static_cast<double>(o.rate_in) / o.rate_out);
  return {o.rate_out / g, o.rate_in / g, static_cast<int64_t>(std::ceil(kCrossings * ratio))};
}

double BesselI0(double x) {
  double sum = 1.0, term = 1.0;
  for (int k = 1; k < 200; ++k) {
    term *= (x / (2.0 * k)) * (x / (2.0 * k));
    sum += term;
    if (term < 1e-18 * sum) break;
  }
  return sum;
}

}  // namespace

Status ResampleOptions::Validate() const {
  for (const auto& [name, rate] : {std::pair<const char*, int32_t>{"rate_in", rate_in}, {"rate_out", rate_out}}) {
    if (rate < 1 || rate > 768000) {
      return InvalidArgument(std::string("resample: ") + name + " is " + std::to_string(rate) +
                             " Hz; it must lie between 1 and 768000");
    }
  }
  if (rate_in / 256 > rate_out || rate_out / 256 > rate_in) {
    return InvalidArgument("resample: " + std::to_string(rate_in) + " Hz to " + std::to_string(rate_out) +
                           " Hz is a ratio above 256; resample in two steps");
  }
  return Status::Ok();
}

struct Resample::Impl {
  ResampleOptions options;
  const Kernels* kernels;
  ResamplePlan plan{};
  Buffer<float> coef;
};

namespace {
struct ResampleState : Resample::State {
  Buffer<float> padded;
};
}  // namespace

Resample::Resample(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Resample::Resample(Resample&&) noexcept = default;
Resample::~Resample() = default;
const ResampleOptions& Resample::options() const noexcept { return impl_->options; }

Result<Resample> Resample::Create(const ResampleOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  std::unique_ptr<Impl> impl(new Impl{options, k.value(), {}, {}});
  const Geometry g = GeometryOf(options);
  ResamplePlan& p = impl->plan;
  p.phases = g.phases;
  p.step = g.step;
  p.before = static_cast<int32_t>(g.reach) - 1;
  p.taps = static_cast<int32_t>((2 * g.reach + kMaxFloatLanes - 1) / kMaxFloatLanes * kMaxFloatLanes);
  p.interpolate = g.phases * p.taps > kMaxTable;
  const double ratio = std::max(1.0, static_cast<double>(options.rate_in) / options.rate_out);
  // linear interpolation of the kernel on a grid of 1/2048 of a zero crossing: error (pi / 2048)^2 / 8 = -131 dB
  const int64_t rows = p.interpolate ? static_cast<int64_t>(std::ceil(2048.0 / ratio)) + 1 : g.phases;
  p.rows = static_cast<int32_t>(rows);
  if (!impl->coef.Reserve(static_cast<size_t>(rows) * p.taps)) return OutOfMemory();
  const double beta = 0.1102 * (kAttenuation - 8.7), i0 = BesselI0(beta);
  const double scale = kCutoff / ratio, half_width = kCrossings * ratio;
  std::vector<double> row(static_cast<size_t>(p.taps));
  for (int64_t r = 0; r < rows; ++r) {
    const double frac = static_cast<double>(r) / static_cast<double>(p.interpolate ? rows - 1 : rows);
    double sum = 0;
    for (int32_t t = 0; t < p.taps; ++t) {
      const double x = t - p.before - frac;  // position of the tap relative to the output
      const double u = x / half_width;
      double h = 0;
      if (std::fabs(u) < 1.0) {
        const double a = kPi * scale * x;
        h = scale * (std::fabs(a) < 1e-9 ? 1.0 : std::sin(a) / a) * BesselI0(beta * std::sqrt(1.0 - u * u)) / i0;
      }
      row[static_cast<size_t>(t)] = h;
      sum += h;
    }
    for (int32_t t = 0; t < p.taps; ++t) {
      impl->coef[static_cast<size_t>(r * p.taps + t)] = static_cast<float>(row[static_cast<size_t>(t)] / sum);
    }
  }
  p.coef = impl->coef.data();
  return Resample(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

int64_t Resample::OutputSize(const ResampleOptions& o, int64_t samples) noexcept {
  const Geometry g = GeometryOf(o);
  return static_cast<int64_t>((static_cast<__int128>(samples) * g.phases + g.step - 1) / g.step);
}

Range Resample::Needed(const ResampleOptions& o, Range out, int64_t samples) noexcept {
  if (out.size() == 0) return {0, 0};
  if (o.rate_in == o.rate_out) return {std::max<int64_t>(out.begin, 0), std::min(out.end, samples)};
  const Geometry g = GeometryOf(o);
  const int64_t first = static_cast<int64_t>(static_cast<__int128>(out.begin) * g.step / g.phases);
  const int64_t last = static_cast<int64_t>(static_cast<__int128>(out.end - 1) * g.step / g.phases);
  const int64_t lo = std::clamp<int64_t>(first - g.reach + 1, 0, samples);
  return {lo, std::clamp<int64_t>(last + g.reach + 1, lo, samples)};
}

int64_t Resample::Ready(const ResampleOptions& o, int64_t samples) noexcept {
  if (o.rate_in == o.rate_out) return samples;
  const Geometry g = GeometryOf(o);
  // output i needs samples up to floor(i * step / phases) + reach
  const int64_t last = samples - 1 - g.reach;
  if (last < 0) return 0;
  return static_cast<int64_t>((static_cast<__int128>(last + 1) * g.phases + g.step - 1) / g.step);
}

Result<std::unique_ptr<Resample::State>> Resample::NewState() const {
  std::unique_ptr<State> s(new (std::nothrow) ResampleState);
  if (!s) return OutOfMemory();
  return s;
}

Status Resample::Reserve(int64_t outputs, State& state) const noexcept {
  const ResamplePlan& p = impl_->plan;
  const int64_t span = static_cast<int64_t>(static_cast<__int128>(outputs) * p.step / p.phases) + 2 + p.taps;
  return static_cast<ResampleState&>(state).padded.Reserve(static_cast<size_t>(span)) ? Status::Ok() : OutOfMemory();
}

Status Resample::Compute(Span<const float> part, int64_t first, int64_t total, Range out, Span<float> to,
                         State& state) const noexcept {
  const ResamplePlan& p = impl_->plan;
  const ResampleOptions& o = impl_->options;
  const Range need = Needed(o, out, total);
  const int64_t stop = first + static_cast<int64_t>(part.size());
  if (need.size() > 0 && (need.begin < first || need.end > stop)) {
    return InvalidArgument("resample: samples " + std::to_string(need.begin) + " to " + std::to_string(need.end) +
                           " are needed, " + std::to_string(first) + " to " + std::to_string(stop) + " were given");
  }
  if (static_cast<int64_t>(to.size()) != out.size()) return InvalidArgument("resample: the output has the wrong size");
  if (out.size() == 0) return Status::Ok();
  if (o.rate_in == o.rate_out) {
    std::memcpy(to.data(), part.data() + (out.begin - first), static_cast<size_t>(out.size()) * sizeof(float));
    return Status::Ok();
  }
  const int64_t at0 = static_cast<int64_t>(static_cast<__int128>(out.begin) * p.step / p.phases);
  const int64_t at1 = static_cast<int64_t>(static_cast<__int128>(out.end - 1) * p.step / p.phases);
  const int64_t lo = at0 - p.before, hi = at1 - p.before + p.taps;  // all samples that the taps touch
  const Buffer<float>& padded = static_cast<ResampleState&>(state).padded;
  if (padded.capacity() < static_cast<size_t>(hi - lo)) {
    return InvalidArgument("resample: the state was not reserved for this length");
  }
  float* x = padded.data();
  const int64_t copy_lo = std::clamp<int64_t>(first, lo, hi), copy_hi = std::clamp<int64_t>(stop, copy_lo, hi);
  std::memset(x, 0, static_cast<size_t>(copy_lo - lo) * sizeof(float));
  if (copy_hi > copy_lo) {
    std::memcpy(x + (copy_lo - lo), part.data() + (copy_lo - first), static_cast<size_t>(copy_hi - copy_lo) * sizeof(float));
  }
  std::memset(x + (copy_hi - lo), 0, static_cast<size_t>(hi - copy_hi) * sizeof(float));
  const FlushDenormals flush;
  impl_->kernels->audio.resample(&p, x, lo, out.begin, out.end, to.data());
  return Status::Ok();
}

}  // namespace zoo
