// SPDX-License-Identifier: Apache-2.0
// The engines of this build: what runtime/engine.cc calls, each defined in its own source file.
#ifndef ZOO_RUNTIME_ENGINES_H_
#define ZOO_RUNTIME_ENGINES_H_

#include <memory>
#include <string>

#include "runtime/engine.h"

namespace zoo {

// kInvalidBundle where the engine here does not meet the key's requirement.
Status CheckEngineVersion(const Bundle& bundle, const std::string& version);

Result<std::unique_ptr<Engine>> OpenOnnxRuntime(const Bundle& bundle, const EngineOptions& options);
void DescribeOnnxRuntime(const EngineOptions& options, EngineStatus* status);

#ifdef ZOO_HAVE_OPENVINO
Result<std::unique_ptr<Engine>> OpenOpenVino(const Bundle& bundle, const EngineOptions& options);
void DescribeOpenVino(const EngineOptions& options, EngineStatus* status);
#endif

}  // namespace zoo

#endif  // ZOO_RUNTIME_ENGINES_H_
