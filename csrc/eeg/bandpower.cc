// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "audio/spectrum.h"
#include "core/buffer.h"
#include "core/denormals.h"
#include "core/kernels.h"
#include "eeg/kernels.h"
#include "zoo/eeg.h"

namespace zoo {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kMaxSegment = 65536, kMaxBands = 256;

std::string Number(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", x);
  return text;
}

}  // namespace

int64_t BandPowerOptions::Windows(int64_t samples) const noexcept {
  return samples < window_length ? 0 : 1 + (samples - window_length) / hop_length;
}

Status BandPowerOptions::Validate() const {
  const int64_t segment = segment_length > 0 ? segment_length : window_length;
  if (!(rate >= 1) || !(rate <= 768000)) return InvalidArgument("the rate is " + Number(rate) + " Hz; it must lie between 1 and 768000");
  if (bands.empty() || bands.size() % 2 != 0 || band_count() > kMaxBands) {
    return InvalidArgument("bands has " + std::to_string(bands.size()) + " values; it must hold the low and the high edge of 1 to 256 bands, in Hz");
  }
  if (window_length < 2 || hop_length < 1) return InvalidArgument("window_length must be at least 2 samples and hop_length 1");
  if (segment < 2 || segment > window_length || segment > kMaxSegment) {
    return InvalidArgument("segment_length is " + std::to_string(segment) + "; it must lie between 2 and window_length = " +
                           std::to_string(window_length) + ", and be at most " + std::to_string(kMaxSegment));
  }
  if (overlap >= segment) return InvalidArgument("overlap is " + std::to_string(overlap) + "; it must be less than segment_length = " + std::to_string(segment));
  if (!(epsilon >= 0) || !std::isfinite(epsilon)) return InvalidArgument("epsilon is " + Number(epsilon) + "; it must not be negative");
  for (int64_t b = 0; b < band_count(); ++b) {
    const double lo = bands[static_cast<size_t>(2 * b)], hi = bands[static_cast<size_t>(2 * b + 1)];
    const std::string name = "band " + std::to_string(b) + " (" + Number(lo) + " to " + Number(hi) + " Hz)";
    if (!(lo >= 0) || !(lo < hi) || !(hi <= rate / 2)) {
      return InvalidArgument(name + " must rise and lie between 0 and half the rate of " + Number(rate) + " Hz");
    }
  }
  return Status::Ok();
}

struct BandPower::Impl {
  BandPowerOptions options;
  const Kernels* kernels;
  int64_t segment = 0, step = 0, segments = 0;
  int64_t lo = 0, hi = 0;  // bins that any band uses
  std::unique_ptr<SpectrumTables> spectrum;  // null: the size is transformed directly
  Buffer<double> window, circle, weight;     // circle: cos and sin of 2 pi k / segment
};

namespace {
struct BandPowerState : BandPower::State {
  Buffer<double> packed, work, power, part, bands;
};
}  // namespace

BandPower::BandPower(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BandPower::BandPower(BandPower&&) noexcept = default;
BandPower::~BandPower() = default;
const BandPowerOptions& BandPower::options() const noexcept { return impl_->options; }

Result<BandPower> BandPower::Create(const BandPowerOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  std::unique_ptr<Impl> p(new Impl{options, kernels.value(), 0, 0, 0, 0, 0, nullptr, {}, {}, {}});
  p->segment = options.segment_length > 0 ? options.segment_length : options.window_length;
  p->step = p->segment - (options.overlap >= 0 ? options.overlap : p->segment / 2);
  p->segments = 1 + (options.window_length - p->segment) / p->step;
  const int64_t n = p->segment, bands = options.band_count();
  const double size = static_cast<double>(n);

  std::vector<double> window(static_cast<size_t>(n), 1.0);
  const double a = options.taper == Taper::kHann ? 0.5 : 0.54;
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) {
    double& w = window[static_cast<size_t>(i)];
    if (options.taper != Taper::kBoxcar) w = a - (1 - a) * std::cos(2 * kPi * static_cast<double>(i) / size);
    sum += w;
    squares += w * w;
  }
  if (FftSizeSupported(n)) {
    auto tables = SpectrumTables::Create(static_cast<int32_t>(n), window);
    if (!tables.ok()) return tables.status();
    p->spectrum = std::move(tables.value());
  } else {
    if (!p->window.Reserve(static_cast<size_t>(n)) || !p->circle.Reserve(2 * static_cast<size_t>(n))) return OutOfMemory();
    for (int64_t i = 0; i < n; ++i) {
      const double angle = 2 * kPi * static_cast<double>(i) / size;
      p->window[static_cast<size_t>(i)] = window[static_cast<size_t>(i)];
      p->circle[2 * static_cast<size_t>(i)] = std::cos(angle);
      p->circle[2 * static_cast<size_t>(i) + 1] = std::sin(angle);
    }
  }

  // Bins of each band: low <= f < high, f = k rate / n; the trapezoid rule takes both edges.
  const bool closed = options.integrate == BandSum::kTrapezoid;
  std::vector<std::pair<int64_t, int64_t>> bins;
  p->lo = n / 2 + 1;
  for (int64_t b = 0; b < bands; ++b) {
    const double lo = options.bands[static_cast<size_t>(2 * b)] * size, hi = options.bands[static_cast<size_t>(2 * b + 1)] * size;
    int64_t first = 0, last = 0;
    while (first <= n / 2 && static_cast<double>(first) * options.rate < lo) ++first;
    for (last = first; last <= n / 2 && (closed ? static_cast<double>(last) * options.rate <= hi : static_cast<double>(last) * options.rate < hi);) ++last;
    if (last - first < (closed ? 2 : 1)) {
      return InvalidArgument("band " + std::to_string(b) + " (" + Number(options.bands[static_cast<size_t>(2 * b)]) + " to " +
                             Number(options.bands[static_cast<size_t>(2 * b + 1)]) + " Hz) holds too few of the frequencies of " + std::to_string(n) +
                             " samples at " + Number(options.rate) + " Hz, which lie " + Number(options.rate / size) + " Hz apart; use longer segments");
    }
    bins.emplace_back(first, last);
    p->lo = std::min(p->lo, first);
    p->hi = std::max(p->hi, last);
  }
  const int64_t width = p->hi - p->lo;
  if (!p->weight.Reserve(static_cast<size_t>(bands * width))) return OutOfMemory();
  const double scale = 1.0 / (static_cast<double>(p->segments) * (options.density ? options.rate * squares : sum * sum));
  for (int64_t b = 0; b < bands; ++b) {
    const auto [first, last] = bins[static_cast<size_t>(b)];
    for (int64_t k = first; k < last; ++k) {
      const bool alone = k == 0 || 2 * k == n;  // the others stand for two frequencies
      double w = scale * (alone ? 1 : 2);
      if (options.integrate == BandSum::kMean) w /= static_cast<double>(last - first);
      if (closed || (options.density && options.integrate == BandSum::kSum)) w *= options.rate / size;
      if (closed && (k == first || k + 1 == last)) w *= 0.5;
      p->weight[static_cast<size_t>(b * width + k - p->lo)] = w;
    }
  }
  return BandPower(std::move(p));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<BandPower::State>> BandPower::NewState() const {
  std::unique_ptr<BandPowerState> s(new (std::nothrow) BandPowerState);
  if (!s) return OutOfMemory();
  const Impl& p = *impl_;
  const size_t lanes = static_cast<size_t>(p.kernels->lanes), n = static_cast<size_t>(p.segment), width = static_cast<size_t>(p.hi - p.lo);
  // the transform needs a point more for each block of its first pass, of which there are at most 8
  const bool ok = s->packed.Reserve(n * lanes) && s->work.Reserve((n + 16) * lanes) && s->power.Reserve(width * lanes) &&
                  s->part.Reserve(width * lanes) && s->bands.Reserve(static_cast<size_t>(p.options.band_count()) * lanes);
  if (!ok) return OutOfMemory();
  return std::unique_ptr<State>(std::move(s));
}

Status BandPower::Compute(Span<const double> in, int64_t channels, Range windows, Span<float> out, State& state) const noexcept {
  const Impl& p = *impl_;
  const BandPowerOptions& o = p.options;
  BandPowerState& s = static_cast<BandPowerState&>(state);
  const int64_t count = windows.size(), bands = o.band_count(), width = p.hi - p.lo;
  if (count == 0) return Status::Ok();
  if (channels < 1 || static_cast<int64_t>(in.size()) < ((count - 1) * o.hop_length + o.window_length) * channels ||
      static_cast<int64_t>(out.size()) != count * bands * channels) {
    return InvalidArgument("bandpower: the input or the output has the wrong size");
  }
  const FlushDenormals flush;
  const EegKernels& k = p.kernels->eeg;
  const int64_t lanes = p.kernels->lanes;
  for (int64_t w = 0; w < count; ++w) {
    for (int64_t c = 0; c < channels; c += lanes) {
      const int32_t used = static_cast<int32_t>(std::min(lanes, channels - c));
      if (p.segments > 1 || !p.spectrum) std::fill_n(s.power.data(), width * lanes, 0.0);
      for (int64_t g = 0; g < p.segments; ++g) {
        const double* x = in.data() + (w * o.hop_length + g * p.step) * channels + c;
        k.pack(x, p.segment, channels, used, o.detrend, s.packed.data());
        if (!p.spectrum) {
          k.dft(s.packed.data(), p.window.data(), p.circle.data(), p.segment, p.lo, p.hi, s.power.data());
          continue;
        }
        double* to = p.segments > 1 ? s.part.data() : s.power.data();
        p.kernels->audio.spectrum_packed(&p.spectrum->plan(), s.packed.data(), s.work.data(), kSpectrumPower,
                                         static_cast<int32_t>(p.lo), static_cast<int32_t>(p.hi), to);
        if (p.segments > 1) k.accumulate(to, width * lanes, s.power.data());
      }
      k.bands(s.power.data(), p.weight.data(), width, bands, s.bands.data());
      for (int64_t b = 0; b < bands; ++b) {
        float* to = out.data() + (w * bands + b) * channels + c;
        const double* from = s.bands.data() + b * lanes;
        for (int32_t l = 0; l < used; ++l) {
          double v = from[l];
          if (o.output == BandOutput::kLog) v = std::log(v + o.epsilon);
          if (o.output == BandOutput::kEntropy) v = 0.5 * std::log(17.0794684453471341309 * (v + o.epsilon));  // 2 pi e
          to[l] = static_cast<float>(v);
        }
      }
    }
  }
  return Status::Ok();
}

}  // namespace zoo
