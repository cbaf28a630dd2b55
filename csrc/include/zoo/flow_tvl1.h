// SPDX-License-Identifier: Apache-2.0
// Dense optical flow with total variation and an L1 data term (Zach, Pock and Bischof, DAGM 2007), solved by a dual method
// with warps from coarse to fine. Parameters and conventions are those of OpenCV's DualTVL1OpticalFlow.
#ifndef ZOO_FLOW_TVL1_H_
#define ZOO_FLOW_TVL1_H_

#include <cstdint>
#include <memory>
#include <string>

#include "zoo/isa.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

struct FlowTvL1Options {
  double tau = 0.25;      // time step of the dual variables; 0.001 to 0.25 (larger ones diverge)
  double lambda = 0.15;   // weight of the data term: smaller, smoother; 0.001 to 10
  double theta = 0.3;     // tightness of the coupling of the two terms; 0.01 to 10
  int32_t scales = 5;     // levels of the pyramid, as long as sides keep 16 pixels; 1 to 30
  int32_t warps = 5;      // a level; 1 to 100
  double epsilon = 0.01;  // pixels: an inner problem ends when the root mean square change is below; 0 to 1
  int32_t inner_iterations = 30;  // between two medians; 1 to 1000
  int32_t outer_iterations = 10;  // medians a warp at most; 1 to 1000
  double scale_step = 0.8;        // side of a level over that of the next finer one; 0.1 to 0.95
  double gamma = 0.0;             // weight of a change of brightness; 0 to 10, 0: none
  int32_t median_filtering = 5;   // pixels, side of the median's window: 1 (none), 3 or 5
  Status Validate() const;
};

class FlowTvL1 {
 public:
  class State {  // scratch of one thread, and the pyramid of the frame before
   public:
    virtual ~State() = default;
  };
  static Result<FlowTvL1> Create(const FlowTvL1Options& options, const std::string& isa = "");
  FlowTvL1(FlowTvL1&&) noexcept;
  ~FlowTvL1();
  const FlowTvL1Options& options() const noexcept;
  // Whether frames of this size can be processed: sides of 1 to 16384 pixels.
  static Status CheckSize(int64_t width, int64_t height);

  Result<std::unique_ptr<State>> NewState() const;
  // Prepares the state for frames of this size; the only place that allocates. A frame taken before is forgotten when the
  // size is another.
  Status Reserve(int32_t width, int32_t height, State& state) const noexcept;
  // grey: height * width luminances, row-major. Begin takes a frame as the first one; Advance finds the flow from the frame
  // taken last to this one, and takes this one. flow: [height, width, 2], displacement in x and y, pixels.
  Status Begin(Span<const uint8_t> grey, State& state) const noexcept;
  Status Advance(Span<const uint8_t> grey, Span<float> flow, State& state) const noexcept;

 private:
  struct Impl;
  explicit FlowTvL1(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_FLOW_TVL1_H_
