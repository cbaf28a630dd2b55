// SPDX-License-Identifier: Apache-2.0
// What an op is to the executor. A new op: one OpSpec in a table of pipeline/ops_*.cc, one class here derived.
#ifndef ZOO_PIPELINE_OP_H_
#define ZOO_PIPELINE_OP_H_

#include <memory>
#include <string>
#include <vector>

#include "zoo/pipeline.h"

namespace zoo {

// One input or output of a run: values of a port, or the part [range.begin, range.end) of a signal.
struct ConstView {
  const float* data;
  Extent extent;  // of the whole
  Range range;    // samples held, for signals; [0, dim[0]) otherwise
};

class OpState {
 public:
  virtual ~OpState() = default;
};

class Op {
 public:
  virtual ~Op() = default;
  virtual PortType output() const = 0;
  // Extent of the output, or why this input cannot be processed.
  virtual Status Infer(const Extent& in, Extent* out) const = 0;
  // Signal ops: input samples that outputs `out` depend on. Only ops for which ranged() is true are asked.
  virtual bool ranged() const { return false; }
  virtual Range Needed(const Extent& in, Range out) const {
    (void)out;
    return {0, in.dim[0]};
  }
  virtual Result<std::unique_ptr<OpState>> NewState() const { return std::make_unique<OpState>(); }
  // Grows scratch and builds what depends on the input's rate; the only step of a run that may allocate.
  virtual Status Prepare(const Extent& in, Range out, OpState& state) const {
    (void)in, (void)out, (void)state;
    return Status::Ok();
  }
  virtual Status Run(const ConstView& in, Range out_range, Span<float> out, OpState& state) const noexcept = 0;
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
  int32_t Choice(const char* name) const;  // index into the spec's choices

 private:
  const ParamValue& Get(const char* name) const;
  const OpSpec& spec_;
  std::vector<ParamValue> values_;
};

struct OpContext {
  PortType input;
  std::string isa;
};

struct OpSpec {
  const char* name;
  PortKind in, out;
  const char* doc;
  std::vector<ParamSpec> params;
  Result<std::unique_ptr<Op>> (*create)(const Params&, const OpContext&);
};

// The tables of all families of ops.
const std::vector<OpSpec>& AudioOpSpecs();

}  // namespace zoo

#endif  // ZOO_PIPELINE_OP_H_
