// SPDX-License-Identifier: Apache-2.0
// NumPy's archives of arrays (format 1 to 3, C order, no objects).
#ifndef ZOO_BUNDLE_NPZ_H_
#define ZOO_BUNDLE_NPZ_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bundle/zip.h"
#include "zoo/status.h"

namespace zoo {

struct NpyArray {
  std::string type;  // as NumPy says it: "<f4", "<i2", "|u1"
  std::vector<int64_t> shape;
  std::string bytes;
  int64_t count() const;
};

class Npz {
 public:
  // bytes: stay where they are as long as this is used
  static Result<Npz> Open(std::string_view bytes);
  Result<NpyArray> Read(const std::string& name);

 private:
  explicit Npz(ZipReader reader) : reader_(std::move(reader)) {}
  ZipReader reader_;
};

}  // namespace zoo

#endif  // ZOO_BUNDLE_NPZ_H_
