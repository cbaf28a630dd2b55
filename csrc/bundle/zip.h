// SPDX-License-Identifier: Apache-2.0
// Zip archives that lie in memory, read by minizip.
#ifndef ZOO_BUNDLE_ZIP_H_
#define ZOO_BUNDLE_ZIP_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "zoo/status.h"

namespace zoo {

class ZipReader {
 public:
  // bytes: stay where they are as long as the reader is used. A name that comes twice or is longer than 255 bytes, a symbolic
  // link, encryption and more than 4000 entries are errors. With `stored`, compression is one too.
  static Result<ZipReader> Open(std::string_view bytes, bool stored);
  ZipReader(ZipReader&&) noexcept;
  ~ZipReader();

  bool Has(const std::string& name) const;
  uint64_t Size(const std::string& name) const;  // 0 for one that is not there
  // Of a stored entry: where it lies in the archive, its checksum verified.
  Result<std::string_view> View(const std::string& name);
  // Of any entry; an error when it has more than `limit` bytes. Memory grows with what is really there.
  Result<std::string> Extract(const std::string& name, uint64_t limit);

 private:
  struct Impl;
  explicit ZipReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_BUNDLE_ZIP_H_
