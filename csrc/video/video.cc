// SPDX-License-Identifier: Apache-2.0
#include "zoo/video.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "core/buffer.h"
#include "core/kernels.h"
#include "image/kernels.h"
#include "video/kernels.h"

namespace zoo {

Status ValidateFrameRate(const char* op, double rate) {
  if (rate >= 1 && rate <= 100000) return Status::Ok();
  if (rate == 0) return InvalidSignal(std::string(op) + ": the frame rate is not known; give it in frames a second");
  return InvalidSignal(std::string(op) + ": the frame rate is " + std::to_string(rate) + " frames a second; it must lie between 1 and 100000");
}

int64_t SecondsOf(int64_t frames, double rate) noexcept {
  return frames < 1 ? 0 : 1 + static_cast<int64_t>(std::floor(static_cast<double>(frames - 1) / rate));
}

int64_t FrameAt(int64_t second, double rate) noexcept {
  // the first whose time, as it is rounded, reaches the second
  const double s = static_cast<double>(second);
  int64_t i = static_cast<int64_t>(std::ceil(s * rate));
  while (i > 0 && static_cast<double>(i - 1) / rate >= s) --i;
  while (static_cast<double>(i) / rate < s) ++i;
  return i;
}

namespace {

constexpr double kSlack = 1e-9;  // of the interval between frames taken

}  // namespace

Status SampleFpsOptions::Validate() const {
  if (fps >= 1e-6 && fps <= 100000) return Status::Ok();
  return InvalidArgument("sample_fps: fps is " + std::to_string(fps) + "; it must lie between 0.000001 and 100000");
}

int64_t SampleFpsOptions::Step(double rate) const noexcept { return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(rate / fps * (1 - kSlack)))); }

Status SampleFpsOptions::Choose(Span<const double> times, std::vector<int64_t>* indices) const try {
  ZOO_RETURN_IF_ERROR(Validate());
  const double interval = 1 / fps * (1 - kSlack);
  double last = 0, before = 0;
  for (size_t i = 0; i < times.size(); ++i) {
    const double t = times[i];
    if (!std::isfinite(t)) return InvalidSignal("sample_times: time " + std::to_string(i) + " is not finite (NaN or Inf)");
    if (i > 0 && t < before) return InvalidSignal("sample_times: time " + std::to_string(i) + " lies before the one of the frame before; times must not fall");
    if (i == 0 || t - last >= interval) {
      indices->push_back(static_cast<int64_t>(i));
      last = t;
    }
    before = t;
  }
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<FrameDifference> FrameDifference::Create(const std::string& isa) {
  auto kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  FrameDifference d;
  d.kernels_ = kernels.value();
  return d;
}

float FrameDifference::Mean(Span<const uint8_t> a, Span<const uint8_t> b) const noexcept {
  const int64_t n = static_cast<int64_t>(std::min(a.size(), b.size()));
  return n == 0 ? 0.0f : static_cast<float>(static_cast<double>(kernels_->video.absolute_difference(a.data(), b.data(), n)) / static_cast<double>(n));
}

// ---------------------------------------------------------------------------------------------------------- scenes

Status SceneOffsetOptions::Validate() const {
  if (!(threshold >= 0 && threshold <= 255)) return InvalidArgument("scene_offset: threshold is " + std::to_string(threshold) + "; it must lie between 0 and 255");
  if (!(min_content >= 0 && min_content <= 255)) return InvalidArgument("scene_offset: min_content is " + std::to_string(min_content) + "; it must lie between 0 and 255");
  if (min_scene_length < 0) return InvalidArgument("scene_offset: min_scene_length is " + std::to_string(min_scene_length) + "; it must not be negative");
  if (window < 1 || window > 1024) return InvalidArgument("scene_offset: window is " + std::to_string(window) + "; it must lie between 1 and 1024");
  if (downscale < 0 || downscale > 1024) return InvalidArgument("scene_offset: downscale is " + std::to_string(downscale) + "; it must lie between 1 and 1024");
  return Status::Ok();
}

namespace {

struct SceneState : SceneOffset::State {
  ImageSize frame, small;
  double rate = 0;
  std::unique_ptr<Resize> resize;
  std::unique_ptr<Resize::State> resize_state;
  Buffer<uint8_t> reduced, planes[2];
  std::vector<double> scores;  // of the last 2 window + 1 frames, a ring
  int64_t frames = 0, last_cut = -1, start = 0, second = 0;
};

}  // namespace

Result<SceneOffset> SceneOffset::Create(const SceneOffsetOptions& options, const std::string& isa) {
  ZOO_RETURN_IF_ERROR(options.Validate());
  auto kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  SceneOffset s;
  s.options_ = options;
  s.kernels_ = kernels.value();
  return s;
}

Result<std::unique_ptr<SceneOffset::State>> SceneOffset::NewState() const try {
  return std::unique_ptr<State>(new SceneState);
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status SceneOffset::Begin(const ImageSize& frame, double rate, State& state) const noexcept try {
  SceneState& s = static_cast<SceneState&>(state);
  ZOO_RETURN_IF_ERROR(ValidateImage("scene_offset", frame));
  ZOO_RETURN_IF_ERROR(ValidateFrameRate("scene_offset", rate));
  if (frame.channels != 3) return InvalidSignal("scene_offset: the frames have " + std::to_string(frame.channels) + " channels; they must have 3");
  if (!(s.frame == frame)) {
    s.frame = {};
    const int64_t factor = options_.downscale > 0 ? options_.downscale : std::max<int64_t>(1, frame.width / 256);
    s.small = frame;
    s.resize.reset();
    if (factor > 1) {
      // Python's round: ties to even
      const auto side = [&](int64_t n) { return std::max<int64_t>(1, static_cast<int64_t>(std::nearbyint(static_cast<double>(n) / static_cast<double>(factor)))); };
      s.small = {side(frame.height), side(frame.width), 3};
      ResizeOptions o;
      o.height = static_cast<int32_t>(s.small.height), o.width = static_cast<int32_t>(s.small.width), o.filter = ResizeFilter::kBilinear;
      auto made = Resize::Create(o, kernels_->name);
      if (!made.ok()) return made.status();
      s.resize = std::make_unique<Resize>(std::move(made.value()));
      auto scratch = s.resize->NewState();
      if (!scratch.ok()) return scratch.status();
      s.resize_state = std::move(scratch.value());
      ZOO_RETURN_IF_ERROR(s.resize->Reserve(frame, *s.resize_state));
      if (!s.reduced.Reserve(static_cast<size_t>(s.small.count()))) return OutOfMemory();
    }
    for (Buffer<uint8_t>& p : s.planes) {
      if (!p.Reserve(static_cast<size_t>(s.small.count()))) return OutOfMemory();
    }
    s.frame = frame;
  }
  s.scores.assign(static_cast<size_t>(2 * options_.window + 1), 0.0);
  s.rate = rate;
  s.frames = 0, s.last_cut = -1, s.start = 0, s.second = 0;
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status SceneOffset::Push(Span<const uint8_t> frame, State& state, float* out, int64_t* count) const noexcept {
  SceneState& s = static_cast<SceneState&>(state);
  *count = 0;
  if (frame.size() != static_cast<size_t>(s.frame.count())) return InvalidArgument("scene_offset: the frame does not have the size that was announced");
  const uint8_t* pixels = frame.data();
  if (s.resize) {
    ZOO_RETURN_IF_ERROR(s.resize->Compute(frame, Span<uint8_t>(s.reduced.data(), static_cast<size_t>(s.small.count())), *s.resize_state));
    pixels = s.reduced.data();
  }
  const int64_t n = s.small.height * s.small.width, at = s.frames++;
  uint8_t* now = s.planes[at % 2].data();
  const uint8_t* before = s.planes[(at + 1) % 2].data();
  kernels_->video.hsv(pixels, n, options_.order == ColorOrder::kBgr, now);
  double score = 0;
  if (at > 0) {
    for (int64_t p = 0; p < 3; ++p) score += static_cast<double>(kernels_->video.absolute_difference(now + p * n, before + p * n, n)) / static_cast<double>(n);
    score /= 3.0;
  }
  const int64_t w = options_.window, ring = 2 * w + 1;
  s.scores[static_cast<size_t>(at % ring)] = score;
  const int64_t target = at - w;
  if (target < 0) return Status::Ok();
  const double time = static_cast<double>(target) / s.rate;
  for (; static_cast<double>(s.second) < time; ++s.second) out[(*count)++] = static_cast<float>(s.second - s.start + 1);
  if (target < w) return Status::Ok();
  double around = 0;
  for (int64_t i = target - w; i <= at; ++i) {
    if (i != target) around += s.scores[static_cast<size_t>(i % ring)];
  }
  around /= 2.0 * static_cast<double>(w);
  const double own = s.scores[static_cast<size_t>(target % ring)];
  double ratio = 0;
  if (std::fabs(around) >= 0.00001) {
    ratio = std::min(own / around, 255.0);
  } else if (own >= options_.min_content) {
    ratio = 255;
  }
  if (ratio >= options_.threshold && own >= options_.min_content && (s.last_cut < 0 || target - s.last_cut >= options_.min_scene_length)) {
    s.last_cut = target;
    s.start = static_cast<int64_t>(std::ceil(time));
  }
  return Status::Ok();
}

bool SceneOffset::Finish(State& state, float* value) const noexcept {
  SceneState& s = static_cast<SceneState&>(state);
  if (s.second >= SecondsOf(s.frames, s.rate)) return false;
  *value = static_cast<float>(s.second - s.start + 1);
  ++s.second;
  return true;
}

// ------------------------------------------------------------------------------------------------------------ flow

Status FlowEncodeOptions::Validate() const {
  if (bound >= 1e-3 && bound <= 1e6) return Status::Ok();
  return InvalidArgument("flow_encode: bound is " + std::to_string(bound) + " pixels; it must lie between 0.001 and 1000000");
}

Status FlowEncodeOptions::Compute(Span<const float> in, Span<uint8_t> out, const Kernels& kernels) const noexcept {
  if (in.size() != out.size()) return InvalidArgument("flow_encode: " + std::to_string(in.size()) + " values in and " + std::to_string(out.size()) + " out");
  kernels.video.flow_bytes(in.data(), static_cast<int64_t>(in.size()), static_cast<float>(bound), static_cast<float>(255.0 / (2 * bound)), out.data());
  return Status::Ok();
}

Status FlowStackOptions::Validate() const {
  if (length < 1 || length > 1024) return InvalidArgument("flow_stack: length is " + std::to_string(length) + "; it must lie between 1 and 1024");
  if (!(scale > 0) || !std::isfinite(scale)) return InvalidArgument("flow_stack: scale is " + std::to_string(scale) + "; it must be positive");
  return Status::Ok();
}

Status FlowStackOptions::Compute(Span<const uint8_t> part, int64_t first, int64_t pixels, Range out, Span<float> to, const Kernels& kernels) const noexcept {
  const int64_t held = pixels > 0 ? static_cast<int64_t>(part.size()) / (2 * pixels) : 0;
  if (first > Needed(out).begin || first + held < out.end || to.size() != static_cast<size_t>(out.size() * 2 * length * pixels)) {
    return InvalidArgument("flow_stack: the flows at hand do not cover the rows asked for");
  }
  const float mean[2] = {0, 0}, factor[2] = {static_cast<float>(scale), static_cast<float>(scale)};
  float* row = to.data();
  for (int64_t t = out.begin; t < out.end; ++t, row += 2 * length * pixels) {
    for (int64_t j = 0; j < length; ++j) {
      const int64_t source = std::max<int64_t>(0, t - (length - 1) + j), place = order == StackOrder::kRotated ? (j + length - 1) % length : j;
      kernels.image.planes_u8(part.data() + (source - first) * 2 * pixels, pixels, 2, mean, factor, row + 2 * place * pixels, pixels);
    }
  }
  return Status::Ok();
}

}  // namespace zoo
