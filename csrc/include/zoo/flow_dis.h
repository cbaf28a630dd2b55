// SPDX-License-Identifier: Apache-2.0
// Dense inverse search optical flow (Kroeger, Timofte, Dai and Van Gool, ECCV 2016) with variational refinement (Brox et al.,
// ECCV 2004). The presets are OpenCV's (DISOpticalFlow).
#ifndef ZOO_FLOW_DIS_H_
#define ZOO_FLOW_DIS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "zoo/isa.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

enum class DisPreset : int32_t { kUltrafast, kFast, kMedium };

struct FlowDisOptions {
  int32_t finest_scale = 1;     // the flow is found on images of 1 / 2^finest_scale of the side, then enlarged; 0 to 4
  int32_t patch_stride = 3;     // pixels between 8 x 8 patches; 1 to 8
  int32_t iterations = 25;      // descent steps a patch at most, over both passes; 2 to 256
  int32_t refinements = 5;      // fixed-point iterations of the variational refinement on each scale; 0 to 64

  static FlowDisOptions Preset(DisPreset preset) noexcept;
  Status Validate() const;
};

class FlowDis {
 public:
  class State {  // scratch of one thread, and the pyramid of the frame before
   public:
    virtual ~State() = default;
  };
  static Result<FlowDis> Create(const FlowDisOptions& options, const std::string& isa = "");
  FlowDis(FlowDis&&) noexcept;
  ~FlowDis();
  const FlowDisOptions& options() const noexcept;
  // Whether frames of this size can be processed: sides of 8 to 16384 pixels.
  static Status CheckSize(int64_t width, int64_t height);

  Result<std::unique_ptr<State>> NewState() const;
  // Prepares the state for frames of this size; the only place that allocates.
  Status Reserve(int32_t width, int32_t height, State& state) const noexcept;
  // grey: height * width luminances, row-major. Begin takes a frame as the first one; Advance finds the flow from the frame
  // taken last to this one, and takes this one. flow: [height, width, 2], displacement in x and y, pixels.
  Status Begin(Span<const uint8_t> grey, State& state) const noexcept;
  Status Advance(Span<const uint8_t> grey, Span<float> flow, State& state) const noexcept;

 private:
  struct Impl;
  explicit FlowDis(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_FLOW_DIS_H_
