// SPDX-License-Identifier: Apache-2.0
// Where an expression allows several divisions of the same characters, the comments say why one is enough to look at.
#include "text/patterns.h"

namespace zoo::text {

void Patterns::Reset(const char32_t* text, size_t size) noexcept {
  t_ = text, n_ = size;
  solid_ = dotless_ = digits_ = fraction_ = word_ = brackets_ = mailbox_ = {};
  domain_at_ = domain_end_ = no_right_face_ = no_clock_ = no_caps_ = 0;
}

int Patterns::CountDigits(size_t i, int most) const noexcept {
  int n = 0;
  while (n < most && IsDigit(i + static_cast<size_t>(n))) ++n;
  return n;
}

// ------------------------------------------------------------------------------------------------------ names and links

size_t Patterns::Word(size_t i) noexcept {
  const size_t e = EndOf(&word_, i, [this](char32_t c) { return (classes_[c] & kWord) != 0; });
  return e > i ? e : 0;
}

// http(s):// , perhaps www. , a name, a dot and at least two characters; or www. , a name, a dot and two. It takes all up
// to the next space.
size_t Patterns::Url(size_t i) noexcept {
  const auto solid = [this](char32_t c) { return !(classes_[c] & kSpace); };
  if (Is(i, "http")) {
    size_t p = i + 4;
    if (In(p, "s")) ++p;
    if (!Is(p, "://")) return 0;
    p += 3;
    if (Is(p, "www")) {
      if (!In(p + 3, ".")) return 0;
      p += 4;
    }
    const size_t dot = EndOf(&dotless_, p, [&](char32_t c) { return solid(c) && c != '.'; });
    if (dot == p || !In(dot, ".")) return 0;
    const size_t end = EndOf(&solid_, dot + 1, solid);
    return end >= dot + 3 ? end : 0;
  }
  if (!Is(i, "www.")) return 0;
  const size_t end = EndOf(&solid_, i + 4, solid);
  for (size_t dot = i + 5; dot + 3 <= end; ++dot) {
    if (In(dot, ".")) return end;
  }
  return 0;
}

size_t Patterns::Tag(size_t i) noexcept {
  if (!In(i, "<")) return 0;
  size_t p = i + 1;
  if (In(p, "/")) ++p;
  p = Word(p);
  if (p == 0) return 0;
  if (In(p, "/")) ++p;
  return In(p, ">") ? p + 1 : 0;
}

// What follows the @: words joined by single hyphens, then one to three endings of lower-case letters. Only the end of the last
// ending must be a word's end.
size_t Patterns::Domain(size_t i) const noexcept {
  size_t p = i;
  if (!IsWord(p)) return 0;
  for (;;) {
    while (IsWord(p)) ++p;
    if (!In(p, "-") || !IsWord(p + 1)) break;
    ++p;
  }
  size_t end = 0;
  for (int k = 0; k < 3 && In(p, "."); ++k) {
    size_t q = p + 1;
    while (IsAsciiLower(t_[q])) ++q;
    if (q - p < 3 || IsWord(q)) break;
    end = p = q;
  }
  return end;
}

size_t Patterns::Email(size_t i) noexcept {
  if (i > 0 && (IsWord(i - 1) || OneOf(t_[i - 1], "@.)"))) return 0;
  const auto local = [this](size_t k) { return IsWord(k) || In(k, "+-"); };
  if (!local(i)) return 0;
  // Names joined by single dots: from every letter in them the same end.
  if (!(i >= mailbox_.begin && i < mailbox_.end)) {
    size_t e = i;
    for (;;) {
      while (local(e)) ++e;
      if (!In(e, ".") || !local(e + 1)) break;
      ++e;
    }
    mailbox_ = {i, e};
  }
  const size_t at = mailbox_.end;
  if (!In(at, "@")) return 0;
  if (domain_at_ != at + 1) domain_at_ = at + 1, domain_end_ = Domain(at + 1);
  return domain_end_;
}

size_t Patterns::User(size_t i) noexcept { return In(i, "@") ? Word(i + 1) : 0; }

// Word characters and hyphens, the last one no hyphen.
size_t Patterns::Hashtag(size_t i) noexcept {
  if (!In(i, "#") || !IsWord(i + 1)) return 0;
  size_t e = i + 1;
  while (IsWord(e) || In(e, "-")) ++e;
  while (In(e - 1, "-")) --e;
  return e;
}

size_t Patterns::Cashtag(size_t i) noexcept {
  if (!In(i, "$") || IsAsciiUpper(Before(i))) return 0;
  size_t e = i + 1;
  while (IsAsciiUpper(t_[e])) ++e;
  return e > i + 1 && !IsWord(e) ? e : 0;
}

// -------------------------------------------------------------------------------------------------------------- numbers

size_t Patterns::Phone(size_t i) noexcept {
  if (IsAsciiDigit(Before(i))) return 0;
  size_t p = i;
  const auto digits = [&](int count) {
    if (CountDigits(p, count) < count) return false;
    p += static_cast<size_t>(count);
    return true;
  };
  const auto gap = [&] {
    if (IsSpace(p) || In(p, ".-")) ++p;
  };
  if (In(p, "+")) {
    ++p;
    if (!digits(1)) return 0;
    if (IsDigit(p)) ++p;
    if (!IsSpace(p)) return 0;
    ++p;
  }
  if (In(p, "(")) ++p;
  if (!digits(3)) return 0;
  if (In(p, ")")) ++p;
  gap();
  if (!digits(3)) return 0;
  gap();
  return digits(4) && !IsAsciiDigit(t_[p]) ? p : 0;
}

size_t Patterns::Number(size_t i) noexcept {
  if (!IsDigit(i) || WordBefore(i)) return 0;
  const size_t e = Digits(&digits_, i), f = Fraction(e);
  if (f != 0 && !IsWord(f)) return f;
  return IsWord(e) ? 0 : e;
}

size_t Patterns::Percent(size_t i) noexcept {
  if (!IsDigit(i) || WordBefore(i)) return 0;
  const size_t e = Digits(&digits_, i), f = Fraction(e), end = f != 0 ? f : e;
  return In(end, "%") ? end + 1 : 0;
}

size_t Patterns::Money(size_t i) noexcept {
  if (IsCurrency(i) && IsDigit(i + 1)) {
    size_t e = Digits(&digits_, i + 1);
    if (const size_t f = Fraction(e)) e = f;
    if (In(e, "MmKkBb")) {
      ++e;
      if (In(e, "n")) {
        ++e;
      } else if (Is(e, "il")) {
        e += 2;
        if (Is(e, "lion")) e += 4;
      }
    }
    return e;
  }
  if (!IsDigit(i)) return 0;
  const size_t e = Digits(&digits_, i), f = Fraction(e), end = f != 0 ? f : e;
  return IsCurrency(end) ? end + 1 : 0;
}

size_t Patterns::HalfDay(size_t i) const noexcept {
  if (Is(i, "AM") || Is(i, "PM") || Is(i, "am") || Is(i, "pm")) return i + 2;
  return Is(i, "a.m.") || Is(i, "p.m.") ? i + 4 : 0;
}

// 7.30pm, .5pm, or 7:30 with seconds and am or pm if they are there.
size_t Patterns::Time(size_t i) noexcept {
  if (IsDigit(i) || (In(i, ".") && IsDigit(i + 1))) {
    // What follows digits is the same for each of them.
    if (In(i, ".")) {
      if (const size_t end = HalfDay(Digits(&fraction_, i + 1))) return end;
    } else if (i >= no_clock_) {
      size_t e = Digits(&digits_, i), end = HalfDay(e);
      if (end == 0 && In(e, ".") && IsDigit(e + 1)) end = HalfDay(Digits(&fraction_, e + 1));
      if (end != 0) return end;
      no_clock_ = e;
    }
  }
  if (!IsAsciiDigit(t_[i])) return 0;
  size_t p = i + 1;
  if (t_[i] <= '2' && IsAsciiDigit(t_[p]) && In(p + 1, ":")) ++p;
  const auto sixty = [&] { return In(p, ":") && In(p + 1, "012345") && IsAsciiDigit(t_[p + 2]); };
  if (!sixty()) return 0;
  p += 3;
  if (sixty()) p += 3;
  if (const size_t end = HalfDay(In(p, " ") ? p + 1 : p)) return end;
  return p;
}

// A month's name or abbreviation that is a whole word.
size_t Patterns::Month(size_t i) const noexcept {
  static constexpr struct {
    const char *stem, *rest;
  } kMonths[] = {{"jan", "uary"}, {"feb", "ruary"}, {"mar", "ch"}, {"apr", "il"}, {"jun", "e"},    {"jul", "y"},
                 {"aug", "ust"},  {"sep", "ember"}, {"oct", "ober"}, {"nov", "ember"}, {"dec", "ember"}};
  if (Is(i, "May")) return IsWord(i + 3) ? 0 : i + 3;
  for (const auto& m : kMonths) {
    if (AsciiLower(t_[i]) != static_cast<char32_t>(m.stem[0]) || !Is(i + 1, m.stem + 1)) continue;
    size_t e = i + 3;
    if (m.stem[0] == 's' && In(e, "t")) ++e;
    const size_t rest = std::char_traits<char>::length(m.rest);
    if (Is(e, m.rest) && !IsWord(e + rest)) return e + rest;
    return IsWord(e) ? 0 : e;
  }
  return 0;
}

// A day or year before the month: up to 4 digits, then a comma, a space or both, so that the month is a word of its own.
size_t Patterns::DatePrefix(size_t i) const noexcept {
  size_t p = i;
  if (In(p, "'")) {
    if (!WordBefore(i)) return 0;
    ++p;
  } else if (WordBefore(i) || (i > 0 && In(i - 1, ":"))) {
    return 0;
  }
  const int n = CountDigits(p, 5);
  if (n < 1 || n > 4) return 0;
  p += static_cast<size_t>(n);
  const size_t digits = p;
  if (In(p, ",")) ++p;
  if (In(p, " ")) ++p;
  return p > digits ? p : 0;
}

// Two to four digits and letters up to the word's end.
size_t Patterns::DateTail(size_t i) const noexcept {
  const int n = CountDigits(i, 5);
  if (n < 2 || n > 4) return 0;
  size_t p = i + static_cast<size_t>(n);
  while (IsAsciiLetter(t_[p])) ++p;
  return IsWord(p) ? 0 : p;
}

// A day or year after the month, perhaps a year and the end of a range. Each part ends where a word ends, so that it takes all
// its digits and letters or is absent.
size_t Patterns::DateSuffix(size_t i) const noexcept {
  size_t q = i;
  if (In(q, ",")) ++q;
  if (In(q, " ")) ++q;
  if (In(q, "'")) ++q;
  const int n = CountDigits(q, 5);
  if (n < 1 || n > 4) return 0;
  q += static_cast<size_t>(n);
  if (IsWord(q)) {
    const bool ordinal = Is(q, "st") || Is(q, "nd") || Is(q, "rd") || Is(q, "th");
    q += ordinal ? 2 : Is(q, "nth") ? 3 : 0;
    if (IsWord(q)) return 0;
  }
  const auto year = [this](size_t p) {
    if (In(p, ",/")) ++p;
    if (In(p, " ")) ++p;
    if (In(p, "'")) ++p;
    return DateTail(p);
  };
  const auto range = [this](size_t p) -> size_t {
    if (In(p, " ")) ++p;
    if (!In(p, "-")) return 0;
    ++p;
    if (In(p, " ")) ++p;
    return DateTail(p);
  };
  const auto whole = [this](size_t p) { return p != 0 && !(In(p, ":") && IsDigit(p + 1)); };
  for (const size_t from : {year(q), q}) {
    if (from == 0) continue;
    if (const size_t end = range(from); whole(end)) return end;
    if (whole(from)) return from;
  }
  return 0;
}

// 24/12/1999, 12/1999, 24-12-99. A word must end behind it, so that the last part takes all its digits.
size_t Patterns::ShortDate(size_t i) const noexcept {
  if (!IsAsciiDigit(t_[i]) || WordBefore(i) || (i >= 2 && In(i - 1, ".") && IsDigit(i - 2))) return 0;
  const auto part = [this](size_t p) -> size_t {
    if (In(p, "0123") && IsAsciiDigit(t_[p + 1]) && In(p + 2, ".-/")) return p + 3;
    return IsAsciiDigit(t_[p]) && In(p + 1, ".-/") ? p + 2 : 0;
  };
  const auto last = [this](size_t p, bool short_year) -> size_t {
    size_t n = 0;
    while (n < 5 && IsAsciiDigit(t_[p + n])) ++n;
    if (!((n == 4 && In(p, "12")) || (short_year && (n == 2 || n == 3)))) return 0;
    p += n;
    return IsWord(p) || (In(p, ".") && IsDigit(p + 1)) ? 0 : p;
  };
  const size_t second = part(i), third = second != 0 ? part(second) : 0;
  if (third != 0) return last(third, true);
  return second != 0 ? last(second, false) : 0;
}

size_t Patterns::Date(size_t i) noexcept {
  if (IsDigit(i) || In(i, "'")) {
    if (const size_t p = DatePrefix(i)) {
      if (const size_t m = Month(p)) {
        const size_t end = DateSuffix(m);
        return end != 0 ? end : m;
      }
    }
    return ShortDate(i);
  }
  if (!IsAsciiLetter(t_[i]) || WordBefore(i)) return 0;
  const size_t m = Month(i);
  return m != 0 ? DateSuffix(m) : 0;
}

// ---------------------------------------------------------------------------------------------------------------- words

size_t Patterns::Acronym(size_t i) noexcept {
  if (!IsAsciiUpper(t_[i]) || !In(i + 1, ".") || WordBefore(i)) return 0;
  size_t e = i;
  while (IsAsciiUpper(t_[e]) && In(e + 1, ".")) e += 2;
  if (e - i < 4) return 0;
  if (In(e, ".") && !In(e + 1, ".")) ++e;
  if (IsAsciiUpper(t_[e]) && !IsWord(e + 1)) ++e;
  return e;
}

size_t Patterns::Censored(size_t i) noexcept {
  if (!IsWord(i) || WordBefore(i)) return 0;
  const size_t e = Word(i);
  if (!In(e, "*")) return 0;
  size_t p = e;
  while (In(p, "*")) ++p;
  return Word(p);
}

size_t Patterns::Emphasis(size_t i) noexcept {
  if (!In(i, "*")) return 0;
  const size_t e = Word(i + 1);
  return e != 0 && In(e, "*") ? e + 1 : 0;
}

size_t Patterns::Allcaps(size_t i) noexcept {
  if (!IsAsciiUpper(t_[i]) || i < no_caps_ || WordBefore(i) || (i > 0 && OneOf(t_[i - 1], "#@$"))) return 0;
  size_t e = i + 1, end = 0;
  for (; IsAsciiUpper(t_[e]) || In(e, " "); ++e) {
    if (e >= i + 2 && IsAsciiUpper(t_[e]) && !IsWord(e + 1)) end = e + 1;
  }
  if (end == 0) no_caps_ = e;  // nor is there a run for what begins within
  return end;
}

size_t Patterns::Elongated(size_t i) noexcept {
  if (!IsAsciiLetter(t_[i]) || WordBefore(i)) return 0;
  bool found = false;
  size_t e = i;
  for (; IsAsciiLetter(t_[e]); ++e) found = found || (e >= i + 2 && t_[e] == t_[e - 1] && t_[e] == t_[e - 2]);
  return found && !IsWord(e) ? e : 0;
}

size_t Patterns::Repeated(size_t i) noexcept {
  size_t e = i;
  while (In(e, "!?.")) ++e;
  return e >= i + 2 ? e : 0;
}

// ---------------------------------------------------------------------------------------------------- emoji and emoticons

size_t Patterns::Emoji(size_t i) noexcept {
  const char32_t c = t_[i];
  const bool variant = t_[i + 1] == 0xFE0F;
  if (variant && t_[i + 2] == 0x20E3 && (IsAsciiDigit(c) || c == '#' || c == '*')) return i + 3;
  if (c == 0x26F9 && variant && t_[i + 2] == 0x200D && (t_[i + 3] == 0x2640 || t_[i + 3] == 0x2642) && t_[i + 4] == 0xFE0F) return i + 5;
  const uint8_t kind = classes_[c];
  if (kind & kEmoji) return i + 1;
  return kind & kEmojiVariant ? i + 1 + variant : 0;
}

size_t Patterns::Heart(size_t i) noexcept {
  if (!Is(i, "^5") && !Is(i, "<3")) return 0;
  const auto near = [](char32_t c) { return IsAsciiLetter(c) || IsAsciiDigit(c) || OneOf(c, "/()"); };
  return near(Before(i)) || near(t_[i + 2]) || In(i + 2, "[") ? 0 : i + 2;
}

size_t Patterns::LeftFaceMouth(size_t i) noexcept {
  if (IsFaceBracket(i)) {
    return EndOf(&brackets_, i, [](char32_t c) { return OneOf(c, "(){}[]<>|/\\"); });
  }
  const char32_t c = t_[i];
  bool fits = c == 0xDE || c == 0xD7 || c == 0xFE;
  if (OneOf(c, "30")) fits = !DigitBefore(i) && !IsDigit(i + 1);
  if (OneOf(c, "*,.@#&")) fits = !DigitBefore(i) && Before(i) != '*' && !IsDigit(i + 1) && !In(i + 1, "*,.");
  if (c == '$') fits = !DigitBefore(i) && Before(i) != '$' && !IsDigit(i + 1) && !In(i + 1, ".,$");
  if (OneOf(c, "DOosSJLxXpPbc")) fits = !IsAsciiLetter(t_[i + 1]);
  return fits ? i + 1 : 0;
}

// Eyes, then perhaps tears and a nose (each is tried first with, then without), then the mouth.
size_t Patterns::LeftFaceEyes(size_t i) noexcept {
  const char32_t c = t_[i], next = t_[i + 1], before = Before(i);
  bool fits = false;
  if (OneOf(c, "xXB")) {
    fits = !IsAsciiLetter(before) && before != '(' && !(IsAsciiLetter(next) && AsciiLower(next) != 'd' && AsciiLower(next) != 'p') && !OneOf(next, ",./");
  } else if (OneOf(c, ":=|")) {
    fits = before != ':' && next != '.';
  } else if (OneOf(c, "%#")) {
    fits = !DigitBefore(i) && !OneOf(before, "%#") && !IsDigit(i + 1) && !OneOf(next, "%#");
  } else if (c == '$') {
    fits = !DigitBefore(i) && before != '$' && !IsDigit(i + 1) && !OneOf(next, ".,$");
  } else if (c == ';') {
    fits = next != '(';
  } else if (c == '8') {
    fits = !DigitBefore(i) && !OneOf(before, "(-+") && !IsDigit(i + 1) && !(IsAsciiLetter(next) && AsciiLower(next) != 'd') && !OneOf(next, "\\/");
  } else if (c == '*') {
    fits = next != '*' && !IsDigit(i + 1) && !OneOf(next, ",.");
  }
  if (!fits) return 0;
  const size_t eyes = i + 1;
  for (int tears = In(eyes, "'\",") ? 1 : 0; tears >= 0; --tears) {
    const size_t p = eyes + static_cast<size_t>(tears);
    const bool round = In(p, "oc") && !WordBefore(p) && Before(p) != '*' && !IsAsciiLetter(t_[p + 1]);
    if (round || IsFaceDash(p)) {
      if (const size_t end = LeftFaceMouth(p + 1)) return end;
    }
    if (const size_t end = LeftFaceMouth(p)) return end;
  }
  return 0;
}

size_t Patterns::LeftFace(size_t i) noexcept {
  const bool hat = In(i, "|}><=") || (In(i, "DPO") && !IsAsciiLetter(Before(i))) || (In(i, "03") && !DigitBefore(i));
  if (hat) {
    if (const size_t end = LeftFaceEyes(i + 1)) return end;
  }
  return LeftFaceEyes(i);
}

// From the nose on: nose, tears and hat are optional; no letter may follow.
size_t Patterns::RightFaceTail(size_t i) const noexcept {
  for (int nose = IsFaceDash(i) ? 1 : 0; nose >= 0; --nose) {
    const size_t p = i + static_cast<size_t>(nose);
    for (int tears = In(p, "'\",") ? 1 : 0; tears >= 0; --tears) {
      const size_t q = p + static_cast<size_t>(tears);
      const bool eyes = In(q, "xX:=|%#;*") || (In(q, "$8") && !IsDigit(q + 1) && !In(q + 1, "."));
      if (!eyes) continue;
      if (In(q + 1, "O0|{><=") && !IsAsciiLetter(t_[q + 2])) return q + 2;
      if (!IsAsciiLetter(t_[q + 1])) return q + 1;
    }
  }
  return 0;
}

size_t Patterns::RightFace(size_t i) noexcept {
  if (WordBefore(i)) return 0;
  if (IsFaceBracket(i)) {
    if (i < no_right_face_) return 0;
    const size_t e = EndOf(&brackets_, i, [](char32_t c) { return OneOf(c, "(){}[]<>|/\\"); });
    // The mouth takes as many as leave a face: of brackets only | can be an eye.
    for (size_t m = e; m > i; --m) {
      if (m < e && !In(m, "|")) continue;
      if (const size_t end = RightFaceTail(m)) return end;
    }
    no_right_face_ = e;
    return 0;
  }
  const bool zero = In(i, "0") && !DigitBefore(i) && !OneOf(Before(i), ".,") && !IsDigit(i + 1) && !In(i + 1, ".");
  const bool letter = In(i, "DOosSxX") && !IsAsciiLetter(Before(i));
  return zero || letter || In(i, "$") ? RightFaceTail(i + 1) : 0;
}

// (^_^) with a character before and behind it, and room for a cheek: each part is tried long first.
size_t Patterns::EasternHug(size_t i) const noexcept {
  const auto plain = [this](size_t k) { return !IsSpace(k) && !In(k, "()"); };
  const auto face = [this](size_t k) { return t_[k] != kEnd && (!IsWord(k) || In(k, "_oTOJ")); };
  const auto close = [&](size_t p) -> size_t {
    if (!In(p, ")")) return 0;
    for (int m = In(p + 1, "m") ? 1 : 0; m >= 0; --m) {
      const size_t q = p + 1 + static_cast<size_t>(m);
      if (plain(q) && !IsWord(q + 1)) return q + 1;
      if (!IsWord(q)) return q;
    }
    return 0;
  };
  const auto most = [&](size_t p) {
    size_t k = 0;
    while (k < 3 && face(p + k)) ++k;
    return k;
  };
  for (int lead = plain(i) ? 1 : 0; lead >= 0; --lead) {
    for (int m = In(i + static_cast<size_t>(lead), "m") ? 1 : 0; m >= 0; --m) {
      size_t p = i + static_cast<size_t>(lead + m);
      if (!In(p, "(")) continue;
      ++p;
      for (size_t a = most(p); a > 0; --a) {
        for (int space = IsSpace(p + a) && t_[p + a] != kEnd ? 1 : 0; space >= 0; --space) {
          const size_t q = p + a + static_cast<size_t>(space);
          for (size_t b = most(q); b > 0; --b) {
            if (const size_t end = close(q + b)) return end;
          }
        }
      }
    }
  }
  return 0;
}

size_t Patterns::EasternFace(size_t i) noexcept {
  if (WordBefore(i)) return 0;
  for (int brow = In(i, "<>") ? 1 : 0; brow >= 0; --brow) {
    const size_t p = i + static_cast<size_t>(brow);
    const bool nose = t_[p + 1] != kEnd && (!IsWord(p + 1) || In(p + 1, "_m"));
    if (!In(p, "^;") || !nose || !In(p + 2, ";^")) continue;
    if (In(p + 3, ";<>") && !IsWord(p + 4)) return p + 4;
    if (!IsWord(p + 3)) return p + 3;
  }
  if (In(i, "(") || In(i + 1, "(") || In(i + 2, "(")) {
    if (const size_t end = EasternHug(i)) return end;
  }
  const size_t arm = In(i, "*") ? i + 1 : i;
  if (In(arm, "v>-/\\") && In(arm + 1, "o0O_.") && In(arm + 2, "v-</\\")) {
    if (In(arm + 3, "*") && !IsWord(arm + 4)) return arm + 4;
    if (!IsWord(arm + 3)) return arm + 3;
  }
  if (In(i, "oO0>")) {
    const auto nose = [this](size_t k) { return In(k, "-_/oO.\\"); };
    if (nose(i + 1) && nose(i + 2) && In(i + 3, "oO0>") && !IsWord(i + 4)) return i + 4;
    if (nose(i + 1) && In(i + 2, "oO0>") && !IsWord(i + 3)) return i + 3;
  }
  return Is(i, "^^") && !IsWord(i + 2) ? i + 2 : 0;
}

}  // namespace zoo::text
