// SPDX-License-Identifier: Apache-2.0
// OpenVINO through its C API, whose shared library is loaded at run time.
#include <openvino/c/openvino.h>

#include <algorithm>
#include <map>
#include <utility>

#include "runtime/engines.h"
#include "runtime/library.h"

namespace zoo {
namespace {

#define ZOO_OPENVINO_FUNCTIONS(X)                                                                                          \
  X(ov_get_openvino_version) X(ov_version_free) X(ov_core_create) X(ov_core_free) X(ov_core_get_available_devices)         \
  X(ov_available_devices_free) X(ov_core_read_model_from_memory_buffer) X(ov_model_free) X(ov_core_compile_model)          \
  X(ov_compiled_model_get_property) X(ov_compiled_model_input_by_name) X(ov_compiled_model_output_by_name)                 \
  X(ov_output_const_port_free) X(ov_compiled_model_create_infer_request) X(ov_compiled_model_free)                         \
  X(ov_infer_request_set_tensor) X(ov_infer_request_get_tensor) X(ov_infer_request_infer) X(ov_infer_request_free)         \
  X(ov_tensor_create_from_host_ptr) X(ov_tensor_data) X(ov_tensor_get_shape) X(ov_tensor_get_element_type) X(ov_tensor_free) \
  X(ov_shape_free) X(ov_free) X(ov_get_last_err_msg)

struct Api {
#define ZOO_DECLARE(f) decltype(::f)* f = nullptr;
  ZOO_OPENVINO_FUNCTIONS(ZOO_DECLARE)
#undef ZOO_DECLARE

  static Result<Api> Load(const std::string& where) {
    auto library = Library::Load("libopenvino_c.so", where, {ZOO_OPENVINO_SONAME});
    if (!library.ok()) {
      return ProviderUnavailable("OpenVINO cannot be loaded (" + library.status().message() +
                                 "); install it (pip install openvino, or Intel's archive or packages) and name the folder of libopenvino_c.so in ZOO_ENGINE_PATH");
    }
    Api api;
#define ZOO_FIND(f) \
  if (!library.value().Find(#f, &api.f)) return ProviderUnavailable("this OpenVINO has no function " #f "; install " ZOO_OPENVINO_VERSION " or newer");
    ZOO_OPENVINO_FUNCTIONS(ZOO_FIND)
#undef ZOO_FIND
    return api;
  }

  std::string Version() const {
    ov_version_t version{};
    if (ov_get_openvino_version(&version) != 0) return "0";
    std::string text = version.buildNumber;
    ov_version_free(&version);
    return text.substr(0, text.find('-'));
  }
  std::string Error() const {
    const char* text = ov_get_last_err_msg();
    std::string message = text == nullptr ? "no reason given" : text;
    if (text != nullptr) ov_free(text);
    return message;
  }
};

// Calls a function of the API when it goes.
template <class T>
struct Owned {
  T* p = nullptr;
  void (*free)(T*) = nullptr;
  explicit Owned(void (*f)(T*)) : free(f) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (p != nullptr) free(p);
  }
};

Result<std::vector<std::string>> Devices(const Api& api, ov_core_t* core) {
  ov_available_devices_t list{};
  if (api.ov_core_get_available_devices(core, &list) != 0) return ProviderUnavailable("OpenVINO finds no devices: " + api.Error());
  std::vector<std::string> devices(list.devices, list.devices + list.size);
  api.ov_available_devices_free(&list);
  return devices;
}

// The plugin's name of a bundle's precision; told, since the plugin lowers it by itself otherwise.
const char* Hint(const std::string& precision) { return precision == "fp16" ? "f16" : precision == "bf16" ? "bf16" : "f32"; }

// The number types that a pipeline gives and outputs have. Their numbers are the same in all releases, which those of later ones are not.
bool ElementType(const std::string& dtype, ov_element_type_e* out) {
  if (dtype == "float32") *out = F32;
  else if (dtype == "int64") *out = I64;
  else if (dtype == "int32") *out = I32;
  else return false;
  return true;
}

class OpenVinoSession final : public EngineSession {
 public:
  OpenVinoSession(const Api& api, const EngineSpec& spec, const std::string& where, ov_infer_request_t* request)
      : api_(api), spec_(spec), where_(where), request_(api.ov_infer_request_free), given_(spec.inputs.size()) {
    request_.p = request;
    for (size_t i = 0; i < spec.inputs.size(); ++i) inputs_.push_back(std::make_unique<Owned<ov_tensor_t>>(api.ov_tensor_free));
    for (size_t i = 0; i < spec.outputs.size(); ++i) outputs_.push_back(std::make_unique<Owned<ov_tensor_t>>(api.ov_tensor_free));
  }

  Status Run(Span<const TensorView> in, std::vector<TensorView>* out) override {
    for (size_t i = 0; i < inputs_.size(); ++i) {
      // The tensor only wraps memory: one for each place and shape that it is given.
      if (in[i] == given_[i]) continue;
      ov_element_type_e type = F32;
      ElementType(spec_.inputs[i].dtype, &type);
      Owned<ov_tensor_t> tensor(api_.ov_tensor_free);
      given_[i] = in[i];
      const ov_shape_t shape{in[i].rank, given_[i].shape};
      if (api_.ov_tensor_create_from_host_ptr(type, shape, const_cast<void*>(in[i].data), &tensor.p) != 0 ||
          api_.ov_infer_request_set_tensor(request_.p, spec_.inputs[i].name.c_str(), tensor.p) != 0) {
        given_[i] = {};
        return Refused();
      }
      std::swap(tensor.p, inputs_[i]->p);
    }
    if (api_.ov_infer_request_infer(request_.p) != 0) return Refused();
    out->resize(spec_.outputs.size());
    for (size_t i = 0; i < spec_.outputs.size(); ++i) {
      Owned<ov_tensor_t> tensor(api_.ov_tensor_free);
      void* data = nullptr;
      ov_shape_t shape{};
      ov_element_type_e found, wanted = F32;
      if (api_.ov_infer_request_get_tensor(request_.p, spec_.outputs[i].name.c_str(), &tensor.p) != 0 || api_.ov_tensor_data(tensor.p, &data) != 0 ||
          api_.ov_tensor_get_element_type(tensor.p, &found) != 0 || api_.ov_tensor_get_shape(tensor.p, &shape) != 0) {
        return Refused();
      }
      TensorView& view = (*out)[i];
      view.data = data;
      view.rank = static_cast<int32_t>(std::min<int64_t>(shape.rank, kMaxTensorRank));
      std::copy(shape.dims, shape.dims + view.rank, view.shape);
      const bool fits = shape.rank <= kMaxTensorRank && ElementType(spec_.outputs[i].dtype, &wanted) && found == wanted;
      api_.ov_shape_free(&shape);
      if (!fits) return InvalidBundle(where_ + ": the engine's output " + spec_.outputs[i].name + " is not " + spec_.outputs[i].dtype + " as the manifest says");
      std::swap(outputs_[i]->p, tensor.p);
    }
    return Status::Ok();
  }

 private:
  Status Refused() const { return InvalidSignal(where_ + ": OpenVINO refuses the input: " + api_.Error()); }

  const Api& api_;
  const EngineSpec& spec_;
  const std::string& where_;
  Owned<ov_infer_request_t> request_;
  std::vector<std::unique_ptr<Owned<ov_tensor_t>>> inputs_, outputs_;
  std::vector<TensorView> given_;
};

class OpenVinoEngine final : public Engine {
 public:
  OpenVinoEngine(const Api& api, const Bundle& bundle)
      : api_(api), spec_(bundle.manifest().engine), where_(bundle.where()), version_(api.Version()), core_(api_.ov_core_free), compiled_(api_.ov_compiled_model_free) {}

  Status Open(const Bundle& bundle, const EngineOptions& options) {
    const std::string* flag = bundle.manifest().Flag("device");
    const std::string device = flag == nullptr ? "CPU" : *flag;
    if (api_.ov_core_create(&core_.p) != 0) return ProviderUnavailable("OpenVINO " + version_ + " does not start: " + api_.Error());
    const Status compiled = Compile(bundle, options, device);
    if (!compiled.ok()) {  // only now, since OpenVINO loads every device's part to find out
      auto devices = Devices(api_, core_.p);
      if (!devices.ok()) return devices.status();
      if (std::find(devices.value().begin(), devices.value().end(), device) != devices.value().end()) return compiled;
      std::string list;
      for (const std::string& d : devices.value()) list += (list.empty() ? "" : ", ") + d;
      return ProviderUnavailable(where_ + " needs OpenVINO's device " + device + "; here are " + list);
    }
    char* taken = nullptr;
    if (api_.ov_compiled_model_get_property(compiled_.p, "INFERENCE_PRECISION_HINT", &taken) != 0) return Refused();
    const std::string precision = taken;
    api_.ov_free(taken);
    if (precision != Hint(spec_.precision)) {
      return ProviderUnavailable(where_ + " is " + spec_.precision + ", but this " + device + " would compute it in " + precision + "; take the fp32 or int8 bundle here");
    }
    for (const auto* tensors : {&spec_.inputs, &spec_.outputs}) {
      for (const TensorSpec& tensor : *tensors) {
        Owned<ov_output_const_port_t> port(api_.ov_output_const_port_free);
        const auto find = tensors == &spec_.inputs ? api_.ov_compiled_model_input_by_name : api_.ov_compiled_model_output_by_name;
        if (find(compiled_.p, tensor.name.c_str(), &port.p) != 0) return InvalidBundle(where_ + ": the engine file has no tensor " + tensor.name);
        ov_element_type_e type;
        if (!ElementType(tensor.dtype, &type)) return InvalidBundle(where_ + ": tensor " + tensor.name + " is " + tensor.dtype + ", which this runtime does not take");
      }
    }
    return Status::Ok();
  }

  const std::string& version() const override { return version_; }

  Result<std::unique_ptr<EngineSession>> NewSession() override {
    ov_infer_request_t* request = nullptr;
    if (api_.ov_compiled_model_create_infer_request(compiled_.p, &request) != 0) return ProviderUnavailable(where_ + ": OpenVINO gives no infer request: " + api_.Error());
    return std::unique_ptr<EngineSession>(new OpenVinoSession(api_, spec_, where_, request));
  }

 private:
  Status Refused() const { return InvalidBundle(where_ + ": OpenVINO " + version_ + " refuses the engine file: " + api_.Error()); }

  Status Compile(const Bundle& bundle, const EngineOptions& options, const std::string& device) {
    const std::string_view file = bundle.Read(spec_.file);
    Owned<ov_tensor_t> weights(api_.ov_tensor_free);
    if (!spec_.extra_files.empty()) {
      const std::string_view bytes = bundle.Read(spec_.extra_files[0]);
      int64_t size = static_cast<int64_t>(bytes.size());
      if (api_.ov_tensor_create_from_host_ptr(I8, ov_shape_t{1, &size}, const_cast<char*>(bytes.data()), &weights.p) != 0) return Refused();
    }
    Owned<ov_model_t> model(api_.ov_model_free);
    if (api_.ov_core_read_model_from_memory_buffer(core_.p, file.data(), file.size(), weights.p, &model.p) != 0) return Refused();
    const std::string threads = std::to_string(options.threads);
    const bool weights_only = spec_.precision.size() > 8 && spec_.precision.compare(spec_.precision.size() - 8, 8, "-weights") == 0;
    // A matrix product with integer weights would round its activations to int8 by itself; the last pair, left out for others, forbids it.
    const size_t values = weights_only ? 10 : 8;
    if (api_.ov_core_compile_model(core_.p, model.p, device.c_str(), values, &compiled_.p, "PERFORMANCE_HINT", "LATENCY", "NUM_STREAMS", "1", "INFERENCE_NUM_THREADS",
                                   threads.c_str(), "INFERENCE_PRECISION_HINT", Hint(spec_.precision), "DYNAMIC_QUANTIZATION_GROUP_SIZE", "0") != 0) {
      return Refused();
    }
    return Status::Ok();
  }

  Api api_;
  const EngineSpec& spec_;
  const std::string& where_;
  std::string version_;
  Owned<ov_core_t> core_;
  Owned<ov_compiled_model_t> compiled_;
};

}  // namespace

Result<std::unique_ptr<Engine>> OpenOpenVino(const Bundle& bundle, const EngineOptions& options) {
  auto api = Api::Load(options.library);
  if (!api.ok()) return ProviderUnavailable(bundle.where() + ": " + api.status().message());
  auto engine = std::make_unique<OpenVinoEngine>(api.value(), bundle);
  ZOO_RETURN_IF_ERROR(CheckKey(bundle, "engine_version", bundle.manifest().engine_version, engine->version()));
  ZOO_RETURN_IF_ERROR(engine->Open(bundle, options));
  return std::unique_ptr<Engine>(std::move(engine));
}

void DescribeOpenVino(const EngineOptions& options, EngineStatus* status) {
  auto api = Api::Load(options.library);
  if (!api.ok()) {
    status->problem = api.status().message();
    return;
  }
  status->version = api.value().Version();
  Owned<ov_core_t> core(api.value().ov_core_free);
  if (api.value().ov_core_create(&core.p) != 0) {
    status->problem = "OpenVINO does not start: " + api.value().Error();
    return;
  }
  auto devices = Devices(api.value(), core.p);
  if (devices.ok()) status->devices = devices.value();
  else status->problem = devices.status().message();
}

}  // namespace zoo
