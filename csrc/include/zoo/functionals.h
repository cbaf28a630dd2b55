// SPDX-License-Identifier: Apache-2.0
// Statistics of low-level descriptors over time: the 1582 functionals of openSMILE's emobase2010, over a whole segment and
// over sliding windows.
#ifndef ZOO_FUNCTIONALS_H_
#define ZOO_FUNCTIONALS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "zoo/signal.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

// Columns of a row of descriptors: 34 of group A, 4 of group B (the first: pitch, 0 where unvoiced), the deltas of both.
constexpr int32_t kDescriptors = 76;
// 21 functionals of each of A and its deltas, 19 of each of B and its deltas over the rows where it is not zero, the
// number of pitch onsets, the duration in seconds.
constexpr int32_t kFunctionals = 68 * 21 + 8 * 19 + 2;
// Values beyond this are refused: their squared errors would not fit float32.
constexpr float kDescriptorLimit = 1e18f;

struct FunctionalsOptions {
  // Rows at the end that the statistics leave out, if any others are left. openSMILE computes them before the last rows have
  // come through pitch smoothing, moving average and deltas: 3.
  int32_t tail = 3;
  double period = 0.01;  // seconds between rows
  Status Validate() const;
};

// One row of functionals over all rows of a segment.
class Functionals {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  static Result<Functionals> Create(const FunctionalsOptions& options, const std::string& isa = "");
  Functionals(Functionals&&) noexcept;
  ~Functionals();
  const FunctionalsOptions& options() const noexcept;

  Result<std::unique_ptr<State>> NewState() const;
  Status Reserve(int64_t rows, State& state) const noexcept;
  // in: row-major [rows, kDescriptors], at least one row. out: kFunctionals values.
  Status Compute(Span<const float> in, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  explicit Functionals(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct SlidingFunctionalsOptions {
  int32_t window = 40;  // rows of a window
  int32_t hop = 4;      // rows between windows
  double period = 0.01;
  Status Validate() const;
  // Whole windows in this many rows.
  int64_t Windows(int64_t rows) const noexcept { return rows < window ? 0 : (rows - window) / hop + 1; }
  // Rows that these windows depend on.
  Range Needed(Range windows) const noexcept;
};

// The same over windows of rows. A window's bits do not depend on which others are computed with it.
class SlidingFunctionals {
 public:
  class State {
   public:
    virtual ~State() = default;
  };
  static Result<SlidingFunctionals> Create(const SlidingFunctionalsOptions& options, const std::string& isa = "");
  SlidingFunctionals(SlidingFunctionals&&) noexcept;
  ~SlidingFunctionals();
  const SlidingFunctionalsOptions& options() const noexcept;

  Result<std::unique_ptr<State>> NewState() const;
  // part: rows from `first` on; must cover Needed(windows). out: [windows, kFunctionals].
  Status Compute(Span<const float> part, int64_t first, Range windows, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  explicit SlidingFunctionals(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_FUNCTIONALS_H_
