// SPDX-License-Identifier: Apache-2.0
// The op of openSMILE's low-level descriptors: its table entry and its adapter.
#include <cstring>
#include <new>
#include <utility>

#include "pipeline/op.h"
#include "zoo/lld.h"

namespace zoo {
namespace {

class LldStream final : public OpStream {
 public:
  LldStream(const Lld& core, std::unique_ptr<Lld::State> state) : core_(core), state_(std::move(state)) {}

  Status Push(const ConstView& in, bool last, RowSink* out) noexcept override try {
    const int64_t total = in.range.end, fresh = in.range.size();
    const size_t used = static_cast<size_t>(total - fresh - first_);
    if (!kept_.Extend(used, used + static_cast<size_t>(fresh))) return OutOfMemory();
    if (fresh > 0) std::memcpy(kept_.data() + used, in.data, static_cast<size_t>(fresh) * sizeof(float));
    const int64_t ready = last ? core_.Frames(total) : core_.Ready(total);
    const int64_t rows = ready > core_.Rows(*state_) ? ready - core_.Rows(*state_) : 0;
    float* to = nullptr;
    if (rows > 0) {
      to = static_cast<float*>(out->Append(rows));
      if (to == nullptr) return OutOfMemory();
    }
    ZOO_RETURN_IF_ERROR(core_.Push({kept_.data(), used + static_cast<size_t>(fresh)}, first_, last,
                                   {to, static_cast<size_t>(rows) * Lld::kColumns}, *state_));
    const int64_t keep = core_.Needed(*state_) < total ? core_.Needed(*state_) : total;
    if (keep > first_) {
      std::memmove(kept_.data(), kept_.data() + (keep - first_), static_cast<size_t>(total - keep) * sizeof(float));
      first_ = keep;
    }
    return Status::Ok();
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }

 private:
  const Lld& core_;
  std::unique_ptr<Lld::State> state_;
  Buffer<float> kept_;  // samples from first_ on
  int64_t first_ = 0;
};

class LldOp final : public Op {
 public:
  explicit LldOp(Lld core) : core_(std::move(core)) {}
  PortType output() const override { return {PortKind::kTensor, 0, {-1, Lld::kColumns}}; }
  Status Infer(const Extent& in, Extent* out) const override {
    if (in.rate != core_.options().rate) {
      return InvalidSignal("lld: the signal has " + std::to_string(static_cast<int64_t>(in.rate)) + " Hz, the op needs " +
                           std::to_string(core_.options().rate) + "; resample it first");
    }
    const int64_t rows = core_.Frames(in.dim[0]);
    if (rows < 1) {
      return InvalidSignal("lld: the signal has " + std::to_string(in.dim[0]) + " samples; at least " +
                           std::to_string(core_.Shortest()) + " (two pitch frames) are needed");
    }
    *out = Extent{};
    out->rank = 2;
    out->dim[0] = rows;
    out->dim[1] = Lld::kColumns;
    return Status::Ok();
  }
  Result<std::unique_ptr<OpState>> NewState() const override { return NewCoreState(core_); }
  Status Run(const ConstView& in, Range rows, void* out, OpState& s) const noexcept override {
    Lld::State& state = *static_cast<CoreState<Lld>&>(s).state;
    core_.Start(state);
    return core_.Push(in.as<float>(), in.range.begin, true, {static_cast<float*>(out), static_cast<size_t>(rows.size()) * Lld::kColumns}, state);
  }
  bool streams() const override { return true; }
  Result<std::unique_ptr<OpStream>> NewStream(const Extent&) const override {
    auto state = core_.NewState();
    if (!state.ok()) return state.status();
    return std::unique_ptr<OpStream>(new LldStream(core_, std::move(state.value())));
  }

 private:
  Lld core_;
};

Result<std::unique_ptr<Op>> MakeLld(const Params& p, const OpContext& c) {
  LldOptions o;
  if (p.Has("rate")) {
    o.rate = static_cast<int32_t>(p.Int("rate"));
    if (c.input.rate != 0 && c.input.rate != o.rate) {
      return InvalidPipeline("rate is " + std::to_string(o.rate) + " Hz, the signal has " + std::to_string(static_cast<int32_t>(c.input.rate)));
    }
  } else if (c.input.rate != 0) {
    o.rate = static_cast<int32_t>(c.input.rate);
  } else {
    return InvalidPipeline("the rate of the signal is not known; put a resample op before it or set rate");
  }
  auto core = Lld::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new LldOp(std::move(core.value())));
}

}  // namespace

const std::vector<OpSpec>& LldOpSpecs() {
  static const std::vector<OpSpec>* const specs = new std::vector<OpSpec>{
      {"lld", PortKind::kAudio, PortKind::kTensor, "low-level descriptors of openSMILE's emobase2010 and their deltas, [frames, 76]",
       {{"rate", ParamType::kInt, kRequired, true, 4000, 384000, {}, "Hz; null: the signal's, which must be known"}}, MakeLld},
  };
  return *specs;
}

}  // namespace zoo
