// SPDX-License-Identifier: Apache-2.0
// The expressions of social text that ekphrasis finds with regular expressions, each as a hand-written matcher. A matcher
// returns where the match that begins at i ends, or 0; it sees what lies before i, as a look-behind does. Runs of like
// characters are measured once (Run), so that a whole text costs time linear in its length, whatever it holds.
#ifndef ZOO_TEXT_PATTERNS_H_
#define ZOO_TEXT_PATTERNS_H_

#include "text/chars.h"

namespace zoo::text {

class Patterns {
 public:
  explicit Patterns(const Classes& classes) : classes_(classes) {}
  // text: size characters and kPadding times kEnd.
  void Reset(const char32_t* text, size_t size) noexcept;

  size_t Url(size_t i) noexcept;
  size_t Tag(size_t i) noexcept;      // <word> </word> <word/>
  size_t Email(size_t i) noexcept;
  size_t User(size_t i) noexcept;     // @name
  size_t Hashtag(size_t i) noexcept;
  size_t Cashtag(size_t i) noexcept;  // $ABC
  size_t Phone(size_t i) noexcept;
  size_t Percent(size_t i) noexcept;
  size_t Money(size_t i) noexcept;
  size_t Date(size_t i) noexcept;
  size_t Time(size_t i) noexcept;
  size_t Acronym(size_t i) noexcept;  // U.S.A.
  size_t LeftFace(size_t i) noexcept;   // :-)
  size_t RightFace(size_t i) noexcept;  // (-:
  size_t Censored(size_t i) noexcept;   // f**k
  size_t Emphasis(size_t i) noexcept;   // *word*
  size_t Heart(size_t i) noexcept;      // <3 and ^5
  size_t Number(size_t i) noexcept;
  size_t Emoji(size_t i) noexcept;
  size_t Word(size_t i) noexcept;
  size_t EasternFace(size_t i) noexcept;  // (^_^); its first character is no letter
  size_t Allcaps(size_t i) noexcept;      // a run of words in capitals, 3 characters or more
  size_t Elongated(size_t i) noexcept;    // a word of ASCII letters, one of them three times in a row
  size_t Repeated(size_t i) noexcept;     // !?. twice or more

  bool IsWord(size_t i) const noexcept { return (classes_[t_[i]] & kWord) != 0; }
  bool IsSpace(size_t i) const noexcept { return (classes_[t_[i]] & kSpace) != 0; }
  bool WordBefore(size_t i) const noexcept { return i > 0 && IsWord(i - 1); }

 private:
  // Characters [begin, end) that are known to be of one kind.
  struct Run {
    size_t begin = 0, end = 0;
  };
  template <class Kind>
  size_t EndOf(Run* run, size_t i, Kind kind) const noexcept {
    if (i >= run->begin && i < run->end) return run->end;
    size_t e = i;
    while (kind(t_[e])) ++e;
    *run = {i, e};
    return e;
  }
  bool Is(size_t i, const char* ascii) const noexcept {
    for (; *ascii != '\0'; ++ascii, ++i) {
      if (t_[i] != static_cast<char32_t>(*ascii)) return false;
    }
    return true;
  }
  // One of the ASCII characters of `set`.
  bool In(size_t i, const char* set) const noexcept { return OneOf(t_[i], set); }
  static bool OneOf(char32_t c, const char* set) noexcept {
    for (; *set != '\0'; ++set) {
      if (c == static_cast<char32_t>(*set)) return true;
    }
    return false;
  }
  char32_t Before(size_t i) const noexcept { return i > 0 ? t_[i - 1] : kEnd; }
  bool IsDigit(size_t i) const noexcept { return (classes_[t_[i]] & kDigit) != 0; }
  bool DigitBefore(size_t i) const noexcept { return i > 0 && IsDigit(i - 1); }
  size_t Digits(Run* run, size_t i) const noexcept {
    return EndOf(run, i, [this](char32_t c) { return (classes_[c] & kDigit) != 0; });
  }
  // Of digits that end at e: the end of `.5`, `,5` or `'5`, or 0.
  size_t Fraction(size_t e) noexcept { return In(e, ".,'") && IsDigit(e + 1) ? Digits(&fraction_, e + 1) : 0; }
  int CountDigits(size_t i, int most) const noexcept;
  bool IsCurrency(size_t i) const noexcept { return In(i, "$") || t_[i] == 0x20AC || t_[i] == 0xA3 || t_[i] == 0xA2; }
  bool IsFaceBracket(size_t i) const noexcept { return In(i, "(){}[]<>|/\\"); }
  bool IsFaceDash(size_t i) const noexcept { return In(i, "-^") || t_[i] == 0x2011; }
  size_t HalfDay(size_t i) const noexcept;
  size_t Month(size_t i) const noexcept;
  size_t DatePrefix(size_t i) const noexcept;
  size_t DateSuffix(size_t i) const noexcept;
  size_t DateTail(size_t i) const noexcept;
  size_t ShortDate(size_t i) const noexcept;
  size_t Domain(size_t i) const noexcept;
  size_t LeftFaceEyes(size_t i) noexcept;
  size_t LeftFaceMouth(size_t i) noexcept;
  size_t RightFaceTail(size_t i) const noexcept;
  size_t EasternHug(size_t i) const noexcept;

  const Classes& classes_;
  const char32_t* t_ = nullptr;
  size_t n_ = 0;
  Run solid_, dotless_, digits_, fraction_, word_, brackets_, mailbox_;
  size_t domain_at_ = 0, domain_end_ = 0;  // the last domain looked for: behind the @ at domain_at_ - 1, and its end or 0
  size_t no_right_face_ = 0;               // a run of brackets up to here begins no face
  size_t no_clock_ = 0;                    // digits up to here are not followed by am or pm
  size_t no_caps_ = 0;                     // capitals up to here are no run of 3
};

}  // namespace zoo::text

#endif  // ZOO_TEXT_PATTERNS_H_
