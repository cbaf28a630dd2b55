// SPDX-License-Identifier: Apache-2.0
// What an op is to the executor. A new op: one OpSpec in a table of pipeline/ops_*.cc, one class here derived.
#ifndef ZOO_PIPELINE_OP_H_
#define ZOO_PIPELINE_OP_H_

#include <memory>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "zoo/pipeline.h"

namespace zoo {

class OpState {
 public:
  virtual ~OpState() = default;
};

// Rows that an op of a stream hands on. Memory grows, and is kept for the next chunk.
class RowSink {
 public:
  void Reset(const Extent& format, DType dtype) { extent_ = format, dtype_ = dtype, extent_.dim[0] = 0; }
  // Room for `rows` more rows of this format, or null when out of memory.
  void* Append(int64_t rows) noexcept {
    const size_t row = static_cast<size_t>(extent_.row()) * SizeOf(dtype_), used = static_cast<size_t>(extent_.dim[0]) * row;
    if (!buffer_.Extend(used, used + static_cast<size_t>(rows) * row)) return nullptr;
    extent_.dim[0] += rows;
    return buffer_.data() + used;
  }
  void Clear() noexcept { extent_.dim[0] = 0; }
  const void* data() const noexcept { return buffer_.data(); }
  const Extent& extent() const noexcept { return extent_; }  // dim[0]: rows held
  DType dtype() const noexcept { return dtype_; }

 private:
  Buffer<unsigned char> buffer_;
  Extent extent_;
  DType dtype_ = DType::kF32;
};

// What an op carries from chunk to chunk.
class OpStream {
 public:
  virtual ~OpStream() = default;
  // in: the next rows (range counts from the start of the stream; extent.dim[0] = range.end). After the call with last =
  // true nothing follows. Appends to `out` every row that is now determined.
  virtual Status Push(const ConstView& in, bool last, RowSink* out) noexcept = 0;
};

class Op {
 public:
  virtual ~Op() = default;
  virtual PortType output() const = 0;
  // Extent of the output, or why this input cannot be processed. Must not look at in.dim[0] except to find out->dim[0].
  virtual Status Infer(const Extent& in, Extent* out) const = 0;

  // Ranged ops compute any rows of their output (dimension 0) from a known range of input rows, with the same bits
  // however the output is divided. The executor then reads and computes only what the end of the chain needs.
  virtual bool ranged() const { return false; }
  virtual Range Needed(const Extent& in, Range out) const {
    (void)out;
    return {0, in.dim[0]};
  }
  virtual Result<std::unique_ptr<OpState>> NewState() const { return std::make_unique<OpState>(); }
  // Grows scratch and builds what depends on the input's extent; the only step of a run that may allocate.
  virtual Status Prepare(const Extent& in, Range out, OpState& state) const {
    (void)in, (void)out, (void)state;
    return Status::Ok();
  }
  // in.range covers Needed(in.extent, rows). out: rows.size() rows of the output's dtype.
  virtual Status Run(const ConstView& in, Range rows, void* out, OpState& state) const noexcept = 0;

  // Counted ops (those on texts) find out how many rows they give only from the content: they append them. Their Infer says -1
  // rows, and Run is not called.
  virtual bool counted() const { return false; }
  virtual Status Append(const ConstView& in, RowSink* out, OpState& state) const noexcept {
    (void)in, (void)out, (void)state;
    return Status(StatusCode::kInternal, "not a counted op");
  }

  // Streams. A ranged op only says how far it can go (`streams`, `Ready`); one that carries a state overrides NewStream.
  virtual bool streams() const { return false; }
  // Of an op that could stream with other parameters: what to change.
  virtual const char* stream_hint() const { return nullptr; }
  // Leading outputs that depend on input rows [0, rows) only, whatever follows.
  virtual int64_t Ready(const Extent& in, int64_t rows) const {
    (void)in;
    return rows;
  }
  // The first input row that outputs from `next` on can still depend on.
  virtual int64_t Keep(const Extent& in, int64_t next) const { return Needed(in, {next, next + 1}).begin; }
  // format: extent of the input, dim[0] unknown. The op outlives the stream.
  virtual Result<std::unique_ptr<OpStream>> NewStream(const Extent& format) const;
};

// Parameters after validation: every one of the spec is present, in the spec's order.
class Params {
 public:
  Params(const OpSpec& spec, std::vector<ParamValue> values) : spec_(spec), values_(std::move(values)) {}
  bool Has(const char* name) const { return !std::holds_alternative<std::monostate>(Get(name)); }
  bool Bool(const char* name) const { return std::get<bool>(Get(name)); }
  int64_t Int(const char* name) const { return std::get<int64_t>(Get(name)); }
  double Float(const char* name) const { return std::get<double>(Get(name)); }
  const std::vector<double>& List(const char* name) const { return std::get<std::vector<double>>(Get(name)); }
  const std::string& String(const char* name) const { return std::get<std::string>(Get(name)); }
  int32_t Choice(const char* name) const;  // index into the spec's choices

 private:
  const ParamValue& Get(const char* name) const;
  const OpSpec& spec_;
  std::vector<ParamValue> values_;
};

struct OpContext {
  PortType input;
  std::string isa;
  const PipelineFiles* files = nullptr;  // null: the pipeline is only looked at
};

struct OpSpec {
  const char* name;
  PortKind in, out;
  const char* doc;
  std::vector<ParamSpec> params;
  Result<std::unique_ptr<Op>> (*create)(const Params&, const OpContext&);
};

// The tables of all families of ops: one declaration here, one line in OpSpecs() (pipeline.cc).
const std::vector<OpSpec>& AudioOpSpecs();
const std::vector<OpSpec>& SpeechOpSpecs();
const std::vector<OpSpec>& EegOpSpecs();
const std::vector<OpSpec>& FlowOpSpecs();
const std::vector<OpSpec>& FunctionalsOpSpecs();
const std::vector<OpSpec>& LldOpSpecs();
const std::vector<OpSpec>& ImageOpSpecs();
const std::vector<OpSpec>& VideoOpSpecs();
const std::vector<OpSpec>& TextOpSpecs();

// Shorthand for those tables.
constexpr double kIntMax = 2147483647.0;
inline const ParamValue kRequired{};  // of a nullable parameter: null
inline ParamValue I(int64_t v) { return v; }
inline ParamValue F(double v) { return v; }
inline ParamValue B(bool v) { return v; }
inline ParamValue S(const char* v) { return std::string(v); }

inline int32_t Hz(const Extent& e) { return static_cast<int32_t>(e.rate); }
template <class T>
Span<T> As(void* data, int64_t count) {
  return {static_cast<T*>(data), static_cast<size_t>(count)};
}

// The parameter `rate` of an op on audio: given, and that of the signal as far as it is known, or the signal's.
Status RateParam(const Params& p, const OpContext& c, int32_t* rate);
// An error when the signal has another rate than the op was made for.
Status CheckRate(const char* op, int32_t rate, const Extent& in);

// An op's state that is the state of the class which does the work.
template <class Core>
struct CoreState : OpState {
  std::unique_ptr<typename Core::State> state;
};

template <class Core>
Result<std::unique_ptr<OpState>> NewCoreState(const Core& core) {
  auto made = core.NewState();
  if (!made.ok()) return made.status();
  auto s = std::make_unique<CoreState<Core>>();
  s->state = std::move(made.value());
  return std::unique_ptr<OpState>(std::move(s));
}

}  // namespace zoo

#endif  // ZOO_PIPELINE_OP_H_
