// SPDX-License-Identifier: Apache-2.0
// A hash table from byte strings to int32, filled once. Its hash goes byte by byte, so that all beginnings of a string can
// be looked up in one pass over it.
#ifndef ZOO_TEXT_BYTE_TABLE_H_
#define ZOO_TEXT_BYTE_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zoo::text {

class ByteTable {
 public:
  static constexpr uint64_t kSeed = 0xcbf29ce484222325u;  // FNV-1a
  static uint64_t Add(uint64_t hash, unsigned char byte) noexcept { return (hash ^ byte) * 0x100000001b3u; }
  static uint64_t Hash(std::string_view key) noexcept {
    uint64_t h = kSeed;
    for (char c : key) h = Add(h, static_cast<unsigned char>(c));
    return h;
  }

  int32_t size() const noexcept { return static_cast<int32_t>(entries_.size()); }
  std::string_view key(int32_t i) const noexcept {
    const Entry& e = entries_[static_cast<size_t>(i)];
    return std::string_view(bytes_.data() + e.first, e.size);
  }

  // Index of the key (0, 1, ... in the order of insertion), and whether it is new.
  std::pair<int32_t, bool> Insert(std::string_view key) {
    const uint64_t hash = Hash(key);
    const int32_t found = Find(key, hash);
    if (found >= 0) return {found, false};
    if (slots_.size() < 2 * (entries_.size() + 1)) Rehash();
    entries_.push_back({hash, bytes_.size(), key.size()});
    bytes_.append(key);
    Place(size() - 1);
    return {size() - 1, true};
  }
  // Index of the key, or -1.
  int32_t Find(std::string_view key) const noexcept { return Find(key, Hash(key)); }
  int32_t Find(std::string_view key, uint64_t hash) const noexcept {
    if (slots_.empty()) return -1;
    for (size_t s = Slot(hash);; s = (s + 1) & (slots_.size() - 1)) {
      const int32_t i = slots_[s];
      if (i < 0) return -1;
      if (entries_[static_cast<size_t>(i)].hash == hash && this->key(i) == key) return i;
    }
  }

 private:
  struct Entry {
    uint64_t hash;
    size_t first, size;
  };
  // FNV's low bits are its good ones, but similar words differ little in them
  size_t Slot(uint64_t hash) const noexcept { return static_cast<size_t>(hash ^ hash >> 29) & (slots_.size() - 1); }
  void Place(int32_t i) {
    size_t s = Slot(entries_[static_cast<size_t>(i)].hash);
    while (slots_[s] >= 0) s = (s + 1) & (slots_.size() - 1);
    slots_[s] = i;
  }
  void Rehash() {
    slots_.assign(slots_.empty() ? 16 : slots_.size() * 2, -1);
    for (int32_t i = 0; i < size(); ++i) Place(i);
  }

  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<int32_t> slots_;  // a power of 2, at most half of them taken; -1: free
};

}  // namespace zoo::text

#endif  // ZOO_TEXT_BYTE_TABLE_H_
