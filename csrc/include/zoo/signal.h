// SPDX-License-Identifier: Apache-2.0
// Ops on mono signals that keep them signals: resample, fit, standardize, min_max. Each output sample depends on a known
// range of input samples, so that any part of the output can be computed from a part of the input.
#ifndef ZOO_SIGNAL_H_
#define ZOO_SIGNAL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "zoo/isa.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

// Half-open range of samples.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end > begin ? end - begin : 0; }
};

struct ResampleOptions {
  int32_t rate_in = 16000;   // Hz
  int32_t rate_out = 22050;  // Hz
  Status Validate() const;   // 1 to 768000 Hz each, ratio at most 256
};

// Band-limited resampling: Kaiser-windowed sinc, polyphase, zero phase; ratios above 2.1 in two stages. Flat to 0.9 of the
// lower rate's Nyquist frequency, at least 100 dB down from that frequency on. Samples beyond the ends count as zeros.
class Resample {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  static Result<Resample> Create(const ResampleOptions& options, const std::string& isa = "");
  Resample(Resample&&) noexcept;
  ~Resample();
  const ResampleOptions& options() const noexcept;
  // ceil(n * rate_out / rate_in)
  static int64_t OutputSize(const ResampleOptions& options, int64_t samples) noexcept;
  int64_t OutputSize(int64_t samples) const noexcept { return OutputSize(options(), samples); }
  // Input samples, within [0, samples), that outputs `out` depend on.
  static Range Needed(const ResampleOptions& options, Range out, int64_t samples) noexcept;
  // Leading outputs that input samples [0, samples) determine, whatever follows them.
  static int64_t Ready(const ResampleOptions& options, int64_t samples) noexcept;

  Result<std::unique_ptr<State>> NewState() const;
  // part: input samples from index `first` on of a signal of `total` samples; must cover Needed(out). Writes outputs
  // [out.begin, out.end) of the whole signal. The bits do not depend on how the output is divided into ranges. No allocation.
  Status Compute(Span<const float> part, int64_t first, int64_t total, Range out, Span<float> to,
                 State& state) const noexcept;

 private:
  struct Impl;
  explicit Resample(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

enum class Align : int32_t { kCenter, kStart, kEnd };

struct FitOptions {
  int64_t length = 0;  // samples
  Align pad = Align::kCenter;   // where zeros go when the signal is shorter: both sides (floor(d/2) left), start, end
  Align crop = Align::kCenter;  // what is kept when it is longer: the centre (from floor(d/2) on), the start, the end
  Status Validate() const;
  // Position of the signal's first sample in the output (negative when cropped).
  int64_t Offset(int64_t samples) const noexcept;
  Range Needed(Range out, int64_t samples) const noexcept;
  Status Compute(Span<const float> part, int64_t first, int64_t total, Range out, Span<float> to) const noexcept;
};

struct StandardizeOptions {
  std::vector<double> mean;  // a value each column; both empty: statistics of the clip itself, column by column
  std::vector<double> std;
  double epsilon = 1e-8;  // added to the standard deviation of per-clip statistics
  Status Validate() const;
};

// (x - mean) / std of each column of a row-major [rows, columns] matrix, in float64.
class Standardize {
 public:
  static Result<Standardize> Create(const StandardizeOptions& options, const std::string& isa = "");
  const StandardizeOptions& options() const noexcept { return options_; }
  // out must not overlap in. With given statistics the bits of a row do not depend on the others.
  Status Compute(Span<const float> in, int64_t columns, Span<float> out) const noexcept;

 private:
  StandardizeOptions options_;
  std::vector<double> scale_;  // (x - mean) * scale
  const Kernels* kernels_ = nullptr;
};

struct MinMaxOptions {
  std::vector<double> low;  // a value each column; both empty: smallest and largest of the clip itself, column by column
  std::vector<double> high;
  Status Validate() const;
};

// (x - low) / (high - low) of each column of a row-major [rows, columns] matrix, clipped to [0, 1], in float64. A column
// that is constant (high = low) gives zeros.
class MinMax {
 public:
  static Result<MinMax> Create(const MinMaxOptions& options);
  const MinMaxOptions& options() const noexcept { return options_; }
  // out must not overlap in. With given bounds the bits of a row do not depend on the others; bounds that are those of
  // the clip give the bits that it has without bounds.
  Status Compute(Span<const float> in, int64_t columns, Span<float> out) const noexcept;

 private:
  static double Scale(double low, double high) noexcept;
  MinMaxOptions options_;
  std::vector<double> scale_;
};

}  // namespace zoo

#endif  // ZOO_SIGNAL_H_
