// SPDX-License-Identifier: Apache-2.0
// openSMILE keeps most tables in float32; where that moves a band's edge or a shift by more than rounding, so do we.
#include "lld/plans.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace zoo {
namespace {

constexpr double kPi = 3.14159265358979323846;

int32_t PowerOfTwo(int32_t n) {
  int32_t p = 4;
  while (p < n) p *= 2;
  return p;
}

// Symmetric windows, unlike those of zoo/spectral.h.
std::vector<double> Hamming(int32_t n) {
  std::vector<double> w(static_cast<size_t>(n));
  for (int32_t i = 0; i < n; ++i) w[i] = 0.54 - 0.46 * std::cos(2.0 * kPi * i / (n - 1.0));
  return w;
}

std::vector<double> Gauss(int32_t n, double sigma) {
  std::vector<double> w(static_cast<size_t>(n));
  const double middle = (n - 1.0) / 2.0;
  for (int32_t i = 0; i < n; ++i) {
    const double z = (i - middle) / (sigma * middle);
    w[i] = std::exp(-0.5 * z * z);
  }
  return w;
}

float Mel(float hz) { return hz > 0 ? static_cast<float>(1127.0 * std::log(1.0 + static_cast<double>(hz) / 700.0)) : 0.0f; }

// Triangles with equal spacing on the mel scale, in float32. Bins at and beyond both edges (rounded to bins) are left out.
Result<std::unique_ptr<BandTables>> MelBands(int32_t count, double low_hz, double high_hz, int32_t fft, double padded_seconds) {
  const int32_t bins = fft / 2 + 1;
  const float resolution = static_cast<float>(1.0 / padded_seconds);
  const float nyquist = static_cast<float>(fft / padded_seconds) / 2.0f;
  const float low = static_cast<float>(low_hz), high = std::min(static_cast<float>(high_hz), nyquist);
  const int64_t first = std::lround(low / resolution), last = std::min<int64_t>(std::lround(high / resolution), bins);
  const float start = Mel(low), step = (Mel(high) - start) / static_cast<float>(count + 1);
  std::vector<float> edge(static_cast<size_t>(count) + 2), position(static_cast<size_t>(bins));
  for (size_t i = 0; i < edge.size(); ++i) edge[i] = start + static_cast<float>(i) * step;
  for (int32_t k = 0; k < bins; ++k) position[k] = Mel(static_cast<float>(k) * resolution);
  return BandTables::Create(count, bins, [&](int32_t band, int32_t bin) {
    const float m = position[bin];
    if (bin <= first || bin >= last || m <= edge[band] || m > edge[band + 2]) return 0.0f;
    if (m > edge[band + 1]) return (edge[band + 2] - m) / (edge[band + 2] - edge[band + 1]);
    return 1.0f - (edge[band + 1] - m) / (edge[band + 1] - edge[band]);
  });
}

}  // namespace

// The spectrum of a padded frame becomes a signal at about lpc_rate: a whole number of samples for the unpadded frame.
// Harmonics stop at half that number, which for padded frames lies below half the new rate.
void LldPlans::MakeResample(const LldOptions& o, double padded_seconds) {
  const double period = 1.0 / o.rate, seconds = fft == frame ? padded_seconds : o.frame;
  const double share = seconds / padded_seconds, ratio = o.lpc_rate / (1.0 / period);
  const double samples = std::round(fft * ratio * share);
  const double circle = fft == frame ? samples : fft * (samples / (fft * share));
  const int32_t n = static_cast<int32_t>(samples), limit = std::min(fft, n) / 2 * 2;
  const int32_t half = (n + 1) / 2, tiles = (half + kResampleTile - 1) / kResampleTile, harmonics = limit / 2 - 1;
  const auto angle = [&](int64_t k, double at) { return 2.0 * kPi * static_cast<double>(k) * at / circle; };
  const double middle = (n - 1) / 2.0, nearest = n % 2 == 0 ? 0.5 : 0.0;
  resample = {n, harmonics, fft / 2, nullptr, nullptr, nullptr};
  if (!wave_.Reserve(static_cast<size_t>(tiles) * harmonics * kResampleTile * 2)) throw std::bad_alloc();
  for (int32_t k = 1; k <= harmonics; ++k) {
    turn_.push_back(std::cos(angle(k, middle)));
    turn_.push_back(std::sin(angle(k, middle)));
  }
  double* w = wave_.data();
  for (int32_t tile = 0; tile < tiles; ++tile) {
    for (int32_t k = 1; k <= harmonics; ++k) {
      for (int32_t t = 0; t < kResampleTile; ++t, w += 2) {
        const double distance = nearest + tile * kResampleTile + t;
        w[0] = std::cos(angle(k, distance));
        w[1] = -std::sin(angle(k, distance));
      }
    }
  }
  resample.turn = turn_.data();
  resample.wave = wave_.data();
  if (n >= fft) {
    for (int32_t i = 0; i < n; ++i) nyquist_.push_back(std::cos(angle(fft / 2, i)));
    resample.nyquist = nyquist_.data();
  }
}

void LldPlans::MakeOctave(const LldOptions& o, double padded_seconds) {
  const int32_t n = pitch_fft / 2 + 1;
  const double resolution = 1.0 / static_cast<double>(static_cast<float>(padded_seconds));
  const double high = resolution * (n - 1);
  const auto octaves = [](double hz) { return std::log(hz) / std::log(2.0); };
  std::vector<double> x(static_cast<size_t>(n));
  for (int32_t i = 1; i < n; ++i) x[i] = octaves(i * resolution);
  x[0] = 2.0 * x[1] - x[2];  // there is no logarithm of 0 Hz
  const double first = octaves(o.octave_low), last = octaves(high), step = (last - first) / (n - 1);

  // natural spline: second derivatives d of -h0 d[i-1] - 2 (h0 + h1) d[i] - h1 d[i+1] = ..., eliminated once for all frames
  forward_.assign(static_cast<size_t>(n) * 4, 0.0);
  back_.assign(static_cast<size_t>(n), 0.0);
  for (int32_t i = 1; i + 1 < n; ++i) {
    const double below = x[i] - x[i - 1], above = x[i + 1] - x[i], both = x[i + 1] - x[i - 1];
    const double pivot = 1.0 / (below / both * back_[i - 1] + 2.0);
    back_[i] = (below / both - 1.0) * pivot;
    double* f = &forward_[4 * static_cast<size_t>(i)];
    f[0] = 6.0 * pivot / (above * both);
    f[2] = 6.0 * pivot / (below * both);
    f[1] = -(f[0] + f[2]);
    f[3] = -below / both * pivot;
  }
  knot_.assign(static_cast<size_t>(n), 0);
  weight_.assign(static_cast<size_t>(n) * 4, 0.0);
  int32_t upper = 1;
  for (int32_t i = 0; i < n; ++i) {
    const double at = first + i * step;
    while (upper < n - 1 && x[upper] < at) ++upper;
    const double width = x[upper] - x[upper - 1], a = (x[upper] - at) / width, b = 1.0 - a;
    knot_[i] = upper - 1;
    double* w = &weight_[4 * static_cast<size_t>(i)];
    w[0] = a;
    w[1] = b;
    w[2] = (a * a * a - a) * width * width / 6.0;
    w[3] = (b * b * b - b) * width * width / 6.0;
  }
  octave = {n, forward_.data(), back_.data(), knot_.data(), weight_.data()};

  octave_first = static_cast<float>(first);
  octave_step = (static_cast<float>(last) - octave_first) / static_cast<float>(n - 1);
  const float per_octave = static_cast<float>(n / octaves(high / o.octave_low));
  harmonics = {n, o.harmonics, {}, {}};
  float scale = 1.0f;
  for (int32_t h = 0; h < o.harmonics; ++h, scale *= static_cast<float>(o.compression)) {
    harmonics.shift[h] = static_cast<int32_t>(std::floor(static_cast<double>(per_octave) * octaves(h + 1)));
    harmonics.scale[h] = scale;
  }
}

Result<std::unique_ptr<LldPlans>> LldPlans::Create(const LldOptions& o) try {
  ZOO_RETURN_IF_ERROR(o.Validate());
  auto p = std::make_unique<LldPlans>();
  const double period = 1.0 / o.rate;
  p->frame = static_cast<int32_t>(std::lround(o.frame / period));
  p->pitch_frame = static_cast<int32_t>(std::lround(o.pitch_frame / period));
  p->hop = static_cast<int32_t>(std::lround(o.hop / period));
  p->fft = PowerOfTwo(p->frame);
  p->pitch_fft = PowerOfTwo(p->pitch_frame);

  const std::vector<double> hamming = Hamming(p->frame);
  auto spectrum = SpectrumTables::Create(p->fft, hamming);
  if (!spectrum.ok()) return spectrum.status();
  p->spectrum = std::move(spectrum.value());
  auto pitch = SpectrumTables::Create(p->pitch_fft, Gauss(p->pitch_frame, o.pitch_sigma));
  if (!pitch.ok()) return pitch.status();
  p->pitch_spectrum = std::move(pitch.value());
  double sum = 0;
  for (double w : hamming) sum += w;
  p->loudness = static_cast<float>(hamming[0] / sum / 1e-6);  // relative to 60 dB below full scale

  const double padded = o.frame * (static_cast<double>(p->fft) / p->frame);
  auto mel = MelBands(kMel, o.mel_low, o.mel_high, p->fft, padded);
  if (!mel.ok()) return mel.status();
  p->mel = std::move(mel.value());
  auto bands = MelBands(kBands, o.band_low, o.band_high, p->fft, padded);
  if (!bands.ok()) return bands.status();
  p->bands = std::move(bands.value());
  for (int32_t c = 0; c < kCepstra; ++c) {
    for (int32_t m = 0; m < kMel; ++m) p->cosine.push_back(static_cast<float>(std::cos(kPi * c / kMel * (m + 0.5))));
    p->lifter.push_back(static_cast<float>((1.0 + o.cepstral_lifter / 2.0 * std::sin(kPi * c / o.cepstral_lifter)) * std::sqrt(2.0 / kMel)));
  }
  p->MakeResample(o, padded);
  p->MakeOctave(o, o.pitch_frame * (static_cast<double>(p->pitch_fft) / p->pitch_frame));
  return p;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

}  // namespace zoo
