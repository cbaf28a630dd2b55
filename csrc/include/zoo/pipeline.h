// SPDX-License-Identifier: Apache-2.0
// A pipeline is an ordered list of ops with typed parameters (design: one description, one executor). Building it
// validates every parameter and the chain of port types; running it only runs.
#ifndef ZOO_PIPELINE_H_
#define ZOO_PIPELINE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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

enum class ParamType : int32_t { kBool, kInt, kFloat, kChoice, kFloatList, kString, kFile };

struct ParamSpec {
  const char* name;
  ParamType type;
  ParamValue fallback;   // monostate: required, unless nullable
  bool nullable = false;  // may be null (None)
  double min = 0, max = 0;  // of numbers, inclusive; equal: no limit
  std::vector<const char*> choices;
  const char* doc = "";
};

// What flows between two ops. Arrays are row-major; dimension 0 is time wherever there is time.
enum class PortKind : int32_t {
  kAudio,   // float32 [samples], mono
  kTensor,  // float32 [rows, ...]
  kImage,   // uint8 or float32 [height, width, channels]
  kFrames,  // the same with time first: [frames, height, width, channels]
  kEeg,     // float64 [samples, channels]
  kText,    // uint8 [bytes], UTF-8
  kTokens,  // uint8 [bytes], UTF-8, each token followed by the byte 0xFF
  kIds,     // int64 [tokens]
};
const char* PortKindName(PortKind kind) noexcept;

enum class DType : int32_t { kF32, kF64, kU8, kI64 };
constexpr size_t SizeOf(DType t) noexcept { return t == DType::kU8 ? 1 : t == DType::kF32 ? 4 : 8; }
const char* DTypeName(DType type) noexcept;

constexpr int32_t kMaxRank = 4;

// A port as far as it is known when the pipeline is built.
struct PortType {
  PortKind kind = PortKind::kAudio;
  double rate = 0;                 // audio, EEG: Hz; frames: frames a second; 0 when it depends on the input
  std::vector<int64_t> shape{-1};  // -1: depends on the input
  DType dtype = DType::kF32;
};

// The same for one input.
struct Extent {
  double rate = 0;
  int32_t rank = 1;
  int64_t dim[kMaxRank] = {0, 1, 1, 1};  // 1 beyond the rank
  int64_t row() const { return dim[1] * dim[2] * dim[3]; }  // values in one step of dimension 0
  int64_t count() const { return dim[0] * row(); }
};

// Values of a port, or the rows [range.begin, range.end) of them that are held.
struct ConstView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Extent extent;  // of the whole
  Range range;
  template <class T>
  Span<const T> as() const { return {static_cast<const T*>(data), static_cast<size_t>(range.size() * extent.row())}; }
};

// The part `first` .. first + samples.size() of a mono signal of `total` samples.
inline ConstView AudioView(Span<const float> samples, int32_t rate, int64_t first, int64_t total) {
  ConstView v;
  v.data = samples.data();
  v.extent.rate = rate;
  v.extent.dim[0] = total;
  v.range = {first, first + static_cast<int64_t>(samples.size())};
  return v;
}

struct OpSpec;  // name, ports, parameters: pipeline/op.h
std::vector<const OpSpec*> OpSpecs();

// Content of the files that ops name (a parameter of type kFile), by that name. Only looked at while a pipeline is built.
using PipelineFiles = std::map<std::string, std::string_view>;

class Pipeline {
 public:
  class State {  // scratch of one thread
   public:
    virtual ~State() = default;
  };
  // The first op says what the pipeline takes. `shape` (-1: any) fixes it further; a pipeline that starts with a tensor op
  // needs it, and four dimensions make one that starts with an image op take frames. EEG is float64, images and frames are uint8, all else float32.
  // Without `files` a pipeline whose ops name files can be looked at, but not run.
  static Result<Pipeline> Create(const std::vector<OpDesc>& ops, const std::string& isa = "",
                                 const std::vector<int64_t>& shape = {}, const PipelineFiles* files = nullptr);
  Pipeline(Pipeline&&) noexcept;
  ~Pipeline();

  const char* isa() const noexcept;
  size_t size() const noexcept;                      // number of ops
  const PortType& port(size_t i) const noexcept;     // 0: input, size(): output

  // Shape of the output for an input; an error when it cannot be processed.
  Status OutputExtent(const Extent& in, Extent* out) const noexcept;
  // Rows of the input that the output depends on.
  Status InputRange(const Extent& in, Range* out) const noexcept;

  Result<std::unique_ptr<State>> NewState() const;
  // in: covers InputRange(). out: OutputExtent().count() values of port(size()).dtype. The state's scratch grows when this
  // input is longer, or of another rate, than any before; else nothing is allocated. Thread-safe with one state a thread.
  Status Run(const ConstView& in, void* out, State& state) const noexcept;

  // True for pipelines of texts: how many rows they give depends on the content, not on the extent of the input alone.
  bool counted() const noexcept;
  // Runs a counted pipeline, or its first `ops` ops. out: points into the state, until its next run. It may allocate when a text
  // is longer than any before.
  Status RunCounted(const ConstView& in, State& state, ConstView* out, size_t ops = SIZE_MAX) const noexcept;

  // True when any rows of the output can be computed by themselves (every op is ranged).
  bool ranged() const noexcept;
  // As Run, only rows `rows` of the output, for ranged pipelines. The bits do not depend on how rows are divided.
  Status RunRows(const ConstView& in, Range rows, void* out, State& state) const noexcept;

 private:
  friend class PipelineStream;
  struct Impl;
  explicit Pipeline(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A pipeline over an input that arrives in chunks of any size: the same rows, bit for bit, as Run on the whole.
class PipelineStream {
 public:
  // format: rate and dimensions of the input; dim[0] is ignored. The pipeline must outlive the stream. An error names the
  // first op that needs the whole input.
  static Result<PipelineStream> Create(const Pipeline& pipeline, const Extent& format);
  PipelineStream(PipelineStream&&) noexcept;
  ~PipelineStream();
  // Takes `rows` more rows; after the one with last = true, nothing more. Buffers grow only when a chunk, or the backlog
  // that an op keeps, is larger than any before.
  Status Push(const void* data, int64_t rows, bool last) noexcept;
  // Rows that the last Push completed: extent().dim[0] of them, valid until the next Push.
  const void* data() const noexcept;
  const Extent& extent() const noexcept;

 private:
  struct Impl;
  explicit PipelineStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_PIPELINE_H_
