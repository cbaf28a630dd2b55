// SPDX-License-Identifier: Apache-2.0
#include "zoo/status.h"

namespace zoo {

const char* StatusCodeName(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::kOk: return "ok";
    case StatusCode::kInvalidArgument: return "invalid argument";
    case StatusCode::kInvalidSignal: return "invalid signal";
    case StatusCode::kInvalidFile: return "invalid file";
    case StatusCode::kInvalidPipeline: return "invalid pipeline";
    case StatusCode::kUnsupportedIsa: return "unsupported instruction set";
    case StatusCode::kProviderUnavailable: return "provider unavailable";
    case StatusCode::kInvalidBundle: return "invalid bundle";
    case StatusCode::kUnsupportedBundle: return "unsupported bundle";
    case StatusCode::kCheckFailed: return "check failed";
    case StatusCode::kOutOfMemory: return "out of memory";
    case StatusCode::kInternal: return "internal error";
  }
  return "unknown";
}

}  // namespace zoo
