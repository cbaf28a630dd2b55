// SPDX-License-Identifier: Apache-2.0
// EEG ops of the pipeline: one table with their parameters, one adapter class each.
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include "pipeline/op.h"
#include "zoo/eeg.h"

namespace zoo {
namespace {

Span<double> Doubles(void* data, int64_t count) { return {static_cast<double*>(data), static_cast<size_t>(count)}; }
Span<float> Floats(void* data, int64_t count) { return {static_cast<float*>(data), static_cast<size_t>(count)}; }

// What depends on the signal's rate is made when the rate is seen first, and kept.
template <class Core, class Options>
class ByRate {
 public:
  ByRate(const char* op, Options options, std::string isa) : op_(op), options_(std::move(options)), isa_(std::move(isa)) {}
  const Options& options() const { return options_; }
  Status Get(double rate, std::shared_ptr<const Core>* out) const noexcept try {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto known = cores_.find(rate);
    if (known != cores_.end()) {
      *out = known->second;
      return Status::Ok();
    }
    Options o = options_;
    o.rate = rate;
    auto made = Core::Create(o, isa_);
    if (!made.ok()) return Status(made.status().code(), std::string(op_) + ": " + made.status().message());
    if (cores_.size() >= kMaxRates) cores_.clear();
    *out = cores_[rate] = std::make_shared<const Core>(std::move(made.value()));
    return Status::Ok();
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }

 private:
  static constexpr size_t kMaxRates = 16;
  const char* op_;
  Options options_;
  std::string isa_;
  mutable std::mutex mutex_;
  mutable std::map<double, std::shared_ptr<const Core>> cores_;
};

template <class Core>
struct RateState : OpState {
  double rate = 0;
  std::shared_ptr<const Core> core;
  std::unique_ptr<typename Core::State> state;

  template <class Plans>
  Status Use(const Plans& plans, double wanted) {
    if (core && rate == wanted) return Status::Ok();
    ZOO_RETURN_IF_ERROR(plans.Get(wanted, &core));
    auto made = core->NewState();
    if (!made.ok()) return made.status();
    state = std::move(made.value());
    rate = wanted;
    return Status::Ok();
  }
};

// ---------------------------------------------------------------------------------------------------------- filter

using FilterPlans = ByRate<Filter, FilterOptions>;

class FilterStream final : public OpStream {
 public:
  FilterStream(std::shared_ptr<const Filter> filter, int64_t channels) : filter_(std::move(filter)), channels_(channels) {}
  bool Init() { return memory_.Reserve(static_cast<size_t>(filter_->MemorySize(channels_))); }
  Status Push(const ConstView& in, bool, RowSink* out) noexcept override {
    const int64_t rows = in.range.size();
    if (rows == 0) return Status::Ok();
    void* to = out->Append(rows);
    if (to == nullptr) return OutOfMemory();
    filter_->Continue(in.as<double>(), channels_, in.range.begin == 0, memory_.data(), static_cast<double*>(to));
    return Status::Ok();
  }

 private:
  std::shared_ptr<const Filter> filter_;
  int64_t channels_;
  Buffer<double> memory_;
};

class FilterOp final : public Op {
 public:
  FilterOp(FilterOptions o, std::string isa, PortType in) : plans_("filter", std::move(o), std::move(isa)), in_(std::move(in)) {}
  PortType output() const override { return in_; }
  Status Infer(const Extent& in, Extent* out) const override {
    std::shared_ptr<const Filter> f;
    ZOO_RETURN_IF_ERROR(plans_.Get(in.rate, &f));
    if (in.dim[0] < f->MinSamples()) {
      return InvalidSignal("filter: the signal has " + std::to_string(in.dim[0]) + " samples; forward and backward filtering with this padding needs " +
                           std::to_string(f->MinSamples()) + "; use pad = none or a longer signal");
    }
    *out = in;
    return Status::Ok();
  }
  bool ranged() const override { return !recursive(); }
  bool streams() const override { return plans_.options().phase == FilterPhase::kCausal; }
  Range Needed(const Extent& in, Range out) const override {
    std::shared_ptr<const Filter> f;
    return plans_.Get(in.rate, &f).ok() ? f->Needed(out, in.dim[0]) : Range{0, in.dim[0]};
  }
  int64_t Ready(const Extent& in, int64_t rows) const override {
    std::shared_ptr<const Filter> f;
    return plans_.Get(in.rate, &f).ok() ? f->Ready(rows) : 0;
  }
  Result<std::unique_ptr<OpState>> NewState() const override { return std::unique_ptr<OpState>(new RateState<Filter>); }
  Status Prepare(const Extent& in, Range out, OpState& state) const override {
    RateState<Filter>& s = static_cast<RateState<Filter>&>(state);
    ZOO_RETURN_IF_ERROR(s.Use(plans_, in.rate));
    return s.core->Reserve(out, in.row(), *s.state);
  }
  Status Run(const ConstView& in, Range rows, void* out, OpState& state) const noexcept override {
    RateState<Filter>& s = static_cast<RateState<Filter>&>(state);
    const int64_t channels = in.extent.row();
    return s.core->Compute(in.as<double>(), in.range, in.extent.dim[0], channels, rows, Doubles(out, rows.size() * channels), *s.state);
  }
  Result<std::unique_ptr<OpStream>> NewStream(const Extent& format) const override {
    if (!recursive()) return Op::NewStream(format);
    std::shared_ptr<const Filter> f;
    ZOO_RETURN_IF_ERROR(plans_.Get(format.rate, &f));
    auto stream = std::make_unique<FilterStream>(std::move(f), format.row());
    if (!stream->Init()) return OutOfMemory();
    return std::unique_ptr<OpStream>(std::move(stream));
  }

 private:
  bool recursive() const { return plans_.options().design != FilterDesign::kFir; }
  FilterPlans plans_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeFilter(const Params& p, const OpContext& c) {
  FilterOptions o;
  o.kind = static_cast<FilterKind>(p.Choice("kind"));
  o.design = static_cast<FilterDesign>(p.Choice("design"));
  o.freqs = p.List("freqs");
  o.order = static_cast<int32_t>(p.Int("order"));
  o.q = p.Float("q");
  o.taps = p.Has("taps") ? static_cast<int32_t>(p.Int("taps")) : 0;
  o.window = static_cast<FirWindow>(p.Choice("window"));
  o.phase = static_cast<FilterPhase>(p.Choice("phase"));
  o.initial = static_cast<FilterInitial>(p.Choice("initial"));
  o.pad = static_cast<FilterPad>(p.Choice("pad"));
  FilterOptions any = o;  // at the highest rate, unless the signal's is known
  any.rate = c.input.rate > 0 ? c.input.rate : 768000;
  ZOO_RETURN_IF_ERROR(any.Validate());
  return std::unique_ptr<Op>(new FilterOp(std::move(o), c.isa, c.input));
}

class DemeanOp final : public Op {
 public:
  explicit DemeanOp(PortType in) : in_(std::move(in)) {}
  PortType output() const override { return in_; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    return Status::Ok();
  }
  struct State : OpState {
    Buffer<double> mean;
  };
  Result<std::unique_ptr<OpState>> NewState() const override { return std::unique_ptr<OpState>(new State); }
  Status Prepare(const Extent& in, Range, OpState& state) const override {
    return static_cast<State&>(state).mean.Reserve(static_cast<size_t>(in.row())) ? Status::Ok() : OutOfMemory();
  }
  Status Run(const ConstView& in, Range, void* out, OpState& state) const noexcept override {
    RemoveMean(in.as<double>(), in.extent.row(), static_cast<State&>(state).mean.data(), Doubles(out, in.extent.count()));
    return Status::Ok();
  }

 private:
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeDemean(const Params&, const OpContext& c) { return std::unique_ptr<Op>(new DemeanOp(c.input)); }

class DespikeOp final : public Op {
 public:
  DespikeOp(double limit, PortType in) : limit_(limit), in_(std::move(in)) {}
  PortType output() const override { return in_; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent& in, Range out) const override {
    // the three rows at either end look at each other
    return {std::max<int64_t>(0, std::min(out.begin - 1, in.dim[0] - 3)), std::min(in.dim[0], std::max<int64_t>(out.end + 1, 3))};
  }
  int64_t Ready(const Extent&, int64_t rows) const override { return rows < 3 ? 0 : rows - 1; }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    Despike(in.as<double>(), in.range, in.extent.dim[0], in.extent.row(), limit_, rows, static_cast<double*>(out));
    return Status::Ok();
  }

 private:
  double limit_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeDespike(const Params& p, const OpContext& c) {
  DespikeOptions o;
  o.limit = p.Float("limit");
  ZOO_RETURN_IF_ERROR(o.Validate());
  return std::unique_ptr<Op>(new DespikeOp(o.limit, c.input));
}

// ------------------------------------------------------------------------------------------------------- bandpower

class BandPowerOp final : public Op {
 public:
  BandPowerOp(BandPowerOptions o, std::string isa, const PortType& in) : plans_("bandpower", std::move(o), std::move(isa)), in_(in) {}
  PortType output() const override {
    const BandPowerOptions& o = plans_.options();
    return {PortKind::kTensor, 0, {in_.shape[0] < 0 ? -1 : o.Windows(in_.shape[0]), o.band_count(), in_.shape[1]}};
  }
  Status Infer(const Extent& in, Extent* out) const override {
    const BandPowerOptions& o = plans_.options();
    std::shared_ptr<const BandPower> plan;
    ZOO_RETURN_IF_ERROR(plans_.Get(in.rate, &plan));
    if (o.Windows(in.dim[0]) < 1) {
      return InvalidSignal("bandpower: the signal has " + std::to_string(in.dim[0]) + " samples, fewer than one window of " + std::to_string(o.window_length));
    }
    *out = Extent{};
    out->rank = 3;
    out->dim[0] = o.Windows(in.dim[0]);
    out->dim[1] = o.band_count();
    out->dim[2] = in.dim[1];
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent&, Range out) const override {
    const BandPowerOptions& o = plans_.options();
    if (out.size() == 0) return {out.begin * o.hop_length, out.begin * o.hop_length};
    return {out.begin * o.hop_length, (out.end - 1) * o.hop_length + o.window_length};
  }
  int64_t Ready(const Extent&, int64_t rows) const override { return plans_.options().Windows(rows); }
  Result<std::unique_ptr<OpState>> NewState() const override { return std::unique_ptr<OpState>(new RateState<BandPower>); }
  Status Prepare(const Extent& in, Range, OpState& state) const override {
    return static_cast<RateState<BandPower>&>(state).Use(plans_, in.rate);
  }
  Status Run(const ConstView& in, Range rows, void* out, OpState& state) const noexcept override {
    RateState<BandPower>& s = static_cast<RateState<BandPower>&>(state);
    const int64_t channels = in.extent.row(), skip = rows.begin * plans_.options().hop_length - in.range.begin;
    const Span<const double> all = in.as<double>();
    const Span<const double> part{all.data() + skip * channels, all.size() - static_cast<size_t>(skip * channels)};
    return s.core->Compute(part, channels, rows, Floats(out, rows.size() * plans_.options().band_count() * channels), *s.state);
  }

 private:
  ByRate<BandPower, BandPowerOptions> plans_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeBandPower(const Params& p, const OpContext& c) {
  BandPowerOptions o;
  o.bands = p.List("bands");
  o.window_length = p.Int("window_length");
  o.hop_length = p.Int("hop_length");
  o.segment_length = p.Has("segment_length") ? p.Int("segment_length") : 0;
  o.overlap = p.Has("overlap") ? p.Int("overlap") : -1;
  o.taper = static_cast<Taper>(p.Choice("taper"));
  o.detrend = p.Bool("detrend");
  o.density = p.Choice("scaling") == 0;
  o.integrate = static_cast<BandSum>(p.Choice("integrate"));
  o.output = static_cast<BandOutput>(p.Choice("output"));
  o.epsilon = p.Float("epsilon");
  BandPowerOptions any = o;
  any.rate = c.input.rate > 0 ? c.input.rate : 768000;
  ZOO_RETURN_IF_ERROR(any.Validate());
  return std::unique_ptr<Op>(new BandPowerOp(std::move(o), c.isa, c.input));
}

// --------------------------------------------------------------------------------------------------------- topomap

class TopomapOp final : public Op {
 public:
  TopomapOp(Topomap core, const PortType& in) : core_(std::move(core)), in_(in) {}
  PortType output() const override {
    std::vector<int64_t> shape(in_.shape.begin(), in_.shape.end() - 1);
    shape.insert(shape.end(), 2, core_.options().size);
    return {PortKind::kTensor, 0, shape};
  }
  Status Infer(const Extent& in, Extent* out) const override {
    if (in.dim[in.rank - 1] != core_.channels()) {
      return InvalidSignal("topomap: positions has " + std::to_string(core_.channels()) + " electrodes, the input has " +
                           std::to_string(in.dim[in.rank - 1]) + " channels");
    }
    *out = in;
    out->rank = in.rank + 1;
    out->dim[in.rank - 1] = out->dim[in.rank] = core_.options().size;
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent&, Range out) const override { return out; }
  Result<std::unique_ptr<OpState>> NewState() const override { return NewCoreState(core_); }
  Status Run(const ConstView& in, Range rows, void* out, OpState& state) const noexcept override {
    const int64_t values = in.extent.row(), maps = values / core_.channels() * rows.size();
    const float* from = static_cast<const float*>(in.data) + (rows.begin - in.range.begin) * values;
    return core_.Compute({from, static_cast<size_t>(rows.size() * values)}, Floats(out, maps * core_.pixels()), *static_cast<CoreState<Topomap>&>(state).state);
  }

 private:
  Topomap core_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeTopomap(const Params& p, const OpContext& c) {
  TopomapOptions o;
  o.positions = p.List("positions");
  o.size = static_cast<int32_t>(p.Int("size"));
  o.method = static_cast<MapMethod>(p.Choice("method"));
  o.smoothing = p.Float("smoothing");
  if (p.Has("spacing")) o.spacing = p.Float("spacing");
  const size_t rank = c.input.shape.size();
  if (rank != 2 && rank != 3) return InvalidPipeline("it takes [rows, channels] or [rows, bands, channels], not " + std::to_string(rank) + " dimensions");
  auto core = Topomap::Create(o, c.isa);
  if (!core.ok()) return core.status();
  const int64_t channels = c.input.shape[rank - 1];
  if (channels >= 0 && channels != core.value().channels()) {
    return InvalidPipeline("positions has " + std::to_string(core.value().channels()) + " electrodes, the input has " + std::to_string(channels) + " channels");
  }
  return std::unique_ptr<Op>(new TopomapOp(std::move(core.value()), c.input));
}

}  // namespace

const std::vector<OpSpec>& EegOpSpecs() {
  static const std::vector<OpSpec>* const specs = [] {
    const PortKind eeg = PortKind::kEeg, tensor = PortKind::kTensor;
    return new std::vector<OpSpec>{
        {"filter", eeg, eeg, "low-pass, high-pass, band-pass, band-stop or notch filter of every channel",
         {{"kind", ParamType::kChoice, S("bandpass"), false, 0, 0, {"lowpass", "highpass", "bandpass", "bandstop", "notch"}, "what passes"},
          {"freqs", ParamType::kFloatList, kRequired, false, 0, 0, {}, "Hz: one, or the two edges of a band"},
          {"design", ParamType::kChoice, S("butterworth"), false, 0, 0, {"butterworth", "fir"}, "recursive sections or a windowed sinc"},
          {"order", ParamType::kInt, I(4), false, 1, 32, {}, "Butterworth: order; bands have twice as many poles"},
          {"q", ParamType::kFloat, F(30.0), false, 1e-3, 1e6, {}, "notch: frequency over width at -3 dB"},
          {"taps", ParamType::kInt, kRequired, true, 1, 1000001, {}, "FIR: length; null: from the edges, as MNE"},
          {"window", ParamType::kChoice, S("hamming"), false, 0, 0, {"hamming", "hann", "blackman"}, "FIR: symmetric window"},
          {"phase", ParamType::kChoice, S("causal"), false, 0, 0, {"causal", "zero"}, "zero: forward and backward, or the FIR's delay undone"},
          {"initial", ParamType::kChoice, S("zero"), false, 0, 0, {"zero", "steady"}, "causal: what came before, nothing or the first sample for ever"},
          {"pad", ParamType::kChoice, S("odd"), false, 0, 0, {"odd", "even", "constant", "none"}, "zero phase: how the signal goes on beyond its ends"}}, MakeFilter},
        {"demean", eeg, eeg, "subtracts each channel's mean over the recording", {}, MakeDemean},
        {"despike", eeg, eeg, "a single sample far from its neighbours takes the median of the three",
         {{"limit", ParamType::kFloat, F(200.0), false, 1e-9, 1e12, {}, "distance from that median, in the unit of the signal"}}, MakeDespike},
        {"bandpower", eeg, tensor, "power of frequency bands in windows, [windows, bands, channels]",
         {{"bands", ParamType::kFloatList, std::vector<double>{4, 8, 8, 14, 14, 31, 31, 45}, false, 0, 0, {}, "Hz: low and high edge of each band"},
          {"window_length", ParamType::kInt, I(128), false, 2, kIntMax, {}, "samples of a window"},
          {"hop_length", ParamType::kInt, I(64), false, 1, kIntMax, {}, "samples between windows"},
          {"segment_length", ParamType::kInt, kRequired, true, 2, 65536, {}, "Welch: samples of a transform; null: window_length"},
          {"overlap", ParamType::kInt, kRequired, true, 0, 65535, {}, "Welch: samples that segments share; null: half a segment"},
          {"taper", ParamType::kChoice, S("hann"), false, 0, 0, {"hann", "hamming", "boxcar"}, "periodic window of a segment"},
          {"detrend", ParamType::kBool, B(true), false, 0, 0, {}, "subtract each segment's mean"},
          {"scaling", ParamType::kChoice, S("density"), false, 0, 0, {"density", "spectrum"}, "power per Hz, or of each frequency"},
          {"integrate", ParamType::kChoice, S("sum"), false, 0, 0, {"sum", "mean", "trapezoid"}, "how a band's frequencies are joined"},
          {"output", ParamType::kChoice, S("entropy"), false, 0, 0, {"power", "log", "entropy"}, "power, its logarithm, or differential entropy"},
          {"epsilon", ParamType::kFloat, F(1e-12), false, 0, 1, {}, "added to the power before the logarithm"}}, MakeBandPower},
        {"topomap", tensor, tensor, "maps of the head, [rows, (bands,) channels] to [rows, (bands,) size, size]",
         {{"positions", ParamType::kFloatList, kRequired, false, 0, 0, {}, "x (right), y (nose), z (up) of each electrode; only directions count"},
          {"size", ParamType::kInt, I(32), false, 1, 1024, {}, "pixels a side"},
          {"method", ParamType::kChoice, S("spline"), false, 0, 0, {"spline", "clough_tocher"}, "spherical spline, or piecewise cubic as MNE draws it"},
          {"smoothing", ParamType::kFloat, F(1e-5), false, 0, 1e3, {}, "spline: added to the diagonal"},
          {"spacing", ParamType::kFloat, kRequired, true, 1e-3, 10, {}, "clough_tocher: of electrodes, in head radii; null: their median distance"}}, MakeTopomap},
    };
  }();
  return *specs;
}

}  // namespace zoo
