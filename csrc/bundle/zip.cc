// SPDX-License-Identifier: Apache-2.0
#include "bundle/zip.h"

#include <minizip/unzip.h>
#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace zoo {
namespace {

constexpr uint64_t kMaxEntries = 4000;
constexpr size_t kMaxName = 255;

// minizip's view of memory.
struct Cursor {
  std::string_view bytes;
  uint64_t at = 0;
};

voidpf OpenCursor(voidpf opaque, const void*, int) { return opaque; }
uLong ReadCursor(voidpf, voidpf stream, void* to, uLong size) {
  Cursor& c = *static_cast<Cursor*>(stream);
  const uint64_t left = c.at < c.bytes.size() ? c.bytes.size() - c.at : 0, take = std::min<uint64_t>(size, left);
  if (take > 0) std::memcpy(to, c.bytes.data() + c.at, take);
  c.at += take;
  return take;
}
uLong WriteCursor(voidpf, voidpf, const void*, uLong) { return 0; }
ZPOS64_T TellCursor(voidpf, voidpf stream) { return static_cast<Cursor*>(stream)->at; }
long SeekCursor(voidpf, voidpf stream, ZPOS64_T offset, int origin) {
  Cursor& c = *static_cast<Cursor*>(stream);
  const uint64_t from = origin == ZLIB_FILEFUNC_SEEK_CUR ? c.at : origin == ZLIB_FILEFUNC_SEEK_END ? c.bytes.size() : 0;
  const uint64_t to = from + offset;
  if (to < from || to > c.bytes.size()) return -1;
  c.at = to;
  return 0;
}
int CloseCursor(voidpf, voidpf) { return 0; }
int NoError(voidpf, voidpf) { return 0; }

struct Entry {
  unz64_file_pos place{};
  uint64_t size = 0, stored = 0;
  bool compressed = false;
  uLong crc = 0;
};

}  // namespace

struct ZipReader::Impl {
  Cursor cursor;
  unzFile file = nullptr;
  std::map<std::string, Entry> entries;
  ~Impl() {
    if (file != nullptr) unzClose(file);
  }
};

ZipReader::ZipReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZipReader::ZipReader(ZipReader&&) noexcept = default;
ZipReader::~ZipReader() = default;

Result<ZipReader> ZipReader::Open(std::string_view bytes, bool stored) {
  auto impl = std::make_unique<Impl>();
  impl->cursor.bytes = bytes;
  zlib_filefunc64_def io{OpenCursor, ReadCursor, WriteCursor, TellCursor, SeekCursor, CloseCursor, NoError, &impl->cursor};
  impl->file = unzOpen2_64("", &io);
  if (impl->file == nullptr) return InvalidBundle("it is no zip file");
  unz_global_info64 global;
  if (unzGetGlobalInfo64(impl->file, &global) != UNZ_OK || global.number_entry > kMaxEntries) {
    return InvalidBundle("it has more than " + std::to_string(kMaxEntries) + " entries");
  }
  int at = global.number_entry == 0 ? UNZ_END_OF_LIST_OF_FILE : unzGoToFirstFile(impl->file);
  for (uint64_t i = 0; i < global.number_entry; ++i) {
    unz_file_info64 info;
    char text[kMaxName + 1] = {};
    if (at != UNZ_OK || unzGetCurrentFileInfo64(impl->file, &info, text, sizeof(text), nullptr, 0, nullptr, 0) != UNZ_OK) {
      return InvalidBundle("its directory is damaged");
    }
    if (info.size_filename > kMaxName) return InvalidBundle("it holds a name of " + std::to_string(info.size_filename) + " bytes");
    const std::string name(text, info.size_filename);
    Entry entry;
    entry.size = info.uncompressed_size, entry.stored = info.compressed_size;
    entry.compressed = info.compression_method != 0;
    entry.crc = info.crc;
    if ((info.flag & 1) != 0 || (stored && (entry.compressed || entry.size != entry.stored))) {
      return InvalidBundle(name + " is compressed or encrypted; a .zoo file stores plainly");
    }
    if (S_ISLNK(info.external_fa >> 16)) return InvalidBundle(name + " is a symbolic link, which a bundle must not hold");
    if (unzGetFilePos64(impl->file, &entry.place) != UNZ_OK) return InvalidBundle("its directory is damaged");
    if (!impl->entries.emplace(name, entry).second) return InvalidBundle("it holds the name " + name + " twice");
    at = unzGoToNextFile(impl->file);
  }
  return ZipReader(std::move(impl));
}

bool ZipReader::Has(const std::string& name) const { return impl_->entries.count(name) != 0; }

uint64_t ZipReader::Size(const std::string& name) const {
  const auto found = impl_->entries.find(name);
  return found == impl_->entries.end() ? 0 : found->second.size;
}

Result<std::string_view> ZipReader::View(const std::string& name) {
  const auto found = impl_->entries.find(name);
  if (found == impl_->entries.end()) return InvalidBundle(name + " is missing; this is not a whole bundle");
  Entry& entry = found->second;
  const Status damaged = InvalidBundle(name + " is damaged");
  if (unzGoToFilePos64(impl_->file, &entry.place) != UNZ_OK || unzOpenCurrentFile(impl_->file) != UNZ_OK) return damaged;
  const uint64_t start = unzGetCurrentFileZStreamPos64(impl_->file);
  unzCloseCurrentFile(impl_->file);
  const std::string_view all = impl_->cursor.bytes;
  if (start > all.size() || entry.stored > all.size() - start) return damaged;
  const std::string_view content = all.substr(start, entry.stored);
  uLong crc = 0;
  for (size_t at = 0; at < content.size();) {
    const uInt part = static_cast<uInt>(std::min<size_t>(content.size() - at, 1u << 30));
    crc = crc32(crc, reinterpret_cast<const Bytef*>(content.data()) + at, part);
    at += part;
  }
  if (crc != entry.crc) return damaged;
  return content;
}

Result<std::string> ZipReader::Extract(const std::string& name, uint64_t limit) {
  const auto found = impl_->entries.find(name);
  if (found == impl_->entries.end()) return InvalidBundle("array '" + name + "' is missing");
  if (found->second.size > limit) return InvalidBundle(name + " has more than " + std::to_string(limit) + " bytes");
  if (unzGoToFilePos64(impl_->file, &found->second.place) != UNZ_OK || unzOpenCurrentFile(impl_->file) != UNZ_OK) return InvalidBundle(name + " is damaged");
  std::string content;
  char part[16384];
  int got = 0;
  while ((got = unzReadCurrentFile(impl_->file, part, sizeof(part))) > 0 && content.size() <= limit) content.append(part, static_cast<size_t>(got));
  const bool ended = unzCloseCurrentFile(impl_->file) == UNZ_OK;  // false when the checksum differs
  if (got != 0 || !ended || content.size() != found->second.size) return InvalidBundle(name + " is damaged");
  return content;
}

}  // namespace zoo
