// SPDX-License-Identifier: Apache-2.0
// onnxruntime (its CPU provider) through its C API, whose shared library is loaded at run time. No package of the indexes that this
// project builds from has the header, so what is used of it is declared here.
#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "runtime/engines.h"
#include "runtime/library.h"

namespace zoo {
namespace {

struct OrtEnv;
struct OrtStatus;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtSession;
struct OrtSessionOptions;
struct OrtTensorInfo;
struct OrtValue;

struct OrtApiBase {
  const void* (*GetApi)(uint32_t version);  // null where this library is older
  const char* (*GetVersionString)();
};
// Of onnxruntime 1.20, the oldest that bundles are made for. Later libraries give this table too.
constexpr uint32_t kApiVersion = 20;
constexpr const char* kOldest = "1.20";

constexpr int kLogFatal = 4;
constexpr int kArenaAllocator = 1, kMemoryDefault = 0;
constexpr int kFloat32 = 1, kInt32 = 6, kInt64 = 7;

using Logger = void(void* param, int severity, const char* category, const char* id, const char* place, const char* message);

// Functions of the table by their place in it. The order is part of onnxruntime's ABI: a release only adds at the end
// (onnxruntime/core/session/onnxruntime_c_api.h asserts it).
#define ZOO_ORT_FUNCTIONS(X)                                                                                                                  \
  X(2, const char*, GetErrorMessage, (const OrtStatus*))                                                                                      \
  X(4, OrtStatus*, CreateEnvWithCustomLogger, (Logger*, void*, int severity, const char* id, OrtEnv**))                                       \
  X(8, OrtStatus*, CreateSessionFromArray, (const OrtEnv*, const void* model, size_t size, const OrtSessionOptions*, OrtSession**))           \
  X(9, OrtStatus*, Run, (OrtSession*, const void* options, const char* const* input_names, const OrtValue* const* inputs, size_t input_count, \
                         const char* const* output_names, size_t output_count, OrtValue** outputs))                                           \
  X(10, OrtStatus*, CreateSessionOptions, (OrtSessionOptions**))                                                                              \
  X(24, OrtStatus*, SetIntraOpNumThreads, (OrtSessionOptions*, int))                                                                          \
  X(25, OrtStatus*, SetInterOpNumThreads, (OrtSessionOptions*, int))                                                                          \
  X(30, OrtStatus*, SessionGetInputCount, (const OrtSession*, size_t*))                                                                       \
  X(31, OrtStatus*, SessionGetOutputCount, (const OrtSession*, size_t*))                                                                      \
  X(36, OrtStatus*, SessionGetInputName, (const OrtSession*, size_t index, OrtAllocator*, char**))                                            \
  X(37, OrtStatus*, SessionGetOutputName, (const OrtSession*, size_t index, OrtAllocator*, char**))                                           \
  X(49, OrtStatus*, CreateTensorWithDataAsOrtValue, (const OrtMemoryInfo*, void* data, size_t bytes, const int64_t* shape, size_t rank, int type, OrtValue**)) \
  X(51, OrtStatus*, GetTensorMutableData, (OrtValue*, void**))                                                                                \
  X(60, OrtStatus*, GetTensorElementType, (const OrtTensorInfo*, int*))                                                                       \
  X(61, OrtStatus*, GetDimensionsCount, (const OrtTensorInfo*, size_t*))                                                                      \
  X(62, OrtStatus*, GetDimensions, (const OrtTensorInfo*, int64_t*, size_t count))                                                            \
  X(65, OrtStatus*, GetTensorTypeAndShape, (const OrtValue*, OrtTensorInfo**))                                                                \
  X(69, OrtStatus*, CreateCpuMemoryInfo, (int allocator, int memory, OrtMemoryInfo**))                                                        \
  X(76, OrtStatus*, AllocatorFree, (OrtAllocator*, void*))                                                                                    \
  X(78, OrtStatus*, GetAllocatorWithDefaultOptions, (OrtAllocator**))                                                                         \
  X(92, void, ReleaseEnv, (OrtEnv*))                                                                                                          \
  X(93, void, ReleaseStatus, (OrtStatus*))                                                                                                    \
  X(94, void, ReleaseMemoryInfo, (OrtMemoryInfo*))                                                                                            \
  X(95, void, ReleaseSession, (OrtSession*))                                                                                                  \
  X(96, void, ReleaseValue, (OrtValue*))                                                                                                      \
  X(99, void, ReleaseTensorTypeAndShapeInfo, (OrtTensorInfo*))                                                                                \
  X(100, void, ReleaseSessionOptions, (OrtSessionOptions*))                                                                                   \
  X(130, OrtStatus*, AddSessionConfigEntry, (OrtSessionOptions*, const char* key, const char* value))

struct Api {
#define ZOO_DECLARE(slot, type, name, arguments) type(*name) arguments = nullptr;
  ZOO_ORT_FUNCTIONS(ZOO_DECLARE)
#undef ZOO_DECLARE
  std::string version;

  static Result<Api> Load(const std::string& where) {
    auto library = Library::Load("libonnxruntime.so", where, {"libonnxruntime.so.1"});
    if (!library.ok()) {
      return ProviderUnavailable("onnxruntime cannot be loaded (" + library.status().message() +
                                 "); install it (pip install onnxruntime, or Microsoft's archive) and name the folder of libonnxruntime.so in ZOO_ENGINE_PATH");
    }
    const OrtApiBase* (*get)() = nullptr;
    if (!library.value().Find("OrtGetApiBase", &get)) return ProviderUnavailable("this libonnxruntime.so has no function OrtGetApiBase; install onnxruntime " + std::string(kOldest) + " or newer");
    const OrtApiBase* base = get();
    Api api;
    api.version = base->GetVersionString();
    const void* const* table = static_cast<const void* const*>(base->GetApi(kApiVersion));
    if (table == nullptr) return ProviderUnavailable("onnxruntime " + api.version + " is too old; install " + kOldest + " or newer");
#define ZOO_TAKE(slot, type, name, arguments) api.name = reinterpret_cast<type(*) arguments>(const_cast<void*>(table[slot]));
    ZOO_ORT_FUNCTIONS(ZOO_TAKE)
#undef ZOO_TAKE
    return api;
  }

  // What a failed call says, which is freed; empty where it did not fail.
  std::string Error(OrtStatus* status) const {
    if (status == nullptr) return "";
    std::string message = GetErrorMessage(status);
    ReleaseStatus(status);
    return message.empty() ? "no reason given" : message;
  }
};

#define ZOO_RETURN_IF_ORT(call, failure)                                              \
  do {                                                                                \
    const std::string zoo_error_ = api_.Error(call);                                  \
    if (!zoo_error_.empty()) return failure(zoo_error_);                              \
  } while (0)

// Calls a function of the table when it goes.
template <class T>
struct Owned {
  T* p = nullptr;
  void (*release)(T*);
  explicit Owned(void (*f)(T*)) : release(f) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { Reset(); }
  void Reset() {
    if (p != nullptr) release(std::exchange(p, nullptr));
  }
};

int ElementType(const std::string& dtype) { return dtype == "float32" ? kFloat32 : dtype == "int64" ? kInt64 : dtype == "int32" ? kInt32 : 0; }

// Whether integer kernels may add pairs of products in 16 bits, which do not hold them: x86 without VNNI, as the Python runtime finds it.
bool Saturates() {
#if defined(__x86_64__)
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      if (word == "avx512_vnni" || word == "avx_vnni") return false;
    }
  }
  return true;
#else
  return false;
#endif
}

class OrtEngineSession final : public EngineSession {
 public:
  OrtEngineSession(const Api& api, const EngineSpec& spec, const std::string& where, OrtSession* session)
      : api_(api), spec_(spec), where_(where), session_(session), memory_(api.ReleaseMemoryInfo) {
    for (const TensorSpec& tensor : spec.inputs) input_names_.push_back(tensor.name.c_str());
    for (const TensorSpec& tensor : spec.outputs) names_.push_back(tensor.name.c_str());
    given_.resize(input_names_.size());
    inputs_.resize(input_names_.size(), nullptr);
    values_.resize(names_.size(), nullptr);
  }
  ~OrtEngineSession() override {
    Clear(inputs_.data(), inputs_.size());
    Clear(values_.data(), values_.size());
  }

  Status Open() {
    ZOO_RETURN_IF_ORT(api_.CreateCpuMemoryInfo(kArenaAllocator, kMemoryDefault, &memory_.p), Refused);
    return Status::Ok();
  }

  Status Run(Span<const TensorView> in, std::vector<TensorView>* out) override {
    Clear(values_.data(), values_.size());
    for (size_t i = 0; i < inputs_.size(); ++i) {
      // The value only wraps memory: one for each place and shape that it is given.
      if (in[i] == given_[i]) continue;
      Clear(&inputs_[i], 1);
      given_[i] = {};
      const std::string& dtype = spec_.inputs[i].dtype;
      const size_t bytes = static_cast<size_t>(in[i].count()) * SizeOfDType(dtype);
      ZOO_RETURN_IF_ORT(api_.CreateTensorWithDataAsOrtValue(memory_.p, const_cast<void*>(in[i].data), bytes, in[i].shape, static_cast<size_t>(in[i].rank), ElementType(dtype),
                                                            &inputs_[i]), Refused);
      given_[i] = in[i];
    }
    ZOO_RETURN_IF_ORT(api_.Run(session_, nullptr, input_names_.data(), inputs_.data(), inputs_.size(), names_.data(), names_.size(), values_.data()), Refused);
    out->resize(values_.size());
    for (size_t i = 0; i < values_.size(); ++i) {
      TensorView& view = (*out)[i];
      Owned<OrtTensorInfo> info(api_.ReleaseTensorTypeAndShapeInfo);
      void* data = nullptr;
      int type = 0;
      size_t rank = 0;
      ZOO_RETURN_IF_ORT(api_.GetTensorTypeAndShape(values_[i], &info.p), Refused);
      ZOO_RETURN_IF_ORT(api_.GetTensorElementType(info.p, &type), Refused);
      ZOO_RETURN_IF_ORT(api_.GetDimensionsCount(info.p, &rank), Refused);
      if (rank > kMaxTensorRank || type != ElementType(spec_.outputs[i].dtype)) {
        return InvalidBundle(where_ + ": the engine's output " + spec_.outputs[i].name + " is not " + spec_.outputs[i].dtype + " as the manifest says");
      }
      ZOO_RETURN_IF_ORT(api_.GetDimensions(info.p, view.shape, rank), Refused);
      ZOO_RETURN_IF_ORT(api_.GetTensorMutableData(values_[i], &data), Refused);
      view.data = data;
      view.rank = static_cast<int32_t>(rank);
    }
    return Status::Ok();
  }

 private:
  Status Refused(const std::string& why) const { return InvalidSignal(where_ + ": onnxruntime refuses the input: " + why); }
  void Clear(OrtValue** values, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      if (values[i] != nullptr) api_.ReleaseValue(std::exchange(values[i], nullptr));
    }
  }

  const Api& api_;
  const EngineSpec& spec_;
  const std::string& where_;
  OrtSession* session_;
  Owned<OrtMemoryInfo> memory_;
  std::vector<TensorView> given_;
  std::vector<OrtValue*> inputs_, values_;  // of the last run
  std::vector<const char*> input_names_, names_;
};

class OrtEngine final : public Engine {
 public:
  OrtEngine(const Api& api, const Bundle& bundle)
      : api_(api), spec_(bundle.manifest().engine), where_(bundle.where()), env_(api_.ReleaseEnv), session_(api_.ReleaseSession) {}

  Status Open(const Bundle& bundle, const EngineOptions& options) {
    const std::string* providers = bundle.manifest().Flag("providers");
    if (providers != nullptr && *providers != "CPUExecutionProvider") {
      return ProviderUnavailable(where_ + " needs onnxruntime's " + *providers + "; libzoo runs its CPUExecutionProvider alone. Export for target cpu-x86 or cpu-arm64");
    }
    if (spec_.precision == "fp16" || spec_.precision == "bf16") {
      return ProviderUnavailable(where_ + " is " + spec_.precision + ", part of which onnxruntime's CPU provider would compute in fp32; take the fp32 or int8 bundle here");
    }
    for (const auto* tensors : {&spec_.inputs, &spec_.outputs}) {
      for (const TensorSpec& tensor : *tensors) {
        if (ElementType(tensor.dtype) == 0) return InvalidBundle(where_ + ": tensor " + tensor.name + " is " + tensor.dtype + ", which this runtime does not take");
      }
    }
    // onnxruntime's own logger writes to standard error; errors come back as statuses.
    ZOO_RETURN_IF_ORT(api_.CreateEnvWithCustomLogger([](void*, int, const char*, const char*, const char*, const char*) {}, nullptr, kLogFatal, "zoo", &env_.p), Refused);
    Owned<OrtSessionOptions> set(api_.ReleaseSessionOptions);
    ZOO_RETURN_IF_ORT(api_.CreateSessionOptions(&set.p), Refused);
    ZOO_RETURN_IF_ORT(api_.SetIntraOpNumThreads(set.p, options.threads), Refused);
    ZOO_RETURN_IF_ORT(api_.SetInterOpNumThreads(set.p, 1), Refused);
    ZOO_RETURN_IF_ERROR(Configure(set.p));
    const std::string_view file = bundle.Read(spec_.file);
    ZOO_RETURN_IF_ORT(api_.CreateSessionFromArray(env_.p, file.data(), file.size(), set.p, &session_.p), Refused);
    ZOO_RETURN_IF_ERROR(CheckNames(spec_.inputs, "inputs", api_.SessionGetInputCount, api_.SessionGetInputName));
    return CheckNames(spec_.outputs, "outputs", api_.SessionGetOutputCount, api_.SessionGetOutputName);
  }

  const std::string& version() const override { return api_.version; }

  Result<std::unique_ptr<EngineSession>> NewSession() override {
    auto session = std::make_unique<OrtEngineSession>(api_, spec_, where_, session_.p);
    ZOO_RETURN_IF_ERROR(session->Open());
    return std::unique_ptr<EngineSession>(std::move(session));
  }

 private:
  Status Refused(const std::string& why) const { return InvalidBundle(where_ + ": onnxruntime " + api_.version + " refuses the engine file: " + why); }

  // What runtime/engines/onnxruntime.py sets, which says why.
  Status Configure(OrtSessionOptions* set) const {
    ZOO_RETURN_IF_ORT(api_.AddSessionConfigEntry(set, "session.intra_op.allow_spinning", "0"), Refused);
    const bool weights_only = spec_.precision.size() > 8 && spec_.precision.compare(spec_.precision.size() - 8, 8, "-weights") == 0;
    if (weights_only) ZOO_RETURN_IF_ORT(api_.AddSessionConfigEntry(set, "session.disable_quant_qdq", "1"), Refused);
    if (spec_.precision == "int8") {
      ZOO_RETURN_IF_ORT(api_.AddSessionConfigEntry(set, "optimization.disable_specified_optimizers", "MatMulAddFusion;QDQPropagationTransformer"), Refused);
      if (Saturates()) ZOO_RETURN_IF_ORT(api_.AddSessionConfigEntry(set, "session.x64quantprecision", "1"), Refused);
    }
    return Status::Ok();
  }

  template <class Count, class Name>
  Status CheckNames(const std::vector<TensorSpec>& declared, const char* what, Count count, Name name) const {
    size_t n = 0;
    OrtAllocator* allocator = nullptr;
    ZOO_RETURN_IF_ORT(count(session_.p, &n), Refused);
    ZOO_RETURN_IF_ORT(api_.GetAllocatorWithDefaultOptions(&allocator), Refused);
    bool same = n == declared.size();
    for (size_t i = 0; same && i < n; ++i) {
      char* text = nullptr;
      ZOO_RETURN_IF_ORT(name(session_.p, i, allocator, &text), Refused);
      same = declared[i].name == text;
      ZOO_RETURN_IF_ORT(api_.AllocatorFree(allocator, text), Refused);
    }
    if (same) return Status::Ok();
    return InvalidBundle(where_ + ": the engine file does not have the " + what + " that the manifest says");
  }

  Api api_;
  const EngineSpec& spec_;
  const std::string& where_;
  Owned<OrtEnv> env_;
  Owned<OrtSession> session_;
};

}  // namespace

Result<std::unique_ptr<Engine>> OpenOnnxRuntime(const Bundle& bundle, const EngineOptions& options) {
  auto api = Api::Load(options.library);
  if (!api.ok()) return ProviderUnavailable(bundle.where() + ": " + api.status().message());
  auto engine = std::make_unique<OrtEngine>(api.value(), bundle);
  ZOO_RETURN_IF_ERROR(CheckKey(bundle, "engine_version", bundle.manifest().engine_version, engine->version()));
  ZOO_RETURN_IF_ERROR(engine->Open(bundle, options));
  return std::unique_ptr<Engine>(std::move(engine));
}

void DescribeOnnxRuntime(const EngineOptions& options, EngineStatus* status) {
  auto api = Api::Load(options.library);
  if (!api.ok()) {
    status->problem = api.status().message();
    return;
  }
  status->version = api.value().version;
  status->devices = {"CPUExecutionProvider"};
}

}  // namespace zoo
