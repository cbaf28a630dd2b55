// SPDX-License-Identifier: Apache-2.0
// A bundle with its pipeline and engine (Model, shared), and one thread's use of it (Session).
#ifndef ZOO_RUNTIME_MODEL_H_
#define ZOO_RUNTIME_MODEL_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bundle/bundle.h"
#include "core/buffer.h"
#include "pipeline/input.h"
#include "runtime/engine.h"
#include "runtime/film.h"
#include "zoo/decode.h"

namespace zoo {

struct ModelOptions {
  int32_t threads = 0;  // of the engine; 0: what the bundle says
  int32_t batch = 0;    // most inputs in one engine call; 0: what the bundle says
  std::string library;  // see EngineOptions
  std::string isa;      // of the kernels; empty: ZOO_ISA, or the fastest
};

class Model {
 public:
  // The bundle's bytes, where given in memory, must stay as they are as long as the model is used.
  static Result<std::shared_ptr<const Model>> Open(Result<Bundle> bundle, const ModelOptions& options);

  const Bundle& bundle() const { return *bundle_; }
  const Manifest& manifest() const { return bundle_->manifest(); }
  const Pipeline& pipeline() const { return *pipeline_; }
  const Kernels* kernels() const { return kernels_; }
  Engine& engine() const { return *engine_; }
  // Of models that give curves; else null.
  const FilmRunner* film() const { return film_ ? &*film_ : nullptr; }
  int64_t max_batch() const { return max_batch_; }
  // Whether the pipeline cuts windows of its own, each of which is one input of the engine.
  bool windowed() const { return pipeline_->port(0).kind == PortKind::kEeg; }
  // The op whose input is tokens, for models that give attention.
  size_t tokens_port() const { return tokens_port_; }
  // Everything that a caller may want to know, as JSON.
  std::string Describe() const;

 private:
  Model() = default;
  Status Check() const;

  std::unique_ptr<Bundle> bundle_;
  std::optional<Pipeline> pipeline_;
  std::optional<FilmRunner> film_;
  const Kernels* kernels_ = nullptr;
  std::unique_ptr<Engine> engine_;
  int64_t max_batch_ = 1;
  size_t tokens_port_ = 0;
};

// What a caller hands in. Views of the caller's memory.
struct RawInput {
  enum class Kind : int32_t { kArray, kText, kFile, kFeatures, kFilm, kStep };
  Kind kind = Kind::kArray;
  ArrayView array;        // kArray
  double rate = 0;        // kArray: Hz of audio and EEG, frames a second
  std::string_view text;  // kText, UTF-8; kFile, a path
  TensorView features;    // kFeatures: what the pipeline would give, without the batch dimension
  const RawInput* pictures = nullptr;  // kFilm: arrays, or a file of sound; null where there is none
  const RawInput* sound = nullptr;
  const std::vector<FilmRows>* rows = nullptr;  // kStep: of each branch, the last of `count` being judged
  int64_t count = 0;
};

struct Timing {  // milliseconds
  double decode_input = 0, preprocess = 0, engine = 0, decode = 0, total = 0;
};

struct OutputCopy {
  int32_t rank = 0;
  int64_t shape[kMaxTensorRank] = {};
  std::vector<unsigned char> bytes;
};

struct Item {
  Answers answers;
  std::vector<float> attention;  // one weight for each token
  std::vector<char> tokens;      // UTF-8, each followed by the byte 0xFF
  std::vector<OutputCopy> outputs;  // of the engine, in the manifest's order, without the batch dimension
  Timing timing;
  double start = 0, end = 0;  // seconds of the stream that it covers; 0 outside streams
};

class Session {
 public:
  static Result<std::unique_ptr<Session>> Create(std::shared_ptr<const Model> model);

  // Predicts each input. Inputs whose features have one shape go to the engine together, as many as the model's batch.
  Status Run(const RawInput* inputs, size_t count);
  // Forgets the results of the last run.
  void Clear() { count_ = 0; }

  const Model& model() const { return *model_; }
  size_t size() const { return count_; }  // items of the last run
  const Item& item(size_t i) const { return items_[i]; }
  Item* mutable_item(size_t i) { return &items_[i]; }
  // As JSON: label, labels, scores, values, attention, heads, timing.
  std::string ToJson(size_t i) const;

 private:
  struct Features {
    size_t offset = 0;  // in features_
    Extent extent;
    bool done = false;
  };

  explicit Session(std::shared_ptr<const Model> model);
  Status Preprocess(const RawInput& input, Features* out, Item* item);
  Status FromArray(const RawInput& input, Features* out);
  Status FromEeg(const ConstView& view, const Extent& windows, Features* out);
  Status FromFile(const RawInput& input, Features* out, Item* item);
  Status FromText(const RawInput& input, Features* out, Item* item);
  Status FromFeatures(const RawInput& input, Features* out);
  // Room for one more input's features.
  Status Room(const Extent& extent, Features* out, unsigned char** place);
  Status RunGroup(const std::vector<size_t>& group);
  Status RunFilm(const RawInput& input, Item* item);
  Status Film(const RawInput& input, FilmOutputs* out, FilmTiming* timing);
  Status Finish(size_t row, Item* item);

  std::shared_ptr<const Model> model_;
  std::unique_ptr<Pipeline::State> state_;
  std::unique_ptr<EngineSession> engine_;
  PipelineInput input_;
  Buffer<float> mono_;  // of files
  Buffer<unsigned char> features_, stack_, windows_;
  size_t used_ = 0;
  std::vector<Features> pending_;
  std::vector<size_t> group_;
  std::vector<TensorView> outputs_;
  FilmOutputs film_;
  std::vector<Item> items_;
  size_t count_ = 0;
};

struct SelftestResult {
  double worst = 0, tolerance = 0;  // largest absolute difference of all cases
  int64_t cases = 0;
};

// Runs the bundle's golden inputs. kCheckFailed where an output differs by more than the tolerance.
Status Selftest(Session* session, SelftestResult* result);

}  // namespace zoo

#endif  // ZOO_RUNTIME_MODEL_H_
