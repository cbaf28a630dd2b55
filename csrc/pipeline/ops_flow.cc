// SPDX-License-Identifier: Apache-2.0
// Optical flow ops of the pipeline: frames to displacements, one adapter for all methods.
#include <algorithm>
#include <utility>

#include "flow/kernels.h"
#include "pipeline/op.h"
#include "zoo/flow_dis.h"
#include "zoo/flow_farneback.h"
#include "zoo/flow_tvl1.h"

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

Result<std::unique_ptr<Op>> MakeFarneback(const Params& p, const OpContext& c) {
  FlowFarnebackOptions o;
  o.pyr_scale = p.Float("pyr_scale");
  o.levels = static_cast<int32_t>(p.Int("levels"));
  o.winsize = static_cast<int32_t>(p.Int("winsize"));
  o.iterations = static_cast<int32_t>(p.Int("iterations"));
  o.poly_n = static_cast<int32_t>(p.Int("poly_n"));
  o.poly_sigma = p.Float("poly_sigma");
  o.window = static_cast<FarnebackWindow>(p.Choice("window"));
  return MakeFlow<FlowFarneback>(o, c);
}

Result<std::unique_ptr<Op>> MakeTvL1(const Params& p, const OpContext& c) {
  FlowTvL1Options o;
  o.tau = p.Float("tau");
  o.lambda = p.Float("lambda_");
  o.theta = p.Float("theta");
  o.scales = static_cast<int32_t>(p.Int("scales"));
  o.warps = static_cast<int32_t>(p.Int("warps"));
  o.epsilon = p.Float("epsilon");
  o.inner_iterations = static_cast<int32_t>(p.Int("inner_iterations"));
  o.outer_iterations = static_cast<int32_t>(p.Int("outer_iterations"));
  o.scale_step = p.Float("scale_step");
  o.gamma = p.Float("gamma");
  o.median_filtering = static_cast<int32_t>(p.Int("median_filtering"));
  return MakeFlow<FlowTvL1>(o, c);
}

}  // namespace

const std::vector<OpSpec>& FlowOpSpecs() {
  static const std::vector<OpSpec>* const specs = [] {
    const PortKind frames = PortKind::kFrames, tensor = PortKind::kTensor;
    return new std::vector<OpSpec>{
        {"flow_dis", frames, tensor, "optical flow by dense inverse search, [frames - 1, height, width, 2]",
         {{"preset", ParamType::kChoice, S("medium"), false, 0, 0, {"ultrafast", "fast", "medium"}, "speed against accuracy"}}, MakeDis},
        {"flow_farneback", frames, tensor, "optical flow by polynomial expansion, [frames - 1, height, width, 2]",
         {{"pyr_scale", ParamType::kFloat, F(0.5), false, 0.1, 0.95, {}, "side of a level over that of the next finer one"},
          {"levels", ParamType::kInt, I(3), false, 0, 30, {}, "levels beyond the finest, while sides keep 32 pixels"},
          {"winsize", ParamType::kInt, I(15), false, 3, 255, {}, "pixels, side of the window of constant displacement"},
          {"iterations", ParamType::kInt, I(3), false, 1, 100, {}, "a level"},
          {"poly_n", ParamType::kInt, I(5), false, 1, 15, {}, "pixels, half side of the polynomial's neighbourhood"},
          {"poly_sigma", ParamType::kFloat, F(1.2), false, 0.3, 15, {}, "pixels, of the weights in that neighbourhood"},
          {"window", ParamType::kChoice, S("box"), false, 0, 0, {"box", "gaussian"}, "weights in the window"}},
         MakeFarneback},
        {"flow_tvl1", frames, tensor, "optical flow with total variation and an L1 data term, [frames - 1, height, width, 2]",
         {{"tau", ParamType::kFloat, F(0.25), false, 0.001, 0.25, {}, "time step of the dual variables"},
          {"lambda_", ParamType::kFloat, F(0.15), false, 0.001, 10, {}, "weight of the data term: smaller, smoother"},
          {"theta", ParamType::kFloat, F(0.3), false, 0.01, 10, {}, "tightness of the coupling of the two terms"},
          {"scales", ParamType::kInt, I(5), false, 1, 30, {}, "levels of the pyramid, while sides keep 16 pixels"},
          {"warps", ParamType::kInt, I(5), false, 1, 100, {}, "a level"},
          {"epsilon", ParamType::kFloat, F(0.01), false, 0, 1, {}, "pixels, root mean square change that ends an inner problem"},
          {"inner_iterations", ParamType::kInt, I(30), false, 1, 1000, {}, "between two medians"},
          {"outer_iterations", ParamType::kInt, I(10), false, 1, 1000, {}, "medians a warp at most"},
          {"scale_step", ParamType::kFloat, F(0.8), false, 0.1, 0.95, {}, "side of a level over that of the next finer one"},
          {"gamma", ParamType::kFloat, F(0.0), false, 0, 10, {}, "weight of a change of brightness; 0: none"},
          {"median_filtering", ParamType::kInt, I(5), false, 1, 5, {}, "pixels, side of the median: 1 (none), 3 or 5"}},
         MakeTvL1},
    };
  }();
  return *specs;
}

}  // namespace zoo
