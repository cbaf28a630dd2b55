// SPDX-License-Identifier: Apache-2.0
// Optical flow ops of the pipeline: frames to displacements, one adapter for all methods.
#include <algorithm>
#include <utility>

#include "flow/kernels.h"
#include "pipeline/op.h"
#include "zoo/flow_dis.h"

namespace zoo {
namespace {

// Core has CheckSize, NewState, Reserve, Begin and Advance as FlowDis has them. What a frame costs by itself (its pyramid) is
// computed once in a run of frames, not once a pair.
template <class Core>
class FlowOp final : public Op {
 public:
  FlowOp(Core core, const Kernels* kernels, const PortType& in) : core_(std::move(core)), kernels_(kernels), in_(in) {}
  PortType output() const override {
    PortType t;
    t.kind = PortKind::kTensor;
    t.rate = in_.rate;
    t.shape = {in_.shape[0] > 0 ? in_.shape[0] - 1 : -1, in_.shape[1], in_.shape[2], 2};
    return t;
  }
  Status Infer(const Extent& in, Extent* out) const override {
    if (in.dim[0] < 2) return InvalidSignal("flow lies between two frames; the input has " + std::to_string(in.dim[0]));
    if (in.dim[3] != 1 && in.dim[3] != 3) {
      return InvalidSignal("frames have " + std::to_string(in.dim[3]) + " channels; flow needs 1 (grey) or 3 (RGB)");
    }
    ZOO_RETURN_IF_ERROR(Core::CheckSize(in.dim[2], in.dim[1]));
    *out = in;
    out->dim[0] = in.dim[0] - 1;
    out->dim[3] = 2;
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  Range Needed(const Extent&, Range out) const override { return {out.begin, out.size() > 0 ? out.end + 1 : out.end}; }
  bool streams() const override { return true; }
  int64_t Ready(const Extent&, int64_t rows) const override { return std::max<int64_t>(rows - 1, 0); }

  struct State : OpState {
    std::unique_ptr<typename Core::State> core;
    Buffer<uint8_t> grey;
  };
  Result<std::unique_ptr<OpState>> NewState() const override {
    auto made = core_.NewState();
    if (!made.ok()) return made.status();
    auto s = std::make_unique<State>();
    s->core = std::move(made.value());
    return std::unique_ptr<OpState>(std::move(s));
  }
  Status Prepare(const Extent& in, Range, OpState& state) const override {
    State& s = static_cast<State&>(state);
    if (in.dim[3] == 3 && !s.grey.Reserve(static_cast<size_t>(in.dim[1] * in.dim[2]))) return OutOfMemory();
    return core_.Reserve(static_cast<int32_t>(in.dim[2]), static_cast<int32_t>(in.dim[1]), *s.core);
  }
  Status Run(const ConstView& in, Range rows, void* out, OpState& state) const noexcept override {
    State& s = static_cast<State&>(state);
    if (rows.size() < 1) return Status::Ok();
    const int64_t pixels = in.extent.dim[1] * in.extent.dim[2];
    const auto frame = [&](int64_t t) -> Span<const uint8_t> {
      const uint8_t* p = static_cast<const uint8_t*>(in.data) + (t - in.range.begin) * in.extent.row();
      if (in.extent.dim[3] == 3) {
        kernels_->flow.grey(p, pixels, s.grey.data());
        p = s.grey.data();
      }
      return {p, static_cast<size_t>(pixels)};
    };
    ZOO_RETURN_IF_ERROR(core_.Begin(frame(rows.begin), *s.core));
    float* to = static_cast<float*>(out);
    for (int64_t t = rows.begin; t < rows.end; ++t, to += 2 * pixels) {
      ZOO_RETURN_IF_ERROR(core_.Advance(frame(t + 1), {to, static_cast<size_t>(2 * pixels)}, *s.core));
    }
    return Status::Ok();
  }

 private:
  Core core_;
  const Kernels* kernels_;
  PortType in_;
};

template <class Core, class Options>
Result<std::unique_ptr<Op>> MakeFlow(const Options& options, const OpContext& c) {
  Result<const Kernels*> kernels = SelectKernels(c.isa);
  if (!kernels.ok()) return kernels.status();
  auto core = Core::Create(options, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new FlowOp<Core>(std::move(core.value()), kernels.value(), c.input));
}

Result<std::unique_ptr<Op>> MakeDis(const Params& p, const OpContext& c) {
  return MakeFlow<FlowDis>(FlowDisOptions::Preset(static_cast<DisPreset>(p.Choice("preset"))), c);
}

}  // namespace

const std::vector<OpSpec>& FlowOpSpecs() {
  static const std::vector<OpSpec>* const specs = [] {
    const PortKind frames = PortKind::kFrames, tensor = PortKind::kTensor;
    return new std::vector<OpSpec>{
        {"flow_dis", frames, tensor, "optical flow by dense inverse search, [frames - 1, height, width, 2]",
         {{"preset", ParamType::kChoice, S("medium"), false, 0, 0, {"ultrafast", "fast", "medium"}, "speed against accuracy"}}, MakeDis},
    };
  }();
  return *specs;
}

}  // namespace zoo
