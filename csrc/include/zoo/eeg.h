// SPDX-License-Identifier: Apache-2.0
// Ops on EEG, float64 [samples, channels]: filters, power of bands, and maps of the scalp.
#ifndef ZOO_EEG_H_
#define ZOO_EEG_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "zoo/isa.h"
#include "zoo/signal.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

// ---------------------------------------------------------------------------------------------------------- filters

enum class FilterKind : int32_t { kLowpass, kHighpass, kBandpass, kBandstop, kNotch };
enum class FilterDesign : int32_t { kButterworth, kFir };
enum class FilterPhase : int32_t { kCausal, kZero };
enum class FilterInitial : int32_t { kZero, kSteady };  // steady: as if the first sample had lasted for ever
enum class FilterPad : int32_t { kOdd, kEven, kConstant, kNone };
enum class FirWindow : int32_t { kHamming, kHann, kBlackman };

struct FilterOptions {
  double rate = 0;  // Hz
  FilterKind kind = FilterKind::kBandpass;
  FilterDesign design = FilterDesign::kButterworth;
  std::vector<double> freqs;  // Hz, within (0, rate / 2): one, or the two edges of a band
  int32_t order = 4;          // Butterworth: 1 to 32; bands have twice as many poles
  double q = 30;              // notch: freqs[0] / its width at -3 dB
  int32_t taps = 0;           // FIR: length; 0: from transitions of max(2 Hz, a quarter of the edge), each edge its own
  FirWindow window = FirWindow::kHamming;
  FilterPhase phase = FilterPhase::kCausal;
  FilterInitial initial = FilterInitial::kZero;  // causal
  FilterPad pad = FilterPad::kOdd;               // zero phase: how the signal goes on beyond its ends
  Status Validate() const;
};

// What a filter is made of. Recursive: sections of [b0, b1, b2, 1, a1, a2]; else taps.
struct FilterCoefficients {
  std::vector<double> sections;
  std::vector<double> taps;
};

// Butterworth sections are those of SciPy's butter(output="sos"), the notch that of iirnotch. FIR with a number of taps is
// SciPy's firwin; without, MNE's "auto".
Result<FilterCoefficients> DesignFilter(const FilterOptions& options);

// A filter over all channels. Recursive ones carry a state from sample to sample (Stream); FIR ones compute any samples of
// the output from a range of the input. Zero phase: forward and backward (SciPy's sosfiltfilt), or the FIR's delay undone.
class Filter {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  static Result<Filter> Create(const FilterOptions& options, const std::string& isa = "");
  Filter(Filter&&) noexcept;
  ~Filter();
  const FilterOptions& options() const noexcept;
  bool recursive() const noexcept;
  int64_t taps() const noexcept;      // 0 when recursive
  int64_t padding() const noexcept;   // samples that a recursive zero-phase filter puts before and after the signal

  // Input samples, within [0, samples), that outputs `out` depend on.
  Range Needed(Range out, int64_t samples) const noexcept;
  // Leading outputs that input samples [0, samples) determine, whatever follows them.
  int64_t Ready(int64_t samples) const noexcept;
  // Fewest samples that the filter takes.
  int64_t MinSamples() const noexcept;

  Result<std::unique_ptr<State>> NewState() const;
  Status Reserve(Range out, int64_t channels, State& state) const noexcept;
  // in: samples `held` of a signal of `total`, all of Needed(out). to: out.size() * channels.
  Status Compute(Span<const double> in, Range held, int64_t total, int64_t channels, Range out, Span<double> to,
                 State& state) const noexcept;
  // Recursive and causal, chunk after chunk: memory is MemorySize(channels) values, `first` of the signal's first chunk.
  int64_t MemorySize(int64_t channels) const noexcept;
  void Continue(Span<const double> in, int64_t channels, bool first, double* memory, double* to) const noexcept;

 private:
  struct Impl;
  explicit Filter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// x - mean of each channel over the recording. mean: scratch, a value each channel.
void RemoveMean(Span<const double> in, int64_t channels, double* mean, Span<double> out) noexcept;

// A single sample further than `limit` from the median of itself and its two neighbours takes that median: transmission errors go,
// all else stays as it is.
struct DespikeOptions {
  double limit = 200;  // in the unit of the signal
  Status Validate() const;
};

// At either end the median is that of the first or last three samples; a signal of one or two stays as it is.
// in: rows `held` of a signal of `total`: one more than `out` on either side where there is one, and all of the first or last
// three with the first or last one. to: out.size() * channels.
void Despike(Span<const double> in, Range held, int64_t total, int64_t channels, double limit, Range out, double* to) noexcept;

// ------------------------------------------------------------------------------------------------------- band power

enum class Taper : int32_t { kHann, kHamming, kBoxcar };  // periodic
enum class BandSum : int32_t { kSum, kMean, kTrapezoid };
enum class BandOutput : int32_t { kPower, kLog, kEntropy };

struct BandPowerOptions {
  double rate = 0;                                          // Hz
  std::vector<double> bands{4, 8, 8, 14, 14, 31, 31, 45};   // Hz: low and high edge of each
  int64_t window_length = 128;  // samples of one output row
  int64_t hop_length = 64;      // samples between rows
  int64_t segment_length = 0;   // Welch: samples of one transform; 0: window_length
  int64_t overlap = -1;         // Welch: samples that neighbouring segments share; -1: half a segment
  Taper taper = Taper::kHann;
  bool detrend = true;          // subtract each segment's mean
  bool density = true;          // per Hz; else the spectrum's own scale
  BandSum integrate = BandSum::kSum;
  BandOutput output = BandOutput::kEntropy;
  double epsilon = 1e-12;       // added to the power before the logarithm
  Status Validate() const;
  int64_t Windows(int64_t samples) const noexcept;
  int64_t band_count() const noexcept { return static_cast<int64_t>(bands.size() / 2); }
};

// Power of frequency bands in windows of a signal, [windows, bands, channels].
class BandPower {
 public:
  class State {
   public:
    virtual ~State() = default;
  };
  static Result<BandPower> Create(const BandPowerOptions& options, const std::string& isa = "");
  BandPower(BandPower&&) noexcept;
  ~BandPower();
  const BandPowerOptions& options() const noexcept;
  Result<std::unique_ptr<State>> NewState() const;
  // in: the samples from the first one of window `windows.begin` to the last one of the last.
  Status Compute(Span<const double> in, int64_t channels, Range windows, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  explicit BandPower(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// --------------------------------------------------------------------------------------------------------- topomaps

enum class MapMethod : int32_t { kSpline, kCloughTocher };

// Azimuthal equidistant projection of electrodes, [n][3] in any unit (x right, y nose, z up; only directions count), to
// [n][2]: the equator is the unit circle.
Result<std::vector<double>> ProjectPositions(const std::vector<double>& positions);

struct TopomapOptions {
  std::vector<double> positions;  // [channels][3]
  int32_t size = 32;              // pixels a side
  MapMethod method = MapMethod::kSpline;
  double smoothing = 1e-5;        // spline: added to the diagonal
  std::optional<double> spacing;  // clough_tocher: of the electrodes, in head radii; unset: their median distance
  Status Validate() const;
};

// Values at electrodes -> images of the head seen from above, nose up; 0 outside the head. Linear in the values.
class Topomap {
 public:
  class State {
   public:
    virtual ~State() = default;
  };
  static Result<Topomap> Create(const TopomapOptions& options, const std::string& isa = "");
  Topomap(Topomap&&) noexcept;
  ~Topomap();
  const TopomapOptions& options() const noexcept;
  int64_t channels() const noexcept;
  int64_t pixels() const noexcept;
  Result<std::unique_ptr<State>> NewState() const;
  // values: [maps][channels]. out: [maps][pixels].
  Status Compute(Span<const float> values, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  explicit Topomap(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_EEG_H_
