// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4).
#ifndef ZOO_BUNDLE_SHA256_H_
#define ZOO_BUNDLE_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace zoo {

class Sha256 {
 public:
  void Update(std::string_view bytes) noexcept;
  std::string HexDigest();  // 64 lower-case digits; once, at the end

 private:
  void Block(const unsigned char* p) noexcept;

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> tail_{};
  uint64_t size_ = 0;
};

inline std::string Sha256Hex(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.HexDigest();
}

}  // namespace zoo

#endif  // ZOO_BUNDLE_SHA256_H_
