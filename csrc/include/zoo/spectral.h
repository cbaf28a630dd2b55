// SPDX-License-Identifier: Apache-2.0
// Short-time spectra and what is built on them, numerically as librosa 0.11 computes them. Matrices are row-major
// with time first: [frames, columns] (librosa's are the transpose).
#ifndef ZOO_SPECTRAL_H_
#define ZOO_SPECTRAL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "zoo/isa.h"
#include "zoo/signal.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

enum class Window : int32_t { kHann, kHamming };       // periodic, as scipy.signal.get_window(fftbins=True)
enum class PadMode : int32_t { kConstant, kReflect };  // of centred frames: zeros, or mirrored without the edge
enum class MelNorm : int32_t { kSlaney, kNone };
enum class StftOutput : int32_t { kComplex, kPower, kMagnitude };

struct FrameOptions {
  int32_t n_fft = 2048;     // samples a frame; even, 2^a 3^b 5^c, 16 to 65536
  int32_t hop_length = 512;  // samples between frames
  int32_t win_length = 0;   // samples of the window, centred in the frame; 0 means n_fft
  Window window = Window::kHann;
  bool center = true;  // frame t is centred at sample t * hop_length, else starts there
  PadMode pad_mode = PadMode::kConstant;

  Status Validate() const;
  // 1 + n / hop_length (centred) or 1 + (n - n_fft) / hop_length; 0 when there is no frame.
  int64_t Frames(int64_t samples) const;
  // Samples, within [0, samples), that frames `frames` depend on.
  Range Needed(Range frames, int64_t samples) const;
  // Leading frames that samples [0, samples) determine, whatever follows them.
  int64_t Ready(int64_t samples) const;
  // With the first `samples` samples seen, the first that frames from `next` on can still depend on; next >= Ready(samples).
  int64_t Keep(int64_t next, int64_t samples) const;
};

// Samples from index `first` on of a signal of `total` samples.
struct Signal {
  Span<const float> part;
  int64_t first = 0, total = 0;
  // A whole signal.
  static Signal Whole(Span<const float> wave) { return {wave, 0, static_cast<int64_t>(wave.size())}; }
};

struct StftOptions : FrameOptions {
  StftOutput output = StftOutput::kComplex;
};

struct MelOptions : FrameOptions {
  int32_t rate = 22050;  // Hz
  int32_t n_mels = 128;
  double power = 2.0;                // of the magnitude: 1 or 2
  double fmin = 0.0;                 // Hz
  std::optional<double> fmax;        // Hz; none means rate / 2
  bool htk = false;                  // HTK's mel scale instead of Slaney's
  MelNorm norm = MelNorm::kSlaney;   // each filter divided by half its width in Hz

  Status Validate() const;
};

struct DecibelOptions {
  double ref = 1.0;    // 0 dB
  double amin = 1e-10;  // floor of the power
  std::optional<double> top_db = 80.0;  // clip to this far below the largest value; none: no clip

  Status Validate() const;
};

struct MfccOptions : MelOptions {
  int32_t n_mfcc = 39;
  DecibelOptions db;

  Status Validate() const;
};

// [frames, bins, 2] when complex, else [frames, bins]; bins = n_fft / 2 + 1.
class Stft {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  static Result<Stft> Create(const StftOptions& options, const std::string& isa = "");
  Stft(Stft&&) noexcept;
  ~Stft();
  const StftOptions& options() const noexcept;
  int32_t columns() const noexcept;  // floats a frame
  Result<std::unique_ptr<State>> NewState() const;
  // wave: mono; its part must cover Needed(frames). out: frames.size() * columns(). No allocation. The bits do not depend on
  // how frames are divided into ranges.
  Status Compute(const Signal& wave, Range frames, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  explicit Stft(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Mel spectrogram [frames, n_mels].
class Mel {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  static Result<Mel> Create(const MelOptions& options, const std::string& isa = "");
  Mel(Mel&&) noexcept;
  ~Mel();
  const MelOptions& options() const noexcept;
  Result<std::unique_ptr<State>> NewState() const;
  // As Stft's.
  Status Compute(const Signal& wave, Range frames, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  explicit Mel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Cepstral coefficients [frames, n_mfcc]: mel spectrogram, decibels, orthonormal DCT-II.
class Mfcc {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  static Result<Mfcc> Create(const MfccOptions& options, const std::string& isa = "");
  Mfcc(Mfcc&&) noexcept;
  ~Mfcc();
  const MfccOptions& options() const noexcept;
  Result<std::unique_ptr<State>> NewState() const;
  // Grows the state's scratch for so many frames at a time; the only place that allocates. Needed with top_db only, which
  // looks at all frames before it can finish one.
  Status Reserve(int64_t frames, State& state) const noexcept;
  // As Stft's; with top_db, the largest value is that of `frames`, and it is an error when the state was not reserved.
  Status Compute(const Signal& wave, Range frames, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  explicit Mfcc(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// 10 log10(max(amin, x) / max(amin, ref)), clipped to top_db below the largest.
class PowerToDb {
 public:
  static Result<PowerToDb> Create(const DecibelOptions& options, const std::string& isa = "");
  const DecibelOptions& options() const noexcept { return options_; }
  Status Compute(Span<const float> in, Span<float> out) const noexcept;

 private:
  PowerToDb(const DecibelOptions& o, const Kernels* k) : options_(o), kernels_(k) {}
  DecibelOptions options_;
  const Kernels* kernels_;
};

enum class LogBase : int32_t { kE, k10, k2 };

struct LogOptions {
  LogBase base = LogBase::kE;
  double amin = 1e-10;  // smaller values, negative ones too, count as this

  Status Validate() const;
};

// log(max(amin, x)), value by value: within 0.51 ulp of float32.
class Log {
 public:
  static Result<Log> Create(const LogOptions& options, const std::string& isa = "");
  const LogOptions& options() const noexcept { return options_; }
  Status Compute(Span<const float> in, Span<float> out) const noexcept;

 private:
  Log(const LogOptions& o, const Kernels* k) : options_(o), kernels_(k) {}
  LogOptions options_;
  const Kernels* kernels_;
};

struct DctOptions {
  int32_t n_in = 128;   // values a row
  int32_t n_out = 39;   // coefficients kept
  Status Validate() const;
};

// Orthonormal DCT-II of each row: [rows, n_in] -> [rows, n_out].
class Dct {
 public:
  static Result<Dct> Create(const DctOptions& options, const std::string& isa = "");
  Dct(Dct&&) noexcept;
  ~Dct();
  const DctOptions& options() const noexcept;
  Status Compute(Span<const float> in, Span<float> out) const noexcept;

 private:
  struct Impl;
  explicit Dct(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_SPECTRAL_H_
