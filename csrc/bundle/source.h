// SPDX-License-Identifier: Apache-2.0
// Where a bundle's files come from: a directory, or a .zoo file (a zip that stores plainly) mapped or given in memory.
#ifndef ZOO_BUNDLE_SOURCE_H_
#define ZOO_BUNDLE_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "zoo/status.h"

namespace zoo {

class BundleSource {
 public:
  virtual ~BundleSource() = default;
  // Content of one file, which must not be larger than `limit`; the memory lives as long as this object.
  virtual Result<std::string_view> Read(const std::string& name, uint64_t limit) = 0;
};

// A .zoo file is mapped and must not change while it is open. Symbolic links inside a directory are refused.
Result<std::unique_ptr<BundleSource>> OpenSource(const std::string& path);

// The bytes of a .zoo file, which the caller keeps. `where` names them in messages.
Result<std::unique_ptr<BundleSource>> OpenSource(std::string_view bytes, const std::string& where);

}  // namespace zoo

#endif  // ZOO_BUNDLE_SOURCE_H_
