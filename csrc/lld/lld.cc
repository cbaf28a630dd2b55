// SPDX-License-Identifier: Apache-2.0
#include "zoo/lld.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>

#include "core/denormals.h"
#include "core/kernels.h"
#include "lld/lsp.h"
#include "lld/periods.h"
#include "lld/pitch.h"
#include "lld/plans.h"

namespace zoo {
namespace {

// Rows of the last frames, of which a vector's lanes of frames and the windows after them are needed at a time.
constexpr int64_t kRing = 32;
static_assert(kRing >= 2 * kMaxLanes + 8, "a batch and the rows that windows look back on must fit");

template <int kWidth>
struct Ring {
  float row[kRing][kWidth];
  float* operator[](int64_t i) { return row[i % kRing]; }
};

}  // namespace

Status LldOptions::Validate() const {
  const auto positive = [](double v) { return v > 0.0 && std::isfinite(v); };
  if (rate < 4000 || rate > 384000) return InvalidArgument("rate is " + std::to_string(rate) + " Hz; it must lie between 4000 and 384000");
  // a row looks one spectral frame past the last pitch frame
  if (!(hop >= 0.001 && hop < frame && frame >= 0.01 && hop + frame <= pitch_frame && pitch_frame <= 0.08)) {
    return InvalidArgument("frame is " + std::to_string(frame) + " s, hop " + std::to_string(hop) + " s, pitch_frame " +
                           std::to_string(pitch_frame) + " s; 0.001 <= hop < frame, 0.01 <= frame and frame + hop <= pitch_frame <= 0.08 must hold");
  }
  if (!(preemphasis >= 0.0 && preemphasis <= 1.0)) return InvalidArgument("preemphasis must lie between 0 and 1");
  if (!(mel_low >= 0.0 && mel_low < mel_high && mel_low < rate / 2.0)) return InvalidArgument("0 <= mel_low < mel_high must hold, mel_low < rate / 2");
  if (!(band_low >= 0.0 && band_low < band_high && band_low < rate / 2.0)) return InvalidArgument("0 <= band_low < band_high must hold, band_low < rate / 2");
  if (!positive(cepstral_lifter)) return InvalidArgument("cepstral_lifter must be positive");
  if (!(lpc_rate >= 2000 && lpc_rate <= 48000)) return InvalidArgument("lpc_rate must lie between 2000 and 48000 Hz");
  if (!(pitch_sigma > 0.0 && pitch_sigma <= 0.5)) return InvalidArgument("pitch_sigma must lie between 0 and 0.5");
  if (!(octave_low >= 20.0 && octave_low < 500.0)) return InvalidArgument("octave_low must lie between 20 and 500 Hz");
  if (harmonics < 1 || harmonics > kMaxHarmonics - 1) return InvalidArgument("harmonics must lie between 1 and 15");
  if (!(compression > 0.0 && compression <= 1.0)) return InvalidArgument("compression must lie between 0 and 1");
  if (!(f0_min > 0.0 && f0_min < f0_max && f0_max <= rate / 6.0)) return InvalidArgument("0 < f0_min < f0_max <= rate / 6 must hold");
  if (!(search_range > 0.0 && search_range <= 0.5)) return InvalidArgument("search_range must lie between 0 and 0.5");
  // two of the longest periods, rounded up, must lie in a pitch frame
  if (2.0 * ((1.0 + search_range) * rate / f0_min + 2.0) + 2.0 > pitch_frame * rate) {
    return InvalidArgument("f0_min is " + std::to_string(f0_min) + " Hz; a pitch frame must hold two periods of it and the search range");
  }
  return Status::Ok();
}

struct Lld::Impl {
  LldOptions options;
  const Kernels* kernels;
  std::unique_ptr<LldPlans> plans;

  int64_t PitchFrames(int64_t samples) const {
    return samples < plans->pitch_frame ? 0 : 1 + (samples - plans->pitch_frame) / plans->hop;
  }
};

namespace {

using P = LldPlans;
constexpr int kMfccAt = 1, kBandAt = kMfccAt + P::kCepstra, kLspAt = kBandAt + P::kBands;
static_assert(kLspAt + kLpcOrder == Lld::kSpectral);

struct LldState : Lld::State {
  explicit LldState(double cutoff) : smoother(cutoff) {}
  Buffer<float> scaled, frames, mel;
  Buffer<double> work, bins, power, octave, scratch;
  const float* pointers[kMaxLanes] = {};

  PitchSmoother smoother;
  PeriodTracker periods;
  Ring<Lld::kSpectral> spectral;               // one a frame
  Ring<Lld::kValues - Lld::kSpectral> pitch;   // one a pitch frame but the first
  Ring<Lld::kValues> smooth;
  int64_t spectral_rows = 0, pitch_frames = 0, pitch_rows = 0, smooth_rows = 0, rows = 0;
  bool ended = false;
};

}  // namespace

Lld::Lld(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Lld::Lld(Lld&&) noexcept = default;
Lld::~Lld() = default;
const LldOptions& Lld::options() const noexcept { return impl_->options; }

int64_t Lld::Frames(int64_t samples) const noexcept {
  const int64_t n = impl_->PitchFrames(samples);
  return n < 2 ? 0 : n;
}

// A row's delta looks two smoothed rows ahead, these one row of pitch, which comes out with the pitch frame after it.
int64_t Lld::Ready(int64_t samples) const noexcept { return std::max<int64_t>(0, impl_->PitchFrames(samples) - 4); }

int64_t Lld::Shortest() const noexcept { return impl_->plans->pitch_frame + impl_->plans->hop; }

Result<Lld> Lld::Create(const LldOptions& options, const std::string& isa) try {
  Result<const Kernels*> kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  auto plans = LldPlans::Create(options);
  if (!plans.ok()) return plans.status();
  return Lld(std::unique_ptr<Impl>(new Impl{options, kernels.value(), std::move(plans.value())}));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<Lld::State>> Lld::NewState() const {
  const LldPlans& p = *impl_->plans;
  const LldOptions& o = impl_->options;
  std::unique_ptr<LldState> s(new (std::nothrow) LldState(o.voicing_cutoff));
  if (!s) return OutOfMemory();
  const size_t lanes = static_cast<size_t>(impl_->kernels->lanes), fft = static_cast<size_t>(std::max(p.fft, p.pitch_fft));
  const size_t points = static_cast<size_t>(p.pitch_fft) / 2 + 1;
  const size_t resampled = static_cast<size_t>(p.resample.samples + 2 * p.resample.harmonics);
  const size_t span = lanes * static_cast<size_t>(p.hop) + static_cast<size_t>(p.pitch_frame);
  if (!s->scaled.Reserve(span) || !s->frames.Reserve(fft * lanes) || !s->work.Reserve((fft + 16) * lanes) ||
      !s->bins.Reserve((fft + 2) * lanes) || !s->power.Reserve(fft * lanes) || !s->mel.Reserve(P::kMel * lanes) ||
      !s->octave.Reserve(points * lanes) || !s->scratch.Reserve(std::max(2 * points, resampled) * lanes)) {
    return OutOfMemory();
  }
  ZOO_RETURN_IF_ERROR(s->periods.Init(o.rate, o.hop, o.search_range, o.f0_min, &impl_->kernels->lld));
  Start(*s);
  return std::unique_ptr<State>(std::move(s));
}

void Lld::Start(State& state) const noexcept {
  LldState& s = static_cast<LldState&>(state);
  s.smoother.Start();
  s.periods.Start();
  s.spectral_rows = s.pitch_frames = s.pitch_rows = s.smooth_rows = s.rows = 0;
  s.ended = false;
}

int64_t Lld::Needed(const State& state) const noexcept {
  const LldState& s = static_cast<const LldState&>(state);
  const int64_t hop = impl_->plans->hop, pitch = s.pitch_frames * hop;
  return std::max<int64_t>(0, std::min(s.spectral_rows * hop, pitch - s.periods.backlog(pitch)));
}

int64_t Lld::Rows(const State& state) const noexcept { return static_cast<const LldState&>(state).rows; }

namespace {

class Pass {
 public:
  Pass(const LldOptions& o, const LldPlans& p, const Kernels& k, const float* wave, int64_t first, LldState& s)
      : o_(o), p_(p), k_(k), wave_(wave), first_(first), s_(s) {}

  // Brings the samples of the next batch's frames to openSMILE's scale, once for all frames that share them.
  void Scale(int64_t spectral, int64_t pitch) noexcept {
    scaled_first_ = std::min(s_.spectral_rows, s_.pitch_frames) * p_.hop;
    const int64_t end = std::max(spectral == 0 ? 0 : (s_.spectral_rows + spectral - 1) * p_.hop + p_.frame,
                                 pitch == 0 ? 0 : (s_.pitch_frames + pitch - 1) * p_.hop + p_.pitch_frame);
    const float* from = wave_ + (scaled_first_ - first_);
    for (int64_t i = 0; i < end - scaled_first_; ++i) s_.scaled[static_cast<size_t>(i)] = FullScale(from[i]);
  }

  // Spectral descriptors of the next `count` frames, at most a vector's lanes.
  void Spectra(int64_t count) noexcept {
    const int32_t lanes = k_.lanes, bins = p_.fft / 2 + 1;
    const float keep = static_cast<float>(o_.preemphasis);
    for (int64_t l = 0; l < count; ++l) {
      const float* x = Frame(s_.spectral_rows + l);
      float* y = Scratch(l, p_.fft, p_.frame);
      y[0] = (1.0f - keep) * x[0];
      for (int32_t i = 1; i < p_.frame; ++i) y[i] = x[i] - keep * x[i - 1];
    }
    Spread(count);
    k_.audio.spectrum(&p_.spectrum->plan(), s_.pointers, s_.work.data(), kSpectrumComplex, 0, bins, s_.bins.data());
    k_.lld.power(s_.bins.data(), bins, s_.power.data());
    Mel(count);
    LogBands(count);
    alignas(64) double r[(kLpcOrder + 1) * kMaxLanes];
    k_.lld.autocorrelation(&p_.resample, s_.bins.data(), s_.scratch.data(), r);
    for (int64_t l = 0; l < count; ++l) {
      double lags[kLpcOrder + 1];
      for (int lag = 0; lag <= kLpcOrder; ++lag) lags[lag] = r[lag * lanes + l];
      float* row = s_.spectral[s_.spectral_rows + l];
      LineSpectralFrequencies(lags, row + kLspAt);
      // openSMILE's loudness, when asked for without the intensity, looks at the first sample of a frame only
      const float sample = Frame(s_.spectral_rows + l)[0];
      row[0] = std::pow(p_.loudness * sample * sample, 0.3f);
    }
    s_.spectral_rows += count;
  }

  // Pitch, jitter and shimmer of the next `count` pitch frames.
  void Pitch(int64_t count) noexcept {
    const int32_t lanes = k_.lanes, points = p_.pitch_fft / 2 + 1;
    for (int64_t l = 0; l < count; ++l) {
      const float* x = Frame(s_.pitch_frames + l);
      float* y = Scratch(l, p_.pitch_fft, p_.pitch_frame);
      std::copy(x, x + p_.pitch_frame, y);
    }
    Spread(count);
    k_.audio.spectrum(&p_.pitch_spectrum->plan(), s_.pointers, s_.work.data(), kSpectrumMagnitude, 0, points, s_.bins.data());
    k_.lld.octave(&p_.octave, s_.bins.data(), s_.scratch.data(), s_.octave.data());
    alignas(64) double mean[kMaxLanes], peaks[3 * kMaxLanes];
    double* sum = s_.bins.data();
    k_.lld.harmonics(&p_.harmonics, s_.octave.data(), sum, mean);
    k_.lld.peaks(sum, points, peaks);
    for (int64_t l = 0; l < count; ++l) {
      const PitchCandidate best = BestCandidate(sum + l, lanes, peaks + l, mean[l], p_.octave_first, p_.octave_step, o_.f0_min, o_.f0_max);
      const int64_t start = s_.pitch_frames++ * p_.hop;
      PitchRow row;
      if (!s_.smoother.Next(best, &row)) continue;
      // the smoothed value is that of the frame before, the waveform that of this one, as in openSMILE
      const PeriodRow periods = s_.periods.Next(wave_, first_, start, row.f0);
      const float values[] = {row.envelope, row.voicing, row.f0, periods.jitter, periods.jitter_ddp, periods.shimmer};
      std::copy(std::begin(values), std::end(values), s_.pitch[s_.pitch_rows++]);
    }
  }

  // Moving averages that are determined. A window that starts before the first row sees zeros after the last; another
  // sees the last row again.
  void Smooth(bool last) noexcept {
    const int64_t stop = last ? s_.pitch_rows + 1 : s_.pitch_rows - 1;
    for (int64_t i = s_.smooth_rows; i < stop; ++i) {
      float* to = s_.smooth[i];
      const float *a = s_.spectral[std::max<int64_t>(i - 1, 0)], *b = s_.spectral[i], *c = s_.spectral[i + 1];
      for (int v = 0; v < Lld::kSpectral; ++v) to[v] = (b[v] + a[v] + c[v]) / 3.0f;
      a = PitchRowAt(i - 1, i == 0), b = PitchRowAt(i, i == 0), c = PitchRowAt(i + 1, i == 0);
      for (int v = Lld::kSpectral; v < Lld::kValues; ++v) {
        const int p = v - Lld::kSpectral;
        to[v] = (b[p] + a[p] + c[p]) / 3.0f;
      }
    }
    s_.smooth_rows = std::max(s_.smooth_rows, stop);
  }

  // Rows of the output that are determined; false when a value is not finite. The first delta does not see the last
  // smoothed row, which matters to signals of two or three rows.
  bool Emit(bool last, float** out) noexcept {
    const int64_t stop = last ? s_.smooth_rows : s_.smooth_rows - 2;
    bool finite = true;
    for (; s_.rows < stop; ++s_.rows, *out += Lld::kColumns) {
      const int64_t i = s_.rows, seen = last && i == 0 ? s_.smooth_rows - 1 : s_.smooth_rows;
      const float *now = s_.smooth[i], *a = SmoothRowAt(i - 2, seen, i < 2), *b = SmoothRowAt(i - 1, seen, i < 2),
                  *c = SmoothRowAt(i + 1, seen, i < 2), *d = SmoothRowAt(i + 2, seen, i < 2);
      float* delta = *out + Lld::kValues;
      for (int v = 0; v < Lld::kValues; ++v) {
        (*out)[v] = now[v];
        delta[v] = ((c[v] - b[v]) + 2.0f * (d[v] - a[v])) / 10.0f;
        finite = finite && std::isfinite(delta[v]) && std::isfinite(now[v]);
      }
    }
    return finite;
  }

 private:
  const float* Frame(int64_t i) const { return s_.scaled.data() + (i * p_.hop - scaled_first_); }
  float* Scratch(int64_t lane, int32_t fft, int32_t length) {
    float* y = s_.frames.data() + lane * fft;
    std::fill(y + length, y + fft, 0.0f);
    s_.pointers[lane] = y;
    return y;
  }
  // Unused lanes repeat the last frame.
  void Spread(int64_t count) {
    for (int32_t l = static_cast<int32_t>(count); l < k_.lanes; ++l) s_.pointers[l] = s_.pointers[l - 1];
  }
  const float* PitchRowAt(int64_t i, bool starts) {
    static constexpr float kZero[Lld::kValues - Lld::kSpectral] = {};
    if (i >= s_.pitch_rows) return starts ? kZero : s_.pitch[s_.pitch_rows - 1];
    return s_.pitch[std::max<int64_t>(i, 0)];
  }
  const float* SmoothRowAt(int64_t i, int64_t seen, bool starts) {
    static constexpr float kZero[Lld::kValues] = {};
    if (i >= seen) return starts ? kZero : s_.smooth[seen - 1];
    return s_.smooth[std::max<int64_t>(i, 0)];
  }

  void Mel(int64_t count) noexcept {
    const int32_t lanes = k_.lanes;
    float* mel = s_.mel.data();
    k_.audio.bands(&p_.mel->plan(), s_.power.data() + static_cast<int64_t>(p_.mel->bin_lo) * lanes, mel);
    for (int64_t i = 0; i < P::kMel * lanes; ++i) mel[i] = std::log(std::max(mel[i], 1e-8f));
    for (int c = 0; c < P::kCepstra; ++c) {
      float sum[kMaxLanes] = {};
      for (int m = 0; m < P::kMel; ++m) {
        const float w = p_.cosine[static_cast<size_t>(c * P::kMel + m)];
        for (int32_t l = 0; l < lanes; ++l) sum[l] += mel[m * lanes + l] * w;
      }
      for (int64_t l = 0; l < count; ++l) s_.spectral[s_.spectral_rows + l][kMfccAt + c] = sum[l] * p_.lifter[static_cast<size_t>(c)];
    }
  }

  void LogBands(int64_t count) noexcept {
    const int32_t lanes = k_.lanes;
    float* mel = s_.mel.data();
    k_.audio.bands(&p_.bands->plan(), s_.power.data() + static_cast<int64_t>(p_.bands->bin_lo) * lanes, mel);
    for (int b = 0; b < P::kBands; ++b) {
      for (int64_t l = 0; l < count; ++l) s_.spectral[s_.spectral_rows + l][kBandAt + b] = std::log(std::max(mel[b * lanes + l], 1e-12f));
    }
  }

  const LldOptions& o_;
  const LldPlans& p_;
  const Kernels& k_;
  const float* wave_;
  int64_t first_, scaled_first_ = 0;
  LldState& s_;
};

}  // namespace

Status Lld::Push(Span<const float> wave, int64_t first, bool last, Span<float> out, State& state) const noexcept {
  LldState& s = static_cast<LldState&>(state);
  const int64_t end = first + static_cast<int64_t>(wave.size());
  const int64_t ready = last ? Frames(end) : Ready(end);
  if (s.ended) return InvalidArgument("lld: the signal has ended; start a new one");
  if (last && ready == 0) {
    return InvalidSignal("lld: the signal has " + std::to_string(end) + " samples; at least " + std::to_string(Shortest()) +
                         " (two pitch frames) are needed");
  }
  if (first > Needed(state) || static_cast<int64_t>(out.size()) != std::max<int64_t>(0, ready - s.rows) * kColumns) {
    return InvalidArgument("lld: samples from " + std::to_string(Needed(state)) + " on and room for " +
                           std::to_string(std::max<int64_t>(0, ready - s.rows)) + " rows are needed");
  }
  const FlushDenormals flush;
  s.ended = last;
  const int64_t pitch_frames = impl_->PitchFrames(end);
  if (pitch_frames == 0) return Status::Ok();
  const int64_t frames = pitch_frames + 1;  // a smoothed row looks one frame ahead
  Pass pass(impl_->options, *impl_->plans, *impl_->kernels, wave.data(), first, s);
  float* to = out.data();
  bool finite = true;
  const int64_t lanes = impl_->kernels->lanes;
  while (s.spectral_rows < frames || s.pitch_frames < pitch_frames) {
    const int64_t spectral = std::min(lanes, frames - s.spectral_rows), pitch = std::min(lanes, pitch_frames - s.pitch_frames);
    pass.Scale(spectral, pitch);
    if (spectral > 0) pass.Spectra(spectral);
    if (pitch > 0) pass.Pitch(pitch);
    pass.Smooth(false);
    finite = pass.Emit(false, &to) && finite;
  }
  if (last) {
    pass.Smooth(true);
    finite = pass.Emit(true, &to) && finite;
  }
  if (!finite) return InvalidSignal("lld: the powers of the signal overflow float32; scale the samples to [-1, 1]");
  return Status::Ok();
}

}  // namespace zoo
