// SPDX-License-Identifier: Apache-2.0
// Inference engines behind one interface. Each lives in one source file; its library is loaded when a bundle asks for it, so that
// libzoo starts without any.
#ifndef ZOO_RUNTIME_ENGINE_H_
#define ZOO_RUNTIME_ENGINE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bundle/bundle.h"
#include "zoo/span.h"

namespace zoo {

constexpr int32_t kMaxTensorRank = 8;

struct TensorView {
  const void* data = nullptr;
  int32_t rank = 0;
  int64_t shape[kMaxTensorRank] = {};
  int64_t count() const {
    int64_t n = 1;
    for (int32_t i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  // Whether it has the same place and shape.
  bool operator==(const TensorView& o) const {
    return data == o.data && rank == o.rank && std::equal(shape, shape + rank, o.shape);
  }
};

struct EngineOptions {
  int32_t threads = 1;
  std::string library;  // file, or folder of files, to load the engine from; empty: ZOO_ENGINE_PATH, then the system's search path
};

// One thread's access to an engine.
class EngineSession {
 public:
  virtual ~EngineSession() = default;
  // in: one for each input of the bundle, in order, of the types that it says. out: one view for each output, in order, valid until
  // the next run. Nothing of `in` is kept.
  virtual Status Run(Span<const TensorView> in, std::vector<TensorView>* out) = 0;
};

// One compiled graph, shared by threads.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const std::string& version() const = 0;
  virtual Result<std::unique_ptr<EngineSession>> NewSession() = 0;
};

// What this machine can do with an engine.
struct EngineStatus {
  std::string kind, version, problem;  // problem: why it cannot be used, and what to do; empty where it can
  std::vector<std::string> devices;
  bool built = false;
};
std::vector<EngineStatus> EngineStatuses(const EngineOptions& options);

// Checks the key against this machine, then opens the engine of a bundle. The bundle must outlive it.
Result<std::unique_ptr<Engine>> OpenEngine(const Bundle& bundle, const EngineOptions& options);

// Bytes of one value of a tensor ("float32", ...); 0 for an unknown type.
inline size_t SizeOfDType(const std::string& dtype) {
  if (dtype == "int64") return 8;
  if (dtype == "float32" || dtype == "int32") return 4;
  if (dtype == "float16") return 2;
  return dtype == "int8" || dtype == "uint8" || dtype == "bool" ? 1 : 0;
}

}  // namespace zoo

#endif  // ZOO_RUNTIME_ENGINE_H_
