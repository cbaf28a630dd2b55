// SPDX-License-Identifier: Apache-2.0
#include "zoo/pipeline.h"

#include <cmath>
#include <cstring>
#include <new>
#include <utility>

#include "core/buffer.h"
#include "core/kernels.h"
#include "pipeline/op.h"
#include "zoo/isa.h"

namespace zoo {

const char* PortKindName(PortKind kind) noexcept { return kind == PortKind::kAudio ? "audio" : "tensor"; }

std::vector<const OpSpec*> OpSpecs() {
  std::vector<const OpSpec*> all;
  for (const OpSpec& s : AudioOpSpecs()) all.push_back(&s);
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
    case ParamType::kChoice: return "a string";
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
    case ParamType::kChoice: typed = std::holds_alternative<std::string>(*value); break;
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

}  // namespace

// ----------------------------------------------------------------------------------------------------------- executor

struct Pipeline::Impl {
  std::string isa;
  std::vector<std::unique_ptr<Op>> ops;
  std::vector<std::string> names;
  std::vector<PortType> ports;
  size_t ranged = 0;  // leading ops that can work on a part of the signal

  // Extents of all ports and, for the leading signal ops, the ranges needed of them.
  Status Plan(int64_t total, int32_t rate, Extent* extents, Range* ranges) const noexcept {
    if (total < 1) return InvalidSignal("the signal has 0 samples");
    if (rate < 1 || rate > 768000) return InvalidSignal("the rate is " + std::to_string(rate) + " Hz; it must lie between 1 and 768000");
    extents[0] = Extent{};
    extents[0].rate = rate;
    extents[0].dim[0] = total;
    for (size_t i = 0; i < ops.size(); ++i) ZOO_RETURN_IF_ERROR(ops[i]->Infer(extents[i], &extents[i + 1]));
    for (size_t i = 0; i <= ops.size(); ++i) ranges[i] = {0, extents[i].dim[0]};
    for (size_t i = ranged; i-- > 0;) ranges[i] = ops[i]->Needed(extents[i], ranges[i + 1]);
    return Status::Ok();
  }
};

namespace {
struct PipelineState : Pipeline::State {
  std::vector<std::unique_ptr<OpState>> ops;
  std::vector<Buffer<float>> buffers;
  std::vector<Extent> extents;
  std::vector<Range> ranges;
};
}  // namespace

Pipeline::Pipeline(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline::~Pipeline() = default;
const char* Pipeline::isa() const noexcept { return impl_->isa.c_str(); }
size_t Pipeline::size() const noexcept { return impl_->ops.size(); }
const PortType& Pipeline::port(size_t i) const noexcept { return impl_->ports[i]; }

Result<Pipeline> Pipeline::Create(const std::vector<OpDesc>& ops, const std::string& isa) try {
  if (ops.empty()) return InvalidPipeline("a pipeline needs at least one op");
  if (ops.size() > 64) return InvalidPipeline("a pipeline has at most 64 ops, not " + std::to_string(ops.size()));
  Result<const Kernels*> kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  std::unique_ptr<Impl> impl(new Impl);
  impl->isa = kernels.value()->name;
  impl->ports.push_back(PortType{});
  bool leading = true;
  for (size_t i = 0; i < ops.size(); ++i) {
    const OpSpec* spec = nullptr;
    std::vector<ParamValue> values;
    ZOO_RETURN_IF_ERROR(Validate(ops[i], i, &spec, &values));
    const PortType& in = impl->ports.back();
    if (spec->in != in.kind) {
      return InvalidPipeline("op " + std::to_string(i) + " (" + ops[i].op + ") takes " + PortKindName(spec->in) + ", but " +
                             (i == 0 ? std::string("the pipeline's input is ")
                                     : "op " + std::to_string(i - 1) + " (" + ops[i - 1].op + ") gives ") +
                             PortKindName(in.kind));
    }
    auto op = spec->create(Params(*spec, std::move(values)), OpContext{in, impl->isa});
    if (!op.ok()) {
      return Status(op.status().code() == StatusCode::kInvalidArgument ? StatusCode::kInvalidPipeline : op.status().code(),
                    "op " + std::to_string(i) + " (" + ops[i].op + "): " + op.status().message());
    }
    impl->ports.push_back(op.value()->output());
    leading = leading && op.value()->ranged();
    if (leading) impl->ranged = i + 1;
    impl->ops.push_back(std::move(op.value()));
    impl->names.push_back(ops[i].op);
  }
  return Pipeline(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Pipeline::OutputExtent(int64_t total, int32_t rate, Extent* out) const noexcept {
  Extent extents[65];
  Range ranges[65];
  ZOO_RETURN_IF_ERROR(impl_->Plan(total, rate, extents, ranges));
  *out = extents[size()];
  return Status::Ok();
}

Status Pipeline::InputRange(int64_t total, int32_t rate, Range* out) const noexcept {
  Extent extents[65];
  Range ranges[65];
  ZOO_RETURN_IF_ERROR(impl_->Plan(total, rate, extents, ranges));
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
  s->extents.resize(size() + 1);
  s->ranges.resize(size() + 1);
  return std::unique_ptr<State>(std::move(s));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Pipeline::Run(const AudioView& in, Span<float> out, State& state) const noexcept try {
  PipelineState& s = static_cast<PipelineState&>(state);
  Extent* extents = s.extents.data();
  Range* ranges = s.ranges.data();
  ZOO_RETURN_IF_ERROR(impl_->Plan(in.total, in.rate, extents, ranges));
  const size_t n = size();
  const int64_t stop = in.first + static_cast<int64_t>(in.samples.size());
  if (in.first < 0 || stop > in.total || ranges[0].begin < in.first || ranges[0].end > stop) {
    return InvalidSignal("samples " + std::to_string(ranges[0].begin) + " to " + std::to_string(ranges[0].end) + " of " +
                         std::to_string(in.total) + " are needed, " + std::to_string(in.first) + " to " +
                         std::to_string(stop) + " were given");
  }
  if (static_cast<int64_t>(out.size()) != extents[n].count()) {
    return InvalidArgument("the output holds " + std::to_string(out.size()) + " values, " + std::to_string(extents[n].count()) + " are needed");
  }
  ConstView view{in.samples.data() + (ranges[0].begin - in.first), extents[0], ranges[0]};
  for (size_t i = 0; i < n; ++i) {
    ZOO_RETURN_IF_ERROR(impl_->ops[i]->Prepare(extents[i], ranges[i + 1], *s.ops[i]));
    const int64_t rows = ranges[i + 1].size();
    const size_t count = static_cast<size_t>(extents[i + 1].count() / extents[i + 1].dim[0] * rows);
    Span<float> to = out;
    if (i + 1 < n) {
      if (!s.buffers[i].Reserve(count)) return OutOfMemory();
      to = {s.buffers[i].data(), count};
    }
    ZOO_RETURN_IF_ERROR(impl_->ops[i]->Run(view, ranges[i + 1], to, *s.ops[i]));
    view = {to.data(), extents[i + 1], ranges[i + 1]};
  }
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

}  // namespace zoo
