// SPDX-License-Identifier: Apache-2.0
// Video ops of the pipeline: one table with their parameters, one adapter class each.
#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/kernels.h"
#include "pipeline/op.h"
#include "zoo/video.h"

namespace zoo {
namespace {

Extent Values(int64_t rows, double rate) {
  Extent e;
  e.rate = rate;
  e.rank = 2;
  e.dim[0] = rows;
  return e;
}

// Frame `i` of those that are held.
Span<const uint8_t> Frame(const ConstView& in, int64_t i) {
  const size_t row = static_cast<size_t>(in.extent.row());
  return {static_cast<const uint8_t*>(in.data) + static_cast<size_t>(i - in.range.begin) * row, row};
}

Status NeedBytes(const OpContext& c) {
  if (c.input.dtype == DType::kU8) return Status::Ok();
  return InvalidPipeline("it needs uint8 frames; put it before what makes them float32");
}

class SampleFpsOp final : public Op {
 public:
  SampleFpsOp(const SampleFpsOptions& o, const PortType& in) : options_(o), in_(in) {}
  PortType output() const override {
    PortType t = in_;
    t.rate = in_.rate > 0 ? in_.rate / static_cast<double>(options_.Step(in_.rate)) : 0;
    t.shape[0] = -1;
    return t;
  }
  Status Infer(const Extent& in, Extent* out) const override {
    if (!(in.rate > 0 && in.rate <= 100000)) {
      if (in.rate == 0) return ValidateFrameRate("sample_fps", in.rate);
      return InvalidSignal("sample_fps: the frame rate is " + std::to_string(in.rate) + " frames a second; it must be positive and at most 100000");
    }
    const int64_t step = options_.Step(in.rate);
    *out = in;
    out->rate = in.rate / static_cast<double>(step);
    out->dim[0] = (in.dim[0] + step - 1) / step;
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent& in, Range out) const override {
    const int64_t step = options_.Step(in.rate);
    return {out.begin * step, (out.end - 1) * step + 1};
  }
  int64_t Ready(const Extent& in, int64_t rows) const override {
    const int64_t step = options_.Step(in.rate);
    return (rows + step - 1) / step;
  }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    const int64_t step = options_.Step(in.extent.rate);
    const size_t row = static_cast<size_t>(in.extent.row()) * SizeOf(in.dtype);
    unsigned char* to = static_cast<unsigned char*>(out);
    for (int64_t i = rows.begin; i < rows.end; ++i, to += row) {
      std::memcpy(to, static_cast<const unsigned char*>(in.data) + static_cast<size_t>(i * step - in.range.begin) * row, row);
    }
    return Status::Ok();
  }

 private:
  SampleFpsOptions options_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeSampleFps(const Params& p, const OpContext& c) {
  SampleFpsOptions o;
  o.fps = p.Float("fps");
  ZOO_RETURN_IF_ERROR(o.Validate());
  return std::unique_ptr<Op>(new SampleFpsOp(o, c.input));
}

// Differences of neighbouring frames: of all, or of the first frame of each second.
class DifferenceOp final : public Op {
 public:
  DifferenceOp(FrameDifference core, bool seconds) : core_(core), seconds_(seconds) {}
  PortType output() const override { return {PortKind::kTensor, 0, {-1, 1}, DType::kF32}; }
  Status Infer(const Extent& in, Extent* out) const override {
    if (seconds_) ZOO_RETURN_IF_ERROR(ValidateFrameRate("motion", in.rate));
    *out = Values(seconds_ ? SecondsOf(in.dim[0], in.rate) : in.dim[0], seconds_ ? 1 : in.rate);
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent& in, Range out) const override {
    return {std::max<int64_t>(0, Second(in, out.begin) - 1), Second(in, out.end - 1) + 1};
  }
  int64_t Ready(const Extent& in, int64_t rows) const override { return seconds_ ? SecondsOf(rows, in.rate) : rows; }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    float* to = static_cast<float*>(out);
    for (int64_t i = rows.begin; i < rows.end; ++i, ++to) {
      const int64_t f = Second(in.extent, i);
      *to = f == 0 ? 0.0f : core_.Mean(Frame(in, f), Frame(in, f - 1));
    }
    return Status::Ok();
  }

 private:
  // The frame of output row i.
  int64_t Second(const Extent& in, int64_t i) const { return seconds_ ? FrameAt(i, in.rate) : i; }
  FrameDifference core_;
  bool seconds_;
};

template <bool kSeconds>
Result<std::unique_ptr<Op>> MakeDifference(const Params&, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(NeedBytes(c));
  auto core = FrameDifference::Create(c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new DifferenceOp(core.value(), kSeconds));
}

class SceneStream final : public OpStream {
 public:
  SceneStream(const SceneOffset& core, std::unique_ptr<SceneOffset::State> state) : core_(core), state_(std::move(state)) {}
  Status Push(const ConstView& in, bool last, RowSink* out) noexcept override {
    float values[2];
    for (int64_t i = in.range.begin; i < in.range.end; ++i) {
      int64_t n = 0;
      ZOO_RETURN_IF_ERROR(core_.Push(Frame(in, i), *state_, values, &n));
      for (int64_t k = 0; k < n; ++k) ZOO_RETURN_IF_ERROR(Put(values[k], out));
    }
    while (last && core_.Finish(*state_, values)) ZOO_RETURN_IF_ERROR(Put(values[0], out));
    return Status::Ok();
  }

 private:
  static Status Put(float value, RowSink* out) noexcept {
    void* to = out->Append(1);
    if (to == nullptr) return OutOfMemory();
    std::memcpy(to, &value, sizeof(value));
    return Status::Ok();
  }
  const SceneOffset& core_;
  std::unique_ptr<SceneOffset::State> state_;
};

class SceneOffsetOp final : public Op {
 public:
  explicit SceneOffsetOp(SceneOffset core) : core_(std::move(core)) {}
  PortType output() const override { return {PortKind::kTensor, 0, {-1, 1}, DType::kF32}; }
  Status Infer(const Extent& in, Extent* out) const override {
    ZOO_RETURN_IF_ERROR(ValidateFrameRate("scene_offset", in.rate));
    if (in.dim[3] != 3) return InvalidSignal("scene_offset: the frames have " + std::to_string(in.dim[3]) + " channels; they must have 3");
    *out = Values(SecondsOf(in.dim[0], in.rate), 1);
    return Status::Ok();
  }
  Result<std::unique_ptr<OpState>> NewState() const override { return NewCoreState(core_); }
  Status Prepare(const Extent& in, Range, OpState& s) const override { return Begin(in, *static_cast<CoreState<SceneOffset>&>(s).state); }
  Status Run(const ConstView& in, Range, void* out, OpState& s) const noexcept override {
    SceneOffset::State& state = *static_cast<CoreState<SceneOffset>&>(s).state;
    float* to = static_cast<float*>(out);
    for (int64_t i = in.range.begin; i < in.range.end; ++i) {
      float values[2];
      int64_t n = 0;
      ZOO_RETURN_IF_ERROR(core_.Push(Frame(in, i), state, values, &n));
      for (int64_t k = 0; k < n; ++k) *to++ = values[k];
    }
    for (float value; core_.Finish(state, &value);) *to++ = value;
    return Status::Ok();
  }
  bool streams() const override { return true; }
  Result<std::unique_ptr<OpStream>> NewStream(const Extent& format) const override {
    auto state = core_.NewState();
    if (!state.ok()) return state.status();
    ZOO_RETURN_IF_ERROR(Begin(format, *state.value()));
    return std::unique_ptr<OpStream>(new SceneStream(core_, std::move(state.value())));
  }

 private:
  Status Begin(const Extent& in, SceneOffset::State& state) const { return core_.Begin({in.dim[1], in.dim[2], in.dim[3]}, in.rate, state); }
  SceneOffset core_;
};

Result<std::unique_ptr<Op>> MakeSceneOffset(const Params& p, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(NeedBytes(c));
  SceneOffsetOptions o;
  o.threshold = p.Float("threshold");
  o.min_content = p.Float("min_content");
  o.min_scene_length = static_cast<int32_t>(p.Int("min_scene_length"));
  o.window = static_cast<int32_t>(p.Int("window"));
  if (p.Has("downscale")) o.downscale = static_cast<int32_t>(p.Int("downscale"));
  o.order = static_cast<ColorOrder>(p.Choice("order"));
  auto core = SceneOffset::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new SceneOffsetOp(std::move(core.value())));
}

class FlowEncodeOp final : public Op {
 public:
  FlowEncodeOp(const FlowEncodeOptions& o, const Kernels* kernels, const PortType& in) : options_(o), kernels_(kernels), in_(in) {}
  PortType output() const override { return {PortKind::kFrames, in_.rate, in_.shape, DType::kU8}; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent&, Range out) const override { return out; }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    const int64_t row = in.extent.row();
    const size_t count = static_cast<size_t>(rows.size() * row);
    return options_.Compute({static_cast<const float*>(in.data) + (rows.begin - in.range.begin) * row, count}, {static_cast<uint8_t*>(out), count}, *kernels_);
  }

 private:
  FlowEncodeOptions options_;
  const Kernels* kernels_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeFlowEncode(const Params& p, const OpContext& c) {
  if (c.input.shape.size() != 4 || c.input.shape[3] != 2) return InvalidPipeline("it needs flow of shape (frames, height, width, 2)");
  FlowEncodeOptions o;
  o.bound = p.Float("bound");
  ZOO_RETURN_IF_ERROR(o.Validate());
  auto kernels = SelectKernels(c.isa);
  if (!kernels.ok()) return kernels.status();
  return std::unique_ptr<Op>(new FlowEncodeOp(o, kernels.value(), c.input));
}

class FlowStackOp final : public Op {
 public:
  FlowStackOp(const FlowStackOptions& o, const Kernels* kernels, const PortType& in) : options_(o), kernels_(kernels), in_(in) {}
  PortType output() const override { return {PortKind::kTensor, in_.rate, {in_.shape[0], 2 * options_.length, in_.shape[1], in_.shape[2]}, DType::kF32}; }
  Status Infer(const Extent& in, Extent* out) const override {
    if (in.dim[3] != 2) return InvalidSignal("flow_stack: the frames have " + std::to_string(in.dim[3]) + " channels; they must have 2, x and y of an encoded flow");
    *out = in;
    out->dim[1] = 2 * options_.length, out->dim[2] = in.dim[1], out->dim[3] = in.dim[2];
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent&, Range out) const override { return options_.Needed(out); }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    const int64_t pixels = in.extent.dim[1] * in.extent.dim[2];
    return options_.Compute(in.as<uint8_t>(), in.range.begin, pixels, rows,
                            {static_cast<float*>(out), static_cast<size_t>(rows.size() * 2 * options_.length * pixels)}, *kernels_);
  }

 private:
  FlowStackOptions options_;
  const Kernels* kernels_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeFlowStack(const Params& p, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(NeedBytes(c));
  FlowStackOptions o;
  o.length = static_cast<int32_t>(p.Int("length"));
  o.order = static_cast<StackOrder>(p.Choice("order"));
  o.scale = p.Float("scale");
  ZOO_RETURN_IF_ERROR(o.Validate());
  auto kernels = SelectKernels(c.isa);
  if (!kernels.ok()) return kernels.status();
  return std::unique_ptr<Op>(new FlowStackOp(o, kernels.value(), c.input));
}

}  // namespace

const std::vector<OpSpec>& VideoOpSpecs() {
  static const std::vector<OpSpec>* const specs = [] {
    const PortKind frames = PortKind::kFrames, tensor = PortKind::kTensor;
    return new std::vector<OpSpec>{
        {"sample_fps", frames, frames, "the first frame, then each at least 1 / fps s after the last one taken",
         {{"fps", ParamType::kFloat, F(1.0), false, 1e-6, 100000, {}, "frames a second"}}, MakeSampleFps},
        {"frame_difference", frames, tensor, "mean absolute difference to the frame before, [frames, 1]; the first is 0", {}, MakeDifference<false>},
        {"motion", frames, tensor, "frame_difference of the first frame of each second, [seconds, 1]", {}, MakeDifference<true>},
        {"scene_offset", frames, tensor, "1 + seconds since the scene began, [seconds, 1]",
         {{"threshold", ParamType::kFloat, F(3.0), false, 0, 255, {}, "score of a cut over the mean score around it"},
          {"min_content", ParamType::kFloat, F(15.0), false, 0, 255, {}, "least score of a cut, grey levels"},
          {"min_scene_length", ParamType::kInt, I(15), false, 0, kIntMax, {}, "frames from one cut to the next"},
          {"window", ParamType::kInt, I(2), false, 1, 1024, {}, "frames each side that the mean is taken of"},
          {"downscale", ParamType::kInt, kRequired, true, 1, 1024, {}, "factor that frames are reduced by before scoring; null: width / 256, cut to a whole number"},
          {"order", ParamType::kChoice, S("rgb"), false, 0, 0, {"rgb", "bgr"}, "of the frames' channels"}}, MakeSceneOffset},
        {"flow_encode", tensor, frames, "displacements in pixels to bytes, 0 to 255 for -bound to bound",
         {{"bound", ParamType::kFloat, F(20.0), false, 1e-3, 1e6, {}, "pixels"}}, MakeFlowEncode},
        {"flow_stack", frames, tensor, "the last flows of each frame as channels, [frames, 2 length, height, width]",
         {{"length", ParamType::kInt, I(10), false, 1, 1024, {}, "flows in a stack"},
          {"order", ParamType::kChoice, S("oldest_first"), false, 0, 0, {"oldest_first", "rotated"}, "of the flows; rotated: the second one first, the first one last"},
          {"scale", ParamType::kFloat, F(1.0 / 255), false, 1e-12, 1e12, {}, "factor of the bytes"}}, MakeFlowStack},
    };
  }();
  return *specs;
}

}  // namespace zoo
