// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine.h"

#include "runtime/engines.h"

namespace zoo {
namespace {

struct Kind {
  const char* name;
  Result<std::unique_ptr<Engine>> (*open)(const Bundle&, const EngineOptions&);  // null: not in this build
  void (*describe)(const EngineOptions&, EngineStatus*);
  const char* build;  // how to build it in
};

constexpr Kind kKinds[] = {
    {"onnxruntime", OpenOnnxRuntime, DescribeOnnxRuntime, ""},
#ifdef ZOO_HAVE_OPENVINO
    {"openvino", OpenOpenVino, DescribeOpenVino, ""},
#else
    {"openvino", nullptr, nullptr, "configure with -DOpenVINO_DIR=<folder of OpenVINOConfig.cmake> (pip install openvino has it)"},
#endif
#ifdef ZOO_HAVE_TENSORRT
    {"tensorrt", OpenTensorRt, DescribeTensorRt, ""},
#else
    {"tensorrt", nullptr, nullptr, "configure with -DTensorRT_INCLUDE_DIR=<folder of NvInferRuntime.h>, of TensorRT 10 or newer (JetPack has it; else github.com/NVIDIA/TensorRT)"},
#endif
#ifdef ZOO_HAVE_TENSORRT_RTX
    {"tensorrt_rtx", OpenTensorRtRtx, DescribeTensorRtRtx, ""},
#else
    {"tensorrt_rtx", nullptr, nullptr, "configure with -DTensorRT_RTX_INCLUDE_DIR=<folder of NvInferRuntime.h> (NVIDIA's TensorRT-RTX archive has it)"},
#endif
};

std::string NotBuilt(const Kind& kind) { return std::string(kind.name) + " is not built into this libzoo: " + kind.build; }

}  // namespace

std::vector<EngineStatus> EngineStatuses(const EngineOptions& options) {
  std::vector<EngineStatus> all;
  for (const Kind& kind : kKinds) {
    EngineStatus status;
    status.kind = kind.name;
    status.built = kind.open != nullptr;
    if (status.built) kind.describe(options, &status);
    else status.problem = NotBuilt(kind);
    all.push_back(std::move(status));
  }
  return all;
}

Status CheckKey(const Bundle& bundle, const std::string& field, const std::string& requirement, const std::string& found) {
  if (Meets(found, requirement)) return Status::Ok();
  return InvalidBundle(bundle.where() + ": key." + field + " is " + requirement + ", this machine has " + found + "; rebuild it here: " + bundle.manifest().rebuild);
}

Result<std::unique_ptr<Engine>> OpenEngine(const Bundle& bundle, const EngineOptions& options) {
  const Manifest& m = bundle.manifest();
  if (m.recipe) {
    return InvalidBundle(bundle.where() + " is a recipe: its " + m.engine.kind + " engine is built on the device. Finish it there: zoo build " + bundle.where() + " --out DIR");
  }
  for (const Kind& kind : kKinds) {
    if (m.engine.kind != kind.name) continue;
    if (kind.open == nullptr) return ProviderUnavailable(bundle.where() + " needs " + m.engine.kind + ": " + NotBuilt(kind));
    return kind.open(bundle, options);
  }
  return ProviderUnavailable(bundle.where() + " needs " + m.engine.kind + ", an engine that this libzoo does not know");
}

}  // namespace zoo
