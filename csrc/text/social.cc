// SPDX-License-Identifier: Apache-2.0
// The steps of ekphrasis' TextPreProcessor with the settings of Baziotis et al., then its SocialTokenizer and its table of
// emoticons. Each step replaces what one pattern finds; steps whose characters a text lacks are left out.
#include <algorithm>
#include <new>

#include "text/patterns.h"
#include "text/tables.h"
#include "text/words.h"
#include "zoo/text.h"

namespace zoo {
namespace {

using namespace text;  // NOLINT: this file is its user

// Characters with kPadding times kEnd behind them once Finish was called.
class Text {
 public:
  void Clear() { chars_.clear(); }
  void Push(char32_t c) { chars_.push_back(c); }
  void Append(const char32_t* begin, const char32_t* end) { chars_.insert(chars_.end(), begin, end); }
  void Append(const char* ascii) {
    for (; *ascii != '\0'; ++ascii) Push(static_cast<char32_t>(static_cast<unsigned char>(*ascii)));
  }
  void Finish() {
    size_ = chars_.size();
    chars_.insert(chars_.end(), kPadding, kEnd);
  }
  size_t size() const { return size_; }
  const char32_t* data() const { return chars_.data(); }
  char32_t operator[](size_t i) const { return chars_[i]; }

 private:
  std::vector<char32_t> chars_;
  size_t size_ = 0;
};

// The tokenizer's expressions in the order in which they are tried, and which of them can begin with a character.
using Matcher = size_t (Patterns::*)(size_t) noexcept;
constexpr Matcher kExpressions[] = {
    &Patterns::Url,   &Patterns::Tag,     &Patterns::Email,    &Patterns::User,      &Patterns::Hashtag,  &Patterns::Cashtag,
    &Patterns::Phone, &Patterns::Percent, &Patterns::Money,    &Patterns::Date,      &Patterns::Time,     &Patterns::Acronym,
    &Patterns::LeftFace, &Patterns::RightFace, &Patterns::Censored, &Patterns::Emphasis, &Patterns::Heart, &Patterns::Number,
    &Patterns::Emoji, &Patterns::Word,    &Patterns::EasternFace};
enum : uint32_t {
  kUrl = 1u << 0, kTag = 1u << 1, kEmail = 1u << 2, kUser = 1u << 3, kHashtag = 1u << 4, kCashtag = 1u << 5, kPhone = 1u << 6,
  kPercent = 1u << 7, kMoney = 1u << 8, kDate = 1u << 9, kTime = 1u << 10, kAcronym = 1u << 11, kLeft = 1u << 12, kRight = 1u << 13,
  kCensored = 1u << 14, kEmphasis = 1u << 15, kHeart = 1u << 16, kNumber = 1u << 17, kEmojis = 1u << 18, kWords = 1u << 19,
  kEastern = 1u << 20,
  kExpressionBits = (1u << 21) - 1, kMarks = 1u << 21  // !?. , of no expression
};

uint32_t Beginnings(uint8_t classes, char32_t c) {
  const auto in = [c](const char* set) { return c < 128 && c != 0 && std::string_view(set).find(static_cast<char>(c)) != std::string_view::npos; };
  uint32_t out = 0;
  if (classes & kWord) {
    out |= kEmail | kCensored | kWords;
    if (classes & kDigit) out |= kPhone | kPercent | kMoney | kDate | kTime | kNumber;
  } else {
    out |= kEastern;
  }
  if (classes & (kEmoji | kEmojiVariant) || in("#*")) out |= kEmojis;
  if (c == 0x20AC || c == 0xA3 || c == 0xA2) out |= kMoney;
  if (in("hw")) out |= kUrl;
  if (in("<")) out |= kTag | kHeart;
  if (in("+-")) out |= kEmail;
  if (in("@")) out |= kUser;
  if (in("#")) out |= kHashtag;
  if (in("$")) out |= kCashtag | kMoney;
  if (in("(+")) out |= kPhone;
  if (in("'jfmasondJFMASOND")) out |= kDate;
  if (in(".")) out |= kTime;
  if (in("!?.")) out |= kMarks;
  if (IsAsciiUpper(c)) out |= kAcronym;
  if (in("DPO03|}><=xXB:%#$;8*")) out |= kLeft;
  if (in("(){}[]<>|/\\0$DOosSxX")) out |= kRight;
  if (in("*")) out |= kEmphasis;
  if (in("^")) out |= kHeart;
  return out;
}

struct Contraction {
  const char *word, *rest, *out;  // word, apostrophe, rest -> its first letter as it is, then `out`
};
constexpr Contraction kContractions[] = {
    {"aren", "t", "re not"},    {"couldn", "t", "ould not"}, {"didn", "t", "id not"},     {"doesn", "t", "oes not"},
    {"don", "t", "o not"},      {"hadn", "t", "ad not"},     {"hasn", "t", "as not"},     {"haven", "t", "ave not"},
    {"isn", "t", "s not"},      {"mightn", "t", "ight not"}, {"mustn", "t", "ust not"},   {"shouldn", "t", "hould not"},
    {"weren", "t", "ere not"},  {"wouldn", "t", "ould not"}, {"he", "ll", "e will"},      {"i", "ll", " will"},
    {"she", "ll", "he will"},   {"they", "ll", "hey will"},  {"we", "ll", "e will"},      {"what", "ll", "hat will"},
    {"who", "ll", "ho will"},   {"you", "ll", "ou will"},    {"they", "re", "hey are"},   {"we", "re", "e are"},
    {"what", "re", "hat are"},  {"who", "re", "ho are"},     {"you", "re", "ou are"},     {"i", "ve", " have"},
    {"should", "ve", "hould have"}, {"they", "ve", "hey have"}, {"we", "ve", "e have"},   {"what", "ve", "hat have"},
    {"who", "ve", "ho have"},   {"would", "ve", "ould have"}, {"you", "ve", "ou have"},   {"can", "t", "an not"},
    {"i", "m", " am"},          {"let", "s", "et us"},       {"won", "t", "ill not"},     {"shan", "t", "hall not"},
    {"y", "all", "ou all"},     {"ya", "ll", "ou all"}};

}  // namespace

struct SocialTokenizer::Impl {
  // What the names of one of tables.h's tables stand for.
  class Meanings {
   public:
    explicit Meanings(const char* pairs) {
      for (std::string_view name(pairs); !name.empty(); name = texts_.back().data() + texts_.back().size() + 1) {
        names_.Insert(name);
        texts_.push_back(name.data() + name.size() + 1);
      }
    }
    // Null where there is no such name.
    const std::string_view* Find(std::string_view name) const {
      const int32_t found = names_.Find(name);
      return found < 0 ? nullptr : &texts_[static_cast<size_t>(found)];
    }

   private:
    ByteTable names_;
    std::vector<std::string_view> texts_;
  };

  const Classes& classes = Classes::Get();
  Words words;
  const Meanings entities{kEntities}, emoticons{kEmoticons};
  uint32_t beginnings[128];

  Impl() {
    for (char32_t c = 0; c < 128; ++c) beginnings[c] = Beginnings(classes[c], c);
  }
};

struct SocialTokenizer::State::Impl {
  Text text, other;
  Patterns find{Classes::Get()};
  Words::Scratch scratch;
  std::vector<uint8_t> lengths;
  std::string word, tokens;
  const SocialTokenizer::Impl* plan = nullptr;
  bool seen[128];
  bool beyond = false, digits = false, thrice = false, marks = false;

  bool Has(char c) const { return seen[static_cast<size_t>(c)]; }

  // `text` takes what was written to `other`.
  void Swap() {
    other.Finish();
    std::swap(text, other);
    find.Reset(text.data(), text.size());
  }

  // Replaces what match(i) finds by what write(begin, end) appends to `other`. first: what it can begin with.
  template <class Match, class Write>
  void Substitute(uint32_t first, Match match, Write write) {
    size_t kept = 0;
    bool changed = false;
    for (size_t i = 0; i < text.size();) {
      const char32_t c = text[i];
      const size_t end = c < 128 && !(plan->beginnings[c] & first) ? 0 : match(i);
      if (end == 0) {
        ++i;
        continue;
      }
      if (!changed) other.Clear();
      changed = true;
      other.Append(text.data() + kept, text.data() + i);
      write(i, end);
      kept = i = end;
    }
    if (!changed) return;
    other.Append(text.data() + kept, text.data() + text.size());
    Swap();
  }
  void Normalize(uint32_t first, const char* tag) {
    const Matcher matcher = kExpressions[__builtin_ctz(first)];
    Substitute(first, [&](size_t i) { return (find.*matcher)(i); }, [&](size_t, size_t) { other.Append(tag); });
  }
  void Part(size_t begin, size_t end) { other.Append(text.data() + begin, text.data() + end); }

  void Load(std::string_view utf8);
  void Hashtag(size_t begin, size_t end);
  void Elongated(size_t begin, size_t end);
  void Contractions();
  void Join();
  void Unescape();
  void Split();
  size_t Charref(size_t i);
  void Run(std::string_view utf8);
};

// Characters, with runs of spaces made one, and what there is to look for.
void SocialTokenizer::State::Impl::Load(std::string_view utf8) {
  std::fill(seen, seen + 128, false);
  beyond = thrice = marks = false;
  other.Clear();
  char32_t last = kEnd, before = kEnd;
  const auto mark = [](char32_t c) { return c == '!' || c == '?' || c == '.'; };
  for (size_t i = 0; i < utf8.size();) {
    const unsigned char lead = static_cast<unsigned char>(utf8[i]);
    const char32_t c = lead < 0x80 ? (++i, lead) : Decode(utf8, &i);
    if (c == ' ' && last == ' ') continue;
    if (c < 128) {
      seen[c] = true;
    } else {
      beyond = true;
    }
    thrice = thrice || (c == last && c == before);
    marks = marks || (mark(c) && mark(last));
    before = last, last = c;
    other.Push(c);
  }
  digits = beyond;
  for (char c = '0'; c <= '9'; ++c) digits = digits || Has(c);
  Swap();
}

void SocialTokenizer::State::Impl::Hashtag(size_t begin, size_t end) {
  ++begin;  // '#'
  bool upper = false, lower = false;
  for (size_t i = begin; i < end; ++i) {
    upper = upper || (plan->classes[text[i]] & kUpper);
    lower = lower || (plan->classes[text[i]] & kLower);
  }
  const auto joint = [](char32_t c) { return c == '-' || c == '_'; };
  other.Append(" <hashtag> ");
  if (lower && !upper) {
    lengths.clear();
    if (!plan->words.empty() && end - begin <= Words::kMaxHashtag) plan->words.Divide(text.data(), begin, end, scratch, &lengths);
    size_t word = 0, next = lengths.empty() ? end : begin + lengths[0];
    for (size_t i = begin; i < end; ++i) {
      if (i == next) other.Push(' '), next += lengths[++word];
      other.Push(joint(text[i]) ? U' ' : text[i]);
    }
  } else {
    // a space before a capital that follows or precedes a small letter, before digits, behind them, and for - and _
    for (size_t i = begin; i < end; ++i) {
      const char32_t c = text[i], prev = i > begin ? text[i - 1] : kEnd, next = i + 1 < end ? text[i + 1] : kEnd;
      const bool camel = IsAsciiUpper(c) && (IsAsciiLower(prev) || (i > begin && IsAsciiLower(next)));
      const bool number = IsAsciiDigit(c) && !IsAsciiDigit(prev);
      const bool after = IsAsciiLetter(c) && (IsAsciiDigit(prev) || joint(prev));
      if (camel || number || after || joint(c)) other.Push(' ');
      if (!joint(c)) other.Push(c);
    }
  }
  other.Append(" </hashtag>  ");
}

void SocialTokenizer::State::Impl::Elongated(size_t begin, size_t end) {
  // at most twice the same letter, and which cases there are
  word.clear();
  bool upper = true, lower = true, title = true;
  for (size_t i = begin; i < end; ++i) {
    const char32_t c = text[i];
    if (i >= begin + 2 && c == text[i - 1] && c == text[i - 2]) continue;
    const bool capital = IsAsciiUpper(c);
    upper = upper && capital;
    lower = lower && !capital;
    title = title && capital == word.empty();
    word.push_back(static_cast<char>(AsciiLower(c)));
  }
  const std::string_view best = plan->words.empty() ? std::string_view(word) : plan->words.Shorten(word);
  other.Push(' ');
  for (size_t i = 0; i < best.size(); ++i) {
    const char32_t c = static_cast<unsigned char>(best[i]);
    other.Push(upper || (title && i == 0) ? c - 32 : c);
  }
  other.Append(" <elongated> ");
}

void SocialTokenizer::State::Impl::Contractions() {
  other.Clear();
  size_t kept = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\'') continue;
    size_t begin = i;
    while (begin > 0 && find.IsWord(begin - 1)) --begin;
    for (const Contraction& c : kContractions) {
      const std::string_view expected(c.word), rest(c.rest);
      bool same = expected.size() == i - begin && AsciiLower(text[begin]) == static_cast<char32_t>(expected[0]);
      for (size_t k = 1; same && k < expected.size(); ++k) same = text[begin + k] == static_cast<char32_t>(expected[k]);
      for (size_t k = 0; same && k < rest.size(); ++k) same = text[i + 1 + k] == static_cast<char32_t>(rest[k]);
      if (!same) continue;
      Part(kept, begin + 1);
      other.Append(c.out);
      kept = i + 1 + rest.size();
      break;
    }
  }
  if (kept == 0) return;
  Part(kept, text.size());
  Swap();
}

// Words with single spaces between them, without the tags of capitals inside hashtags.
void SocialTokenizer::State::Impl::Join() {
  other.Clear();
  bool inside = false, any = false;
  for (size_t i = 0; i < text.size();) {
    if (find.IsSpace(i)) {
      ++i;
      continue;
    }
    const size_t begin = i;
    while (!find.IsSpace(i)) ++i;
    const auto is = [&](std::string_view tag) {
      return tag.size() == i - begin && std::equal(tag.begin(), tag.end(), text.data() + begin, [](char a, char32_t b) { return static_cast<char32_t>(a) == b; });
    };
    if (text[begin] == '<') {
      if (is("<hashtag>")) inside = true;
      if (is("</hashtag>")) inside = false;
      if (inside && (is("<allcaps>") || is("</allcaps>"))) continue;
    }
    if (any) other.Push(' ');
    any = true;
    Part(begin, i);
  }
  Swap();
}

// The end of a character reference at i, whose text is appended to `other`; 0 when it is none. As HTML 5 has it, a name may
// lack its semicolon, and then go on.
size_t SocialTokenizer::State::Impl::Charref(size_t i) {
  static constexpr char32_t kWindows1252[32] = {
      0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160, 0x2039, 0x152, 0x8D,   0x17D, 0x8F,
      0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC, 0x2122, 0x161, 0x203A, 0x153, 0x9D,   0x17E, 0x178};
  if (text[i + 1] == '#') {
    const bool hex = text[i + 2] == 'x' || text[i + 2] == 'X';
    size_t e = i + (hex ? 3 : 2);
    const size_t first = e;
    uint32_t v = 0;
    for (;; ++e) {
      const char32_t c = text[e];
      const uint32_t digit = IsAsciiDigit(c) ? c - '0' : hex && (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
      if (digit == 99) break;
      v = std::min<uint32_t>(v * (hex ? 16 : 10) + digit, kEnd);
    }
    if (e == first) return 0;
    if (text[e] == ';') ++e;
    const bool none = (v >= 1 && v <= 8) || v == 11 || (v >= 14 && v <= 31) || v == 127 || (v >= 0xFDD0 && v <= 0xFDEF) || (v & 0xFFFE) == 0xFFFE;
    if (v == 0 || v >= kEnd || (v >= 0xD800 && v < 0xE000)) {
      other.Push(kReplacement);
    } else if (v >= 128 && v < 160) {
      other.Push(kWindows1252[v - 128]);
    } else if (!none) {
      other.Push(v);
    }
    return e;
  }
  word.clear();
  size_t e = i + 1;
  for (; e < i + 33; ++e) {
    const char32_t c = text[e];
    if (c == kEnd || c == '\t' || c == '\n' || c == '\f' || c == ' ' || c == '<' || c == '&' || c == '#' || c == ';') break;
    if (c >= 128) break;  // no name has it; a name before it may still end here
    word.push_back(static_cast<char>(c));
  }
  if (text[e] == ';') word.push_back(';');
  for (size_t n = word.size(); n > 1; --n) {
    if (const std::string_view* utf8 = plan->entities.Find(std::string_view(word).substr(0, n))) {
      for (size_t k = 0; k < utf8->size();) other.Push(Decode(*utf8, &k));
      return i + 1 + n;
    }
  }
  return 0;
}

void SocialTokenizer::State::Impl::Unescape() {
  other.Clear();
  for (size_t i = 0; i < text.size();) {
    const size_t end = text[i] == '&' ? Charref(i) : 0;
    if (end == 0) other.Push(text[i]);
    i = end == 0 ? i + 1 : end;
  }
  Swap();
}

void SocialTokenizer::State::Impl::Split() {
  tokens.clear();
  // What a text lacks is not tried at each of its letters.
  bool at = false, star = false;
  for (size_t i = 0; i < text.size(); ++i) at = at || text[i] == '@', star = star || text[i] == '*';
  uint32_t possible = kExpressionBits;
  if (!at) possible &= ~kEmail;
  if (!star) possible &= ~kCensored;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = text[i];
    if (find.IsSpace(i)) {
      ++i;
      continue;
    }
    size_t end = 0;
    const uint32_t first = c < 128 ? plan->beginnings[c] : Beginnings(plan->classes[c], c);
    for (uint32_t left = first & possible; left != 0 && end == 0; left &= left - 1) {
      end = (find.*kExpressions[__builtin_ctz(left)])(i);
    }
    if (end == 0) end = i + 1;
    const size_t begin = tokens.size();
    EncodeLower(plan->classes, text.data(), i, end, &tokens);
    if (const std::string_view* face = plan->emoticons.Find(std::string_view(tokens).substr(begin))) {
      tokens.resize(begin);
      tokens.append(*face);
    }
    tokens.push_back(kTokenEnd);
    i = end;
  }
}

void SocialTokenizer::State::Impl::Run(std::string_view utf8) {
  Load(utf8);
  if (Has(':') || Has('w')) Normalize(kUrl, " <url> ");
  if (Has('@')) Normalize(kEmail, " <email> ");
  if (digits) {
    if (Has('%')) Normalize(kPercent, " <percent> ");
    if (Has('$') || beyond) Normalize(kMoney, " <money> ");
    Normalize(kPhone, " <phone> ");
  }
  if (Has('@')) Normalize(kUser, " <user> ");
  if (digits) {
    Normalize(kTime, " <time> ");
    Normalize(kDate, " <date> ");
    Normalize(kNumber, " <number> ");
  }
  if (Has('#')) Substitute(kHashtag, [&](size_t i) { return find.Hashtag(i); }, [&](size_t b, size_t e) { Hashtag(b, e); });
  Substitute(kAcronym, [&](size_t i) { return find.Allcaps(i); }, [&](size_t b, size_t e) {
    other.Append(" <allcaps> ");
    Part(b, e);
    other.Append(" </allcaps>  ");
  });
  if (thrice) Substitute(kWords, [&](size_t i) { return find.Elongated(i); }, [&](size_t b, size_t e) { Elongated(b, e); });
  if (marks) {
    Substitute(kMarks, [&](size_t i) { return find.Repeated(i); }, [&](size_t b, size_t e) {
      other.Push(' ');
      for (char32_t mark : {U'?', U'.', U'!'}) {
        if (std::find(text.data() + b, text.data() + e, mark) != text.data() + e) other.Push(mark);
      }
      other.Append(" <repeated> ");
    });
  }
  if (Has('*')) {
    Substitute(kEmphasis, [&](size_t i) { return find.Emphasis(i); }, [&](size_t b, size_t e) {
      other.Push(' ');
      Part(b + 1, e - 1);
      other.Append(" <emphasis> ");
    });
    Substitute(kCensored, [&](size_t i) { return find.Censored(i); }, [&](size_t b, size_t e) {
      other.Append("  ");
      Part(b, e);
      other.Append(" <censored>  ");
    });
  }
  if (Has('\'')) Contractions();
  Join();
  if (Has('&')) Unescape();
  Split();
}

SocialTokenizer::State::State() : impl_(std::make_unique<Impl>()) {}
SocialTokenizer::State::~State() = default;
SocialTokenizer::SocialTokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SocialTokenizer::SocialTokenizer(SocialTokenizer&&) noexcept = default;
SocialTokenizer::~SocialTokenizer() = default;

Result<SocialTokenizer> SocialTokenizer::Create(std::string_view counts) try {
  auto impl = std::make_unique<Impl>();
  if (!counts.empty()) ZOO_RETURN_IF_ERROR(impl->words.Load(counts));
  return SocialTokenizer(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<SocialTokenizer::State>> SocialTokenizer::NewState() const try {
  return std::make_unique<State>();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status SocialTokenizer::Compute(std::string_view text, State& state, std::string_view* tokens) const noexcept try {
  if (static_cast<int64_t>(text.size()) > kMaxTextBytes) {
    return InvalidSignal("the text has " + std::to_string(text.size()) + " bytes; at most " + std::to_string(kMaxTextBytes) + " are taken");
  }
  State::Impl& s = *state.impl_;
  s.plan = impl_.get();
  s.Run(text);
  *tokens = s.tokens;
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

}  // namespace zoo
