// SPDX-License-Identifier: Apache-2.0
// The engines of this build: what runtime/engine.cc calls, each defined in its own source file.
#ifndef ZOO_RUNTIME_ENGINES_H_
#define ZOO_RUNTIME_ENGINES_H_

#include <memory>
#include <string>

#include "runtime/engine.h"

namespace zoo {

// kInvalidBundle where a version here does not meet what the key requires of it.
Status CheckKey(const Bundle& bundle, const std::string& field, const std::string& requirement, const std::string& found);

Result<std::unique_ptr<Engine>> OpenOnnxRuntime(const Bundle& bundle, const EngineOptions& options);
void DescribeOnnxRuntime(const EngineOptions& options, EngineStatus* status);

#ifdef ZOO_HAVE_OPENVINO
Result<std::unique_ptr<Engine>> OpenOpenVino(const Bundle& bundle, const EngineOptions& options);
void DescribeOpenVino(const EngineOptions& options, EngineStatus* status);
#endif

#ifdef ZOO_HAVE_TENSORRT
Result<std::unique_ptr<Engine>> OpenTensorRt(const Bundle& bundle, const EngineOptions& options);
void DescribeTensorRt(const EngineOptions& options, EngineStatus* status);
#endif

#ifdef ZOO_HAVE_TENSORRT_RTX
Result<std::unique_ptr<Engine>> OpenTensorRtRtx(const Bundle& bundle, const EngineOptions& options);
void DescribeTensorRtRtx(const EngineOptions& options, EngineStatus* status);
#endif

}  // namespace zoo

#endif  // ZOO_RUNTIME_ENGINES_H_
