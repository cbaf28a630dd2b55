// SPDX-License-Identifier: Apache-2.0
// The 38 low-level descriptors (LLD) of openSMILE's emobase2010 and their deltas, numerically as openSMILE 3 computes them
// from 16-bit samples (docs/lld.md has the definition of each and the differences that remain).
#ifndef ZOO_LLD_H_
#define ZOO_LLD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "zoo/isa.h"
#include "zoo/signal.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

struct LldOptions {
  int32_t rate = 16000;  // Hz of the signal: lengths of frames, filter banks and the search for periods depend on it

  // spectral frames
  double frame = 0.025, hop = 0.010;  // s; the hop is that of the pitch frames too
  double preemphasis = 0.97;
  double mel_low = 20, mel_high = 8000;    // Hz, 26 bands of the MFCC; the upper edge is at most rate / 2
  double band_low = 20, band_high = 6500;  // Hz, 8 bands of the log mel spectrum
  double cepstral_lifter = 22;
  double lpc_rate = 11000;  // Hz of the signal that the linear prediction sees
  // pitch frames
  double pitch_frame = 0.060;   // s
  double pitch_sigma = 0.25;    // of the Gaussian window, in half lengths of the frame
  double octave_low = 25;       // Hz, where the octave scale starts
  int32_t harmonics = 15;       // spectra that are summed
  double compression = 0.85;    // weight of a harmonic relative to the one below
  double f0_min = 52, f0_max = 620;  // Hz
  double voicing_cutoff = 0.70;      // a frame is voiced above it
  // periods
  double search_range = 0.25;  // lags tried around the pitch period, relative

  Status Validate() const;
};

class Lld {
 public:
  // Columns of a row: the spectral and pitch descriptors (group A), F0, jitter and shimmer (group B), the deltas of both.
  static constexpr int32_t kSpectral = 32, kGroupA = 34, kGroupB = 4, kValues = kGroupA + kGroupB, kColumns = 2 * kValues;

  class State {  // scratch of one thread, and what is carried from chunk to chunk
   public:
    virtual ~State() = default;
  };
  static Result<Lld> Create(const LldOptions& options, const std::string& isa = "");
  Lld(Lld&&) noexcept;
  ~Lld();
  const LldOptions& options() const noexcept;
  // Rows of a whole signal: one a pitch frame when there are at least two, else 0.
  int64_t Frames(int64_t samples) const noexcept;
  // Leading rows that depend on the first `samples` samples only.
  int64_t Ready(int64_t samples) const noexcept;
  // Samples of the shortest signal with rows.
  int64_t Shortest() const noexcept;

  Result<std::unique_ptr<State>> NewState() const;
  // Begins a new signal.
  void Start(State& state) const noexcept;
  // The first sample that later rows still depend on, and the number of rows so far.
  int64_t Needed(const State& state) const noexcept;
  int64_t Rows(const State& state) const noexcept;
  // Computes every row that samples [0, end) determine, end = first + wave.size(); with `last` the signal ends there.
  // wave: mono in [-1, 1], at least the samples from Needed() on, the first of which is sample `first`.
  // out: [rows, kColumns], rows = Ready(end) - Rows(), with `last` Frames(end) - Rows(). No allocation.
  Status Push(Span<const float> wave, int64_t first, bool last, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  explicit Lld(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_LLD_H_
