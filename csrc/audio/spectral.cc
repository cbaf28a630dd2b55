// SPDX-License-Identifier: Apache-2.0
#include "zoo/spectral.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <new>
#include <utility>

#include "audio/spectrum.h"
#include "core/denormals.h"

namespace zoo {
namespace {

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Scratch for one batch of frames.
struct BatchScratch {
  Buffer<double> work, bins;
  Framer framer;
  const float* frames[kMaxLanes] = {};

  Status Init(const FrameOptions& o, int32_t lanes, int64_t bin_count, bool complex) {
    // a point more for each block of the first pass, of which there are at most 8
    if (!work.Reserve(static_cast<size_t>(o.n_fft + 16) * lanes)) return OutOfMemory();
    if (!bins.Reserve(static_cast<size_t>(bin_count) * lanes * (complex ? 2 : 1))) return OutOfMemory();
    return framer.Init(o, lanes);
  }
};

template <class S, class Base>
Result<std::unique_ptr<Base>> NewScratch(const FrameOptions& o, int32_t lanes, int64_t bins, bool complex) {
  std::unique_ptr<S> s(new (std::nothrow) S);
  if (!s) return OutOfMemory();
  ZOO_RETURN_IF_ERROR(s->scratch.Init(o, lanes, bins, complex));
  return std::unique_ptr<Base>(std::move(s));
}

Status CheckOutput(const char* op, size_t got, int64_t want) {
  if (static_cast<int64_t>(got) == want) return Status::Ok();
  return InvalidArgument(std::string(op) + ": the output holds " + std::to_string(got) + " values, " +
                         std::to_string(want) + " are needed");
}

}  // namespace

// ------------------------------------------------------------------------------------------------------------ Stft

struct Stft::Impl {
  StftOptions options;
  const Kernels* kernels;
  std::unique_ptr<SpectrumTables> tables;
};

namespace {
struct StftState : Stft::State {
  BatchScratch scratch;
};
}  // namespace

Stft::Stft(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Stft::Stft(Stft&&) noexcept = default;
Stft::~Stft() = default;
const StftOptions& Stft::options() const noexcept { return impl_->options; }
int32_t Stft::columns() const noexcept {
  return (impl_->options.n_fft / 2 + 1) * (impl_->options.output == StftOutput::kComplex ? 2 : 1);
}

Result<Stft> Stft::Create(const StftOptions& options, const std::string& isa) try {
  Result<const Kernels*> kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  auto tables = SpectrumTables::Create(options);
  if (!tables.ok()) return tables.status();
  return Stft(std::unique_ptr<Impl>(new Impl{options, kernels.value(), std::move(tables.value())}));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<Stft::State>> Stft::NewState() const {
  return NewScratch<StftState, State>(impl_->options, impl_->kernels->lanes, impl_->options.n_fft / 2 + 1,
                           impl_->options.output == StftOutput::kComplex);
}

Status Stft::Compute(const Signal& wave, Range frames, Span<float> out, State& state) const noexcept {
  const StftOptions& o = impl_->options;
  ZOO_RETURN_IF_ERROR(CheckFrames("stft", wave, frames, o));
  const FlushDenormals flush;
  const int64_t cols = columns(), bins = o.n_fft / 2 + 1;
  ZOO_RETURN_IF_ERROR(CheckOutput("stft", out.size(), frames.size() * cols));
  const int32_t lanes = impl_->kernels->lanes;
  const int32_t kind = o.output == StftOutput::kComplex ? kSpectrumComplex
                       : o.output == StftOutput::kPower ? kSpectrumPower
                                                        : kSpectrumMagnitude;
  BatchScratch& s = static_cast<StftState&>(state).scratch;
  float* to = out.data();
  for (int64_t f = frames.begin; f < frames.end; f += lanes) {
    const int64_t used = std::min<int64_t>(lanes, frames.end - f);
    s.framer.Batch(o, wave, {f, frames.end}, lanes, s.frames);
    impl_->kernels->audio.spectrum(&impl_->tables->plan(), s.frames, s.work.data(), kind, 0, static_cast<int32_t>(bins),
                             s.bins.data());
    impl_->kernels->audio.to_rows_f64(s.bins.data(), cols, used, to);
    to += used * cols;
  }
  return Status::Ok();
}

// ------------------------------------------------------------------------------------------------------------- Mel

namespace {

struct MelCore {
  const Kernels* kernels = nullptr;
  std::unique_ptr<SpectrumTables> spectrum;
  std::unique_ptr<BandTables> bands;

  Status Init(const MelOptions& o, const std::string& isa) {
    Result<const Kernels*> k = SelectKernels(isa);
    if (!k.ok()) return k.status();
    kernels = k.value();
    auto s = SpectrumTables::Create(o);
    if (!s.ok()) return s.status();
    spectrum = std::move(s.value());
    auto b = BandTables::CreateMel(o);
    if (!b.ok()) return b.status();
    bands = std::move(b.value());
    return Status::Ok();
  }
  int64_t Bins() const { return bands->bin_hi - bands->bin_lo; }

  // out: [band][lane] for the first frames of `frames`
  void Batch(const MelOptions& o, const Signal& wave, Range frames, BatchScratch* s, float* out) const noexcept {
    s->framer.Batch(o, wave, frames, kernels->lanes, s->frames);
    kernels->audio.spectrum(&spectrum->plan(), s->frames, s->work.data(),
                      o.power == 2.0 ? kSpectrumPower : kSpectrumMagnitude, bands->bin_lo, bands->bin_hi,
                      s->bins.data());
    kernels->audio.bands(&bands->plan(), s->bins.data(), out);
  }
};

}  // namespace

struct Mel::Impl {
  MelOptions options;
  MelCore core;
};

namespace {
struct MelState : Mel::State {
  BatchScratch scratch;
  Buffer<float> mel;
};
}  // namespace

Mel::Mel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Mel::Mel(Mel&&) noexcept = default;
Mel::~Mel() = default;
const MelOptions& Mel::options() const noexcept { return impl_->options; }

Result<Mel> Mel::Create(const MelOptions& options, const std::string& isa) try {
  std::unique_ptr<Impl> impl(new Impl{options, {}});
  ZOO_RETURN_IF_ERROR(impl->core.Init(options, isa));
  return Mel(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<Mel::State>> Mel::NewState() const {
  auto s = NewScratch<MelState, State>(impl_->options, impl_->core.kernels->lanes, impl_->core.Bins(), false);
  if (!s.ok()) return s;
  if (!static_cast<MelState&>(*s.value()).mel.Reserve(static_cast<size_t>(impl_->options.n_mels) * kMaxLanes)) return OutOfMemory();
  return s;
}

Status Mel::Compute(const Signal& wave, Range frames, Span<float> out, State& state) const noexcept {
  const MelOptions& o = impl_->options;
  ZOO_RETURN_IF_ERROR(CheckFrames("mel", wave, frames, o));
  const FlushDenormals flush;
  ZOO_RETURN_IF_ERROR(CheckOutput("mel", out.size(), frames.size() * o.n_mels));
  const int32_t lanes = impl_->core.kernels->lanes;
  MelState& s = static_cast<MelState&>(state);
  float* to = out.data();
  for (int64_t f = frames.begin; f < frames.end; f += lanes) {
    impl_->core.Batch(o, wave, {f, frames.end}, &s.scratch, s.mel.data());
    const int64_t used = std::min<int64_t>(lanes, frames.end - f);
    impl_->core.kernels->audio.to_rows_f32(s.mel.data(), o.n_mels, used, to);
    to += used * o.n_mels;
  }
  return Status::Ok();
}

// ------------------------------------------------------------------------------------------------------- PowerToDb

Status DecibelOptions::Validate() const {
  if (!(amin >= 1e-37) || !std::isfinite(amin)) return InvalidArgument("amin is " + std::to_string(amin) + "; it must be at least 1e-37");
  if (!std::isfinite(ref)) return InvalidArgument("ref is " + std::to_string(ref) + "; it must be finite");
  if (top_db && !(*top_db >= 0.0)) return InvalidArgument("top_db is " + std::to_string(*top_db) + "; it must not be negative");
  return Status::Ok();
}

namespace {

float ReferenceDb(const DecibelOptions& o) {
  return static_cast<float>(10.0 * std::log10(std::max(o.amin, std::fabs(o.ref))));
}

// The value below which decibels are clipped.
float Floor(const DecibelOptions& o, float top) {
  return o.top_db ? top - static_cast<float>(*o.top_db) : -std::numeric_limits<float>::infinity();
}

Status CheckFinite(const char* op, Span<const float> in, const Kernels& k) {
  if (in.size() == 0) return InvalidSignal(std::string(op) + ": the input has 0 values");
  const int64_t bad = k.audio.find_nonfinite(in.data(), static_cast<int64_t>(in.size()));
  if (bad >= 0) return InvalidSignal(std::string(op) + ": value " + std::to_string(bad) + " is not finite");
  return Status::Ok();
}

Status CheckTop(const char* op, float top) {
  if (top <= FLT_MAX) return Status::Ok();
  return InvalidSignal(std::string(op) + ": the power overflows float32; scale the samples to [-1, 1]");
}

}  // namespace

Result<PowerToDb> PowerToDb::Create(const DecibelOptions& options, const std::string& isa) {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  return PowerToDb(options, k.value());
}

Status PowerToDb::Compute(Span<const float> in, Span<float> out) const noexcept {
  ZOO_RETURN_IF_ERROR(CheckOutput("power_to_db", out.size(), static_cast<int64_t>(in.size())));
  ZOO_RETURN_IF_ERROR(CheckFinite("power_to_db", in, *kernels_));
  const FlushDenormals flush;
  const float amin = static_cast<float>(options_.amin), ref = ReferenceDb(options_);
  const int64_t n = static_cast<int64_t>(in.size()), body = n / kMaxFloatLanes * kMaxFloatLanes;
  std::copy(in.begin(), in.end(), out.begin());
  float top = body > 0 ? kernels_->audio.decibel(out.data(), body, amin, ref) : -std::numeric_limits<float>::infinity();
  if (body < n) {
    float tail[kMaxFloatLanes];
    for (int64_t i = 0; i < kMaxFloatLanes; ++i) tail[i] = in[static_cast<size_t>(std::min(body + i, n - 1))];
    top = std::max(top, kernels_->audio.decibel(tail, kMaxFloatLanes, amin, ref));
    std::copy(tail, tail + (n - body), out.data() + body);
  }
  if (options_.top_db) {
    const float floor = Floor(options_, top);
    for (float& v : out) v = v > floor ? v : floor;
  }
  return Status::Ok();
}

// ------------------------------------------------------------------------------------------------------------- Log

Status LogOptions::Validate() const {
  if (!(amin >= 1e-37) || !(amin <= 1e37)) return InvalidArgument("amin is " + std::to_string(amin) + "; it must lie between 1e-37 and 1e37");
  return Status::Ok();
}

Result<Log> Log::Create(const LogOptions& options, const std::string& isa) {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  return Log(options, k.value());
}

Status Log::Compute(Span<const float> in, Span<float> out) const noexcept {
  ZOO_RETURN_IF_ERROR(CheckOutput("log", out.size(), static_cast<int64_t>(in.size())));
  ZOO_RETURN_IF_ERROR(CheckFinite("log", in, *kernels_));
  const FlushDenormals flush;
  const double scale = options_.base == LogBase::kE ? 1.0 : 1.0 / std::log(options_.base == LogBase::k10 ? 10.0 : 2.0);
  const float amin = static_cast<float>(options_.amin);
  const int64_t n = static_cast<int64_t>(in.size()), body = n / kMaxFloatLanes * kMaxFloatLanes;
  kernels_->audio.logarithm(in.data(), body, amin, scale, out.data());
  if (body < n) {
    float tail[kMaxFloatLanes] = {};
    std::copy(in.begin() + body, in.end(), tail);
    kernels_->audio.logarithm(tail, kMaxFloatLanes, amin, scale, tail);
    std::copy(tail, tail + (n - body), out.data() + body);
  }
  return Status::Ok();
}

// ------------------------------------------------------------------------------------------------------------- Dct

Status DctOptions::Validate() const {
  if (n_in < 1 || n_in > 4096) return InvalidArgument("n_in is " + std::to_string(n_in) + "; it must lie between 1 and 4096");
  if (n_out < 1 || n_out > n_in) {
    return InvalidArgument("n_out is " + std::to_string(n_out) + "; it must lie between 1 and n_in = " + std::to_string(n_in));
  }
  return Status::Ok();
}

struct Dct::Impl {
  DctOptions options;
  const Kernels* kernels;
  Buffer<float> basis;
  int32_t padded = 0;
};

Dct::Dct(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Dct::Dct(Dct&&) noexcept = default;
Dct::~Dct() = default;
const DctOptions& Dct::options() const noexcept { return impl_->options; }

Result<Dct> Dct::Create(const DctOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  std::unique_ptr<Impl> impl(new Impl{options, k.value(), {}, 0});
  ZOO_RETURN_IF_ERROR(MakeDctBasis(options.n_in, options.n_out, &impl->basis, &impl->padded));
  return Dct(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Dct::Compute(Span<const float> in, Span<float> out) const noexcept {
  const DctOptions& o = impl_->options;
  const int64_t rows = static_cast<int64_t>(in.size()) / o.n_in;
  if (rows < 1 || rows * o.n_in != static_cast<int64_t>(in.size())) {
    return InvalidArgument("dct: the input holds " + std::to_string(in.size()) + " values, not rows of " + std::to_string(o.n_in));
  }
  ZOO_RETURN_IF_ERROR(CheckOutput("dct", out.size(), rows * o.n_out));
  impl_->kernels->audio.project(in.data(), rows, o.n_in, 1, o.n_in, impl_->basis.data(), impl_->padded,
                          o.n_out, out.data());
  return Status::Ok();
}

// ------------------------------------------------------------------------------------------------------------ Mfcc

Status MfccOptions::Validate() const {
  ZOO_RETURN_IF_ERROR(MelOptions::Validate());
  ZOO_RETURN_IF_ERROR(db.Validate());
  if (n_mfcc < 1 || n_mfcc > n_mels) {
    return InvalidArgument("n_mfcc is " + std::to_string(n_mfcc) + "; it must lie between 1 and n_mels = " + std::to_string(n_mels));
  }
  return Status::Ok();
}

struct Mfcc::Impl {
  MfccOptions options;
  MelCore core;
  Buffer<float> basis;
  int32_t padded = 0;

  // Frames that pass through all steps together: all where the largest value counts, else a batch.
  int64_t Together(int64_t frames) const { return options.db.top_db ? frames : core.kernels->lanes; }
  size_t MelRoom(int64_t frames) const {
    return static_cast<size_t>(RoundUp(RoundUp(frames, core.kernels->lanes) * options.n_mels, kMaxFloatLanes));
  }
};

namespace {
struct MfccState : Mfcc::State {
  BatchScratch scratch;
  Buffer<float> mel;  // [batch][band][lane]
};
}  // namespace

Mfcc::Mfcc(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Mfcc::Mfcc(Mfcc&&) noexcept = default;
Mfcc::~Mfcc() = default;
const MfccOptions& Mfcc::options() const noexcept { return impl_->options; }

Result<Mfcc> Mfcc::Create(const MfccOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  std::unique_ptr<Impl> impl(new Impl{options, {}, {}, 0});
  ZOO_RETURN_IF_ERROR(impl->core.Init(options, isa));
  ZOO_RETURN_IF_ERROR(MakeDctBasis(options.n_mels, options.n_mfcc, &impl->basis, &impl->padded));
  return Mfcc(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<Mfcc::State>> Mfcc::NewState() const {
  auto s = NewScratch<MfccState, State>(impl_->options, impl_->core.kernels->lanes, impl_->core.Bins(), false);
  if (s.ok()) ZOO_RETURN_IF_ERROR(Reserve(1, *s.value()));
  return s;
}

Status Mfcc::Reserve(int64_t frames, State& state) const noexcept {
  if (!static_cast<MfccState&>(state).mel.Reserve(impl_->MelRoom(impl_->Together(frames)))) return OutOfMemory();
  return Status::Ok();
}

Status Mfcc::Compute(const Signal& wave, Range frames, Span<float> out, State& state) const noexcept {
  const MfccOptions& o = impl_->options;
  ZOO_RETURN_IF_ERROR(CheckFrames("mfcc", wave, frames, o));
  const FlushDenormals flush;
  ZOO_RETURN_IF_ERROR(CheckOutput("mfcc", out.size(), frames.size() * o.n_mfcc));
  MfccState& s = static_cast<MfccState&>(state);
  const Kernels& k = *impl_->core.kernels;
  const int64_t batch = static_cast<int64_t>(o.n_mels) * k.lanes, together = impl_->Together(frames.size());
  if (s.mel.capacity() < impl_->MelRoom(together)) return InvalidArgument("mfcc: the state was not reserved for so many frames");
  float* mel = s.mel.data();
  float* to = out.data();
  for (Range some = frames; some.begin < frames.end; some.begin = some.end) {
    some.end = std::min(some.begin + together, frames.end);
    for (int64_t f = some.begin; f < some.end; f += k.lanes) {
      impl_->core.Batch(o, wave, {f, some.end}, &s.scratch, mel + (f - some.begin) / k.lanes * batch);
    }
    // values between the last batch and the multiple of 16: copies of a real one, so that they change no maximum
    const int64_t used = RoundUp(some.size(), k.lanes) * o.n_mels, room = RoundUp(used, kMaxFloatLanes);
    for (int64_t i = used; i < room; ++i) mel[i] = mel[used - 1];
    const float top = k.audio.decibel(mel, room, static_cast<float>(o.db.amin), ReferenceDb(o.db));
    ZOO_RETURN_IF_ERROR(CheckTop("mfcc", top));
    if (o.db.top_db) k.audio.raise(mel, room, Floor(o.db, top));
    for (int64_t f = some.begin; f < some.end; f += k.lanes) {
      const int64_t rows = std::min<int64_t>(k.lanes, some.end - f);
      k.audio.project(mel + (f - some.begin) / k.lanes * batch, rows, o.n_mels, k.lanes, 1, impl_->basis.data(), impl_->padded,
                      o.n_mfcc, to);
      to += rows * o.n_mfcc;
    }
  }
  return Status::Ok();
}

}  // namespace zoo
