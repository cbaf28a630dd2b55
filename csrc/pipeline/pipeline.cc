// SPDX-License-Identifier: Apache-2.0
#include "zoo/pipeline.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>

#include "core/kernels.h"
#include "pipeline/impl.h"
#include "zoo/isa.h"
#include "zoo/text.h"

namespace zoo {

const char* PortKindName(PortKind kind) noexcept {
  switch (kind) {
    case PortKind::kAudio: return "audio";
    case PortKind::kTensor: return "tensor";
    case PortKind::kImage: return "image";
    case PortKind::kFrames: return "frames";
    case PortKind::kEeg: return "eeg";
    case PortKind::kText: return "text";
    case PortKind::kTokens: return "tokens";
    case PortKind::kIds: return "ids";
  }
  return "";
}

const char* DTypeName(DType type) noexcept {
  return type == DType::kU8 ? "uint8" : type == DType::kF64 ? "float64" : type == DType::kI64 ? "int64" : "float32";
}

std::vector<const OpSpec*> OpSpecs() {
  std::vector<const OpSpec*> all;
  for (const auto* family : {&AudioOpSpecs(), &SpeechOpSpecs(), &EegOpSpecs(), &FlowOpSpecs(), &LldOpSpecs(), &FunctionalsOpSpecs(), &ImageOpSpecs(), &VideoOpSpecs(), &TextOpSpecs()}) {
    for (const OpSpec& s : *family) all.push_back(&s);
  }
  return all;
}

const ParamValue& Params::Get(const char* name) const {
  for (size_t i = 0; i < spec_.params.size(); ++i) {
    if (std::strcmp(spec_.params[i].name, name) == 0) return values_[i];
  }
  static const ParamValue none;
  return none;
}

int32_t Params::Choice(const char* name) const {
  const std::string& v = std::get<std::string>(Get(name));
  for (const ParamSpec& p : spec_.params) {
    if (std::strcmp(p.name, name) != 0) continue;
    for (size_t i = 0; i < p.choices.size(); ++i) {
      if (v == p.choices[i]) return static_cast<int32_t>(i);
    }
  }
  return 0;
}

// -------------------------------------------------------------------------------------------------------- validation

namespace {

std::string Show(const ParamValue& v) {
  if (std::holds_alternative<std::monostate>(v)) return "null";
  if (const bool* b = std::get_if<bool>(&v)) return *b ? "true" : "false";
  if (const int64_t* i = std::get_if<int64_t>(&v)) return std::to_string(*i);
  if (const double* d = std::get_if<double>(&v)) {
    char text[40];
    std::snprintf(text, sizeof(text), "%.9g", *d);
    return text;
  }
  if (const std::string* s = std::get_if<std::string>(&v)) return "'" + *s + "'";
  return "a list";
}

const char* TypeName(ParamType t) {
  switch (t) {
    case ParamType::kBool: return "a boolean";
    case ParamType::kInt: return "an integer";
    case ParamType::kFloat: return "a number";
    case ParamType::kChoice:
    case ParamType::kString:
    case ParamType::kFile: return "a string";
    case ParamType::kFloatList: return "a list of numbers";
  }
  return "";
}

// Checks one value against its spec and brings it to the spec's type.
Status Check(const ParamSpec& spec, const std::string& where, ParamValue* value) {
  if (std::holds_alternative<std::monostate>(*value)) {
    if (spec.nullable) return Status::Ok();
    return InvalidPipeline(where + " is null; it must be " + TypeName(spec.type));
  }
  double number = 0;
  bool typed = false;
  switch (spec.type) {
    case ParamType::kBool: typed = std::holds_alternative<bool>(*value); break;
    case ParamType::kInt:
      typed = std::holds_alternative<int64_t>(*value);
      if (typed) number = static_cast<double>(std::get<int64_t>(*value));
      break;
    case ParamType::kFloat:
      if (const int64_t* i = std::get_if<int64_t>(value)) *value = static_cast<double>(*i);
      typed = std::holds_alternative<double>(*value);
      if (typed) number = std::get<double>(*value);
      break;
    case ParamType::kChoice:
    case ParamType::kString:
    case ParamType::kFile: typed = std::holds_alternative<std::string>(*value); break;
    case ParamType::kFloatList: typed = std::holds_alternative<std::vector<double>>(*value); break;
  }
  if (!typed) return InvalidPipeline(where + " is " + Show(*value) + "; it must be " + TypeName(spec.type));
  if (!std::isfinite(number)) return InvalidPipeline(where + " is " + Show(*value) + "; it must be finite");
  if (spec.min != spec.max && (spec.type == ParamType::kInt || spec.type == ParamType::kFloat) &&
      (number < spec.min || number > spec.max)) {
    return InvalidPipeline(where + " is " + Show(*value) + "; it must lie between " + Show(spec.min) + " and " + Show(spec.max));
  }
  if (spec.type == ParamType::kChoice) {
    std::string all;
    for (const char* c : spec.choices) {
      if (std::get<std::string>(*value) == c) return Status::Ok();
      all += (all.empty() ? "" : ", ") + std::string(c);
    }
    return InvalidPipeline(where + " is " + Show(*value) + "; it must be one of " + all);
  }
  return Status::Ok();
}

Status Validate(const OpDesc& desc, size_t index, const OpSpec** spec_out, std::vector<ParamValue>* values) {
  const std::string where = "op " + std::to_string(index);
  const OpSpec* spec = nullptr;
  std::string known;
  for (const OpSpec* s : OpSpecs()) {
    if (desc.op == s->name) spec = s;
    known += (known.empty() ? "" : ", ") + std::string(s->name);
  }
  if (spec == nullptr) return InvalidPipeline(where + ": unknown op '" + desc.op + "'; known: " + known);
  const std::string prefix = where + " (" + desc.op + "): ";
  std::vector<bool> given(spec->params.size());
  values->clear();
  for (const ParamSpec& p : spec->params) values->push_back(p.fallback);
  for (const auto& [name, value] : desc.params) {
    size_t i = 0;
    while (i < spec->params.size() && name != spec->params[i].name) ++i;
    if (i == spec->params.size()) {
      std::string names;
      for (const ParamSpec& p : spec->params) names += (names.empty() ? "" : ", ") + std::string(p.name);
      return InvalidPipeline(prefix + "unknown parameter '" + name + "'; known: " + names);
    }
    if (given[i]) return InvalidPipeline(prefix + "parameter '" + name + "' is given twice");
    given[i] = true;
    (*values)[i] = value;
    ZOO_RETURN_IF_ERROR(Check(spec->params[i], prefix + name, &(*values)[i]));
  }
  for (size_t i = 0; i < given.size(); ++i) {
    const ParamSpec& p = spec->params[i];
    if (!given[i] && std::holds_alternative<std::monostate>(p.fallback) && !p.nullable) {
      return InvalidPipeline(prefix + "parameter '" + p.name + "' is missing");
    }
  }
  *spec_out = spec;
  return Status::Ok();
}

// So that their number of bytes is an int64_t, also where a stream's length is not known yet.
constexpr int64_t kMaxValues = int64_t{1} << 59;

bool Countable(const int64_t* dims, size_t rank) noexcept {
  int64_t count = 1;
  for (size_t i = 0; i < rank; ++i) {
    if (dims[i] >= 0 && (__builtin_mul_overflow(count, dims[i], &count) || count > kMaxValues)) return false;  // below 0: not known yet
  }
  return true;
}
bool Countable(const Extent& e) noexcept { return Countable(e.dim, kMaxRank); }

}  // namespace

// ----------------------------------------------------------------------------------------------------------- executor

Status Pipeline::Impl::CheckInput(const Extent& in) const noexcept {
  const PortType& port = ports[0];
  if (IsCounted(port.kind)) {
    if (in.rank == 1 && in.dim[0] >= 0 && in.dim[0] <= kMaxTextBytes) return Status::Ok();
    return InvalidSignal("the text has " + std::to_string(in.dim[0]) + " bytes; at most " + std::to_string(kMaxTextBytes) + " are taken");
  }
  const char* unit = port.kind == PortKind::kFrames ? "frames" : port.kind == PortKind::kImage || port.kind == PortKind::kTensor ? "rows" : "samples";
  const char* what = port.kind == PortKind::kAudio || port.kind == PortKind::kEeg ? "signal" : "input";
  if (in.dim[0] < 1) return InvalidSignal(std::string("the ") + what + " has 0 " + unit);
  const bool sampled = port.kind == PortKind::kAudio || port.kind == PortKind::kEeg;
  const bool whole = in.rate == std::floor(in.rate), fraction = !whole && port.kind == PortKind::kAudio;
  if (sampled && !(in.rate >= 1 && in.rate <= 768000 && !fraction)) {
    return InvalidSignal("the rate is " + Show(whole ? ParamValue(static_cast<int64_t>(std::min(std::max(in.rate, -9e18), 9e18))) : ParamValue(in.rate)) +
                         " Hz; it must lie between 1 and 768000" + (fraction ? " and be a whole number" : ""));
  }
  bool fits = static_cast<size_t>(in.rank) == port.shape.size();
  for (size_t i = 0; fits && i < port.shape.size(); ++i) {
    fits = in.dim[i] >= 1 && (port.shape[i] < 0 || port.shape[i] == in.dim[i]);
  }
  if (fits && !Countable(in)) return InvalidSignal(std::string("the ") + what + " has more than 2^59 values");
  if (fits) return Status::Ok();
  const auto text = [](const int64_t* d, size_t n) {
    std::string t = "(";
    for (size_t i = 0; i < n; ++i) t += (i ? ", " : "") + (d[i] < 0 ? std::string("any") : std::to_string(d[i]));
    return t + ")";
  };
  return InvalidSignal("the input has shape " + text(in.dim, static_cast<size_t>(in.rank)) + "; the pipeline takes " +
                       PortKindName(port.kind) + " of shape " + text(port.shape.data(), port.shape.size()));
}

Status Pipeline::Impl::Plan(const Extent& in, const Range* rows, Extent* extents, Range* ranges) const noexcept {
  ZOO_RETURN_IF_ERROR(CheckInput(in));
  if (IsCounted(ports[0].kind)) {
    return InvalidArgument(std::string("how much a pipeline gives for ") + PortKindName(ports[0].kind) + " depends on its content; run it");
  }
  extents[0] = in;
  for (size_t i = 0; i < ops.size(); ++i) {
    ZOO_RETURN_IF_ERROR(ops[i]->Infer(extents[i], &extents[i + 1]));
    if (!Countable(extents[i + 1])) return InvalidSignal("op " + std::to_string(i) + " would give more than 2^59 values");
  }
  for (size_t i = 0; i <= ops.size(); ++i) ranges[i] = {0, extents[i].dim[0]};
  if (rows != nullptr) ranges[ops.size()] = *rows;
  for (size_t i = ranged; i-- > 0;) ranges[i] = ops[i]->Needed(extents[i], ranges[i + 1]);
  return Status::Ok();
}

namespace {

constexpr size_t kMaxOps = 64;

struct PipelineState : Pipeline::State {
  std::vector<std::unique_ptr<OpState>> ops;
  std::vector<Buffer<unsigned char>> buffers;
  std::vector<RowSink> sinks;  // of counted ops
  std::vector<Extent> extents;
  std::vector<Range> ranges;
};

// An image op over every frame of a video.
class EachFrame final : public Op {
 public:
  explicit EachFrame(std::unique_ptr<Op> op, double rate) : op_(std::move(op)), rate_(rate) {}
  PortType output() const override {
    PortType t = op_->output();
    if (t.kind == PortKind::kImage) t.kind = PortKind::kFrames, t.rate = rate_;
    t.shape.insert(t.shape.begin(), -1);
    return t;
  }
  Status Infer(const Extent& in, Extent* out) const override {
    Extent one;
    ZOO_RETURN_IF_ERROR(op_->Infer(Frame(in), &one));
    if (one.rank >= kMaxRank) return InvalidPipeline("its output has too many dimensions to be stacked over frames");
    out->rate = in.rate;
    out->rank = one.rank + 1;
    out->dim[0] = in.dim[0];
    for (int32_t i = 1; i < kMaxRank; ++i) out->dim[i] = one.dim[i - 1];
    return Status::Ok();
  }
  bool ranged() const override { return true; }
  bool streams() const override { return true; }
  Range Needed(const Extent&, Range out) const override { return out; }
  Result<std::unique_ptr<OpState>> NewState() const override { return op_->NewState(); }
  Status Prepare(const Extent& in, Range, OpState& state) const override {
    const Extent frame = Frame(in);
    Extent one;
    ZOO_RETURN_IF_ERROR(op_->Infer(frame, &one));
    return op_->Prepare(frame, {0, one.dim[0]}, state);
  }
  Status Run(const ConstView& in, Range rows, void* out, OpState& state) const noexcept override {
    ConstView frame;
    frame.dtype = in.dtype;
    frame.extent = Frame(in.extent);
    frame.range = {0, frame.extent.dim[0]};
    Extent one;
    ZOO_RETURN_IF_ERROR(op_->Infer(frame.extent, &one));
    const size_t step = static_cast<size_t>(in.extent.row()) * SizeOf(in.dtype);
    const size_t out_step = static_cast<size_t>(one.count()) * SizeOf(op_->output().dtype);
    const unsigned char* from = static_cast<const unsigned char*>(in.data) + static_cast<size_t>(rows.begin - in.range.begin) * step;
    unsigned char* to = static_cast<unsigned char*>(out);
    for (int64_t i = rows.begin; i < rows.end; ++i, from += step, to += out_step) {
      frame.data = from;
      ZOO_RETURN_IF_ERROR(op_->Run(frame, {0, one.dim[0]}, to, state));
    }
    return Status::Ok();
  }

 private:
  static Extent Frame(const Extent& in) {
    Extent one;
    one.rank = in.rank - 1;
    for (int32_t i = 0; i < one.rank; ++i) one.dim[i] = in.dim[i + 1];
    return one;
  }
  std::unique_ptr<Op> op_;
  double rate_;
};

PortType InputPort(PortKind kind, const std::vector<int64_t>& shape) {
  PortType t;
  t.kind = kind;
  const bool bytes = kind == PortKind::kImage || kind == PortKind::kFrames || IsCounted(kind);
  t.dtype = kind == PortKind::kEeg ? DType::kF64 : bytes ? DType::kU8 : DType::kF32;
  const size_t rank = kind == PortKind::kAudio || IsCounted(kind) ? 1 : kind == PortKind::kEeg ? 2 : kind == PortKind::kImage ? 3 : 4;
  t.shape = shape.empty() ? std::vector<int64_t>(rank, -1) : shape;
  return t;
}

Status CheckShape(PortKind kind, const std::vector<int64_t>& shape) {
  const PortType port = InputPort(kind, {});
  if (shape.empty() && kind == PortKind::kTensor) {
    return InvalidPipeline("op 0 takes a tensor: a pipeline starts from audio, an image, frames or EEG unless its input's shape is given");
  }
  const bool rank_ok = kind == PortKind::kTensor ? shape.size() <= kMaxRank : shape.empty() || shape.size() == port.shape.size();
  bool ok = rank_ok;
  for (int64_t d : shape) ok = ok && (d == -1 || (d >= 1 && d <= (int64_t{1} << 40)));
  if (ok && !Countable(shape.data(), shape.size())) return InvalidPipeline("the input's shape has more than 2^59 values");
  if (ok) return Status::Ok();
  return InvalidPipeline(std::string("the input's shape does not fit ") + PortKindName(kind) + ": it must have " +
                         (kind == PortKind::kTensor ? "1 to 4" : std::to_string(port.shape.size())) + " dimensions, each positive or -1");
}

}  // namespace

Pipeline::Pipeline(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline::~Pipeline() = default;
const char* Pipeline::isa() const noexcept { return impl_->isa.c_str(); }
size_t Pipeline::size() const noexcept { return impl_->ops.size(); }
const PortType& Pipeline::port(size_t i) const noexcept { return impl_->ports[i]; }
bool Pipeline::ranged() const noexcept { return impl_->ranged == impl_->ops.size(); }

bool Pipeline::counted() const noexcept { return IsCounted(impl_->ports[0].kind); }

Result<Pipeline> Pipeline::Create(const std::vector<OpDesc>& ops, const std::string& isa, const std::vector<int64_t>& shape,
                                  const PipelineFiles* files) try {
  if (ops.empty()) return InvalidPipeline("a pipeline needs at least one op");
  if (ops.size() > kMaxOps) return InvalidPipeline("a pipeline has at most 64 ops, not " + std::to_string(ops.size()));
  Result<const Kernels*> kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  std::unique_ptr<Impl> impl(new Impl);
  impl->isa = kernels.value()->name;
  bool leading = true;
  for (size_t i = 0; i < ops.size(); ++i) {
    const OpSpec* spec = nullptr;
    std::vector<ParamValue> values;
    ZOO_RETURN_IF_ERROR(Validate(ops[i], i, &spec, &values));
    if (i == 0) {
      // four dimensions: image ops over the frames of a video, from the first op on
      const PortKind kind = spec->in == PortKind::kImage && shape.size() == 4 ? PortKind::kFrames : spec->in;
      ZOO_RETURN_IF_ERROR(CheckShape(kind, shape));
      impl->ports.push_back(InputPort(kind, shape));
    }
    PortType in = impl->ports.back();
    const bool each_frame = spec->in == PortKind::kImage && in.kind == PortKind::kFrames;
    if (spec->in != in.kind && !each_frame) {
      return InvalidPipeline("op " + std::to_string(i) + " (" + ops[i].op + ") takes " + PortKindName(spec->in) + ", but op " +
                             std::to_string(i - 1) + " (" + ops[i - 1].op + ") gives " + PortKindName(in.kind));
    }
    const double rate = in.rate;
    if (each_frame) in.kind = PortKind::kImage, in.rate = 0, in.shape.erase(in.shape.begin());
    auto op = spec->create(Params(*spec, std::move(values)), OpContext{in, impl->isa, files});
    if (!op.ok()) {
      return Status(op.status().code() == StatusCode::kInvalidArgument ? StatusCode::kInvalidPipeline : op.status().code(),
                    "op " + std::to_string(i) + " (" + ops[i].op + "): " + op.status().message());
    }
    if (each_frame) op = Result<std::unique_ptr<Op>>(std::unique_ptr<Op>(new EachFrame(std::move(op.value()), rate)));
    impl->ports.push_back(op.value()->output());
    const std::vector<int64_t>& made = impl->ports.back().shape;
    if (!Countable(made.data(), made.size())) return InvalidPipeline("op " + std::to_string(i) + " (" + ops[i].op + ") would give more than 2^59 values");
    leading = leading && op.value()->ranged();
    if (leading) impl->ranged = i + 1;
    impl->ops.push_back(std::move(op.value()));
    impl->names.push_back(ops[i].op);
  }
  return Pipeline(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Pipeline::OutputExtent(const Extent& in, Extent* out) const noexcept {
  Extent extents[kMaxOps + 1];
  Range ranges[kMaxOps + 1];
  ZOO_RETURN_IF_ERROR(impl_->Plan(in, nullptr, extents, ranges));
  *out = extents[size()];
  return Status::Ok();
}

Status Pipeline::InputRange(const Extent& in, Range* out) const noexcept {
  Extent extents[kMaxOps + 1];
  Range ranges[kMaxOps + 1];
  ZOO_RETURN_IF_ERROR(impl_->Plan(in, nullptr, extents, ranges));
  *out = ranges[0];
  return Status::Ok();
}

Result<std::unique_ptr<Pipeline::State>> Pipeline::NewState() const try {
  auto s = std::make_unique<PipelineState>();
  for (const auto& op : impl_->ops) {
    auto made = op->NewState();
    if (!made.ok()) return made.status();
    s->ops.push_back(std::move(made.value()));
  }
  s->buffers.resize(size());
  s->sinks.resize(counted() ? size() : 0);
  s->extents.resize(size() + 1);
  s->ranges.resize(size() + 1);
  return std::unique_ptr<State>(std::move(s));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Pipeline::RunCounted(const ConstView& in, State& state, ConstView* out, size_t ops) const noexcept try {
  if (!counted()) return InvalidArgument("a pipeline that takes " + std::string(PortKindName(port(0).kind)) + " has a known number of rows; use Run");
  ZOO_RETURN_IF_ERROR(impl_->CheckInput(in.extent));
  PipelineState& s = static_cast<PipelineState&>(state);
  ConstView view = in;
  for (size_t i = 0; i < std::min(ops, size()); ++i) {
    RowSink& sink = s.sinks[i];
    sink.Reset(Extent{}, port(i + 1).dtype);
    const Status status = impl_->ops[i]->Append(view, &sink, *s.ops[i]);
    if (!status.ok()) return Status(status.code(), "op " + std::to_string(i) + " (" + impl_->names[i] + "): " + status.message());
    view = {sink.data(), sink.dtype(), sink.extent(), {0, sink.extent().dim[0]}};
  }
  *out = view;
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Pipeline::Run(const ConstView& in, void* out, State& state) const noexcept {
  return RunRows(in, {-1, -1}, out, state);
}

Status Pipeline::RunRows(const ConstView& in, Range rows, void* out, State& state) const noexcept try {
  PipelineState& s = static_cast<PipelineState&>(state);
  Extent* extents = s.extents.data();
  Range* ranges = s.ranges.data();
  const bool all = rows.begin < 0;
  ZOO_RETURN_IF_ERROR(impl_->Plan(in.extent, all ? nullptr : &rows, extents, ranges));
  const size_t n = size();
  if (!all && (!ranged() || rows.end > extents[n].dim[0])) {
    return InvalidArgument("rows " + std::to_string(rows.begin) + " to " + std::to_string(rows.end) + " of " +
                           std::to_string(extents[n].dim[0]) + " cannot be computed by themselves");
  }
  if (in.range.begin < 0 || in.range.end > in.extent.dim[0] || ranges[0].begin < in.range.begin || ranges[0].end > in.range.end) {
    return InvalidSignal("samples " + std::to_string(ranges[0].begin) + " to " + std::to_string(ranges[0].end) + " of " +
                         std::to_string(in.extent.dim[0]) + " are needed, " + std::to_string(in.range.begin) + " to " +
                         std::to_string(in.range.end) + " were given");
  }
  if (in.dtype != port(0).dtype) {
    return InvalidArgument(std::string("the input is ") + DTypeName(in.dtype) + "; the pipeline takes " + DTypeName(port(0).dtype));
  }
  ConstView view = in;
  view.data = static_cast<const unsigned char*>(in.data) +
              static_cast<size_t>((ranges[0].begin - in.range.begin) * in.extent.row()) * SizeOf(in.dtype);
  view.range = ranges[0];
  for (size_t i = 0; i < n; ++i) {
    ZOO_RETURN_IF_ERROR(impl_->ops[i]->Prepare(extents[i], ranges[i + 1], *s.ops[i]));
    void* to = out;
    if (i + 1 < n) {
      const size_t bytes = static_cast<size_t>(extents[i + 1].row() * ranges[i + 1].size()) * SizeOf(port(i + 1).dtype);
      if (!s.buffers[i].Reserve(bytes)) return OutOfMemory();
      to = s.buffers[i].data();
    }
    ZOO_RETURN_IF_ERROR(impl_->ops[i]->Run(view, ranges[i + 1], to, *s.ops[i]));
    view = {to, port(i + 1).dtype, extents[i + 1], ranges[i + 1]};
  }
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

}  // namespace zoo
