// SPDX-License-Identifier: Apache-2.0
#include "text/chars.h"

#include <algorithm>
#include <array>
#include <map>

#include "text/tables.h"

namespace zoo::text {

Classes::Classes() {
  using Page = std::array<uint8_t, 256>;
  std::map<Page, uint16_t> known;
  Page page;
  size_t b = 0;
  uint8_t now = 0;
  for (uint32_t first = 0; first <= kEnd; first += 256) {
    for (uint32_t i = 0; i < 256; ++i) {
      if (b < kBoundaryCount && (kBoundaries[b] & 0x1FFFFF) == first + i) now = static_cast<uint8_t>(kBoundaries[b++] >> 21);
      page[i] = first < kEnd ? now : static_cast<uint8_t>(kSpace);
    }
    const auto [at, fresh] = known.emplace(page, static_cast<uint16_t>(known.size()));
    if (fresh) flags_.insert(flags_.end(), page.begin(), page.end());
    page_[first >> 8] = at->second;
  }
}

const Classes& Classes::Get() {
  static const Classes classes;
  return classes;
}

char32_t Lower(char32_t c) noexcept {
  if (c < 128) return AsciiLower(c);
  const LowerRun* end = kLowerRuns + kLowerRunCount;
  const LowerRun* run = std::upper_bound(kLowerRuns, end, c, [](char32_t v, const LowerRun& r) { return v < r.first; });
  if (run == kLowerRuns) return c;
  --run;
  const bool inside = c <= run->last && (c - run->first) % static_cast<uint32_t>(run->step) == 0;
  return inside ? static_cast<char32_t>(static_cast<int32_t>(c) + run->delta) : c;
}

char32_t Decode(std::string_view utf8, size_t* i) noexcept {
  const size_t n = utf8.size();
  const auto at = [&](size_t k) { return static_cast<unsigned char>(utf8[k]); };
  const unsigned char lead = at((*i)++);
  if (lead < 0x80) return lead;
  if (lead < 0xC2 || lead > 0xF4) return kReplacement;
  const int more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  char32_t c = lead & (0x3F >> more);
  // the second byte rules out overlong forms, surrogates and what lies beyond Unicode
  unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (int k = 0; k < more; ++k) {
    if (*i >= n || at(*i) < low || at(*i) > high) return kReplacement;
    c = c << 6 | (at((*i)++) & 0x3Fu);
    low = 0x80, high = 0xBF;
  }
  return c;
}

void Encode(char32_t c, std::string* utf8) {
  const auto put = [utf8](char32_t byte) { utf8->push_back(static_cast<char>(byte)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  if (c < 0x10000) return put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
}

void EncodeLower(const Classes& classes, const char32_t* text, size_t begin, size_t end, std::string* utf8) {
  const auto cased = [&](size_t i) { return (classes[text[i]] & (kLower | kUpper)) != 0; };
  bool letter_before = false;  // the nearest character before i that is not ignorable is cased
  for (size_t i = begin; i < end; ++i) {
    const char32_t c = text[i];
    if (c < 128) {
      utf8->push_back(static_cast<char>(AsciiLower(c)));
    } else if (c == 0x130) {
      utf8->append("i\xCC\x87");
    } else if (c == 0x3A3) {
      // A sigma is final when a letter stands before it and none after it; marks between do not count.
      size_t k = i + 1;
      while (k < end && (classes[text[k]] & kIgnorable)) ++k;
      Encode(letter_before && !(k < end && cased(k)) ? 0x3C2 : 0x3C3, utf8);
      // so that a text of sigmas and marks stays linear, what was looked past is written at once
      letter_before = true;
      for (; i + 1 < k; ++i) Encode(Lower(text[i + 1]), utf8);
      continue;
    } else {
      Encode(Lower(c), utf8);
    }
    if (!(classes[c] & kIgnorable)) letter_before = cased(i);
  }
}

}  // namespace zoo::text
