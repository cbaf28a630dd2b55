// SPDX-License-Identifier: Apache-2.0
// Functionals of low-level descriptors: one table with their parameters, one adapter class each.
#include <utility>

#include "pipeline/op.h"
#include "zoo/functionals.h"

namespace zoo {
namespace {

Span<float> Out(void* data, int64_t count) { return {static_cast<float*>(data), static_cast<size_t>(count)}; }

Extent Rows(int64_t rows) {
  Extent e;
  e.rank = 2;
  e.dim[0] = rows;
  e.dim[1] = kFunctionals;
  return e;
}

Status CheckInput(const OpContext& c) {
  if (c.input.shape.size() == 2 && c.input.shape[1] == kDescriptors) return Status::Ok();
  return InvalidPipeline("it needs rows of the " + std::to_string(kDescriptors) + " descriptors that lld gives");
}

class FunctionalsOp final : public Op {
 public:
  explicit FunctionalsOp(Functionals core) : core_(std::move(core)) {}
  PortType output() const override { return {PortKind::kTensor, 0, {1, kFunctionals}}; }
  Status Infer(const Extent&, Extent* out) const override {
    *out = Rows(1);
    return Status::Ok();
  }
  Result<std::unique_ptr<OpState>> NewState() const override { return NewCoreState(core_); }
  Status Prepare(const Extent& in, Range, OpState& s) const override {
    return core_.Reserve(in.dim[0], *static_cast<CoreState<Functionals>&>(s).state);
  }
  Status Run(const ConstView& in, Range, void* out, OpState& s) const noexcept override {
    return core_.Compute(in.as<float>(), Out(out, kFunctionals), *static_cast<CoreState<Functionals>&>(s).state);
  }

 private:
  Functionals core_;
};

class SlidingFunctionalsOp final : public Op {
 public:
  SlidingFunctionalsOp(SlidingFunctionals core, int64_t rows) : core_(std::move(core)), rows_(rows) {}
  PortType output() const override {
    return {PortKind::kTensor, 0, {rows_ < 0 ? -1 : core_.options().Windows(rows_), kFunctionals}};
  }
  Status Infer(const Extent& in, Extent* out) const override {
    const SlidingFunctionalsOptions& o = core_.options();
    *out = Rows(o.Windows(in.dim[0]));
    if (out->dim[0] > 0) return Status::Ok();
    return InvalidSignal("sliding_functionals: the input has " + std::to_string(in.dim[0]) + " rows, fewer than a window of " +
                         std::to_string(o.window));
  }
  bool ranged() const override { return true; }
  Range Needed(const Extent&, Range out) const override { return core_.options().Needed(out); }
  Result<std::unique_ptr<OpState>> NewState() const override { return NewCoreState(core_); }
  Status Run(const ConstView& in, Range rows, void* out, OpState& s) const noexcept override {
    return core_.Compute(in.as<float>(), in.range.begin, rows, Out(out, rows.size() * kFunctionals),
                         *static_cast<CoreState<SlidingFunctionals>&>(s).state);
  }
  bool streams() const override { return true; }
  int64_t Ready(const Extent&, int64_t rows) const override { return core_.options().Windows(rows); }

 private:
  SlidingFunctionals core_;
  int64_t rows_;
};

Result<std::unique_ptr<Op>> MakeFunctionals(const Params& p, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(CheckInput(c));
  FunctionalsOptions o;
  o.tail = static_cast<int32_t>(p.Int("tail"));
  o.period = p.Float("period");
  auto core = Functionals::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new FunctionalsOp(std::move(core.value())));
}

Result<std::unique_ptr<Op>> MakeSlidingFunctionals(const Params& p, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(CheckInput(c));
  SlidingFunctionalsOptions o;
  o.period = p.Float("period");
  o.window = static_cast<int32_t>(p.Int("window"));
  o.hop = static_cast<int32_t>(p.Int("hop"));
  auto core = SlidingFunctionals::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new SlidingFunctionalsOp(std::move(core.value()), c.input.shape[0]));
}

}  // namespace

const std::vector<OpSpec>& FunctionalsOpSpecs() {
  static const std::vector<OpSpec>* const specs = [] {
    const PortKind tensor = PortKind::kTensor;
    const ParamSpec period = {"period", ParamType::kFloat, F(0.01), false, 1e-6, 1000, {}, "seconds between rows"};
    return new std::vector<OpSpec>{
        {"functionals", tensor, tensor, "statistics of descriptors over the whole segment, [1, 1582]",
         {{"tail", ParamType::kInt, I(3), false, 0, 65536, {}, "rows at the end that the statistics leave out"}, period},
         MakeFunctionals},
        {"sliding_functionals", tensor, tensor, "statistics of descriptors over sliding windows, [windows, 1582]",
         {{"window", ParamType::kInt, I(40), false, 1, 65536, {}, "rows of a window"},
          {"hop", ParamType::kInt, I(4), false, 1, 65536, {}, "rows between windows"}, period}, MakeSlidingFunctionals},
    };
  }();
  return *specs;
}

}  // namespace zoo
