// SPDX-License-Identifier: Apache-2.0
// Texts to tokens to numbers, with and without a count file. The first part of the input, up to a zero byte, is a count file; the
// second a vocabulary; the rest texts.
#include "fuzz.h"
#include "zoo/text.h"

namespace {

std::string_view UpToZero(std::string_view* text) {
  const size_t end = std::min(text->find('\0'), text->size());
  const std::string_view part = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return part;
}

// Well-formed UTF-8: no overlong forms, surrogates, or numbers beyond U+10FFFF.
bool IsUtf8(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const unsigned char c = static_cast<unsigned char>(s[i]);
    const size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (n == 0 || i + n > s.size()) return false;
    uint32_t code = n == 1 ? c : c & (0x7fu >> n);
    for (size_t k = 1; k < n; ++k) {
      if ((s[i + k] & 0xc0) != 0x80) return false;
      code = code << 6 | (s[i + k] & 0x3f);
    }
    if ((n == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) || (n == 4 && (code < 0x10000 || code > 0x10ffff))) return false;
    i += n;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::string_view counts = UpToZero(&rest), words = UpToZero(&rest);
  auto with = zoo::SocialTokenizer::Create(counts);
  if (!with.ok()) Refused(with.status());
  static const zoo::SocialTokenizer& plain = *new zoo::SocialTokenizer(std::move(zoo::SocialTokenizer::Create("").value()));
  const zoo::SocialTokenizer& tokenizer = with.ok() ? with.value() : plain;
  const auto vocabulary = zoo::Vocabulary::Create({}, words);
  if (!vocabulary.ok()) Refused(vocabulary.status());
  auto used = tokenizer.NewState();
  REQUIRE(used.ok(), "no state");
  do {
    const std::string_view text = UpToZero(&rest);
    auto fresh = tokenizer.NewState();
    std::string_view tokens, again;
    const zoo::Status status = tokenizer.Compute(text, *used.value(), &tokens);
    REQUIRE(status.ok(), "%s", status.message().c_str());
    REQUIRE(tokenizer.Compute(text, *fresh.value(), &again).ok() && tokens == again, "a state that was used before gives other tokens");
    REQUIRE(tokens.empty() || tokens.back() == zoo::kTokenEnd, "the last token has no end");
    for (size_t at = 0; at < tokens.size();) {
      const size_t end = tokens.find(zoo::kTokenEnd, at);
      const std::string_view token = tokens.substr(at, end - at);
      REQUIRE(!token.empty() && IsUtf8(token), "a token is no text");
      if (vocabulary.ok()) REQUIRE(vocabulary.value()[token] >= 1 && vocabulary.value()[token] <= vocabulary.value().size(), "a number out of the vocabulary");
      at = end + 1;
    }
  } while (!rest.empty());
  return 0;
}
