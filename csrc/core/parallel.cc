// SPDX-License-Identifier: Apache-2.0
#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace zoo {

Status ParallelFor(int64_t count, int64_t threads, const std::function<Status(int64_t)>& body) noexcept try {
  if (threads <= 0) threads = std::max<int64_t>(1, std::thread::hardware_concurrency());
  threads = std::min(threads, count);
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  int64_t failed = count;
  Status failure;
  const auto work = [&] {
    for (int64_t i = next++; i < count; i = next++) {
      Status status = body(i);
      if (status.ok()) continue;
      next = count;
      const std::lock_guard<std::mutex> lock(mutex);
      if (i < failed) failed = i, failure = std::move(status);
    }
  };
  std::vector<std::thread> pool;
  pool.reserve(static_cast<size_t>(threads));
  try {
    for (int64_t t = 1; t < threads; ++t) pool.emplace_back(work);
  } catch (const std::system_error&) {
    // fewer threads than asked for still do all the work
  }
  work();
  for (std::thread& t : pool) t.join();
  return failure;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

}  // namespace zoo
