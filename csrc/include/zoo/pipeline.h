// SPDX-License-Identifier: Apache-2.0
// A pipeline is an ordered list of ops with typed parameters (design: one description, one executor). Building it
// validates every parameter and the chain of port types; running it only runs.
#ifndef ZOO_PIPELINE_H_
#define ZOO_PIPELINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "zoo/signal.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

// A parameter's value as a manifest or Python gives it.
using ParamValue = std::variant<std::monostate, bool, int64_t, double, std::string, std::vector<double>>;

struct OpDesc {
  std::string op;
  std::vector<std::pair<std::string, ParamValue>> params;
};

enum class ParamType : int32_t { kBool, kInt, kFloat, kChoice, kFloatList };

struct ParamSpec {
  const char* name;
  ParamType type;
  ParamValue fallback;   // monostate: required, unless nullable
  bool nullable = false;  // may be null (None)
  double min = 0, max = 0;  // of numbers, inclusive; equal: no limit
  std::vector<const char*> choices;
  const char* doc = "";
};

enum class PortKind : int32_t { kAudio, kTensor };  // later: kImage, kFrames, kEeg, kText
const char* PortKindName(PortKind kind) noexcept;

// What flows between two ops, as far as it is known when the pipeline is built.
struct PortType {
  PortKind kind = PortKind::kAudio;
  int32_t rate = 0;               // audio: Hz, 0 when it depends on the input
  std::vector<int64_t> shape{-1};  // -1: depends on the input
};

// The same for one input.
struct Extent {
  int32_t rate = 0;
  int32_t rank = 1;
  int64_t dim[4] = {0, 1, 1, 1};
  int64_t count() const { return dim[0] * dim[1] * dim[2] * dim[3]; }
};

struct OpSpec;  // name, ports, parameters: pipeline/op.h
std::vector<const OpSpec*> OpSpecs();

// A mono signal, or the part of it that the caller holds.
struct AudioView {
  Span<const float> samples;  // from sample `first` on
  int64_t first = 0;
  int64_t total = 0;  // samples of the whole signal
  int32_t rate = 0;   // Hz
};

class Pipeline {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  static Result<Pipeline> Create(const std::vector<OpDesc>& ops, const std::string& isa = "");
  Pipeline(Pipeline&&) noexcept;
  ~Pipeline();

  const char* isa() const noexcept;
  size_t size() const noexcept;                      // number of ops
  const PortType& port(size_t i) const noexcept;     // 0: input, size(): output

  // Shape of the output for a signal of `total` samples; an error when it cannot be processed.
  Status OutputExtent(int64_t total, int32_t rate, Extent* out) const noexcept;
  // Samples of the input that the output depends on.
  Status InputRange(int64_t total, int32_t rate, Range* out) const noexcept;

  Result<std::unique_ptr<State>> NewState() const;
  // out: OutputExtent().count() values. The state's scratch grows when this input is longer, or of another rate, than
  // any before; else nothing is allocated. Thread-safe with one state a thread.
  Status Run(const AudioView& in, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  explicit Pipeline(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_PIPELINE_H_
