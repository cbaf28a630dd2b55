// SPDX-License-Identifier: Apache-2.0
// What the unit tests share beside GoogleTest.
#ifndef ZOO_TESTS_TESTING_H_
#define ZOO_TESTS_TESTING_H_

#include <stdexcept>
#include <string>
#include <utility>

#include "zoo/status.h"

namespace {

// The value, or the end of the test: GoogleTest reports what is thrown.
template <class T>
T Take(zoo::Result<T> r) {
  if (!r.ok()) throw std::runtime_error("unexpected error: " + std::string(r.status().message()));
  return std::move(r.value());
}

}  // namespace

#endif  // ZOO_TESTS_TESTING_H_
