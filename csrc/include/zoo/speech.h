// SPDX-License-Identifier: Apache-2.0
// Features of speech recognisers: Kaldi's filter banks and cepstra, DeepSpeech's cepstra and context, and normalisation.
#ifndef ZOO_SPEECH_H_
#define ZOO_SPEECH_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "zoo/isa.h"
#include "zoo/signal.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

enum class KaldiWindow : int32_t { kPovey, kHamming, kHanning, kRectangular, kBlackman };  // symmetric

// Kaldi's frame extraction and mel bands; no dither, so that equal samples give equal features.
struct KaldiOptions {
  int32_t rate = 16000;         // Hz
  double scale = 32768.0;       // samples are multiplied by it first; Kaldi reads integers of 16 bits, this library [-1, 1)
  double frame_length_ms = 25.0;
  double frame_shift_ms = 10.0;
  double preemph_coeff = 0.97;  // 0 to 1
  bool remove_dc_offset = true;  // subtract each frame's mean
  KaldiWindow window_type = KaldiWindow::kPovey;
  double blackman_coeff = 0.42;
  bool round_to_power_of_two = true;  // zero-pad frames for the FFT
  bool snip_edges = true;  // only frames within the signal; else frames are centred and edges mirrored
  int32_t num_bins = 23;
  double low_freq = 20.0;  // Hz
  double high_freq = 0.0;  // Hz; 0 or below: added to rate / 2
  double energy_floor = 0.0;  // of the energy itself, not its logarithm; 0: none
  bool raw_energy = true;     // energy before pre-emphasis and window
};

// [frames, num_bins], with use_energy [frames, 1 + num_bins], the log energy first.
struct KaldiFbankOptions : KaldiOptions {
  bool use_energy = false;
  bool use_log_fbank = true;  // natural logarithm, floored at 2^-23
  bool use_power = true;      // else the magnitude
};

// [frames, num_ceps]; with use_energy the log energy takes the place of c0.
struct KaldiMfccOptions : KaldiOptions {
  int32_t num_ceps = 13;
  bool use_energy = true;
  double cepstral_lifter = 22.0;  // 0: none
};

// TensorFlow's mfcc op on audio_spectrogram, as DeepSpeech calls them: [frames, n_mfcc].
struct DeepSpeechMfccOptions {
  int32_t rate = 16000;  // Hz
  int32_t win_length = 512;  // samples; periodic Hann window, zero-padded to a power of two
  int32_t hop_length = 320;
  int32_t n_mels = 40;
  int32_t n_mfcc = 26;
  double fmin = 20.0;           // Hz
  std::optional<double> fmax;   // Hz; none means rate / 2
};

// Features of the frames of a mono signal. Each frame depends on its own samples only.
class FrameFeatures {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  static Result<FrameFeatures> Create(const KaldiFbankOptions& options, const std::string& isa = "");
  static Result<FrameFeatures> Create(const KaldiMfccOptions& options, const std::string& isa = "");
  static Result<FrameFeatures> Create(const DeepSpeechMfccOptions& options, const std::string& isa = "");
  FrameFeatures(FrameFeatures&&) noexcept;
  ~FrameFeatures();

  const char* name() const noexcept;  // of the op
  int32_t rate() const noexcept;      // Hz
  int32_t columns() const noexcept;   // values a frame
  int32_t length() const noexcept;    // samples of a frame
  int64_t Frames(int64_t samples) const noexcept;
  // Samples, within [0, samples), that frames `out` depend on.
  Range Needed(Range out, int64_t samples) const noexcept;
  // Leading frames that samples [0, samples) determine, whatever follows.
  int64_t Ready(int64_t samples) const noexcept;

  Result<std::unique_ptr<State>> NewState() const;
  // part: samples from index `first` on of a signal of `total`; covers Needed(out). to: out.size() * columns(). The bits
  // of a frame do not depend on the others. No allocation. An error when a band overflows float32.
  Status Compute(Span<const float> part, int64_t first, int64_t total, Range out, Span<float> to, State& state) const noexcept;

  struct Impl;

 private:
  explicit FrameFeatures(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Each row with the rows around it: [rows, columns] -> [rows, (before + 1 + after) * columns], zeros beyond the ends.
struct ContextOptions {
  int64_t before = 9, after = 9;  // rows, 0 to 10000
  Status Validate() const;
  int64_t Width(int64_t columns) const noexcept { return (before + 1 + after) * columns; }
  Range Needed(Range out, int64_t rows) const noexcept;
  Status Compute(Span<const float> part, int64_t first, int64_t total, int64_t columns, Range out, Span<float> to) const noexcept;
};

// Mean and variance normalisation of each column over all rows (Kaldi's apply-cmvn with the clip's own statistics).
struct CmvnOptions {
  bool norm_means = true;
  bool norm_vars = false;  // divide by the standard deviation; needs norm_means
  Status Validate() const;
};

class Cmvn {
 public:
  static Result<Cmvn> Create(const CmvnOptions& options, const std::string& isa = "");
  // Row-major; out must not overlap in.
  Status Compute(Span<const float> in, int64_t columns, Span<float> out) const noexcept;

 private:
  Cmvn(const CmvnOptions& o, const Kernels* k) : options_(o), kernels_(k) {}
  CmvnOptions options_;
  const Kernels* kernels_;
};

// The same over the rows around each one (Kaldi's apply-cmvn-sliding).
struct SlidingCmvnOptions {
  int64_t window = 600;      // rows
  int64_t min_window = 100;  // rows that are waited for at the start when not centred
  bool center = false;       // a window of `window` rows around each row, else the row and the `window` rows before it
  bool norm_vars = false;    // divide by the standard deviation
  Status Validate() const;
  Range Window(int64_t row, int64_t rows) const noexcept;
  int64_t Ready(int64_t rows) const noexcept;
};

class SlidingCmvn {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  static Result<SlidingCmvn> Create(const SlidingCmvnOptions& options, const std::string& isa = "");
  const SlidingCmvnOptions& options() const noexcept { return options_; }
  Range Needed(Range out, int64_t rows) const noexcept;
  Result<std::unique_ptr<State>> NewState() const;
  Status Reserve(int64_t rows, int64_t columns, State& state) const noexcept;  // the only place that allocates
  // part: rows from `first` on of `total`; covers Needed(out). The bits of a row do not depend on how rows are divided.
  Status Compute(Span<const float> part, int64_t first, int64_t total, int64_t columns, Range out, Span<float> to,
                 State& state) const noexcept;

 private:
  SlidingCmvn(const SlidingCmvnOptions& o, const Kernels* k) : options_(o), kernels_(k) {}
  SlidingCmvnOptions options_;
  const Kernels* kernels_;
};

// (x - mean) / sqrt(variance + epsilon) of a whole signal, in float64.
class WaveNormalize {
 public:
  static Result<WaveNormalize> Create(double epsilon = 1e-7, const std::string& isa = "");
  Status Compute(Span<const float> in, Span<float> out) const noexcept;  // out must not overlap in

 private:
  WaveNormalize(double epsilon, const Kernels* k) : epsilon_(epsilon), kernels_(k) {}
  double epsilon_;
  const Kernels* kernels_;
};

}  // namespace zoo

#endif  // ZOO_SPEECH_H_
