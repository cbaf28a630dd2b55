// SPDX-License-Identifier: Apache-2.0
// Audio ops of the pipeline: one table with their parameters, one adapter class each.
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>

#include "pipeline/op.h"
#include "zoo/spectral.h"

namespace zoo {

Status RateParam(const Params& p, const OpContext& c, int32_t* rate) {
  if (p.Has("rate")) {
    *rate = static_cast<int32_t>(p.Int("rate"));
    if (c.input.rate == 0 || c.input.rate == *rate) return Status::Ok();
    return InvalidPipeline("rate is " + std::to_string(*rate) + " Hz, the signal has " + std::to_string(static_cast<int32_t>(c.input.rate)));
  }
  if (c.input.rate == 0) return InvalidPipeline("the rate of the signal is not known; put a resample op before it or set rate");
  *rate = static_cast<int32_t>(c.input.rate);
  return Status::Ok();
}

Status CheckRate(const char* op, int32_t rate, const Extent& in) {
  if (Hz(in) == rate) return Status::Ok();
  return InvalidSignal(std::string(op) + ": the signal has " + std::to_string(Hz(in)) + " Hz, the op needs " +
                       std::to_string(rate) + "; resample it first");
}

namespace {

// --------------------------------------------------------------------------------------------------------- signals

class ResampleOp final : public Op {
 public:
  ResampleOp(int32_t rate_out, std::string isa) : rate_out_(rate_out), isa_(std::move(isa)) {}
  PortType output() const override { return {PortKind::kAudio, static_cast<double>(rate_out_), {-1}}; }
  Status Infer(const Extent& in, Extent* out) const override {
    const ResampleOptions o{Hz(in), rate_out_};
    ZOO_RETURN_IF_ERROR(o.Validate());
    *out = in;
    out->rate = rate_out_;
    out->dim[0] = Resample::OutputSize(o, in.dim[0]);
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  Range Needed(const Extent& in, Range out) const override {
    return Resample::Needed({Hz(in), rate_out_}, out, in.dim[0]);
  }

  struct State : OpState {
    int32_t rate = 0;
    std::shared_ptr<const Resample> plan;
    std::unique_ptr<Resample::State> scratch;
  };
  Result<std::unique_ptr<OpState>> NewState() const override { return std::unique_ptr<OpState>(new State); }
  Status Prepare(const Extent& in, Range, OpState& state) const override {
    State& s = static_cast<State&>(state);
    const int32_t rate = Hz(in);
    if (s.rate != rate) {
      const std::lock_guard<std::mutex> lock(mutex_);
      std::shared_ptr<const Resample>& plan = plans_[rate];
      if (!plan) {
        if (plans_.size() > kMaxPlans) plans_.clear();
        Result<Resample> made = Resample::Create({rate, rate_out_}, isa_);
        if (!made.ok()) {
          plans_.erase(rate);
          return made.status();
        }
        plans_[rate] = s.plan = std::make_shared<const Resample>(std::move(made.value()));
      } else {
        s.plan = plan;
      }
      auto scratch = s.plan->NewState();
      if (!scratch.ok()) return scratch.status();
      s.scratch = std::move(scratch.value());
      s.rate = rate;
    }
    return Status::Ok();
  }
  Status Run(const ConstView& in, Range range, void* out, OpState& state) const noexcept override {
    State& s = static_cast<State&>(state);
    return s.plan->Compute(in.as<float>(), in.range.begin, in.extent.dim[0], range, As<float>(out, range.size()), *s.scratch);
  }
  bool streams() const override { return true; }
  int64_t Ready(const Extent& in, int64_t rows) const override { return Resample::Ready({Hz(in), rate_out_}, rows); }

 private:
  static constexpr size_t kMaxPlans = 32;
  int32_t rate_out_;
  std::string isa_;
  mutable std::mutex mutex_;
  mutable std::map<int32_t, std::shared_ptr<const Resample>> plans_;
};

Result<std::unique_ptr<Op>> MakeResample(const Params& p, const OpContext& c) {
  return std::unique_ptr<Op>(new ResampleOp(static_cast<int32_t>(p.Int("rate")), c.isa));
}

class FitOp final : public Op {
 public:
  FitOp(const FitOptions& o, double rate) : options_(o), rate_(rate) {}
  PortType output() const override { return {PortKind::kAudio, rate_, {options_.length}}; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    out->dim[0] = options_.length;
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  Range Needed(const Extent& in, Range out) const override { return options_.Needed(out, in.dim[0]); }
  Status Run(const ConstView& in, Range range, void* out, OpState&) const noexcept override {
    return options_.Compute(in.as<float>(), in.range.begin, in.extent.dim[0], range, As<float>(out, range.size()));
  }

 private:
  FitOptions options_;
  double rate_;
};

Result<std::unique_ptr<Op>> MakeFit(const Params& p, const OpContext& c) {
  FitOptions o;
  o.length = p.Int("length");
  o.pad = static_cast<Align>(p.Choice("pad"));
  o.crop = static_cast<Align>(p.Choice("crop"));
  ZOO_RETURN_IF_ERROR(o.Validate());
  return std::unique_ptr<Op>(new FitOp(o, c.input.rate));
}

// --------------------------------------------------------------------------------------------------------- spectra

FrameOptions FrameParams(const Params& p) {
  FrameOptions o;
  o.n_fft = static_cast<int32_t>(p.Int("n_fft"));
  o.hop_length = static_cast<int32_t>(p.Int("hop_length"));
  o.win_length = p.Has("win_length") ? static_cast<int32_t>(p.Int("win_length")) : 0;
  o.window = static_cast<Window>(p.Choice("window"));
  o.center = p.Bool("center");
  o.pad_mode = static_cast<PadMode>(p.Choice("pad_mode"));
  return o;
}

Status MelParams(const Params& p, const OpContext& c, MelOptions* o) {
  static_cast<FrameOptions&>(*o) = FrameParams(p);
  ZOO_RETURN_IF_ERROR(RateParam(p, c, &o->rate));
  o->n_mels = static_cast<int32_t>(p.Int("n_mels"));
  o->power = p.Float("power");
  o->fmin = p.Float("fmin");
  if (p.Has("fmax")) o->fmax = p.Float("fmax");
  o->htk = p.Bool("htk");
  o->norm = static_cast<MelNorm>(p.Choice("norm"));
  return Status::Ok();
}

Status DecibelParams(const Params& p, DecibelOptions* o) {
  o->ref = p.Float("ref");
  o->amin = p.Float("amin");
  o->top_db = p.Has("top_db") ? std::optional<double>(p.Float("top_db")) : std::nullopt;
  return Status::Ok();
}

Status InferFrames(const FrameOptions& o, const char* op, int32_t rate, const Extent& in, int64_t columns, Extent* out) {
  if (rate != 0) ZOO_RETURN_IF_ERROR(CheckRate(op, rate, in));
  const int64_t frames = o.Frames(in.dim[0]);
  if (frames < 1) {
    return InvalidSignal(std::string(op) + ": the signal has " + std::to_string(in.dim[0]) +
                         " samples, fewer than one frame of n_fft = " + std::to_string(o.n_fft));
  }
  *out = Extent{};
  out->rank = 2;
  out->dim[0] = frames;
  out->dim[1] = columns;
  return Status::Ok();
}

constexpr const char* kTopDbHint = "its top_db looks for the largest value: set top_db to null";

int64_t StaticFrames(const FrameOptions& o, const PortType& in) { return in.shape[0] < 0 ? -1 : o.Frames(in.shape[0]); }

// Stft, Mel and Mfcc: rows are frames. rate: what the op needs, 0 for any. whole: a row depends on all frames.
template <class Core>
class FramesOp final : public Op {
 public:
  FramesOp(const char* name, Core core, const PortType& in, int32_t rate, int64_t columns, bool whole)
      : name_(name), core_(std::move(core)), in_(in), rate_(rate), columns_(columns), whole_(whole) {}
  PortType output() const override {
    PortType t{PortKind::kTensor, 0, {StaticFrames(core_.options(), in_), columns_}};
    if (Pairs()) t.shape = {t.shape[0], columns_ / 2, 2};
    return t;
  }
  Status Infer(const Extent& in, Extent* out) const override {
    ZOO_RETURN_IF_ERROR(InferFrames(core_.options(), name_, rate_, in, columns_, out));
    if (Pairs()) out->rank = 3, out->dim[1] = columns_ / 2, out->dim[2] = 2;
    return Status::Ok();
  }
  bool ranged() const override { return !whole_; }
  Range Needed(const Extent& in, Range out) const override { return core_.options().Needed(out, in.dim[0]); }
  Result<std::unique_ptr<OpState>> NewState() const override { return NewCoreState(core_); }
  Status Prepare(const Extent&, Range out, OpState& s) const override {
    if constexpr (std::is_same_v<Core, Mfcc>) return core_.Reserve(out.size(), *static_cast<CoreState<Core>&>(s).state);
    (void)out, (void)s;
    return Status::Ok();
  }
  Status Run(const ConstView& in, Range rows, void* out, OpState& s) const noexcept override {
    return core_.Compute({in.as<float>(), in.range.begin, in.extent.dim[0]}, rows, As<float>(out, rows.size() * columns_),
                         *static_cast<CoreState<Core>&>(s).state);
  }
  bool streams() const override { return !whole_; }
  const char* stream_hint() const override { return kTopDbHint; }
  int64_t Ready(const Extent&, int64_t rows) const override { return core_.options().Ready(rows); }
  int64_t Keep(const Extent& in, int64_t next) const override { return core_.options().Keep(next, in.dim[0]); }

 private:
  bool Pairs() const {
    if constexpr (std::is_same_v<Core, Stft>) return core_.options().output == StftOutput::kComplex;
    return false;
  }
  const char* name_;
  Core core_;
  PortType in_;
  int32_t rate_;
  int64_t columns_;
  bool whole_;
};

Result<std::unique_ptr<Op>> MakeStft(const Params& p, const OpContext& c) {
  StftOptions o;
  static_cast<FrameOptions&>(o) = FrameParams(p);
  o.output = static_cast<StftOutput>(p.Choice("output"));
  auto core = Stft::Create(o, c.isa);
  if (!core.ok()) return core.status();
  const int64_t columns = core.value().columns();
  return std::unique_ptr<Op>(new FramesOp<Stft>("stft", std::move(core.value()), c.input, 0, columns, false));
}

Result<std::unique_ptr<Op>> MakeMel(const Params& p, const OpContext& c) {
  MelOptions o;
  ZOO_RETURN_IF_ERROR(MelParams(p, c, &o));
  auto core = Mel::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new FramesOp<Mel>("mel", std::move(core.value()), c.input, o.rate, o.n_mels, false));
}

Result<std::unique_ptr<Op>> MakeMfcc(const Params& p, const OpContext& c) {
  MfccOptions o;
  ZOO_RETURN_IF_ERROR(MelParams(p, c, &o));
  ZOO_RETURN_IF_ERROR(DecibelParams(p, &o.db));
  o.n_mfcc = static_cast<int32_t>(p.Int("n_mfcc"));
  auto core = Mfcc::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(
      new FramesOp<Mfcc>("mfcc", std::move(core.value()), c.input, o.rate, o.n_mfcc, o.db.top_db.has_value()));
}

// --------------------------------------------------------------------------------------------------------- tensors

// The values of rows `rows` of a view that holds at least those.
Span<const float> RowsOf(const ConstView& in, Range rows) {
  const Span<const float> all = in.as<float>();
  const int64_t row = in.extent.row();
  return {all.data() + (rows.begin - in.range.begin) * row, static_cast<size_t>(rows.size() * row)};
}

// Value by value: PowerToDb and Log. whole: values depend on all others.
template <class Core>
class ValuesOp final : public Op {
 public:
  ValuesOp(Core core, PortType in, bool whole) : core_(std::move(core)), in_(std::move(in)), whole_(whole) {}
  PortType output() const override { return in_; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    return Status::Ok();
  }
  bool ranged() const override { return !whole_; }
  bool streams() const override { return !whole_; }
  const char* stream_hint() const override { return kTopDbHint; }
  Range Needed(const Extent& in, Range out) const override { return whole_ ? Range{0, in.dim[0]} : out; }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    return core_.Compute(RowsOf(in, rows), As<float>(out, rows.size() * in.extent.row()));
  }

 private:
  Core core_;
  PortType in_;
  bool whole_;
};

Result<std::unique_ptr<Op>> MakePowerToDb(const Params& p, const OpContext& c) {
  DecibelOptions o;
  ZOO_RETURN_IF_ERROR(DecibelParams(p, &o));
  auto core = PowerToDb::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new ValuesOp<PowerToDb>(std::move(core.value()), c.input, o.top_db.has_value()));
}

Result<std::unique_ptr<Op>> MakeLog(const Params& p, const OpContext& c) {
  auto core = Log::Create({static_cast<LogBase>(p.Choice("base")), p.Float("amin")}, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new ValuesOp<Log>(std::move(core.value()), c.input, false));
}

class DctOp final : public Op {
 public:
  DctOp(Dct core, const PortType& in) : core_(std::move(core)), rows_(in.shape[0]) {}
  PortType output() const override { return {PortKind::kTensor, 0, {rows_, core_.options().n_out}}; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    out->dim[1] = core_.options().n_out;
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent&, Range out) const override { return out; }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    return core_.Compute(RowsOf(in, rows), As<float>(out, rows.size() * core_.options().n_out));
  }

 private:
  Dct core_;
  int64_t rows_;
};

Result<std::unique_ptr<Op>> MakeDct(const Params& p, const OpContext& c) {
  if (c.input.shape.size() != 2 || c.input.shape[1] < 1) return InvalidPipeline("it needs rows of a fixed number of values");
  auto core = Dct::Create({static_cast<int32_t>(c.input.shape[1]), static_cast<int32_t>(p.Int("n_out"))}, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new DctOp(std::move(core.value()), c.input));
}

// Ops that scale the columns of rows by given numbers, or by statistics of all the rows.
template <class Core>
class ColumnsOp final : public Op {
 public:
  ColumnsOp(Core core, bool given, PortType in) : core_(std::move(core)), given_(given), in_(std::move(in)) {}
  PortType output() const override { return in_; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    return Status::Ok();
  }
  bool ranged() const override { return given_; }
  bool streams() const override { return given_; }
  Range Needed(const Extent& in, Range out) const override { return given_ ? out : Range{0, in.dim[0]}; }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    const int64_t cols = in.extent.row(), count = rows.size() * cols;
    const float* from = static_cast<const float*>(in.data) + (rows.begin - in.range.begin) * cols;
    return core_.Compute({from, static_cast<size_t>(count)}, cols, As<float>(out, count));
  }

 private:
  Core core_;
  bool given_;
  PortType in_;
};

// Columns of a row, or -1 where their number is not fixed.
int64_t FixedColumns(const PortType& in) {
  int64_t columns = in.shape.size() < 2 ? -1 : 1;
  for (size_t i = 1; i < in.shape.size(); ++i) columns = columns < 0 || in.shape[i] < 1 ? -1 : columns * in.shape[i];
  return columns;
}

template <class Core>
Result<std::unique_ptr<Op>> MakeColumns(Core core, size_t given, const char* names, const OpContext& c) {
  const int64_t columns = FixedColumns(c.input);
  if (columns < 1) return InvalidPipeline("it needs rows of a fixed number of values");
  if (given > 0 && static_cast<int64_t>(given) != columns) {
    return InvalidPipeline(std::string(names) + " have " + std::to_string(given) + " values, the input has " + std::to_string(columns) + " columns");
  }
  return std::unique_ptr<Op>(new ColumnsOp<Core>(std::move(core), given > 0, c.input));
}

Result<std::unique_ptr<Op>> MakeStandardize(const Params& p, const OpContext& c) {
  StandardizeOptions o;
  o.mean = p.List("mean");
  o.std = p.List("std");
  o.epsilon = p.Float("epsilon");
  auto core = Standardize::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return MakeColumns(std::move(core.value()), o.mean.size(), "mean and std", c);
}

Result<std::unique_ptr<Op>> MakeMinMax(const Params& p, const OpContext& c) {
  MinMaxOptions o;
  o.low = p.List("low");
  o.high = p.List("high");
  auto core = MinMax::Create(o);
  if (!core.ok()) return core.status();
  return MakeColumns(std::move(core.value()), o.low.size(), "low and high", c);
}

// ----------------------------------------------------------------------------------------------------------- table

void Append(std::vector<ParamSpec>* to, std::vector<ParamSpec> more) {
  for (ParamSpec& p : more) to->push_back(std::move(p));
}

std::vector<ParamSpec> FrameSpecs() {
  return {
      {"n_fft", ParamType::kInt, I(2048), false, 16, 65536, {}, "samples a frame; even, a product of 2, 3 and 5"},
      {"hop_length", ParamType::kInt, I(512), false, 1, kIntMax, {}, "samples between frames"},
      {"win_length", ParamType::kInt, kRequired, true, 1, 65536, {}, "samples of the window, centred in the frame; null: n_fft"},
      {"window", ParamType::kChoice, S("hann"), false, 0, 0, {"hann", "hamming"}, "periodic window"},
      {"center", ParamType::kBool, B(true), false, 0, 0, {}, "frame t is centred at sample t * hop_length"},
      {"pad_mode", ParamType::kChoice, S("constant"), false, 0, 0, {"constant", "reflect"}, "padding of centred frames"},
  };
}

std::vector<ParamSpec> MelSpecs() {
  std::vector<ParamSpec> p = {
      {"rate", ParamType::kInt, kRequired, true, 1, 768000, {}, "Hz; null: the signal's, which must be known"}};
  Append(&p, FrameSpecs());
  Append(&p, {
                 {"power", ParamType::kFloat, F(2.0), false, 1, 2, {}, "of the magnitude: 1 or 2"},
                 {"n_mels", ParamType::kInt, I(128), false, 1, 4096, {}, "mel bands"},
                 {"fmin", ParamType::kFloat, F(0.0), false, 0, 384000, {}, "Hz"},
                 {"fmax", ParamType::kFloat, kRequired, true, 0, 384000, {}, "Hz; null: rate / 2"},
                 {"htk", ParamType::kBool, B(false), false, 0, 0, {}, "HTK's mel scale instead of Slaney's"},
                 {"norm", ParamType::kChoice, S("slaney"), false, 0, 0, {"slaney", "none"}, "area norm of the bands"},
             });
  return p;
}

std::vector<ParamSpec> DecibelSpecs() {
  return {
      {"ref", ParamType::kFloat, F(1.0), false, 0, 0, {}, "power of 0 dB"},
      {"amin", ParamType::kFloat, F(1e-10), false, 1e-37, 1e37, {}, "floor of the power"},
      {"top_db", ParamType::kFloat, F(80.0), true, 0, 1e6, {}, "clip to this far below the largest; null: no clip"},
  };
}

}  // namespace

const std::vector<OpSpec>& AudioOpSpecs() {
  static const std::vector<OpSpec>* const specs = [] {
    std::vector<ParamSpec> mfcc = {{"n_mfcc", ParamType::kInt, I(39), false, 1, 4096, {}, "coefficients kept"}};
    Append(&mfcc, MelSpecs());
    Append(&mfcc, DecibelSpecs());
    std::vector<ParamSpec> stft = FrameSpecs();
    Append(&stft, {{"output", ParamType::kChoice, S("power"), false, 0, 0, {"complex", "power", "magnitude"}, "what is kept"}});
    const PortKind audio = PortKind::kAudio, tensor = PortKind::kTensor;
    return new std::vector<OpSpec>{
        {"resample", audio, audio, "band-limited rate conversion",
         {{"rate", ParamType::kInt, kRequired, false, 1, 768000, {}, "Hz of the output"}}, MakeResample},
        {"fit", audio, audio, "pads or crops to a fixed length",
         {{"length", ParamType::kInt, kRequired, false, 1, 2147483648.0, {}, "samples"},
          {"pad", ParamType::kChoice, S("center"), false, 0, 0, {"center", "start", "end"}, "where zeros go"},
          {"crop", ParamType::kChoice, S("center"), false, 0, 0, {"center", "start", "end"}, "what is kept"}}, MakeFit},
        {"stft", audio, tensor, "short-time Fourier transform, [frames, bins]", stft, MakeStft},
        {"mel", audio, tensor, "mel spectrogram, [frames, n_mels]", MelSpecs(), MakeMel},
        {"mfcc", audio, tensor, "mel-frequency cepstral coefficients, [frames, n_mfcc]", mfcc, MakeMfcc},
        {"power_to_db", tensor, tensor, "decibels of a power", DecibelSpecs(), MakePowerToDb},
        {"log", tensor, tensor, "logarithm of values with a floor",
         {{"base", ParamType::kChoice, S("e"), false, 0, 0, {"e", "10", "2"}, "of the logarithm"},
          {"amin", ParamType::kFloat, F(1e-10), false, 1e-37, 1e37, {}, "floor of the values"}}, MakeLog},
        {"dct", tensor, tensor, "orthonormal DCT-II of each row",
         {{"n_out", ParamType::kInt, kRequired, false, 1, 4096, {}, "coefficients kept"}}, MakeDct},
        {"standardize", tensor, tensor, "(x - mean) / std of each column; both empty: of the clip itself",
         {{"mean", ParamType::kFloatList, std::vector<double>{}, false, 0, 0, {}, "a value each column"},
          {"std", ParamType::kFloatList, std::vector<double>{}, false, 0, 0, {}, "a value each column"},
          {"epsilon", ParamType::kFloat, F(1e-8), false, 0, 1, {}, "added to the clip's own standard deviation"}}, MakeStandardize},
        {"min_max", tensor, tensor, "(x - low) / (high - low) of each column, clipped to [0, 1]; both empty: of the clip itself",
         {{"low", ParamType::kFloatList, std::vector<double>{}, false, 0, 0, {}, "a value each column"},
          {"high", ParamType::kFloatList, std::vector<double>{}, false, 0, 0, {}, "a value each column"}}, MakeMinMax},
    };
  }();
  return *specs;
}

}  // namespace zoo
