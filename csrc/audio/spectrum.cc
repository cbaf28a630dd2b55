// SPDX-License-Identifier: Apache-2.0
#include "audio/spectrum.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

namespace zoo {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Radices of a complex transform of m points, the large ones first; empty when a prime above 5 is left.
std::vector<int32_t> Radices(int64_t m) {
  int twos = 0;
  std::vector<int32_t> odd;
  while (m % 2 == 0) m /= 2, ++twos;
  while (m % 5 == 0) m /= 5, odd.push_back(5);
  while (m % 3 == 0) m /= 3, odd.push_back(3);
  if (m != 1) return {};
  std::vector<int32_t> r;
  // 8s as far as they go; a rest of 1 becomes 4 * 4 instead of 8 * 2
  int eights = twos / 3, fours = 0, single = 0;
  if (twos % 3 == 2) {
    fours = 1;
  } else if (twos % 3 == 1) {
    if (eights > 0) {
      --eights;
      fours = 2;
    } else {
      single = 1;
    }
  }
  r.insert(r.end(), eights, 8);
  r.insert(r.end(), fours, 4);
  r.insert(r.end(), odd.begin(), odd.end());
  r.insert(r.end(), single, 2);
  return r;
}

// cos and sin of 2 pi k / n for 0 <= k < n, with the argument reduced to an eighth of the circle.
void CosSin(int64_t k, int64_t n, double* c, double* s) {
  k %= n;
  const int64_t eighth = 8 * k / n;
  const auto angle = [n](int64_t num) { return 2.0 * kPi * static_cast<double>(num) / static_cast<double>(n); };
  switch (eighth) {
    case 0: *c = std::cos(angle(k)), *s = std::sin(angle(k)); break;
    case 1:
    case 2: {
      const double a = 2.0 * kPi * static_cast<double>(4 * k - n) / (4.0 * static_cast<double>(n));
      *c = -std::sin(a), *s = std::cos(a);
      break;
    }
    case 3:
    case 4: {
      const double a = 2.0 * kPi * static_cast<double>(2 * k - n) / (2.0 * static_cast<double>(n));
      *c = -std::cos(a), *s = -std::sin(a);
      break;
    }
    case 5:
    case 6: {
      const double a = 2.0 * kPi * static_cast<double>(4 * k - 3 * n) / (4.0 * static_cast<double>(n));
      *c = std::sin(a), *s = -std::cos(a);
      break;
    }
    default: *c = std::cos(angle(k - n)), *s = std::sin(angle(k - n)); break;
  }
}

}  // namespace

bool FftSizeSupported(int64_t n) { return n >= 16 && n <= 65536 && n % 2 == 0 && !Radices(n / 2).empty(); }

Status FrameOptions::Validate() const {
  if (!FftSizeSupported(n_fft)) {
    return InvalidArgument("n_fft is " + std::to_string(n_fft) +
                           "; it must be even, a product of 2, 3 and 5, and between 16 and 65536");
  }
  if (hop_length < 1) return InvalidArgument("hop_length is " + std::to_string(hop_length) + "; it must be at least 1");
  if (win_length < 0 || win_length > n_fft) {
    return InvalidArgument("win_length is " + std::to_string(win_length) + "; it must lie between 1 and n_fft = " +
                           std::to_string(n_fft) + " (0 means n_fft)");
  }
  return Status::Ok();
}

int64_t FrameOptions::Frames(int64_t samples) const {
  if (samples < 1) return 0;
  if (center) return 1 + samples / hop_length;
  return samples < n_fft ? 0 : 1 + (samples - n_fft) / hop_length;
}

Status CheckWave(const char* op, Span<const float> wave, const FrameOptions& options) {
  if (wave.size() == 0) return InvalidSignal(std::string(op) + ": the signal has 0 samples");
  if (!options.center && static_cast<int64_t>(wave.size()) < options.n_fft) {
    return InvalidSignal(std::string(op) + ": the signal has " + std::to_string(wave.size()) +
                         " samples, fewer than one frame of n_fft = " + std::to_string(options.n_fft) +
                         "; use center=true or a longer signal");
  }
  return Status::Ok();
}

Result<std::unique_ptr<SpectrumTables>> SpectrumTables::Create(const FrameOptions& options) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  const int32_t n = options.n_fft, length = options.win_length == 0 ? n : options.win_length, left = (n - length) / 2;
  std::vector<double> window(static_cast<size_t>(n));
  for (int32_t i = 0; i < length; ++i) {
    double c, s;
    CosSin(i, length, &c, &s);
    const double a = options.window == Window::kHann ? 0.5 : 0.54;
    window[left + i] = length == 1 ? 1.0 : a - (1.0 - a) * c;
  }
  return Create(n, window);
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<SpectrumTables>> SpectrumTables::Create(int32_t n, const std::vector<double>& window) try {
  auto t = std::unique_ptr<SpectrumTables>(new SpectrumTables);
  const int32_t half = n / 2;
  SpectrumPlan& p = t->plan_;
  p.n = n;
  p.half = half;
  const std::vector<int32_t> radix = Radices(half);
  p.stages = static_cast<int32_t>(radix.size());

  size_t total = 0;
  for (int64_t s = 0, length = half; s < p.stages; length /= radix[s], ++s) {
    total += static_cast<size_t>(length / radix[s]) * (radix[s] - 1) * 2;
  }
  if (!t->twiddle_.Reserve(total) || !t->window_.Reserve(n) || !t->untangle_.Reserve(2 * static_cast<size_t>(half))) {
    return OutOfMemory();
  }
  double* tw = t->twiddle_.data();
  int64_t length = half;
  for (int s = 0; s < p.stages; ++s) {
    const int32_t r = radix[s];
    p.radix[s] = r;
    p.twiddle[s] = tw;
    for (int64_t j = 0; j < length / r; ++j) {
      for (int32_t q = 1; q < r; ++q, tw += 2) {
        CosSin(j * q, length, &tw[0], &tw[1]);
        tw[1] = -tw[1];
      }
    }
    length /= r;
  }

  const int32_t block = half / radix[0];
  p.block_stride = block > 1 ? block + 1 : block;
  t->position_.resize(static_cast<size_t>(block));
  for (int32_t k = 0; k < block; ++k) {
    int32_t rest = k, pos = 0, len = block;
    for (int s = 1; s < p.stages; ++s) {
      len /= radix[s];
      pos += rest % radix[s] * len;
      rest /= radix[s];
    }
    t->position_[k] = pos;
  }
  p.position = t->position_.data();

  for (int64_t k = 0; k < half; ++k) {
    double c, s;
    CosSin(k, n, &c, &s);
    t->untangle_[2 * k] = -s;  // -i (c - i s)
    t->untangle_[2 * k + 1] = -c;
  }
  p.untangle = t->untangle_.data();

  for (size_t i = 0; i < window.size(); ++i) t->window_[i] = 0.5 * window[i];
  p.window = t->window_.data();
  return t;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

// ------------------------------------------------------------------------------------------------------ mel bands

Status MelOptions::Validate() const {
  ZOO_RETURN_IF_ERROR(FrameOptions::Validate());
  if (rate < 1 || rate > 768000) return InvalidArgument("rate is " + std::to_string(rate) + " Hz; it must lie between 1 and 768000");
  if (n_mels < 1 || n_mels > 4096) return InvalidArgument("n_mels is " + std::to_string(n_mels) + "; it must lie between 1 and 4096");
  if (power != 1.0 && power != 2.0) return InvalidArgument("power is " + std::to_string(power) + "; it must be 1 or 2");
  const double top = fmax.value_or(rate / 2.0);
  if (!(fmin >= 0.0) || !(top > fmin) || !std::isfinite(top)) {
    return InvalidArgument("fmin is " + std::to_string(fmin) + " Hz and fmax " + std::to_string(top) +
                           " Hz; 0 <= fmin < fmax must hold");
  }
  return Status::Ok();
}

namespace {

double HzToMel(double f, bool htk) {
  if (htk) return 2595.0 * std::log10(1.0 + f / 700.0);
  const double step = 200.0 / 3, min_log_hz = 1000.0, min_log_mel = min_log_hz / step, logstep = std::log(6.4) / 27.0;
  return f >= min_log_hz ? min_log_mel + std::log(f / min_log_hz) / logstep : f / step;
}

double MelToHz(double m, bool htk) {
  if (htk) return 700.0 * (std::pow(10.0, m / 2595.0) - 1.0);
  const double step = 200.0 / 3, min_log_hz = 1000.0, min_log_mel = min_log_hz / step, logstep = std::log(6.4) / 27.0;
  return m >= min_log_mel ? min_log_hz * std::exp(logstep * (m - min_log_mel)) : step * m;
}

}  // namespace

Result<std::unique_ptr<BandTables>> BandTables::CreateMel(const MelOptions& options) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  const double top = options.fmax.value_or(options.rate / 2.0);
  const double lo = HzToMel(options.fmin, options.htk), hi = HzToMel(top, options.htk);
  std::vector<double> edge(static_cast<size_t>(options.n_mels) + 2);
  const double step = (hi - lo) / (options.n_mels + 1);
  for (size_t i = 0; i < edge.size(); ++i) edge[i] = MelToHz(i + 1 == edge.size() ? hi : lo + static_cast<double>(i) * step, options.htk);
  const double resolution = static_cast<double>(options.rate) / options.n_fft;
  return Create(options.n_mels, options.n_fft / 2 + 1, [&](int32_t b, int32_t k) {
    const double f = k * resolution, norm = options.norm == MelNorm::kSlaney ? 2.0 / (edge[b + 2] - edge[b]) : 1.0;
    const double lower = (f - edge[b]) / (edge[b + 1] - edge[b]), upper = (edge[b + 2] - f) / (edge[b + 2] - edge[b + 1]);
    return static_cast<float>(static_cast<double>(static_cast<float>(std::max(0.0, std::min(lower, upper)))) * norm);
  });
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<BandTables>> BandTables::Create(int32_t bands, int32_t bins,
                                                       const std::function<float(int32_t, int32_t)>& weight) try {
  auto t = std::unique_ptr<BandTables>(new BandTables);
  t->bin_lo = bins;
  for (int32_t b = 0; b < bands; ++b) {
    int32_t first = 0, count = 0;
    const size_t offset = t->weight_.size();
    for (int32_t k = 0; k < bins; ++k) {
      const float w = weight(b, k);
      if (w == 0.0f) continue;
      if (count == 0) first = k;
      while (first + count < k) t->weight_.push_back(0.0f), ++count;
      t->weight_.push_back(w);
      ++count;
    }
    if (count > 0) {
      t->bin_lo = std::min(t->bin_lo, first);
      t->bin_hi = std::max(t->bin_hi, first + count);
    }
    t->first_.push_back(first);
    t->count_.push_back(count);
    t->offset_.push_back(static_cast<int32_t>(offset));
  }
  if (t->bin_lo >= t->bin_hi) t->bin_lo = 0, t->bin_hi = 1;
  for (size_t b = 0; b < t->first_.size(); ++b) t->first_[b] = t->count_[b] > 0 ? t->first_[b] - t->bin_lo : 0;
  t->plan_ = {bands, t->first_.data(), t->count_.data(), t->offset_.data(), t->weight_.data()};
  return t;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

// --------------------------------------------------------------------------------------------------------- framing

Status Framer::Init(const FrameOptions& options, int32_t lanes) {
  if (!edge_.Reserve(static_cast<size_t>(options.n_fft) * lanes)) return OutOfMemory();
  return Status::Ok();
}

void Framer::Batch(const FrameOptions& o, Span<const float> wave, int64_t frame, int64_t frames, int32_t lanes,
                   const float** out) noexcept {
  const int64_t n = static_cast<int64_t>(wave.size());
  for (int32_t l = 0; l < lanes; ++l) {
    const int64_t f = frame + l;
    if (f >= frames) {
      out[l] = out[l - 1];
      continue;
    }
    const int64_t start = f * o.hop_length - (o.center ? o.n_fft / 2 : 0);
    if (start >= 0 && start + o.n_fft <= n) {
      out[l] = wave.data() + start;
      continue;
    }
    float* e = edge_.data() + static_cast<int64_t>(l) * o.n_fft;
    const int64_t lo = std::clamp<int64_t>(-start, 0, o.n_fft), hi = std::clamp<int64_t>(n - start, lo, o.n_fft);
    if (o.pad_mode == PadMode::kConstant) {
      std::memset(e, 0, static_cast<size_t>(lo) * sizeof(float));
      std::memset(e + hi, 0, static_cast<size_t>(o.n_fft - hi) * sizeof(float));
    } else {
      const int64_t period = n > 1 ? 2 * (n - 1) : 1;
      for (int64_t i = 0; i < o.n_fft; ++i) {
        if (i == lo) i = hi;
        if (i >= o.n_fft) break;
        int64_t at = (start + i) % period;
        if (at < 0) at += period;
        if (at >= n) at = period - at;
        e[i] = wave[static_cast<size_t>(at)];
      }
    }
    if (hi > lo) std::memcpy(e + lo, wave.data() + start + lo, static_cast<size_t>(hi - lo) * sizeof(float));
    out[l] = e;
  }
}

// ------------------------------------------------------------------------------------------------------------- DCT

Status MakeDctBasis(int32_t inner, int32_t cols, Buffer<float>* basis, int32_t* padded) {
  // a tile of three 16-lane vectors may be loaded from the last started tile on
  *padded = (cols + 47) / 48 * 48;
  if (!basis->Reserve(static_cast<size_t>(inner) * *padded)) return OutOfMemory();
  for (int32_t m = 0; m < inner; ++m) {
    for (int32_t c = 0; c < cols; ++c) {
      const double scale = std::sqrt((c == 0 ? 1.0 : 2.0) / inner);
      double cs, sn;
      CosSin(static_cast<int64_t>(c) * (2 * m + 1), static_cast<int64_t>(4) * inner, &cs, &sn);
      (*basis)[static_cast<size_t>(m) * *padded + c] = static_cast<float>(scale * cs);
    }
  }
  return Status::Ok();
}

}  // namespace zoo
