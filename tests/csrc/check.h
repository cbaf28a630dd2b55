// SPDX-License-Identifier: Apache-2.0
// What the programs check with that are no unit tests: soak, allocations.
#ifndef ZOO_TESTS_CHECK_H_
#define ZOO_TESTS_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "zoo/status.h"

namespace {

int failures = 0;

#define EXPECT(condition, ...)                                    \
  do {                                                            \
    if (!(condition)) {                                           \
      std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                   \
      std::printf("\n");                                          \
      ++failures;                                                 \
    }                                                             \
  } while (0)

// The value, or the end of the driver.
template <class T>
T Take(zoo::Result<T> r) {
  if (!r.ok()) {
    std::printf("unexpected error: %s\n", r.status().message().c_str());
    std::exit(1);
  }
  return std::move(r.value());
}

}  // namespace

#endif  // ZOO_TESTS_CHECK_H_
