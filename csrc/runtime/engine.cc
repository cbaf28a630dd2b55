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
    {"tensorrt", nullptr, nullptr, "no libzoo has it yet; the Python runtime runs this bundle"},
    {"tensorrt_rtx", nullptr, nullptr, "no libzoo has it yet; the Python runtime runs this bundle"},
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

Status CheckEngineVersion(const Bundle& bundle, const std::string& version) {
  const Manifest& m = bundle.manifest();
  if (Meets(version, m.engine_version)) return Status::Ok();
  return InvalidBundle(bundle.where() + ": key.engine_version is " + m.engine_version + ", this machine has " + version + "; rebuild it here: " + m.rebuild);
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
