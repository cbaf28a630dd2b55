// SPDX-License-Identifier: Apache-2.0
// Pipelines and an engine along a whole film, block by block: what zoo/runtime/curves.py does. Memory is that of a block, of the rows
// that are remembered, and of the engine's outputs for every step.
#ifndef ZOO_RUNTIME_FILM_H_
#define ZOO_RUNTIME_FILM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bundle/bundle.h"
#include "runtime/engine.h"

namespace zoo {

// The sound or the pictures of one film, which are gone through from the start as often as a pipeline needs.
class FilmTrack {
 public:
  virtual ~FilmTrack() = default;
  virtual const Extent& format() const = 0;  // of all: rate, rows, dimensions
  // The next rows as the pipeline takes them, none at the end; valid until the next call.
  virtual Status Next(ConstView* block) = 0;
  virtual void Rewind() = 0;
};

// What makes the rows of one engine input. Shared by threads.
struct FilmBranch {
  Pipeline pipeline;
  bool pictures = false;
  bool own_bounds = false;  // the rows are scaled by the whole input's extremes, for which it is gone through before
};

// Seconds.
struct FilmTiming {
  double decode = 0, preprocess = 0, engine = 0;
};

// All outputs of the engine for every step of a film, float32 or as the bundle says, without the batch dimension.
struct FilmOutputs {
  int64_t steps = 0;
  std::vector<std::vector<int64_t>> shapes;  // of one step
  std::vector<std::vector<unsigned char>> bytes;
  std::vector<TensorView> in, found;  // of the last run of the engine
};

// Rows that wait for the engine.
struct FilmRows {
  std::vector<float> values;
  Extent extent;  // dim[0]: how many there are
  bool ended = false;

  void Append(const float* rows, Extent more);
  void Drop(int64_t rows);
};

class FilmRunner {
 public:
  // What the curves of a bundle are made with. `isa`: of the kernels.
  static Result<FilmRunner> Create(const Bundle& bundle, const std::string& isa);
  const std::vector<FilmBranch>& branches() const { return branches_; }
  // Steps before one that the engine looks at.
  int64_t context() const { return context_; }
  // tracks: one for each branch. Several threads may run at once, each with an engine session and tracks of its own.
  Status Run(const std::vector<std::unique_ptr<FilmTrack>>& tracks, EngineSession* engine, FilmOutputs* out, FilmTiming* timing) const;
  // The engine on the first `count` rows of each branch, of which `lead` only lead in; the outputs of the rest are added.
  Status Judge(const std::vector<FilmRows>& rows, int64_t count, int64_t lead, EngineSession* engine, FilmOutputs* out) const;

 private:
  FilmRunner() = default;
  const Manifest* manifest_ = nullptr;
  std::string where_, isa_;
  std::vector<FilmBranch> branches_;
  int64_t steps_ = 1, context_ = 0;  // rows of an engine call, but for those that only lead in; most of those
};

}  // namespace zoo

#endif  // ZOO_RUNTIME_FILM_H_
