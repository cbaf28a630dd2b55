// SPDX-License-Identifier: Apache-2.0
#include "bundle/npz.h"

#include <charconv>
#include <cstring>
#include <utility>

namespace zoo {
namespace {

constexpr uint64_t kMaxArrayBytes = 256u << 20;

// The text between `open` and `close` that follows `'key':` in a header.
bool Field(std::string_view header, std::string_view key, char open, char close, std::string_view* out) {
  const size_t at = header.find("'" + std::string(key) + "':");
  if (at == std::string_view::npos) return false;
  const size_t begin = header.find(open, at + key.size() + 3), end = begin == std::string_view::npos ? begin : header.find(close, begin + 1);
  if (end == std::string_view::npos) return false;
  *out = header.substr(begin + 1, end - begin - 1);
  return true;
}

bool Shape(std::string_view text, std::vector<int64_t>* out) {
  int64_t count = 1;
  for (size_t at = 0; at < text.size();) {
    if (text[at] == ' ' || text[at] == ',') {
      ++at;
      continue;
    }
    int64_t dim = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), dim);
    if (error != std::errc() || dim < 0 || dim > (int64_t{1} << 30) || out->size() == 8) return false;
    if (__builtin_mul_overflow(count, dim, &count)) return false;
    out->push_back(dim);
    at = static_cast<size_t>(end - text.data());
  }
  return true;
}

}  // namespace

int64_t NpyArray::count() const {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

Result<Npz> Npz::Open(std::string_view bytes) {
  auto reader = ZipReader::Open(bytes, false);
  if (!reader.ok()) return reader.status();
  return Npz(std::move(reader.value()));
}

Result<NpyArray> Npz::Read(const std::string& name) {
  auto content = reader_.Extract(name + ".npy", kMaxArrayBytes);
  if (!content.ok()) return content.status();
  std::string& bytes = content.value();
  const Status wrong = InvalidBundle(name + " is not an array of numbers in C order");
  if (bytes.size() < 12 || bytes.compare(0, 6, "\x93NUMPY", 6) != 0) return wrong;
  const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(bytes[i])); };
  const size_t version = byte(6), start = version == 1 ? 10 : 12;
  const size_t length = version == 1 ? byte(8) | byte(9) << 8 : byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  if (version < 1 || version > 3 || length > bytes.size() - start) return wrong;
  const std::string_view header = std::string_view(bytes).substr(start, length);
  std::string_view type, shape;
  NpyArray array;
  if (!Field(header, "descr", '\'', '\'', &type) || !Field(header, "shape", '(', ')', &shape) || !Shape(shape, &array.shape) ||
      header.find("'fortran_order': False") == std::string_view::npos || type.size() != 3 || std::strchr("fiub", type[1]) == nullptr) {
    return wrong;
  }
  array.type = std::string(type);
  const size_t item = static_cast<size_t>(type[2] - '0');
  if (item < 1 || item > 8 || type[0] == '>') return wrong;
  bytes.erase(0, start + length);
  if (bytes.size() % item != 0 || static_cast<uint64_t>(array.count()) != bytes.size() / item) return wrong;
  array.bytes = std::move(bytes);
  return array;
}

}  // namespace zoo
