// SPDX-License-Identifier: Apache-2.0
// Dense optical flow by polynomial expansion (Farnebaeck, SCIA 2003), coarse to fine. Parameters and conventions are those
// of OpenCV's calcOpticalFlowFarneback.
#ifndef ZOO_FLOW_FARNEBACK_H_
#define ZOO_FLOW_FARNEBACK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "zoo/isa.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

enum class FarnebackWindow : int32_t { kBox, kGaussian };

struct FlowFarnebackOptions {
  double pyr_scale = 0.5;   // side of a level over that of the next finer one; 0.1 to 0.95
  int32_t levels = 3;       // levels beyond the finest, as long as sides keep 32 pixels; 0 to 30
  int32_t winsize = 15;     // pixels over which the displacement is taken as constant; 3 to 255, an even number counts as the next odd one
  int32_t iterations = 3;   // a level; 1 to 100
  int32_t poly_n = 5;       // the expansion sees 2 poly_n + 1 pixels along each axis; 1 to 15
  double poly_sigma = 1.2;  // pixels, of the Gaussian that weights them; 0.3 to 15
  FarnebackWindow window = FarnebackWindow::kBox;  // weights of the winsize pixels; Gaussian: sigma 0.3 (winsize / 2)
  Status Validate() const;
};

class FlowFarneback {
 public:
  class State {  // scratch of one thread, and the expansion of the frame before
   public:
    virtual ~State() = default;
  };
  static Result<FlowFarneback> Create(const FlowFarnebackOptions& options, const std::string& isa = "");
  FlowFarneback(FlowFarneback&&) noexcept;
  ~FlowFarneback();
  const FlowFarnebackOptions& options() const noexcept;
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
  explicit FlowFarneback(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_FLOW_FARNEBACK_H_
