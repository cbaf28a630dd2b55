// SPDX-License-Identifier: Apache-2.0
// Speech ops of the pipeline: one table with their parameters, one adapter class each.
#include <algorithm>
#include <utility>

#include "pipeline/op.h"
#include "zoo/speech.h"

namespace zoo {
namespace {

// -------------------------------------------------------------------------------------------------- frame features

class FrameFeaturesOp final : public Op {
 public:
  FrameFeaturesOp(FrameFeatures core, const PortType& in) : core_(std::move(core)), samples_(in.shape[0]) {}
  PortType output() const override { return {PortKind::kTensor, 0, {samples_ < 0 ? -1 : core_.Frames(samples_), core_.columns()}}; }
  Status Infer(const Extent& in, Extent* out) const override {
    ZOO_RETURN_IF_ERROR(CheckRate(core_.name(), core_.rate(), in));
    *out = Extent{};
    out->rank = 2;
    out->dim[0] = core_.Frames(in.dim[0]);
    out->dim[1] = core_.columns();
    if (out->dim[0] > 0) return Status::Ok();
    return InvalidSignal(std::string(core_.name()) + ": the signal has " + std::to_string(in.dim[0]) + " samples, too few for one frame of " +
                         std::to_string(core_.length()) + "; pad it first");
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent& in, Range out) const override { return core_.Needed(out, in.dim[0]); }
  int64_t Ready(const Extent&, int64_t rows) const override { return core_.Ready(rows); }
  Result<std::unique_ptr<OpState>> NewState() const override { return NewCoreState(core_); }
  Status Run(const ConstView& in, Range rows, void* out, OpState& s) const noexcept override {
    return core_.Compute(in.as<float>(), in.range.begin, in.extent.dim[0], rows, As<float>(out, rows.size() * core_.columns()),
                         *static_cast<CoreState<FrameFeatures>&>(s).state);
  }

 private:
  FrameFeatures core_;
  int64_t samples_;
};

template <class Options>
Result<std::unique_ptr<Op>> MakeFeatures(const Options& o, const OpContext& c) {
  auto core = FrameFeatures::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new FrameFeaturesOp(std::move(core.value()), c.input));
}

Status KaldiParams(const Params& p, const OpContext& c, KaldiOptions* o) {
  ZOO_RETURN_IF_ERROR(RateParam(p, c, &o->rate));
  o->scale = p.Float("scale");
  o->frame_length_ms = p.Float("frame_length_ms");
  o->frame_shift_ms = p.Float("frame_shift_ms");
  o->preemph_coeff = p.Float("preemph_coeff");
  o->remove_dc_offset = p.Bool("remove_dc_offset");
  o->window_type = static_cast<KaldiWindow>(p.Choice("window_type"));
  o->blackman_coeff = p.Float("blackman_coeff");
  o->round_to_power_of_two = p.Bool("round_to_power_of_two");
  o->snip_edges = p.Bool("snip_edges");
  o->num_bins = static_cast<int32_t>(p.Int("num_bins"));
  o->low_freq = p.Float("low_freq");
  o->high_freq = p.Float("high_freq");
  o->energy_floor = p.Float("energy_floor");
  o->raw_energy = p.Bool("raw_energy");
  return Status::Ok();
}

Result<std::unique_ptr<Op>> MakeKaldiFbank(const Params& p, const OpContext& c) {
  KaldiFbankOptions o;
  ZOO_RETURN_IF_ERROR(KaldiParams(p, c, &o));
  o.use_energy = p.Bool("use_energy");
  o.use_log_fbank = p.Bool("use_log_fbank");
  o.use_power = p.Bool("use_power");
  return MakeFeatures(o, c);
}

Result<std::unique_ptr<Op>> MakeKaldiMfcc(const Params& p, const OpContext& c) {
  KaldiMfccOptions o;
  ZOO_RETURN_IF_ERROR(KaldiParams(p, c, &o));
  o.num_ceps = static_cast<int32_t>(p.Int("num_ceps"));
  o.use_energy = p.Bool("use_energy");
  o.cepstral_lifter = p.Float("cepstral_lifter");
  return MakeFeatures(o, c);
}

Result<std::unique_ptr<Op>> MakeDeepSpeechMfcc(const Params& p, const OpContext& c) {
  DeepSpeechMfccOptions o;
  ZOO_RETURN_IF_ERROR(RateParam(p, c, &o.rate));
  o.win_length = static_cast<int32_t>(p.Int("win_length"));
  o.hop_length = static_cast<int32_t>(p.Int("hop_length"));
  o.n_mels = static_cast<int32_t>(p.Int("n_mels"));
  o.n_mfcc = static_cast<int32_t>(p.Int("n_mfcc"));
  o.fmin = p.Float("fmin");
  if (p.Has("fmax")) o.fmax = p.Float("fmax");
  return MakeFeatures(o, c);
}

// --------------------------------------------------------------------------------------------------------- matrices

Status CheckColumns(const OpContext& c) {
  if (c.input.shape.size() == 2 && c.input.shape[1] >= 1) return Status::Ok();
  return InvalidPipeline("it needs rows of a fixed number of values");
}

class ContextOp final : public Op {
 public:
  ContextOp(const ContextOptions& o, const PortType& in) : options_(o), in_(in) {}
  PortType output() const override { return {PortKind::kTensor, 0, {in_.shape[0], options_.Width(in_.shape[1])}}; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    out->dim[1] = options_.Width(in.dim[1]);
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent& in, Range out) const override { return options_.Needed(out, in.dim[0]); }
  int64_t Ready(const Extent&, int64_t rows) const override { return std::max<int64_t>(0, rows - options_.after); }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    const int64_t cols = in.extent.dim[1];
    return options_.Compute(in.as<float>(), in.range.begin, in.extent.dim[0], cols, rows, As<float>(out, rows.size() * options_.Width(cols)));
  }

 private:
  ContextOptions options_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeContext(const Params& p, const OpContext& c) {
  ContextOptions o;
  o.before = p.Int("before");
  o.after = p.Int("after");
  ZOO_RETURN_IF_ERROR(o.Validate());
  ZOO_RETURN_IF_ERROR(CheckColumns(c));
  return std::unique_ptr<Op>(new ContextOp(o, c.input));
}

// Matrix in, matrix of the same shape out.
class SameShape : public Op {
 public:
  explicit SameShape(PortType in) : in_(std::move(in)) {}
  PortType output() const override { return in_; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    return Status::Ok();
  }

 private:
  PortType in_;
};

class CmvnOp final : public SameShape {
 public:
  CmvnOp(Cmvn core, const PortType& in) : SameShape(in), core_(std::move(core)) {}
  Status Run(const ConstView& in, Range, void* out, OpState&) const noexcept override {
    return core_.Compute(in.as<float>(), in.extent.dim[1], As<float>(out, in.extent.count()));
  }

 private:
  Cmvn core_;
};

Result<std::unique_ptr<Op>> MakeCmvn(const Params& p, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(CheckColumns(c));
  auto core = Cmvn::Create({p.Bool("norm_means"), p.Bool("norm_vars")}, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new CmvnOp(std::move(core.value()), c.input));
}

class SlidingCmvnOp final : public SameShape {
 public:
  SlidingCmvnOp(SlidingCmvn core, const PortType& in) : SameShape(in), core_(std::move(core)) {}
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent& in, Range out) const override { return core_.Needed(out, in.dim[0]); }
  int64_t Ready(const Extent&, int64_t rows) const override { return core_.options().Ready(rows); }
  Result<std::unique_ptr<OpState>> NewState() const override { return NewCoreState(core_); }
  Status Prepare(const Extent& in, Range, OpState& s) const override {
    return core_.Reserve(in.dim[0], in.dim[1], *static_cast<CoreState<SlidingCmvn>&>(s).state);
  }
  Status Run(const ConstView& in, Range rows, void* out, OpState& s) const noexcept override {
    const int64_t cols = in.extent.dim[1];
    return core_.Compute(in.as<float>(), in.range.begin, in.extent.dim[0], cols, rows, As<float>(out, rows.size() * cols),
                         *static_cast<CoreState<SlidingCmvn>&>(s).state);
  }

 private:
  SlidingCmvn core_;
};

Result<std::unique_ptr<Op>> MakeSlidingCmvn(const Params& p, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(CheckColumns(c));
  auto core = SlidingCmvn::Create({p.Int("window"), p.Int("min_window"), p.Bool("center"), p.Bool("norm_vars")}, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new SlidingCmvnOp(std::move(core.value()), c.input));
}

class WaveNormalizeOp final : public SameShape {
 public:
  WaveNormalizeOp(WaveNormalize core, const PortType& in) : SameShape(in), core_(std::move(core)) {}
  Status Run(const ConstView& in, Range, void* out, OpState&) const noexcept override {
    return core_.Compute(in.as<float>(), As<float>(out, in.extent.count()));
  }

 private:
  WaveNormalize core_;
};

Result<std::unique_ptr<Op>> MakeWaveNormalize(const Params& p, const OpContext& c) {
  auto core = WaveNormalize::Create(p.Float("epsilon"), c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new WaveNormalizeOp(std::move(core.value()), c.input));
}

// ----------------------------------------------------------------------------------------------------------- table

std::vector<ParamSpec> KaldiSpecs(bool use_energy, std::vector<ParamSpec> more) {
  std::vector<ParamSpec> p = {
      {"rate", ParamType::kInt, kRequired, true, 1, 768000, {}, "Hz; null: the signal's, which must be known"},
      {"scale", ParamType::kFloat, F(32768.0), false, 1e-30, 1e30, {}, "samples are multiplied by it; 32768: the range of 16-bit integers, which Kaldi reads"},
      {"frame_length_ms", ParamType::kFloat, F(25.0), false, 0.001, 1e6, {}, "ms"},
      {"frame_shift_ms", ParamType::kFloat, F(10.0), false, 0.001, 1e6, {}, "ms"},
      {"preemph_coeff", ParamType::kFloat, F(0.97), false, 0, 1, {}, "of x[i] - coeff * x[i - 1]; 0: none"},
      {"remove_dc_offset", ParamType::kBool, B(true), false, 0, 0, {}, "subtract each frame's mean"},
      {"window_type", ParamType::kChoice, S("povey"), false, 0, 0, {"povey", "hamming", "hanning", "rectangular", "blackman"}, "symmetric window"},
      {"blackman_coeff", ParamType::kFloat, F(0.42), false, 0, 1, {}, "constant term of the blackman window"},
      {"round_to_power_of_two", ParamType::kBool, B(true), false, 0, 0, {}, "zero-pad frames for the FFT"},
      {"snip_edges", ParamType::kBool, B(true), false, 0, 0, {}, "only frames within the signal; else centred ones, edges mirrored"},
      {"num_bins", ParamType::kInt, I(23), false, 3, 4096, {}, "mel bands"},
      {"low_freq", ParamType::kFloat, F(20.0), false, 0, 384000, {}, "Hz"},
      {"high_freq", ParamType::kFloat, F(0.0), false, -384000, 384000, {}, "Hz; 0 or below: added to rate / 2"},
      {"use_energy", ParamType::kBool, B(use_energy), false, 0, 0, {}, "log energy first: before the bands, in place of c0"},
      {"raw_energy", ParamType::kBool, B(true), false, 0, 0, {}, "energy before pre-emphasis and window"},
      {"energy_floor", ParamType::kFloat, F(0.0), false, 0, 1e38, {}, "floor of the energy; 0: none"},
  };
  for (ParamSpec& m : more) p.push_back(std::move(m));
  return p;
}

}  // namespace

const std::vector<OpSpec>& SpeechOpSpecs() {
  static const std::vector<OpSpec>* const specs = [] {
    const PortKind audio = PortKind::kAudio, tensor = PortKind::kTensor;
    return new std::vector<OpSpec>{
        {"kaldi_fbank", audio, tensor, "Kaldi's mel filter bank, [frames, num_bins] or [frames, 1 + num_bins]",
         KaldiSpecs(false, {{"use_log_fbank", ParamType::kBool, B(true), false, 0, 0, {}, "natural logarithm of the bands"},
                            {"use_power", ParamType::kBool, B(true), false, 0, 0, {}, "bands of the power, else of the magnitude"}}),
         MakeKaldiFbank},
        {"kaldi_mfcc", audio, tensor, "Kaldi's cepstral coefficients, [frames, num_ceps]",
         KaldiSpecs(true, {{"num_ceps", ParamType::kInt, I(13), false, 1, 4096, {}, "coefficients kept"},
                           {"cepstral_lifter", ParamType::kFloat, F(22.0), false, 0, 1e6, {}, "scaling of the coefficients; 0: none"}}),
         MakeKaldiMfcc},
        {"deepspeech_mfcc", audio, tensor, "cepstral coefficients of DeepSpeech (TensorFlow's mfcc op), [frames, n_mfcc]",
         {{"rate", ParamType::kInt, kRequired, true, 1, 768000, {}, "Hz; null: the signal's, which must be known"},
          {"win_length", ParamType::kInt, I(512), false, 2, 65536, {}, "samples a frame"},
          {"hop_length", ParamType::kInt, I(320), false, 1, kIntMax, {}, "samples between frames"},
          {"n_mels", ParamType::kInt, I(40), false, 1, 4096, {}, "mel bands"},
          {"n_mfcc", ParamType::kInt, I(26), false, 1, 4096, {}, "coefficients kept"},
          {"fmin", ParamType::kFloat, F(20.0), false, 0, 384000, {}, "Hz"},
          {"fmax", ParamType::kFloat, kRequired, true, 0, 384000, {}, "Hz; null: rate / 2"}}, MakeDeepSpeechMfcc},
        {"context", tensor, tensor, "each row with the rows around it, zeros beyond the ends",
         {{"before", ParamType::kInt, I(9), false, 0, 10000, {}, "rows before"},
          {"after", ParamType::kInt, I(9), false, 0, 10000, {}, "rows after"}}, MakeContext},
        {"cmvn", tensor, tensor, "mean and variance normalisation of each column over all rows",
         {{"norm_means", ParamType::kBool, B(true), false, 0, 0, {}, "subtract the mean"},
          {"norm_vars", ParamType::kBool, B(false), false, 0, 0, {}, "divide by the standard deviation"}}, MakeCmvn},
        {"cmvn_sliding", tensor, tensor, "mean and variance normalisation of each column over the rows around",
         {{"window", ParamType::kInt, I(600), false, 1, 1000000, {}, "rows"},
          {"min_window", ParamType::kInt, I(100), false, 1, 1000000, {}, "rows waited for at the start when not centred"},
          {"center", ParamType::kBool, B(false), false, 0, 0, {}, "window around the row, else the rows before it"},
          {"norm_vars", ParamType::kBool, B(false), false, 0, 0, {}, "divide by the standard deviation"}}, MakeSlidingCmvn},
        {"wave_normalize", audio, audio, "(x - mean) / sqrt(variance + epsilon) of the whole signal",
         {{"epsilon", ParamType::kFloat, F(1e-7), false, 1e-30, 1, {}, "added to the variance"}}, MakeWaveNormalize},
    };
  }();
  return *specs;
}

}  // namespace zoo
