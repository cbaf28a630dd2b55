// SPDX-License-Identifier: Apache-2.0
// Frames, FFT, mel bands, logarithm and DCT as Kaldi and TensorFlow define them, on the FFT and the band kernels of audio/.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "audio/spectrum.h"
#include "speech/kernels.h"
#include "zoo/speech.h"

namespace zoo {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int32_t kMaxFrame = 65536;

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int32_t PowerOfTwo(int32_t n) {
  int32_t p = 16;  // the smallest FFT
  while (p < n) p *= 2;
  return p;
}

enum class EnergyKind { kNone, kRaw, kWindowed };

}  // namespace

struct FrameFeatures::Impl {
  const char* name;
  const Kernels* kernels = nullptr;
  int32_t rate = 0, length = 0, shift = 0, n_fft = 0;
  bool snip_edges = true;
  bool emphasized = false;  // frames lose their mean and are pre-emphasised
  bool remove_mean = false;
  double factor = 0;  // of pre-emphasis
  double scale = 1;   // of samples; part of the spectrum's window
  int32_t spectrum_kind = kSpectrumPower;
  std::unique_ptr<SpectrumTables> spectrum;
  std::unique_ptr<BandTables> bands;
  bool log = true;
  float floor = 0;
  int32_t coefficients = 0;  // of the DCT; 0: the bands themselves
  Buffer<float> basis;
  int32_t basis_padded = 0;
  EnergyKind energy = EnergyKind::kNone;
  float log_energy_floor = -std::numeric_limits<float>::infinity();
  Buffer<double> energy_window;
  int32_t columns = 0;
  int32_t band_column = 0;  // column of the first band: 1 after an energy

  int64_t Start(int64_t frame_index) const { return frame_index * shift - (snip_edges ? 0 : length / 2 - shift / 2); }

  Status Init(int32_t fft_size, const std::vector<double>& window, const std::string& isa) {
    Result<const Kernels*> k = SelectKernels(isa);
    if (!k.ok()) return k.status();
    kernels = k.value();
    n_fft = fft_size;
    auto s = SpectrumTables::Create(n_fft, window);
    if (!s.ok()) return s.status();
    spectrum = std::move(s.value());
    if (energy != EnergyKind::kWindowed) return Status::Ok();
    if (!energy_window.Reserve(static_cast<size_t>(length))) return OutOfMemory();
    for (int32_t i = 0; i < length; ++i) energy_window[static_cast<size_t>(i)] = window[static_cast<size_t>(i)];
    return Status::Ok();
  }
  Status InitBands(int32_t count, int32_t bins, const std::function<float(int32_t, int32_t)>& weight) {
    auto b = BandTables::Create(count, bins, weight);
    if (!b.ok()) return b.status();
    bands = std::move(b.value());
    return Status::Ok();
  }
};

namespace {

struct FeatureState : FrameFeatures::State {
  Buffer<double> work, bins;
  Buffer<float> edge;      // [lane][n_fft]: frames that reach over an edge
  Buffer<float> mel;       // [band][lane]
  Buffer<double> offsets;  // [lane]: what removing the mean takes away after pre-emphasis
  const float* pointers[kMaxLanes] = {};
  float log_energy[kMaxLanes] = {};
};

using Impl = FrameFeatures::Impl;

Status CheckNumber(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return Status::Ok();
  return InvalidArgument(std::string(field) + " is " + std::to_string(value) + "; it must lie between " +
                         std::to_string(low) + " and " + std::to_string(high));
}

// Symmetric, as Kaldi's, times the scale of the samples.
std::vector<double> KaldiWindowOf(const KaldiOptions& o, int32_t n) {
  std::vector<double> w(static_cast<size_t>(n), 1.0);
  for (int32_t i = 0; i < n; ++i) {
    const double c = std::cos(2 * kPi * i / (n - 1)), c2 = std::cos(4 * kPi * i / (n - 1));
    double& v = w[static_cast<size_t>(i)];
    switch (o.window_type) {
      case KaldiWindow::kPovey: v = std::pow(0.5 - 0.5 * c, 0.85); break;
      case KaldiWindow::kHamming: v = 0.54 - 0.46 * c; break;
      case KaldiWindow::kHanning: v = 0.5 - 0.5 * c; break;
      case KaldiWindow::kRectangular: break;
      case KaldiWindow::kBlackman: v = o.blackman_coeff - 0.5 * c + (0.5 - o.blackman_coeff) * c2; break;
    }
    v *= o.scale;
  }
  return w;
}

// Kaldi finds sizes, bands and weights in float32; so do we, to land on the same side of every rounding.
int32_t Samples(int32_t rate, double ms) {
  const float n = static_cast<float>(rate) * 0.001f * static_cast<float>(ms);
  return n < 1.0f ? 0 : n > 1e9f ? 1000000000 : static_cast<int32_t>(n);
}
float KaldiMel(float hz) { return 1127.0f * std::log(1.0f + hz / 700.0f); }

Status InitKaldi(const KaldiOptions& o, bool use_energy, const std::string& isa, Impl* p) {
  ZOO_RETURN_IF_ERROR(CheckNumber("rate", o.rate, 1, 768000));
  ZOO_RETURN_IF_ERROR(CheckNumber("scale", o.scale, 1e-30, 1e30));
  ZOO_RETURN_IF_ERROR(CheckNumber("preemph_coeff", o.preemph_coeff, 0, 1));
  ZOO_RETURN_IF_ERROR(CheckNumber("blackman_coeff", o.blackman_coeff, 0, 1));
  ZOO_RETURN_IF_ERROR(CheckNumber("energy_floor", o.energy_floor, 0, 1e38));
  ZOO_RETURN_IF_ERROR(CheckNumber("num_bins", o.num_bins, 3, 4096));
  p->rate = o.rate;
  p->length = Samples(o.rate, o.frame_length_ms);
  p->shift = Samples(o.rate, o.frame_shift_ms);
  if (p->length < 2 || p->length > kMaxFrame || p->shift < 1) {
    return InvalidArgument("frame_length_ms and frame_shift_ms give frames of " + std::to_string(p->length) +
                           " samples and a shift of " + std::to_string(p->shift) + "; a frame must have 2 to 65536, a shift at least 1");
  }
  const int32_t n_fft = o.round_to_power_of_two ? PowerOfTwo(p->length) : p->length;
  if (!FftSizeSupported(n_fft)) {
    return InvalidArgument("a frame has " + std::to_string(n_fft) +
                           " samples; without round_to_power_of_two it must be even, a product of 2, 3 and 5, and between 16 and 65536");
  }
  p->snip_edges = o.snip_edges;
  p->remove_mean = o.remove_dc_offset;
  p->scale = o.scale;
  p->factor = static_cast<float>(o.preemph_coeff);
  p->emphasized = p->remove_mean || p->factor != 0;
  if (use_energy) p->energy = o.raw_energy ? EnergyKind::kRaw : EnergyKind::kWindowed;
  if (o.energy_floor > 0) p->log_energy_floor = std::log(static_cast<float>(o.energy_floor));
  p->floor = std::numeric_limits<float>::epsilon();
  ZOO_RETURN_IF_ERROR(p->Init(n_fft, KaldiWindowOf(o, p->length), isa));

  const float nyquist = 0.5f * static_cast<float>(o.rate), low = static_cast<float>(o.low_freq);
  const float high = o.high_freq > 0 ? static_cast<float>(o.high_freq) : nyquist + static_cast<float>(o.high_freq);
  if (!(low >= 0 && low < nyquist && high > low && high <= nyquist)) {
    return InvalidArgument("low_freq is " + std::to_string(low) + " Hz and high_freq " + std::to_string(high) +
                           " Hz; 0 <= low_freq < high_freq <= rate / 2 must hold");
  }
  const float mel_low = KaldiMel(low), step = (KaldiMel(high) - mel_low) / static_cast<float>(o.num_bins + 1);
  const float width = static_cast<float>(o.rate) / static_cast<float>(n_fft);
  std::vector<bool> used(static_cast<size_t>(o.num_bins));
  std::vector<float> mels(static_cast<size_t>(n_fft / 2));  // of each bin, for bands by bins can be hundreds of millions
  for (size_t k = 0; k < mels.size(); ++k) mels[k] = KaldiMel(width * static_cast<float>(k));
  ZOO_RETURN_IF_ERROR(p->InitBands(o.num_bins, n_fft / 2, [&](int32_t b, int32_t k) {
    const float left = mel_low + static_cast<float>(b) * step, center = mel_low + static_cast<float>(b + 1) * step;
    const float right = mel_low + static_cast<float>(b + 2) * step, mel = mels[static_cast<size_t>(k)];
    if (!(mel > left && mel < right)) return 0.0f;
    used[static_cast<size_t>(b)] = true;
    return mel <= center ? (mel - left) / (center - left) : (right - mel) / (right - center);
  }));
  for (int32_t b = 0; b < o.num_bins; ++b) {
    if (used[static_cast<size_t>(b)]) continue;
    return InvalidArgument("band " + std::to_string(b) + " of num_bins = " + std::to_string(o.num_bins) +
                           " holds no bin of the " + std::to_string(n_fft) + "-point FFT; use fewer bands or longer frames");
  }
  return Status::Ok();
}

}  // namespace

FrameFeatures::FrameFeatures(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FrameFeatures::FrameFeatures(FrameFeatures&&) noexcept = default;
FrameFeatures::~FrameFeatures() = default;
const char* FrameFeatures::name() const noexcept { return impl_->name; }
int32_t FrameFeatures::rate() const noexcept { return impl_->rate; }
int32_t FrameFeatures::columns() const noexcept { return impl_->columns; }
int32_t FrameFeatures::length() const noexcept { return impl_->length; }

Result<FrameFeatures> FrameFeatures::Create(const KaldiFbankOptions& o, const std::string& isa) try {
  auto p = std::make_unique<Impl>();
  p->name = "kaldi_fbank";
  ZOO_RETURN_IF_ERROR(InitKaldi(o, o.use_energy, isa, p.get()));
  if (!o.use_power) p->spectrum_kind = kSpectrumMagnitude;
  p->log = o.use_log_fbank;
  p->band_column = o.use_energy ? 1 : 0;
  p->columns = o.num_bins + p->band_column;
  return FrameFeatures(std::move(p));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<FrameFeatures> FrameFeatures::Create(const KaldiMfccOptions& o, const std::string& isa) try {
  auto p = std::make_unique<Impl>();
  p->name = "kaldi_mfcc";
  ZOO_RETURN_IF_ERROR(InitKaldi(o, o.use_energy, isa, p.get()));
  ZOO_RETURN_IF_ERROR(CheckNumber("cepstral_lifter", o.cepstral_lifter, 0, 1e6));
  if (o.num_ceps < 1 || o.num_ceps > o.num_bins) {
    return InvalidArgument("num_ceps is " + std::to_string(o.num_ceps) + "; it must lie between 1 and num_bins = " + std::to_string(o.num_bins));
  }
  p->columns = p->coefficients = o.num_ceps;
  ZOO_RETURN_IF_ERROR(MakeDctBasis(o.num_bins, o.num_ceps, &p->basis, &p->basis_padded));
  for (int32_t c = 0; c < o.num_ceps && o.cepstral_lifter != 0; ++c) {
    const double lift = 1.0 + 0.5 * o.cepstral_lifter * std::sin(kPi * c / o.cepstral_lifter);
    for (int32_t m = 0; m < o.num_bins; ++m) {
      float& v = p->basis[static_cast<size_t>(m) * static_cast<size_t>(p->basis_padded) + static_cast<size_t>(c)];
      v = static_cast<float>(v * lift);
    }
  }
  return FrameFeatures(std::move(p));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<FrameFeatures> FrameFeatures::Create(const DeepSpeechMfccOptions& o, const std::string& isa) try {
  auto p = std::make_unique<Impl>();
  p->name = "deepspeech_mfcc";
  ZOO_RETURN_IF_ERROR(CheckNumber("rate", o.rate, 1, 768000));
  ZOO_RETURN_IF_ERROR(CheckNumber("win_length", o.win_length, 2, kMaxFrame));
  ZOO_RETURN_IF_ERROR(CheckNumber("hop_length", o.hop_length, 1, 2147483647));
  ZOO_RETURN_IF_ERROR(CheckNumber("n_mels", o.n_mels, 1, 4096));
  if (o.n_mfcc < 1 || o.n_mfcc > o.n_mels) {
    return InvalidArgument("n_mfcc is " + std::to_string(o.n_mfcc) + "; it must lie between 1 and n_mels = " + std::to_string(o.n_mels));
  }
  const double top = o.fmax.value_or(o.rate / 2.0);
  if (!(o.fmin >= 0 && top > o.fmin && top <= o.rate / 2.0)) {
    return InvalidArgument("fmin is " + std::to_string(o.fmin) + " Hz and fmax " + std::to_string(top) +
                           " Hz; 0 <= fmin < fmax <= rate / 2 must hold");
  }
  p->rate = o.rate;
  p->length = o.win_length;
  p->shift = o.hop_length;
  p->spectrum_kind = kSpectrumMagnitude;
  p->floor = 1e-12f;
  const int32_t n_fft = PowerOfTwo(o.win_length);
  std::vector<double> window(static_cast<size_t>(o.win_length));
  for (int32_t i = 0; i < o.win_length; ++i) window[static_cast<size_t>(i)] = 0.5 - 0.5 * std::cos(2 * kPi * i / o.win_length);
  ZOO_RETURN_IF_ERROR(p->Init(n_fft, window, isa));
  // Triangles in mel; TensorFlow leaves out DC and, when fmin lies above half a bin, all below the bin after it.
  const auto mel = [](double hz) { return 1127.0 * std::log1p(hz / 700.0); };
  const double low = mel(o.fmin), step = (mel(top) - low) / (o.n_mels + 1), width = static_cast<double>(o.rate) / n_fft;
  const int32_t first = static_cast<int32_t>(1.5 + o.fmin / width), last = static_cast<int32_t>(top / width);
  std::vector<double> places(static_cast<size_t>(n_fft / 2 + 1));  // of each bin, in bands
  for (size_t k = 0; k < places.size(); ++k) places[k] = (mel(static_cast<double>(k) * width) - low) / step;
  ZOO_RETURN_IF_ERROR(p->InitBands(o.n_mels, n_fft / 2 + 1, [&](int32_t b, int32_t k) {
    if (k < first || k > last) return 0.0f;
    const double at = places[static_cast<size_t>(k)] - b;  // 0, 1 and 2 at the corners of the triangle
    return static_cast<float>(std::max(0.0, std::min(at, 2.0 - at)));
  }));
  p->columns = p->coefficients = o.n_mfcc;
  ZOO_RETURN_IF_ERROR(MakeDctBasis(o.n_mels, o.n_mfcc, &p->basis, &p->basis_padded));
  for (int32_t m = 0; m < o.n_mels; ++m) {  // c0 has the factor sqrt(2 / n_mels) of all others
    float& v = p->basis[static_cast<size_t>(m) * static_cast<size_t>(p->basis_padded)];
    v = static_cast<float>(std::sqrt(2.0 / o.n_mels));
  }
  return FrameFeatures(std::move(p));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

int64_t FrameFeatures::Frames(int64_t samples) const noexcept {
  const Impl& p = *impl_;
  if (!p.snip_edges) return (samples + p.shift / 2) / p.shift;
  return samples < p.length ? 0 : 1 + (samples - p.length) / p.shift;
}

int64_t FrameFeatures::Ready(int64_t samples) const noexcept {
  const Impl& p = *impl_;
  const int64_t room = samples - p.length - p.Start(0);  // the last frame that ends within the samples starts here or before
  return room < 0 ? 0 : std::min(Frames(samples), 1 + room / p.shift);
}

Range FrameFeatures::Needed(Range out, int64_t samples) const noexcept {
  const Impl& p = *impl_;
  if (out.size() == 0) return {0, 0};
  const int64_t begin = p.Start(out.begin), end = p.Start(out.end - 1) + p.length;
  int64_t lo = begin, hi = end;
  if (!p.snip_edges) {
    if (samples <= p.length) return {0, samples};  // may be mirrored more than once
    if (begin < 0) hi = std::max(hi, -begin);
    if (end > samples) lo = std::min(lo, 2 * samples - end);
  }
  lo = std::clamp<int64_t>(lo, 0, samples);
  return {lo, std::clamp<int64_t>(hi, lo, samples)};
}

Result<std::unique_ptr<FrameFeatures::State>> FrameFeatures::NewState() const {
  const Impl& p = *impl_;
  std::unique_ptr<FeatureState> s(new (std::nothrow) FeatureState);
  const size_t lanes = static_cast<size_t>(p.kernels->lanes), n = static_cast<size_t>(p.n_fft);
  const size_t bands = static_cast<size_t>(RoundUp(p.bands->plan().bands * p.kernels->lanes, kMaxFloatLanes));
  // a point more for each block of the first pass, of which there are at most 8
  if (!s || !s->work.Reserve((n + 16) * lanes) || !s->bins.Reserve(static_cast<size_t>(p.bands->bin_hi - p.bands->bin_lo) * lanes) ||
      !s->edge.Reserve(n * lanes) || !s->mel.Reserve(bands) || !s->offsets.Reserve(lanes)) {
    return OutOfMemory();
  }
  return std::unique_ptr<State>(std::move(s));
}

Status FrameFeatures::Compute(Span<const float> part, int64_t first, int64_t total, Range out, Span<float> to,
                              State& state) const noexcept {
  const Impl& p = *impl_;
  const Range need = Needed(out, total);
  const int64_t held = first + static_cast<int64_t>(part.size());
  if (out.begin < 0 || out.end > Frames(total) || need.begin < first || need.end > held ||
      static_cast<int64_t>(to.size()) != out.size() * p.columns) {
    return InvalidArgument(std::string(p.name) + ": frames " + std::to_string(out.begin) + " to " + std::to_string(out.end) +
                           " do not fit the samples or the output");
  }
  FeatureState& s = static_cast<FeatureState&>(state);
  const Kernels& k = *p.kernels;
  const int32_t lanes = k.lanes, bands = p.bands->plan().bands;
  const int64_t values = RoundUp(static_cast<int64_t>(bands) * lanes, kMaxFloatLanes);
  for (int64_t f = out.begin; f < out.end; f += lanes) {
    const int64_t used = std::min<int64_t>(lanes, out.end - f);
    for (int64_t l = 0; l < used; ++l) {
      const int64_t start = p.Start(f + l);
      const float* x = part.data() + (start - first);
      if (start < 0 || start + p.n_fft > held) {  // the window is zero beyond the frame's length, but must be readable
        float* y = s.edge.data() + l * p.n_fft;
        for (int64_t i = 0; i < p.length; ++i) {
          int64_t at = start + i;
          while (at < 0 || at >= total) at = at < 0 ? -1 - at : 2 * total - 1 - at;
          y[i] = part[static_cast<size_t>(at - first)];
        }
        x = y;
      }
      s.pointers[l] = x;
      if (!p.emphasized && p.energy == EnergyKind::kNone) continue;
      const double mean = p.remove_mean ? k.speech.sum(x, p.length) / p.length : 0.0;
      s.offsets[static_cast<size_t>(l)] = mean - p.factor * mean;
      if (p.energy == EnergyKind::kNone) continue;
      const double energy = p.energy == EnergyKind::kRaw
                                ? k.speech.squares(x, p.length, mean) * p.scale * p.scale
                                : k.speech.emphasized_squares(x, p.energy_window.data(), p.length, p.factor, s.offsets[static_cast<size_t>(l)]);
      s.log_energy[l] = std::max(static_cast<float>(std::log(std::max(energy, static_cast<double>(std::numeric_limits<float>::epsilon())))), p.log_energy_floor);
    }
    for (int64_t l = used; l < lanes; ++l) {
      s.pointers[l] = s.pointers[used - 1];
      s.offsets[static_cast<size_t>(l)] = s.offsets[static_cast<size_t>(used - 1)];
    }
    if (p.emphasized) {
      k.audio.emphasized_spectrum(&p.spectrum->plan(), s.pointers, p.factor, s.offsets.data(), s.work.data(), p.spectrum_kind, p.bands->bin_lo,
                                  p.bands->bin_hi, s.bins.data());
    } else {
      k.audio.spectrum(&p.spectrum->plan(), s.pointers, s.work.data(), p.spectrum_kind, p.bands->bin_lo, p.bands->bin_hi, s.bins.data());
    }
    k.audio.bands(&p.bands->plan(), s.bins.data(), s.mel.data());
    if (p.log) k.speech.ln(s.mel.data(), values, p.floor);
    float* rows = to.data() + (f - out.begin) * p.columns;
    if (p.coefficients > 0) {
      k.speech.project(s.mel.data(), used, bands, lanes, p.basis.data(), p.basis_padded, p.coefficients, rows);
    } else {
      for (int64_t l = 0; l < used; ++l) {
        float* row = rows + l * p.columns + p.band_column;
        for (int64_t b = 0; b < bands; ++b) row[b] = s.mel[static_cast<size_t>(b * lanes + l)];
      }
    }
    for (int64_t l = 0; l < used && p.energy != EnergyKind::kNone; ++l) rows[l * p.columns] = s.log_energy[l];
  }
  const int64_t bad = k.audio.find_nonfinite(to.data(), static_cast<int64_t>(to.size()));
  if (bad < 0) return Status::Ok();
  return InvalidSignal(std::string(p.name) + ": a band of frame " + std::to_string(out.begin + bad / p.columns) +
                       " overflows float32; scale the samples down");
}

}  // namespace zoo
