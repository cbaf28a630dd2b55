// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
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

// Taps from which a filter without delay is applied by transforms: one that works on streams would answer late.
constexpr int64_t kFewTaps = 48;
constexpr int64_t kMaxTransform = 65536;

}  // namespace

struct Filter::Impl {
  FilterOptions options;
  const Kernels* kernels;
  Buffer<double> coef;           // [sections][b1, b2, a1, a2], b0 = 1
  std::vector<double> steady;    // [sections][2]: state in which a constant 1 passes
  std::vector<double> reversed;  // taps, the last one first
  double gain = 1;               // all b0
  int32_t sections = 0;
  int32_t unit = 1;              // b2 = 1 in all sections
  int64_t padding = 0;
  int64_t transform = 0;  // FIR by transforms of so many samples; 0: directly
  std::unique_ptr<SpectrumTables> spectrum;
  Buffer<double> response;  // of the filter around its middle, which is real; over `transform`

  Status PlanTransform() {
    transform = 256;
    while (transform < 4 * taps() && transform < kMaxTransform) transform *= 2;
    auto tables = SpectrumTables::Create(static_cast<int32_t>(transform), std::vector<double>(static_cast<size_t>(transform), 1.0));
    if (!tables.ok()) return tables.status();
    spectrum = std::move(tables.value());
    if (!response.Reserve(static_cast<size_t>(transform / 2 + 1))) return OutOfMemory();
    const int64_t middle = taps() / 2;
    std::vector<double> circle(static_cast<size_t>(transform));
    const double turn = 2 * 3.14159265358979323846 / static_cast<double>(transform);  // exact: a power of two
    for (int64_t i = 0; i < transform; ++i) circle[static_cast<size_t>(i)] = std::cos(turn * static_cast<double>(i));
    for (int64_t k = 0; k <= transform / 2; ++k) {
      double sum = reversed[static_cast<size_t>(middle)];
      for (int64_t i = 1; i <= middle; ++i) sum += 2 * reversed[static_cast<size_t>(middle + i)] * circle[static_cast<size_t>(i * k % transform)];
      response[static_cast<size_t>(k)] = sum / static_cast<double>(transform);
    }
    return Status::Ok();
  }
  int64_t step() const { return transform - taps() + 1; }  // outputs of one transform
  // Outputs are computed in whole blocks, whose bits do not depend on which of them are asked for.
  Range Blocks(Range out) const {
    if (transform == 0 || out.size() == 0) return out;
    return {out.begin / step() * step(), (out.end + step() - 1) / step() * step()};
  }

  int64_t taps() const { return static_cast<int64_t>(reversed.size()); }
  int64_t after() const { return options.phase == FilterPhase::kZero ? taps() / 2 : 0; }  // inputs beyond the output's own

  // x: the signal around all blocks. One lane is one channel of one block.
  void Transform(const double* x, Range blocks, Range out, int64_t channels, double* to, double* packed, double* work, double* bins) const {
    const int64_t lanes = kernels->lanes, half = taps() / 2, n = transform, jobs = blocks.size() / step() * channels;
    const EegKernels& k = kernels->eeg;
    const AudioKernels& fft = kernels->audio;
    for (int64_t job = 0; job < jobs; job += lanes) {
      const int64_t some = std::min(lanes, jobs - job);
      const double* from[kMaxLanes];
      for (int64_t l = 0; l < lanes; ++l) {
        const int64_t j = job + std::min(l, some - 1);
        from[l] = x + j / channels * step() * channels + j % channels;
      }
      if (job % channels + lanes <= channels) {
        k.pack(from[0], n, channels, static_cast<int32_t>(lanes), 0, packed);
      } else {
        k.gather(from, n, channels, packed);
      }
      const int32_t end = static_cast<int32_t>(n / 2 + 1);
      fft.spectrum_packed(&spectrum->plan(), packed, work, kSpectrumComplex, 0, end, bins);
      k.fold(bins, response.data(), n, packed);
      fft.spectrum_packed(&spectrum->plan(), packed, work, kSpectrumComplex, 0, end, bins);
      k.unfold(bins, n, packed);
      for (int64_t l = 0; l < some;) {  // neighbouring channels of one block together
        const int64_t block = (job + l) / channels, channel = (job + l) % channels, together = std::min(some - l, channels - channel);
        const int64_t start = blocks.begin + block * step(), lo = std::max(start, out.begin), hi = std::min(start + step(), out.end);
        const double* y = packed + (half + lo - start) * lanes + l;
        double* dest = to + (lo - out.begin) * channels + channel;
        for (int64_t t = lo; t < hi; ++t, y += lanes, dest += channels) {
          for (int64_t c = 0; c < together; ++c) dest[c] = y[c];
        }
        l += together;
      }
    }
  }

  void Steady(const double* x, int64_t channels, double* memory) const {
    for (int32_t i = 0; i < 2 * sections; ++i) {
      for (int64_t c = 0; c < channels; ++c) memory[i * channels + c] = steady[static_cast<size_t>(i)] * x[c];
    }
  }
  // Sample t of the signal as it goes on beyond its ends; at(i) points to sample i.
  template <class At>
  void Extend(int64_t t, int64_t total, int64_t channels, const At& at, double* out) const {
    const int64_t edge = t < 0 ? 0 : total - 1, mirrored = 2 * edge - t;
    const bool causal = options.phase == FilterPhase::kCausal;
    const FilterPad pad = !causal ? options.pad : options.initial == FilterInitial::kSteady ? FilterPad::kConstant : FilterPad::kNone;
    const bool reflects = pad == FilterPad::kOdd || pad == FilterPad::kEven;
    if (pad == FilterPad::kNone || (reflects && (mirrored < 0 || mirrored >= total))) {
      std::fill_n(out, channels, 0.0);
      return;
    }
    const double* e = at(edge);
    if (pad == FilterPad::kConstant) {
      std::copy_n(e, channels, out);
      return;
    }
    const double* m = at(mirrored);
    for (int64_t c = 0; c < channels; ++c) out[c] = pad == FilterPad::kOdd ? 2 * e[c] - m[c] : m[c];
  }
};

namespace {
struct FilterState : Filter::State {
  Buffer<double> extended, memory;
  Buffer<double> packed, work, bins;  // of transforms
};
}  // namespace

Filter::Filter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Filter::Filter(Filter&&) noexcept = default;
Filter::~Filter() = default;
const FilterOptions& Filter::options() const noexcept { return impl_->options; }
bool Filter::recursive() const noexcept { return impl_->sections > 0; }
int64_t Filter::taps() const noexcept { return impl_->taps(); }
int64_t Filter::padding() const noexcept { return impl_->padding; }
int64_t Filter::MinSamples() const noexcept { return impl_->padding + 1; }
int64_t Filter::MemorySize(int64_t channels) const noexcept { return 2 * impl_->sections * channels; }

Result<Filter> Filter::Create(const FilterOptions& options, const std::string& isa) try {
  Result<const Kernels*> kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  auto design = DesignFilter(options);
  if (!design.ok()) return design.status();
  const std::vector<double>& sos = design.value().sections;
  std::unique_ptr<Impl> impl(new Impl{options, kernels.value(), {}, {}, design.value().taps, 1, 0, 1, 0, 0, nullptr, {}});
  std::reverse(impl->reversed.begin(), impl->reversed.end());
  impl->sections = static_cast<int32_t>(sos.size() / 6);
  if (!impl->coef.Reserve(static_cast<size_t>(impl->sections) * 4)) return OutOfMemory();
  double scale = 1;  // what arrives at this section of a constant 1
  int32_t no_b2 = 0, no_a2 = 0;
  for (int32_t s = 0; s < impl->sections; ++s) {
    const double* c = &sos[6 * static_cast<size_t>(s)];
    double* to = impl->coef.data() + 4 * s;
    to[0] = c[1] / c[0], to[1] = c[2] / c[0], to[2] = c[4], to[3] = c[5];
    impl->gain *= c[0];  // only the first section has another b0 than 1
    impl->unit = impl->unit && to[1] == 1;
    const double first = c[1] - c[4] * c[0], second = c[2] - c[5] * c[0];
    const double s0 = (first + second) / (1.0 + c[4] + c[5]);
    impl->steady.push_back(scale * s0);
    impl->steady.push_back(scale * ((1.0 + c[4]) * s0 - first));
    scale *= (c[0] + c[1] + c[2]) / (1.0 + c[4] + c[5]);
    no_b2 += c[2] == 0;
    no_a2 += c[5] == 0;
  }
  const bool padded = options.phase == FilterPhase::kZero && options.pad != FilterPad::kNone;
  if (impl->sections > 0 && padded) impl->padding = 3 * (2 * impl->sections + 1 - std::min(no_b2, no_a2));  // SciPy's length
  if (impl->sections == 0 && options.phase == FilterPhase::kZero && impl->taps() >= kFewTaps && 2 * impl->taps() <= kMaxTransform) {
    ZOO_RETURN_IF_ERROR(impl->PlanTransform());
  }
  return Filter(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Range Filter::Needed(Range out, int64_t samples) const noexcept {
  if (recursive()) return {0, samples};
  const int64_t after = impl_->after(), before = taps() - 1 - after;
  out = impl_->Blocks(out);
  return {std::clamp<int64_t>(out.begin - before, 0, samples), std::clamp<int64_t>(out.end + after, 0, samples)};
}

int64_t Filter::Ready(int64_t samples) const noexcept { return std::max<int64_t>(0, samples - impl_->after()); }

Result<std::unique_ptr<Filter::State>> Filter::NewState() const {
  std::unique_ptr<State> s(new (std::nothrow) FilterState);
  if (!s) return OutOfMemory();
  return s;
}

Status Filter::Reserve(Range out, int64_t channels, State& state) const noexcept {
  FilterState& s = static_cast<FilterState&>(state);
  const bool zero = impl_->options.phase == FilterPhase::kZero;
  const int64_t rows = recursive() ? (zero ? out.size() + 2 * impl_->padding : 0) : impl_->Blocks(out).size() + taps() - 1;
  if (!s.extended.Reserve(static_cast<size_t>(rows * channels) + kFirSlack)) return OutOfMemory();
  if (!s.memory.Reserve(static_cast<size_t>(MemorySize(channels)))) return OutOfMemory();
  const size_t lanes = static_cast<size_t>(impl_->kernels->lanes), n = static_cast<size_t>(impl_->transform);
  if (n > 0 && !(s.packed.Reserve(n * lanes) && s.work.Reserve((n + 16) * lanes) && s.bins.Reserve((n + 2) * lanes))) return OutOfMemory();
  return Status::Ok();
}

void Filter::Continue(Span<const double> in, int64_t channels, bool first, double* memory, double* to) const noexcept {
  const int64_t n = static_cast<int64_t>(in.size()) / channels;
  if (n == 0) return;
  const FlushDenormals flush;
  if (first && impl_->options.initial == FilterInitial::kSteady) {
    impl_->Steady(in.data(), channels, memory);
  } else if (first) {
    std::fill_n(memory, MemorySize(channels), 0.0);
  }
  impl_->kernels->eeg.sections(impl_->gain, impl_->coef.data(), impl_->sections, impl_->unit, in.data(), n, channels, channels, memory, to);
}

Status Filter::Compute(Span<const double> in, Range held, int64_t total, int64_t channels, Range out, Span<double> to,
                       State& state) const noexcept {
  const Impl& f = *impl_;
  FilterState& s = static_cast<FilterState&>(state);
  const Range need = Needed(out, total);
  if (channels < 1 || need.begin < held.begin || need.end > held.end || static_cast<int64_t>(in.size()) < held.size() * channels ||
      static_cast<int64_t>(to.size()) != out.size() * channels) {
    return InvalidArgument("filter: samples " + std::to_string(need.begin) + " to " + std::to_string(need.end) + " are needed, " +
                           std::to_string(held.begin) + " to " + std::to_string(held.end) + " were given");
  }
  if (total < MinSamples()) {
    return InvalidSignal("filter: the signal has " + std::to_string(total) + " samples; forward and backward filtering with this padding needs " +
                         std::to_string(MinSamples()) + "; use pad = none or a longer signal");
  }
  const auto at = [&](int64_t t) { return in.data() + (t - held.begin) * channels; };
  if (recursive() && f.options.phase == FilterPhase::kCausal) {
    Continue({at(0), static_cast<size_t>(total * channels)}, channels, true, s.memory.data(), to.data());
    return Status::Ok();
  }
  const FlushDenormals flush;
  double* x = s.extended.data();
  if (recursive()) {
    const int64_t rows = total + 2 * f.padding;
    for (int64_t i = 0; i < f.padding; ++i) {
      f.Extend(i - f.padding, total, channels, at, x + i * channels);
      f.Extend(total + i, total, channels, at, x + (f.padding + total + i) * channels);
    }
    std::memcpy(x + f.padding * channels, at(0), static_cast<size_t>(total * channels) * sizeof(double));
    f.Steady(x, channels, s.memory.data());
    const EegKernels& k = f.kernels->eeg;
    k.sections(f.gain, f.coef.data(), f.sections, f.unit, x, rows, channels, channels, s.memory.data(), x);
    double* last = x + (rows - 1) * channels;
    f.Steady(last, channels, s.memory.data());
    k.sections(f.gain, f.coef.data(), f.sections, f.unit, last, rows, -channels, channels, s.memory.data(), last);
    std::memcpy(to.data(), x + f.padding * channels, static_cast<size_t>(total * channels) * sizeof(double));
    return Status::Ok();
  }
  const Range blocks = f.Blocks(out);
  const int64_t after = f.after(), first = blocks.begin - (taps() - 1 - after), last = blocks.end + after;
  for (int64_t t = first; t < need.begin; ++t) f.Extend(t, total, channels, at, x + (t - first) * channels);
  std::memcpy(x + (need.begin - first) * channels, at(need.begin), static_cast<size_t>(need.size() * channels) * sizeof(double));
  const int64_t end = std::min(last, total + after);  // the rest of a last block has no part in any output
  for (int64_t t = need.end; t < end; ++t) f.Extend(t, total, channels, at, x + (t - first) * channels);
  std::fill_n(x + (end - first) * channels, std::max<int64_t>(0, last - end) * channels, 0.0);
  if (f.transform == 0) {
    f.kernels->eeg.fir(f.reversed.data(), taps(), x, out.size() * channels, channels, to.data());
  } else {
    f.Transform(x, blocks, out, channels, to.data(), s.packed.data(), s.work.data(), s.bins.data());
  }
  return Status::Ok();
}

void RemoveMean(Span<const double> in, int64_t channels, double* mean, Span<double> out) noexcept {
  const int64_t n = static_cast<int64_t>(in.size()) / channels;
  std::fill_n(mean, channels, 0.0);
  for (int64_t t = 0; t < n; ++t) {
    const double* x = in.data() + t * channels;
    for (int64_t c = 0; c < channels; ++c) mean[c] += x[c];
  }
  for (int64_t c = 0; c < channels; ++c) mean[c] /= static_cast<double>(n);
  for (int64_t t = 0; t < n; ++t) {
    const double* x = in.data() + t * channels;
    double* y = out.data() + t * channels;
    for (int64_t c = 0; c < channels; ++c) y[c] = x[c] - mean[c];
  }
}

}  // namespace zoo
