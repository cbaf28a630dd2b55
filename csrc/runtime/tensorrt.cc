// SPDX-License-Identifier: Apache-2.0
// TensorRT, and with ZOO_TENSORRT_RTX TensorRT-RTX: this file is compiled once for each, with its own headers. Their libraries and the
// CUDA driver are loaded at run time; TensorRT's calls are virtual, the driver's few are declared here.
#include <NvInferRuntime.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <utility>

#include "runtime/engines.h"
#include "runtime/library.h"

#ifdef ZOO_TENSORRT_RTX
#define ZOO_TENSORRT_NAME "TensorRT-RTX"
#define ZOO_TENSORRT_LIBRARY "libtensorrt_rtx.so."
#define ZOO_TENSORRT_INSTALL "pip install tensorrt-rtx-cu12, or NVIDIA's archive"
#else
#define ZOO_TENSORRT_NAME "TensorRT"
#define ZOO_TENSORRT_LIBRARY "libnvinfer.so."
#define ZOO_TENSORRT_INSTALL "JetPack has it; else pip install tensorrt, or NVIDIA's packages"
#endif

namespace zoo {
namespace {

namespace trt = nvinfer1;

// --- the CUDA driver ---------------------------------------------------------------------------------------------
struct CuContext;
using CuPointer = unsigned long long;  // NOLINT: CUdeviceptr
constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;
constexpr unsigned kNonBlocking = 1;  // a stream that does not wait for the default one

#define ZOO_CUDA_FUNCTIONS(X)                                                                              \
  X(cuInit, (unsigned flags))                                                                              \
  X(cuDriverGetVersion, (int*))                                                                            \
  X(cuDeviceGetCount, (int*))                                                                              \
  X(cuDeviceGet, (int* device, int index))                                                                 \
  X(cuDeviceGetName, (char*, int size, int device))                                                        \
  X(cuDeviceGetAttribute, (int*, int attribute, int device))                                               \
  X(cuDevicePrimaryCtxRetain, (CuContext**, int device))                                                   \
  X(cuDevicePrimaryCtxRelease_v2, (int device))                                                            \
  X(cuCtxPushCurrent_v2, (CuContext*))                                                                     \
  X(cuCtxPopCurrent_v2, (CuContext**))                                                                     \
  X(cuMemAlloc_v2, (CuPointer*, size_t bytes))                                                             \
  X(cuMemFree_v2, (CuPointer))                                                                             \
  X(cuMemcpyHtoDAsync_v2, (CuPointer to, const void* from, size_t bytes, cudaStream_t))                    \
  X(cuMemcpyDtoHAsync_v2, (void* to, CuPointer from, size_t bytes, cudaStream_t))                          \
  X(cuStreamCreate, (cudaStream_t*, unsigned flags))                                                       \
  X(cuStreamSynchronize, (cudaStream_t))                                                                   \
  X(cuStreamDestroy_v2, (cudaStream_t))                                                                    \
  X(cuGetErrorString, (int code, const char**))

#define ZOO_RETURN_IF_CUDA(cuda, function, ...)                             \
  do {                                                                      \
    const int zoo_code_ = (cuda).function(__VA_ARGS__);                     \
    if (zoo_code_ != 0) return (cuda).Failed(#function, zoo_code_);         \
  } while (0)

// The first GPU. Its primary context, once retained, is the one that TensorRT works in.
class Gpu {
 public:
#define ZOO_DECLARE(name, arguments) int(*name) arguments = nullptr;
  ZOO_CUDA_FUNCTIONS(ZOO_DECLARE)
#undef ZOO_DECLARE

  Gpu() = default;
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;
  ~Gpu() {
    if (context_ != nullptr) cuDevicePrimaryCtxRelease_v2(device_);
  }

  Status Open() {
    auto library = Library::Load("libcuda.so.1", "", {});
    if (!library.ok()) {
      return ProviderUnavailable("libcuda.so.1 not found: this machine has no NVIDIA driver (" + library.status().message() +
                                 "); install NVIDIA's driver for its GPU");
    }
#define ZOO_FIND(name, arguments) \
  if (!library.value().Find(#name, &name)) return ProviderUnavailable("this libcuda.so.1 has no function " #name "; install a newer NVIDIA driver");
    ZOO_CUDA_FUNCTIONS(ZOO_FIND)
#undef ZOO_FIND
    int count = 0, major = 0, minor = 0, driver = 0;
    char name[256] = "";
    ZOO_RETURN_IF_CUDA(*this, cuInit, 0);
    ZOO_RETURN_IF_CUDA(*this, cuDeviceGetCount, &count);
    if (count < 1) return ProviderUnavailable("the NVIDIA driver finds " + std::to_string(count) + " GPUs; there is no GPU 0");
    ZOO_RETURN_IF_CUDA(*this, cuDeviceGet, &device_, 0);
    ZOO_RETURN_IF_CUDA(*this, cuDeviceGetName, name, sizeof name - 1, device_);
    ZOO_RETURN_IF_CUDA(*this, cuDeviceGetAttribute, &major, kCapabilityMajor, device_);
    ZOO_RETURN_IF_CUDA(*this, cuDeviceGetAttribute, &minor, kCapabilityMinor, device_);
    ZOO_RETURN_IF_CUDA(*this, cuDriverGetVersion, &driver);
    name_ = name;
    capability_ = std::to_string(major) + "." + std::to_string(minor);
    driver_ = std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10);
    return Status::Ok();
  }

  Status Retain() {
    ZOO_RETURN_IF_CUDA(*this, cuDevicePrimaryCtxRetain, &context_, device_);
    return Status::Ok();
  }

  const std::string& name() const { return name_; }
  const std::string& capability() const { return capability_; }  // such as "8.9"
  const std::string& driver() const { return driver_; }          // CUDA version that the driver supports, such as "12.9"
  CuContext* context() const { return context_; }

  Status Failed(const char* function, int code) const {
    const char* text = nullptr;
    if (cuGetErrorString(code, &text) != 0 || text == nullptr) text = "unknown error";
    return ProviderUnavailable(std::string("CUDA driver: ") + function + " failed with " + std::to_string(code) + ": " + text);
  }

 private:
  int device_ = 0;
  CuContext* context_ = nullptr;
  std::string name_, capability_, driver_;
};

// Makes the context current in this thread as long as it lives; then the caller's own is current again.
class Current {
 public:
  explicit Current(const Gpu& gpu) : gpu_(gpu), code_(gpu.cuCtxPushCurrent_v2(gpu.context())) {}
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  ~Current() {
    CuContext* popped = nullptr;
    if (code_ == 0) gpu_.cuCtxPopCurrent_v2(&popped);
  }
  Status status() const { return code_ == 0 ? Status::Ok() : gpu_.Failed("cuCtxPushCurrent_v2", code_); }

 private:
  const Gpu& gpu_;
  const int code_;
};

// --- TensorRT ----------------------------------------------------------------------------------------------------
// The first error in a thread since it was cleared, for messages: what follows tells less. Plain bytes: TensorRT may log while a thread ends.
thread_local char first_error[512] = "";

class Logger final : public trt::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    if (severity <= Severity::kERROR && first_error[0] == '\0') std::snprintf(first_error, sizeof first_error, "%s", text);
  }
  // TensorRT keeps the first that it is given, for the whole process: so there is one, which never goes.
  static Logger& Get() {
    static Logger* logger = new Logger;
    return *logger;
  }
};

std::string Reason() { return first_error[0] == '\0' ? "" : std::string(": ") + first_error; }

// The release whose classes the headers describe: they stay as they are within a first number, but for TensorRT-RTX, whose 1.7 already
// has those of TensorRT 11.
#define ZOO_TEXT_OF(x) #x
#define ZOO_TEXT(x) ZOO_TEXT_OF(x)
#ifdef ZOO_TENSORRT_RTX
constexpr char kRelease[] = ZOO_TEXT(NV_TENSORRT_MAJOR) "." ZOO_TEXT(NV_TENSORRT_MINOR);
#else
constexpr char kRelease[] = ZOO_TEXT(NV_TENSORRT_MAJOR);
#endif

struct Api {
  void* (*createInferRuntime_INTERNAL)(void* logger, int32_t version) = nullptr;
  std::string version;

  static Result<Api> Load(const std::string& where) {
    const std::string name = ZOO_TENSORRT_LIBRARY ZOO_TEXT(NV_TENSORRT_MAJOR), release = kRelease;
    auto library = Library::Load(name, where, {});
    if (!library.ok()) {
      return ProviderUnavailable(ZOO_TENSORRT_NAME " " + release + " cannot be loaded (" + library.status().message() + "); install it (" ZOO_TENSORRT_INSTALL
                                 ") and name the folder of " + name + " in ZOO_ENGINE_PATH");
    }
    Api api;
    if (!library.value().Find("createInferRuntime_INTERNAL", &api.createInferRuntime_INTERNAL)) {
      return ProviderUnavailable("this " + name + " has no function createInferRuntime_INTERNAL");
    }
    for (const char* part : {"getInferLibMajorVersion", "getInferLibMinorVersion", "getInferLibPatchVersion", "getInferLibBuildVersion"}) {
      int32_t (*get)() = nullptr;
      if (!library.value().Find(part, &get)) return ProviderUnavailable("this " + name + " has no function " + part);
      api.version += std::to_string(get()) + ".";
    }
    // The library does not check this itself; a class of another release would call the wrong functions.
    const bool same = api.version.compare(0, release.size() + 1, release + ".") == 0;
    api.version.pop_back();
    if (!same) {
      return ProviderUnavailable(ZOO_TENSORRT_NAME " here is " + api.version + ", this libzoo was built with the headers of " + release + "; install " + release +
                                 ", or build libzoo with its headers");
    }
    return api;
  }
};

bool ElementType(const std::string& dtype, trt::DataType* out) {
  if (dtype == "float32") *out = trt::DataType::kFLOAT;
  else if (dtype == "float16") *out = trt::DataType::kHALF;
  else if (dtype == "int64") *out = trt::DataType::kINT64;
  else if (dtype == "int32") *out = trt::DataType::kINT32;
  else if (dtype == "int8") *out = trt::DataType::kINT8;
  else if (dtype == "uint8") *out = trt::DataType::kUINT8;
  else if (dtype == "bool") *out = trt::DataType::kBOOL;
  else return false;
  return true;
}

// Bytes of a tensor; false where a dimension is not known or they are too many to count.
template <class T>
bool CountBytes(const T* shape, int32_t rank, const std::string& dtype, size_t* bytes) {
  *bytes = SizeOfDType(dtype);
  for (int32_t i = 0; i < rank; ++i) {
    if (shape[i] < 0 || __builtin_mul_overflow(*bytes, static_cast<size_t>(shape[i]), bytes)) return false;
  }
  return rank >= 0;
}

std::string ShapeText(const int64_t* shape, int32_t rank) {
  std::string text = "(";
  for (int32_t i = 0; i < rank; ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + ")";
}

// An execution context, a stream, and buffers of the greatest size that the profile allows.
class TensorRtSession final : public EngineSession {
 public:
  // mutex: held while an execution context of the engine is made or goes.
  TensorRtSession(const Gpu& gpu, const Manifest& manifest, const std::string& where, std::mutex* mutex)
      : gpu_(gpu), manifest_(manifest), spec_(manifest.engine), where_(where), mutex_(mutex) {}

  ~TensorRtSession() override {
    const Current current(gpu_);
    {
      const std::lock_guard<std::mutex> lock(*mutex_);
      context_.reset();
    }
    for (const auto* buffers : {&inputs_, &outputs_}) {
      for (const Buffer& buffer : *buffers) {
        if (buffer.device != 0) gpu_.cuMemFree_v2(buffer.device);
      }
    }
    if (stream_ != nullptr) gpu_.cuStreamDestroy_v2(stream_);
  }

  // The GPU's context is current.
  Status Open(trt::ICudaEngine* engine) {
    first_error[0] = '\0';
    {
      const std::lock_guard<std::mutex> lock(*mutex_);
      context_.reset(engine->createExecutionContext());
    }
    if (context_ == nullptr) return ProviderUnavailable(where_ + ": the GPU has too little memory for this engine" + Reason());
    ZOO_RETURN_IF_CUDA(gpu_, cuStreamCreate, &stream_, kNonBlocking);
    std::vector<TensorView> greatest(spec_.inputs.size());
    inputs_.resize(spec_.inputs.size());
    for (size_t k = 0; k < inputs_.size(); ++k) {
      const TensorSpec& input = spec_.inputs[k];
      greatest[k].rank = static_cast<int32_t>(std::min<size_t>(input.shape.size(), kMaxTensorRank));
      for (size_t i = 0; i < static_cast<size_t>(greatest[k].rank); ++i) {
        const auto range = manifest_.profile.find(input.dimensions[i]);
        if (input.shape[i] == -1 && range == manifest_.profile.end()) {
          return InvalidBundle(where_ + ": key.profile does not say how great dimension " + std::to_string(i) + " of " + input.name + " is");
        }
        greatest[k].shape[i] = input.shape[i] == -1 ? range->second.second : input.shape[i];
      }
      if (!CountBytes(greatest[k].shape, greatest[k].rank, input.dtype, &inputs_[k].bytes)) {
        return InvalidBundle(where_ + ": key.profile is too great for input " + input.name);
      }
    }
    // Buffers are as great as the engine itself says, so that a manifest that says less cannot make it write beyond them.
    outputs_.resize(spec_.outputs.size());
    for (Buffer& output : outputs_) output.bytes = SIZE_MAX;
    const Status fits = Shape({greatest.data(), greatest.size()});
    if (!fits.ok()) return InvalidBundle(fits.message());
    for (size_t k = 0; k < inputs_.size(); ++k) ZOO_RETURN_IF_ERROR(Allocate(spec_.inputs[k].name, &inputs_[k]));
    for (size_t i = 0; i < outputs_.size(); ++i) {
      CountBytes(views_[i].shape, views_[i].rank, spec_.outputs[i].dtype, &outputs_[i].bytes);
      ZOO_RETURN_IF_ERROR(Allocate(spec_.outputs[i].name, &outputs_[i]));
      outputs_[i].host.resize(outputs_[i].bytes);
      views_[i].data = outputs_[i].host.data();
    }
    return Status::Ok();
  }

  Status Run(Span<const TensorView> in, std::vector<TensorView>* out) override {
    const Current current(gpu_);
    ZOO_RETURN_IF_ERROR(current.status());
    const Status started = Start(in);
    // Also where that failed: nothing may go on reading `in`.
    const int code = gpu_.cuStreamSynchronize(stream_);
    ZOO_RETURN_IF_ERROR(started);
    if (code != 0) return gpu_.Failed("cuStreamSynchronize", code);
    *out = views_;
    return Status::Ok();
  }

 private:
  struct Buffer {
    size_t bytes = 0;
    CuPointer device = 0;
    std::vector<unsigned char> host;
  };

  Status Allocate(const std::string& name, Buffer* buffer) {
    ZOO_RETURN_IF_CUDA(gpu_, cuMemAlloc_v2, &buffer->device, std::max<size_t>(buffer->bytes, 1));
    if (context_->setTensorAddress(name.c_str(), reinterpret_cast<void*>(buffer->device))) return Status::Ok();  // NOLINT: an address on the GPU
    return InvalidBundle(where_ + ": the engine takes no buffer for " + name);
  }

  Status Start(Span<const TensorView> in) {
    const auto same = [](const TensorView& a, const TensorView& b) { return a.rank == b.rank && std::equal(a.shape, a.shape + a.rank, b.shape); };
    if (!std::equal(in.begin(), in.end(), given_.begin(), given_.end(), same)) ZOO_RETURN_IF_ERROR(Shape(in));
    size_t bytes = 0;
    for (size_t k = 0; k < inputs_.size(); ++k) {
      CountBytes(in[k].shape, in[k].rank, spec_.inputs[k].dtype, &bytes);
      ZOO_RETURN_IF_CUDA(gpu_, cuMemcpyHtoDAsync_v2, inputs_[k].device, in[k].data, bytes, stream_);
    }
    first_error[0] = '\0';
    if (!context_->enqueueV3(stream_)) return ProviderUnavailable(where_ + ": the engine could not be started on the GPU" + Reason());
    for (size_t i = 0; i < outputs_.size(); ++i) {
      CountBytes(views_[i].shape, views_[i].rank, spec_.outputs[i].dtype, &bytes);
      if (bytes > 0) ZOO_RETURN_IF_CUDA(gpu_, cuMemcpyDtoHAsync_v2, outputs_[i].host.data(), outputs_[i].device, bytes, stream_);
    }
    return Status::Ok();
  }

  // Tells the engine the inputs' shapes and asks for those of its outputs.
  Status Shape(Span<const TensorView> in) {
    given_.clear();
    size_t bytes = 0;
    first_error[0] = '\0';
    for (size_t k = 0; k < inputs_.size(); ++k) {
      const TensorSpec& input = spec_.inputs[k];
      trt::Dims dims{};
      dims.nbDims = in[k].rank;
      std::copy(in[k].shape, in[k].shape + in[k].rank, dims.d);
      if (!CountBytes(in[k].shape, in[k].rank, input.dtype, &bytes) || bytes > inputs_[k].bytes || !context_->setInputShape(input.name.c_str(), dims)) {
        return InvalidSignal(where_ + ": shape " + ShapeText(in[k].shape, in[k].rank) + " of " + input.name + " is outside the engine's profile" + Reason());
      }
    }
    views_.resize(outputs_.size());
    for (size_t i = 0; i < outputs_.size(); ++i) {
      const TensorSpec& output = spec_.outputs[i];
      const trt::Dims shape = context_->getTensorShape(output.name.c_str());
      if (!CountBytes(shape.d, shape.nbDims, output.dtype, &bytes) || bytes > outputs_[i].bytes) {
        return InvalidBundle(where_ + ": the shape of the engine's output " + output.name + " does not follow from its input's");
      }
      views_[i].rank = shape.nbDims;
      std::copy(shape.d, shape.d + shape.nbDims, views_[i].shape);
    }
    given_.assign(in.begin(), in.end());
    return Status::Ok();
  }

  const Gpu& gpu_;
  const Manifest& manifest_;
  const EngineSpec& spec_;
  const std::string& where_;
  std::mutex* mutex_;
  std::unique_ptr<trt::IExecutionContext> context_;
  cudaStream_t stream_ = nullptr;
  std::vector<Buffer> inputs_, outputs_;
  std::vector<TensorView> given_;
  std::vector<TensorView> views_;  // outputs for the shape in given_
};

class TensorRtEngine final : public Engine {
 public:
  TensorRtEngine(const Api& api, const Bundle& bundle) : api_(api), manifest_(bundle.manifest()), where_(bundle.where()) {}

  ~TensorRtEngine() override {
    if (runtime_ == nullptr) return;
    const Current current(gpu_);
    engine_.reset();
    runtime_.reset();
  }

  Status Open(const Bundle& bundle) {
    Status found = gpu_.Open();
    if (!found.ok()) return NeedsGpu(found);
    if (!manifest_.compute_capability.empty()) ZOO_RETURN_IF_ERROR(CheckKey(bundle, "compute_capability", "==" + manifest_.compute_capability, gpu_.capability()));
    if (!manifest_.driver.empty()) ZOO_RETURN_IF_ERROR(CheckKey(bundle, "driver", manifest_.driver, gpu_.driver()));
    found = gpu_.Retain();
    if (!found.ok()) return NeedsGpu(found);
    const Current current(gpu_);
    ZOO_RETURN_IF_ERROR(current.status());
    first_error[0] = '\0';
    void* runtime = api_.createInferRuntime_INTERNAL(&Logger::Get(), NV_TENSORRT_VERSION);
    // Where CUDA does not start, TensorRT gives a null pointer to which a class's place was added: 0x228 in 10.16 and 11.1.
    if (reinterpret_cast<uintptr_t>(runtime) < 4096) return ProviderUnavailable(where_ + ": " ZOO_TENSORRT_NAME " " + version() + " does not start" + Reason());
    runtime_.reset(static_cast<trt::IRuntime*>(runtime));
    const EngineSpec& spec = manifest_.engine;
    const std::string_view plan = bundle.Read(spec.file);
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (engine_ == nullptr) return InvalidBundle(where_ + ": " ZOO_TENSORRT_NAME " " + version() + " refuses the engine file " + spec.file + Reason());
    ZOO_RETURN_IF_ERROR(CheckTensors(spec.inputs, trt::TensorIOMode::kINPUT));
    return CheckTensors(spec.outputs, trt::TensorIOMode::kOUTPUT);
  }

  const std::string& version() const override { return api_.version; }

  Result<std::unique_ptr<EngineSession>> NewSession() override {
    const Current current(gpu_);
    ZOO_RETURN_IF_ERROR(current.status());
    auto session = std::make_unique<TensorRtSession>(gpu_, manifest_, where_, &mutex_);
    ZOO_RETURN_IF_ERROR(session->Open(engine_.get()));
    return std::unique_ptr<EngineSession>(std::move(session));
  }

 private:
  Status NeedsGpu(const Status& why) const { return ProviderUnavailable(where_ + " needs an NVIDIA GPU: " + why.message()); }

  Status CheckTensors(const std::vector<TensorSpec>& declared, trt::TensorIOMode mode) const {
    for (const TensorSpec& tensor : declared) {
      const char* name = tensor.name.c_str();
      trt::DataType type;
      if (!ElementType(tensor.dtype, &type)) return InvalidBundle(where_ + ": tensor " + tensor.name + " is " + tensor.dtype + ", which this runtime does not take");
      if (engine_->getTensorIOMode(name) != mode) return InvalidBundle(where_ + ": the engine file has no tensor " + tensor.name);
      // only so a buffer's size follows from its shape
      if (engine_->getTensorDataType(name) != type || engine_->getTensorFormat(name) != trt::TensorFormat::kLINEAR ||
          engine_->getTensorLocation(name) != trt::TensorLocation::kDEVICE) {
        return InvalidBundle(where_ + ": the engine's tensor " + tensor.name + " is not " + tensor.dtype + " as the manifest says");
      }
    }
    return Status::Ok();
  }

  const Api api_;
  const Manifest& manifest_;
  const std::string& where_;
  Gpu gpu_;
  std::unique_ptr<trt::IRuntime> runtime_;
  std::unique_ptr<trt::ICudaEngine> engine_;
  std::mutex mutex_;
};

Result<std::unique_ptr<Engine>> Open(const Bundle& bundle, const EngineOptions& options) {
  auto api = Api::Load(options.library);
  if (!api.ok()) return ProviderUnavailable(bundle.where() + ": " + api.status().message());
  // The Python package of releases before 10.8, JetPack 6's too, leaves out the last number, and so do the keys of bundles built with it.
  const std::string &wanted = bundle.manifest().engine_version, &found = api.value().version, shorter = found.substr(0, found.rfind('.'));
  ZOO_RETURN_IF_ERROR(CheckKey(bundle, "engine_version", wanted, wanted.compare(0, 2, "==") == 0 && Meets(shorter, wanted) ? shorter : found));
  auto engine = std::make_unique<TensorRtEngine>(api.value(), bundle);
  ZOO_RETURN_IF_ERROR(engine->Open(bundle));
  return std::unique_ptr<Engine>(std::move(engine));
}

void Describe(const EngineOptions& options, EngineStatus* status) {
  auto api = Api::Load(options.library);
  if (!api.ok()) {
    status->problem = api.status().message();
    return;
  }
  status->version = api.value().version;
  Gpu gpu;
  const Status found = gpu.Open();
  if (found.ok()) status->devices = {gpu.name() + " (compute capability " + gpu.capability() + ")"};
  else status->problem = found.message();
}

}  // namespace

#ifdef ZOO_TENSORRT_RTX
Result<std::unique_ptr<Engine>> OpenTensorRtRtx(const Bundle& bundle, const EngineOptions& options) { return Open(bundle, options); }
void DescribeTensorRtRtx(const EngineOptions& options, EngineStatus* status) { Describe(options, status); }
#else
Result<std::unique_ptr<Engine>> OpenTensorRt(const Bundle& bundle, const EngineOptions& options) { return Open(bundle, options); }
void DescribeTensorRt(const EngineOptions& options, EngineStatus* status) { Describe(options, status); }
#endif

}  // namespace zoo
