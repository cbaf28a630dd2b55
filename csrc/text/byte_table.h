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

// A set of hashes that may hold more than was put in: a bit for each of 16 times as many as there are to be.
class HashBits {
 public:
  void Reserve(size_t count) {
    size_t words = 1;
    while (words * 64 < count * 16) words *= 2;
    bits_.assign(words, 0);
  }
  void Add(uint64_t hash) noexcept { bits_[Word(hash)] |= uint64_t{1} << (hash >> 58); }
  bool MayHave(uint64_t hash) const noexcept { return bits_[Word(hash)] >> (hash >> 58) & 1; }

 private:
  size_t Word(uint64_t hash) const noexcept { return static_cast<size_t>(hash ^ hash >> 29) & (bits_.size() - 1); }
  std::vector<uint64_t> bits_;
};

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
    for (size_t s = First(hash);; s = (s + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[s];
      if (slot.index < 0) return -1;
      if (slot.tag == static_cast<uint32_t>(hash) && this->key(slot.index) == key) return slot.index;
    }
  }

 private:
  struct Entry {
    uint64_t hash;
    size_t first, size;
  };
  struct Slot {
    uint32_t tag = 0;  // of the hash, so that others seldom cost a look at their bytes
    int32_t index = -1;  // -1: free
  };
  // FNV's low bits are its good ones, but similar words differ little in them
  size_t First(uint64_t hash) const noexcept { return static_cast<size_t>(hash ^ hash >> 29) & (slots_.size() - 1); }
  void Place(int32_t i) {
    const uint64_t hash = entries_[static_cast<size_t>(i)].hash;
    size_t s = First(hash);
    while (slots_[s].index >= 0) s = (s + 1) & (slots_.size() - 1);
    slots_[s] = {static_cast<uint32_t>(hash), i};
  }
  void Rehash() {
    slots_.assign(slots_.empty() ? 16 : slots_.size() * 2, Slot{});
    for (int32_t i = 0; i < size(); ++i) Place(i);
  }

  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;  // a power of 2, at most half of them taken
};

}  // namespace zoo::text

#endif  // ZOO_TEXT_BYTE_TABLE_H_
