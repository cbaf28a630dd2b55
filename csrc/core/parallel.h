// SPDX-License-Identifier: Apache-2.0
// A loop shared out over threads.
#ifndef ZOO_CORE_PARALLEL_H_
#define ZOO_CORE_PARALLEL_H_

#include <cstdint>
#include <functional>

#include "zoo/status.h"

namespace zoo {

// Calls body(i) for each i in [0, count) on up to `threads` threads (0: one a CPU), the caller's among them; items are taken
// in order as threads become free. Returns the failure of the smallest i; after a failure no new item is started.
Status ParallelFor(int64_t count, int64_t threads, const std::function<Status(int64_t)>& body) noexcept;

}  // namespace zoo

#endif  // ZOO_CORE_PARALLEL_H_
