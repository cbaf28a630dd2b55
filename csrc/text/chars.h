// SPDX-License-Identifier: Apache-2.0
// Code points: their classes (as Python's `re` and `str` see them), lower case, UTF-8.
#ifndef ZOO_TEXT_CHARS_H_
#define ZOO_TEXT_CHARS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zoo::text {

// As make_tables.py writes them.
enum : uint8_t {
  kWord = 1,       // \w: letters and numbers of any script, _
  kDigit = 2,      // \d: decimal digits of any script
  kSpace = 4,      // \s
  kLower = 8,      // lower case
  kUpper = 16,     // upper or title case
  kIgnorable = 32,     // looked past by the rule for the final sigma
  kEmoji = 64,         // an emoji by itself
  kEmojiVariant = 128  // the same, with a variation selector that may follow
};

constexpr char32_t kEnd = 0x110000;   // stands behind the last character: white space that is no character
constexpr size_t kPadding = 8;        // so many kEnd follow every text
constexpr char32_t kReplacement = 0xFFFD;

class Classes {
 public:
  static const Classes& Get();  // built at the first call
  uint8_t operator[](char32_t c) const noexcept { return flags_[static_cast<size_t>(page_[c >> 8]) << 8 | (c & 255)]; }

 private:
  Classes();
  uint16_t page_[(kEnd >> 8) + 1];
  std::vector<uint8_t> flags_;  // distinct pages
};

inline bool IsAsciiDigit(char32_t c) { return c >= '0' && c <= '9'; }
inline bool IsAsciiLower(char32_t c) { return c >= 'a' && c <= 'z'; }
inline bool IsAsciiUpper(char32_t c) { return c >= 'A' && c <= 'Z'; }
inline bool IsAsciiLetter(char32_t c) { return IsAsciiLower(c | 32) && c < 128; }
inline char32_t AsciiLower(char32_t c) { return IsAsciiUpper(c) ? c + 32 : c; }

// Lower case of one character, where that is one character.
char32_t Lower(char32_t c) noexcept;

// The next character of UTF-8; every ill-formed part (as Unicode divides them) is one U+FFFD. *i moves on by at least 1.
char32_t Decode(std::string_view utf8, size_t* i) noexcept;

void Encode(char32_t c, std::string* utf8);

// Appends the lower case of text[begin, end), with the one letter that grows and the final sigma.
void EncodeLower(const Classes& classes, const char32_t* text, size_t begin, size_t end, std::string* utf8);

}  // namespace zoo::text

#endif  // ZOO_TEXT_CHARS_H_
