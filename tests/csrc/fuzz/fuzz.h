// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share. A target is one source file with LLVMFuzzerTestOneInput; what it checks beyond "no crash" it checks
// with REQUIRE.
#ifndef ZOO_TESTS_FUZZ_H_
#define ZOO_TESTS_FUZZ_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "zoo/status.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#define REQUIRE(condition, ...)                                             \
  do {                                                                      \
    if (!(condition)) {                                                     \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);  \
      std::fprintf(stderr, __VA_ARGS__);                                    \
      std::fprintf(stderr, "\n");                                           \
      std::abort();                                                         \
    }                                                                       \
  } while (0)

namespace {

// Decisions taken from the fuzzer's bytes; zeros once they are used up.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : text_(reinterpret_cast<const char*>(data), size) {}

  template <class T>
  T Value() {
    T v{};
    const size_t n = std::min(sizeof(T), text_.size());
    if (n > 0) std::memcpy(&v, text_.data(), n);
    text_.remove_prefix(n);
    return v;
  }
  uint8_t Byte() { return Value<uint8_t>(); }
  bool Chance(unsigned of_256) { return Byte() < of_256; }
  size_t Below(size_t n) { return n <= 256 ? Byte() % n : Value<uint32_t>() % n; }
  std::string_view Text(size_t most) {
    const std::string_view part = text_.substr(0, most);
    text_.remove_prefix(part.size());
    return part;
  }
  std::string_view Rest() { return Text(text_.size()); }
  size_t left() const { return text_.size(); }

  // Mostly a small number, else one at an edge, else any.
  int64_t Integer() {
    static constexpr int64_t kEdges[] = {-1, 0, 1, 255, 256, 65535, 65536, INT32_MAX, int64_t{INT32_MAX} + 1, int64_t{1} << 40, INT64_MAX, INT64_MIN};
    const uint8_t kind = Byte();
    if (kind < 192) return Byte();
    return kind < 240 ? kEdges[Below(std::size(kEdges))] : Value<int64_t>();
  }
  double Number() {
    static constexpr double kEdges[] = {0, -0.0, 1, -1, 0.5, 1e-300, 1e300, 1e-9, 16000, 22050, HUGE_VAL, -HUGE_VAL, __builtin_nan("")};
    const uint8_t kind = Byte();
    if (kind < 128) return Byte() / 16.0;
    return kind < 224 ? kEdges[Below(std::size(kEdges))] : Value<double>();
  }

 private:
  std::string_view text_;
};

// A refusal says why.
inline void Refused(const zoo::Status& status) {
  REQUIRE(!status.ok() && !status.message().empty(), "a refusal without a reason");
  REQUIRE(status.code() != zoo::StatusCode::kInternal, "%s", status.message().c_str());
}

}  // namespace

#endif  // ZOO_TESTS_FUZZ_H_
