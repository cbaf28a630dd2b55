// SPDX-License-Identifier: Apache-2.0
// Bundles made in memory, for tests that damage them.
#ifndef ZOO_TESTS_MAKE_BUNDLE_H_
#define ZOO_TESTS_MAKE_BUNDLE_H_

#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bundle/sha256.h"

namespace {

using Files = std::vector<std::pair<std::string, std::string>>;

inline void Put(std::string* s, uint64_t v, int bytes) {
  for (int i = 0; i < bytes; ++i) s->push_back(static_cast<char>(v >> (8 * i)));
}

// A zip that stores plainly.
inline std::string Zip(const Files& files) {
  std::string out, directory;
  for (const auto& [name, content] : files) {
    const uint64_t at = out.size(), crc = crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size()));
    std::string common;
    Put(&common, 20, 2), Put(&common, 0, 2), Put(&common, 0, 2), Put(&common, 0x00210000, 4), Put(&common, crc, 4);
    Put(&common, content.size(), 4), Put(&common, content.size(), 4), Put(&common, name.size(), 2), Put(&common, 0, 2);
    out += "PK\x03\x04" + common + name + content;
    directory += "PK\x01\x02";
    Put(&directory, 20, 2);
    directory += common;
    Put(&directory, 0, 2), Put(&directory, 0, 2), Put(&directory, 0, 2), Put(&directory, 0, 4), Put(&directory, at, 4);
    directory += name;
  }
  const uint64_t at = out.size();
  out += directory + "PK\x05\x06";
  Put(&out, 0, 4), Put(&out, files.size(), 2), Put(&out, files.size(), 2), Put(&out, directory.size(), 4), Put(&out, at, 4), Put(&out, 0, 2);
  return out;
}

// Exactly these bytes on the heap, none behind them.
struct Exact {
  explicit Exact(const std::string& s) : data(new char[s.size()]), size(s.size()) { std::memcpy(data.get(), s.data(), size); }
  std::unique_ptr<char[]> data;
  size_t size;
};

// A manifest whose digest is right.
inline std::string Sealed(std::string text, const std::string& digest) {
  const size_t at = text.find("\"digest\": \"" + digest);
  if (at == std::string::npos) return text;
  text.replace(at + 11, 64, std::string(64, '0'));
  return text.replace(at + 11, 64, zoo::Sha256Hex(text));
}

}  // namespace

#endif  // ZOO_TESTS_MAKE_BUNDLE_H_
