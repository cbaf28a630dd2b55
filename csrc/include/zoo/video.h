// SPDX-License-Identifier: Apache-2.0
// Ops on the frames of a video: uint8 [frames, height, width, channels] with a frame rate. Frame i lies at time i / rate.
#ifndef ZOO_VIDEO_H_
#define ZOO_VIDEO_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "zoo/image.h"
#include "zoo/signal.h"

namespace zoo {

// Frames a second, 1 to 100000, so that no second is without a frame.
Status ValidateFrameRate(const char* op, double rate);
// Seconds in which a frame starts: 1 + floor((frames - 1) / rate).
int64_t SecondsOf(int64_t frames, double rate) noexcept;
// The first frame at or after `second`.
int64_t FrameAt(int64_t second, double rate) noexcept;

// The first frame, then each that lies at least 1 / fps s after the last one taken. Times within a part in 10^9 of the
// interval count as equal, so that 30 frames a second at 10 fps give every third one in floating point too.
struct SampleFpsOptions {
  double fps = 1;  // frames a second
  Status Validate() const;
  // Frames from one taken to the next at a fixed rate.
  int64_t Step(double rate) const noexcept;
  // The same by the frames' own times in s, which must be finite and must not fall; appends indices of those taken.
  Status Choose(Span<const double> times, std::vector<int64_t>* indices) const;
};

// Mean over pixels and channels of |a - b|; sums are exact.
class FrameDifference {
 public:
  static Result<FrameDifference> Create(const std::string& isa = "");
  float Mean(Span<const uint8_t> a, Span<const uint8_t> b) const noexcept;  // of one size

 private:
  const Kernels* kernels_ = nullptr;
};

enum class ColorOrder : int32_t { kRgb, kBgr };

// Cuts found as PySceneDetect 0.6.1's AdaptiveDetector finds them. Score of a frame: mean of the mean absolute differences of hue
// (0 to 179), saturation and value to the frame before. A cut is a frame whose score is at least `min_content` and at least
// `threshold` times the mean score of `window` frames before and after it, `min_scene_length` frames or more after the last cut.
struct SceneOffsetOptions {
  double threshold = 3;
  double min_content = 15;       // grey levels
  int32_t min_scene_length = 15;  // frames
  int32_t window = 2;            // frames each side
  int32_t downscale = 0;         // frames are reduced by this factor before scoring; 0: floor(width / 256)
  ColorOrder order = ColorOrder::kRgb;
  Status Validate() const;
};

// One value a second: 1 + seconds since the scene began. Second s belongs to the first scene with s < ceil(its end in s).
class SceneOffset {
 public:
  class State {
   public:
    virtual ~State() = default;
  };
  static Result<SceneOffset> Create(const SceneOffsetOptions& options, const std::string& isa = "");
  const SceneOffsetOptions& options() const noexcept { return options_; }
  Result<std::unique_ptr<State>> NewState() const;
  // Starts a video of 3-channel frames. The only call that allocates.
  Status Begin(const ImageSize& frame, double rate, State& state) const noexcept;
  // The next frame. Writes the values of the seconds that it decides, at most 2, and their number.
  Status Push(Span<const uint8_t> frame, State& state, float* out, int64_t* count) const noexcept;
  // Seconds still open after the last frame, in order; false when there are none.
  bool Finish(State& state, float* value) const noexcept;

 private:
  SceneOffsetOptions options_;
  const Kernels* kernels_ = nullptr;
};

// Displacements in pixels to bytes: clipped to +-bound, mapped linearly to 0 to 255, ties to the even level.
struct FlowEncodeOptions {
  double bound = 20;  // pixels
  Status Validate() const;
  Status Compute(Span<const float> in, Span<uint8_t> out, const Kernels& kernels) const noexcept;
};

enum class StackOrder : int32_t { kOldestFirst, kRotated };

// The last `length` flows of each frame as channels, x and y of each; before the first flow it is repeated.
struct FlowStackOptions {
  int32_t length = 10;
  StackOrder order = StackOrder::kOldestFirst;  // flow j in channels 2j and 2j + 1; rotated: in 2(j - 1) and 2(j - 1) + 1, the first one last
  double scale = 1.0 / 255;
  Status Validate() const;
  Range Needed(Range out) const noexcept { return {out.begin > length - 1 ? out.begin - (length - 1) : 0, out.end}; }
  // part: flows [first, ...) of height * width * 2 values; out: rows * (2 length) * height * width
  Status Compute(Span<const uint8_t> part, int64_t first, int64_t pixels, Range out, Span<float> to, const Kernels& kernels) const noexcept;
};

}  // namespace zoo

#endif  // ZOO_VIDEO_H_
