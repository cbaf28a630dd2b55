// SPDX-License-Identifier: Apache-2.0
// A CUDA driver and a TensorRT in one library, for tests of csrc/runtime/tensorrt.cc without a GPU. Device memory is the host's; what is put
// into a stream is done when it is waited for. An "engine" is text: `max N` (greatest batch) and a line for each tensor, `i|o NAME TYPE
// DIMENSIONS...`; -1 is the batch, -2 what nobody knows. Element j of output k is (k + 1) times the sum of the input's row, plus j.
#include <NvInferRuntime.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace nvinfer1;
using Work = std::vector<std::function<void()>>;

std::recursive_mutex mutex;
std::map<uintptr_t, size_t> memory;  // what is allocated
std::map<std::string, int> calls;
std::string failing;
int gpus = 1, major = 8, minor = 9;
std::atomic<int> live{0};  // objects of all kinds but memory
ILogger* logger = nullptr;
thread_local int depth = 0;  // contexts that are current in this thread

// 0, or the error of a call that is to fail or has no context.
int Enter(const char* name, bool needs_context) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  ++calls[name];
  return failing == name ? 2 : needs_context && depth == 0 ? 201 : 0;
}

bool Holds(const void* at, size_t bytes) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  const auto found = memory.find(reinterpret_cast<uintptr_t>(at));
  return found != memory.end() && bytes <= found->second;
}

struct Live {
  Live() { ++live; }
  ~Live() { live -= depth > 0 ? 1 : 0; }  // what goes without a context stays behind
};

// The vendor's classes call through a table of functions. The few that libzoo uses are put into one, others end the program.
struct Table {
  void* slots[256];
  Table() { for (void*& slot : slots) slot = reinterpret_cast<void*>(std::abort); }
  template <class Method, class F>
  Table& Put(Method method, F function) {
    uintptr_t word;  // of a virtual function: its place in bytes, plus 1 on x86
    std::memcpy(&word, &method, sizeof word);
    slots[(word & ~uintptr_t{1}) / sizeof(void*)] = reinterpret_cast<void*>(+function);
    return *this;
  }
};
template <class T>
struct Impl {
  void** table;
  T* owner;
};

struct Tensor {
  char io;
  std::string name;
  int type;
  Dims dims;
};

struct Plan {
  int64_t max = 1;
  std::vector<Tensor> tensors;
  const Tensor* Find(const char* name) const {
    for (const Tensor& tensor : tensors) if (tensor.name == name) return &tensor;
    return nullptr;
  }
};

int64_t Count(const Dims& dims) {
  int64_t n = 1;
  for (int i = 0; i < dims.nbDims; ++i) n *= dims.d[i];
  return n;
}

struct FakeContext final : IExecutionContext {
  const Plan& plan;
  Live alive;
  Dims in{};
  std::map<std::string, float*> addresses;
  Impl<FakeContext> impl;
  explicit FakeContext(const Plan& p) : plan(p) {
    using V = apiv::VExecutionContext;
    using Self = Impl<FakeContext>*;
    static Table table = Table()
        .Put(&V::setInputShape, [](Self self, const char*, const Dims& dims) { return self->owner->SetShape(dims); })
        .Put(&V::getTensorShape, [](Self self, const char* name) { return self->owner->Shape(*self->owner->plan.Find(name)); })
        .Put(&V::setTensorAddress, [](Self self, const char* name, void* data) {
          return Enter("setTensorAddress", true) == 0 && (self->owner->addresses[name] = static_cast<float*>(data)) != nullptr;
        })
        .Put(&V::enqueueV3, [](Self self, cudaStream_t stream) { return self->owner->Enqueue(reinterpret_cast<Work*>(stream)); });
    impl = {table.slots, this};
    mImpl = reinterpret_cast<V*>(&impl);
  }
  bool SetShape(const Dims& dims) {
    const Dims& own = plan.tensors[0].dims;
    bool fits = dims.nbDims == own.nbDims && dims.d[0] >= 1 && dims.d[0] <= plan.max;
    for (int i = 1; fits && i < dims.nbDims; ++i) fits = dims.d[i] == own.d[i];
    if (fits) in = dims;
    else logger->log(ILogger::Severity::kERROR, "shape not in profile");
    return fits && Enter("setInputShape", true) == 0;
  }
  Dims Shape(const Tensor& tensor) const {
    Dims dims = tensor.io == 'i' ? in : tensor.dims;
    for (int i = 0; i < dims.nbDims; ++i) if (dims.d[i] < 0) dims.d[i] = dims.d[i] == -1 ? in.d[0] : -1;
    return dims;
  }
  bool Enqueue(Work* work) {
    if (Enter("enqueueV3", true) != 0) return logger->log(ILogger::Severity::kERROR, "no kernel"), false;
    const float* from = addresses[plan.tensors[0].name];
    int64_t k = 0;
    for (const Tensor& tensor : plan.tensors) {
      const Dims dims = Shape(tensor);
      float* to = addresses[tensor.name];
      if (!Holds(to, static_cast<size_t>(Count(dims)) * sizeof(float))) return logger->log(ILogger::Severity::kERROR, "a buffer is too small"), false;
      if (tensor.io == 'i') continue;
      const int64_t rows = in.d[0], n = Count(in) / rows, columns = Count(dims) / rows, factor = ++k;
      work->push_back([=] {
        for (int64_t row = 0; row < rows; ++row) {
          double sum = 0;
          for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(from[row * n + i]);
          for (int64_t j = 0; j < columns; ++j) to[row * columns + j] = static_cast<float>(static_cast<double>(factor) * sum + static_cast<double>(j));
        }
      });
    }
    return true;
  }
};

struct FakeEngine final : ICudaEngine {
  Plan plan;
  Live alive;
  Impl<FakeEngine> impl;
  explicit FakeEngine(Plan p) : plan(std::move(p)) {
    using V = apiv::VCudaEngine;
    using Self = Impl<FakeEngine>*;
    static Table table = Table()
        .Put(&V::createExecutionContext, [](Self self, ExecutionContextAllocationStrategy) -> IExecutionContext* {
          return Enter("createExecutionContext", true) == 0 ? new FakeContext(self->owner->plan) : nullptr;
        })
        .Put(&V::getTensorIOMode, [](Self self, const char* name) {
          const Tensor* tensor = self->owner->plan.Find(name);
          return tensor == nullptr ? TensorIOMode::kNONE : tensor->io == 'i' ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
        })
        .Put(&V::getTensorDataType, [](Self self, const char* name) { return static_cast<DataType>(self->owner->plan.Find(name)->type); })
        .Put(&V::getTensorFormat, [](Self, const char*) { return TensorFormat::kLINEAR; })
        .Put(&V::getTensorLocation, [](Self, const char*) { return TensorLocation::kDEVICE; });
    impl = {table.slots, this};
    mImpl = reinterpret_cast<V*>(&impl);
  }
};

struct FakeRuntime final : IRuntime {
  Live alive;
  Impl<FakeRuntime> impl;
  FakeRuntime() {
    using V = apiv::VRuntime;
    static Table table = Table().Put(static_cast<ICudaEngine* (V::*)(const void*, size_t) noexcept>(&V::deserializeCudaEngine),
                                     [](Impl<FakeRuntime>*, const void* data, size_t size) { return Deserialize(std::string(static_cast<const char*>(data), size)); });
    impl = {table.slots, this};
    mImpl = reinterpret_cast<V*>(&impl);
  }
  static ICudaEngine* Deserialize(const std::string& text) {
    Plan plan;
    std::istringstream lines(text);
    std::string word;
    if (Enter("deserializeCudaEngine", true) != 0 || !(lines >> word >> plan.max) || word != "max") {
      return logger->log(ILogger::Severity::kERROR, "magic tag does not match"), nullptr;
    }
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      Tensor tensor{};
      if (!(words >> tensor.io >> tensor.name >> tensor.type)) continue;
      while (words >> tensor.dims.d[tensor.dims.nbDims]) ++tensor.dims.nbDims;
      plan.tensors.push_back(tensor);
    }
    return new FakeEngine(plan);
  }
};

}  // namespace

extern "C" {
#define FAKE __attribute__((visibility("default")))
FAKE void fake_fail(const char* name) { failing = name; }
FAKE int fake_calls(const char* name) { return calls[name]; }
FAKE int fake_live() { return live + depth + static_cast<int>(memory.size()); }
FAKE void fake_gpu(int count, int capability) { gpus = count, major = capability / 10, minor = capability % 10; }

FAKE int32_t getInferLibMajorVersion() noexcept { return NV_TENSORRT_MAJOR + (failing == "major"); }
FAKE int32_t getInferLibMinorVersion() noexcept { return NV_TENSORRT_MINOR + (failing == "minor"); }
FAKE int32_t getInferLibPatchVersion() noexcept { return 0; }
FAKE int32_t getInferLibBuildVersion() noexcept { return 26; }
FAKE void* createInferRuntime_INTERNAL(void* with, int32_t version) noexcept {
  logger = static_cast<ILogger*>(with);
  if (Enter("createInferRuntime", true) == 0 && version == NV_TENSORRT_VERSION) return static_cast<IRuntime*>(new FakeRuntime);
  logger->log(ILogger::Severity::kERROR, "CUDA initialization failure");
  logger->log(ILogger::Severity::kERROR, "and more");
  return reinterpret_cast<void*>(0x228);  // as TensorRT 10.16 and 11.1 do
}

// Returns the error of a call that is to fail.
#define UNLESS(name, needs_context) if (const int code = Enter(name, needs_context)) return code; else  // NOLINT
FAKE int cuInit(unsigned) { return Enter("cuInit", false); }
FAKE int cuDriverGetVersion(int* out) { return *out = 12090, Enter("cuDriverGetVersion", false); }
FAKE int cuDeviceGetCount(int* out) { return *out = gpus, Enter("cuDeviceGetCount", false); }
FAKE int cuDeviceGet(int* out, int index) { return *out = index, Enter("cuDeviceGet", false); }
FAKE int cuDeviceGetName(char* out, int, int) { return std::strcpy(out, "Made-up GPU"), Enter("cuDeviceGetName", false); }
FAKE int cuDeviceGetAttribute(int* out, int attribute, int) { return *out = attribute == 75 ? major : minor, Enter("cuDeviceGetAttribute", false); }
FAKE int cuGetErrorString(int code, const char** out) { return *out = code == 2 ? "out of memory" : "invalid device context", 0; }
FAKE int cuDevicePrimaryCtxRetain(void** out, int) { UNLESS("cuDevicePrimaryCtxRetain", false) return *out = &gpus, ++live, 0; }
FAKE int cuDevicePrimaryCtxRelease_v2(int) { return --live, Enter("cuDevicePrimaryCtxRelease_v2", false); }
FAKE int cuCtxPushCurrent_v2(void* context) { UNLESS("cuCtxPushCurrent_v2", false) return depth += context == &gpus, 0; }
FAKE int cuCtxPopCurrent_v2(void** out) { return *out = &gpus, --depth, 0; }
FAKE int cuMemAlloc_v2(uintptr_t* out, size_t bytes) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  UNLESS("cuMemAlloc_v2", true) return memory[*out = reinterpret_cast<uintptr_t>(std::malloc(bytes))] = bytes, 0;
}
FAKE int cuMemFree_v2(uintptr_t at) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  UNLESS("cuMemFree_v2", true) return std::free(reinterpret_cast<void*>(at)), memory.erase(at) == 1 ? 0 : 1;
}
int Copy(uintptr_t device, void* to, const void* from, size_t bytes, void* stream) {
  if (!Holds(reinterpret_cast<void*>(device), bytes)) return 1;
  return static_cast<Work*>(stream)->push_back([=] { std::memcpy(to, from, bytes); }), 0;
}
FAKE int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, void* stream) {
  UNLESS("cuMemcpyHtoDAsync_v2", true) return Copy(to, reinterpret_cast<void*>(to), from, bytes, stream);
}
FAKE int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, void* stream) {
  UNLESS("cuMemcpyDtoHAsync_v2", true) return Copy(from, to, reinterpret_cast<void*>(from), bytes, stream);
}
FAKE int cuStreamCreate(void** out, unsigned) { UNLESS("cuStreamCreate", true) return *out = new Work, ++live, 0; }
FAKE int cuStreamSynchronize(void* stream) {
  const int code = Enter("cuStreamSynchronize", true);
  for (const auto& item : *static_cast<Work*>(stream)) if (code == 0) item();
  return static_cast<Work*>(stream)->clear(), code;
}
FAKE int cuStreamDestroy_v2(void* stream) { return delete static_cast<Work*>(stream), --live, Enter("cuStreamDestroy_v2", true); }
}
