// SPDX-License-Identifier: Apache-2.0
// Runs the tokenizer over texts put together at random of what its expressions look for, broken UTF-8 among it, in buffers of
// exactly their size, so that AddressSanitizer sees any access beyond them; and files of counts and vocabularies that are
// damaged at random.
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "testing.h"
#include "zoo/pipeline.h"
#include "zoo/text.h"

namespace {

// A copy of exactly its size.
class Exact {
 public:
  explicit Exact(std::string_view s) : size_(s.size()), bytes_(new char[s.size()]) {
    if (size_ > 0) std::memcpy(bytes_.get(), s.data(), size_);
  }
  std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  size_t size_;
  std::unique_ptr<char[]> bytes_;
};

constexpr std::string_view kCounts = "i\t40\nam\t30\nhappy\t20\nday\t15\nso\t12\nhello\t6\ncaf\xC3\xA9\t2\nhappy\tday\t9\ni\tam\t20\n";
constexpr std::string_view kVocabulary = "<unk>\n<hashtag>\n</hashtag>\nhappy\nday\n!\n";

const char* const kParts[] = {
    "http://", "https://www.", "www.", "a.b", "a@b.com", "@user", "x+z@foo-bar.co.uk", "5%", "3.5", "$5", "\xC2\xA3", "\xE2\x82\xAC",
    "bn", "illion", "555-1234567", "(555) 123 4567", "+1 555", "12345", "10:30", "7pm", " a.m.", ".5", ":59", "12/5/2016", "5 May",
    "May 5th", ", 2016", "'16", "Dec", "sept 11", "5-6-99", " - 05", "1,000", "#", "#happyday", "#CamelCase2x", "#a-b_c-", "WOW", "I AM",
    "soooo", "HELLOOO", "AaaA", "!!!", "?!", "...", "*very*", "f**k", "*", "don't", "can't", "y'all", "ya'll", "'", "&amp;", "&lt", "&#39;",
    "&#x1F600;", "&#99999999999;", "&#", "&", "&notit;", ":)", ":-(", "(:", ":'(", "=D", "xD", "D:", "<3", "^5", ">:(", "8-)", ":o)", "^_^",
    "(^_^)", "m(_ _)m", "o_O", ">.<", "\\o/", "|", "{", "}", "[", "]", "(", ")", "<", ">", "<user>", "</b>", "U.S.A", "..", "$ABC",
    "\xF0\x9F\x98\x80", "\xE2\x98\xBA\xEF\xB8\x8F", "1\xEF\xB8\x8F\xE2\x83\xA3", "\xE2\x9B\xB9\xEF\xB8\x8F\xE2\x80\x8D\xE2\x99\x80\xEF\xB8\x8F",
    "\xE2\x9B\xB9", "\xEF\xB8\x8F", "\xE2\x80\x8D", "\xC3\xA9", "\xC4\xB0", "\xCE\xA3", "\xCC\x81", "\xE6\x97\xA5", "\xD7\xA9", "\xD9\xA3",
    "\xC2\xA0", "\xE2\x80\xA8", "\t", "\n", " ", " ", "  ", "a", "B", "x", "O", "0", "3", "8", "_", "-", "+", ".", ",", "\"", "/", "\\", "~",
    "\xFF", "\x80", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xED\xA0\x80", "\xC0\xAF", "\xF4\x90\x80\x80"};
constexpr size_t kPartCount = sizeof(kParts) / sizeof(*kParts);

// Every token is there, ended, in lower case where it is ASCII, and no part of a broken character.
void CheckTokens(std::string_view tokens) {
  EXPECT_TRUE(tokens.empty() || tokens.back() == zoo::kTokenEnd) << "the last token has no end";
  bool begun = false;
  for (char c : tokens) {
    EXPECT_TRUE(begun || c != zoo::kTokenEnd) << "an empty token";
    EXPECT_FALSE((c >= 'A' && c <= 'Z')) << "a capital: " << c;
    begun = c != zoo::kTokenEnd;
  }
}

TEST(Text, RandomTexts) {
  std::mt19937 rng(1);
  const auto below = [&](size_t n) { return static_cast<size_t>(rng() % n); };
  for (const std::string_view counts : {std::string_view(), kCounts}) {
    const zoo::SocialTokenizer tokenizer = Take(zoo::SocialTokenizer::Create(Exact(counts).view()));
    const auto kept = Take(tokenizer.NewState());
    for (int round = 0; round < 4000; ++round) {
      std::string text;
      const size_t parts = round < 200 ? 1 : below(16);
      for (size_t p = 0; p < parts; ++p) text += kParts[round < 200 ? static_cast<size_t>(round) % kPartCount : below(kPartCount)];
      if (round % 7 == 0) text.push_back('\0');
      if (round % 5 == 0) {
        const size_t cut = below(text.size() + 1);
        text.resize(cut);  // perhaps within a character
      }
      const Exact exact(text);
      std::string_view tokens, again;
      const zoo::Status status = tokenizer.Compute(exact.view(), *kept, &tokens);
      EXPECT_TRUE(status.ok()) << status.message();
      CheckTokens(tokens);
      const auto fresh = Take(tokenizer.NewState());
      EXPECT_TRUE(tokenizer.Compute(exact.view(), *fresh, &again).ok()) << "a fresh state";
      EXPECT_EQ(tokens, again) << "a used state gives other tokens for '" << text << "'";
    }
    for (const char* part : kParts) {  // long: runs of one kind
      std::string text;
      while (text.size() < 20000) text += part;
      std::string_view tokens;
      EXPECT_TRUE(tokenizer.Compute(Exact(text).view(), *kept, &tokens).ok()) << part;
      CheckTokens(tokens);
    }
  }
}

// Damaged files are taken or refused.
TEST(Text, DamagedFiles) {
  std::mt19937 rng(1);
  const auto below = [&](size_t n) { return static_cast<size_t>(rng() % n); };
  for (int round = 0; round < 3000; ++round) {
    std::string file(round % 2 == 0 ? kCounts : kVocabulary);
    for (size_t k = 0; k <= below(3); ++k) {
      const size_t at = below(file.size());
      switch (below(3)) {
        case 0: file[at] = static_cast<char>(rng()); break;
        case 1: file.erase(at, below(9)); break;
        default: file.insert(at, 1, "\t\n0a"[below(4)]); break;
      }
      if (file.empty()) break;
    }
    const Exact exact(file);
    const auto counts = zoo::SocialTokenizer::Create(exact.view());
    const auto vocabulary = zoo::Vocabulary::Create({}, exact.view());
    EXPECT_TRUE(counts.ok() || !counts.status().message().empty()) << "no message";
    if (vocabulary.ok()) {
      EXPECT_GE(vocabulary.value()["happy"], 1) << "a token has no number";
    }
  }
}

TEST(Text, Pipeline) {
  const Exact counts(kCounts), vocabulary(kVocabulary);
  const zoo::PipelineFiles files{{"c", counts.view()}, {"v", vocabulary.view()}};
  const std::vector<zoo::OpDesc> ops{{"social_tokenize", {{"counts", std::string("c")}}},
                                     {"vocab", {{"file", std::string("v")}, {"max_length", int64_t{5}}}}};
  const zoo::Pipeline pipeline = Take(zoo::Pipeline::Create(ops, "", {}, &files));
  const auto state = Take(pipeline.NewState());
  EXPECT_TRUE(pipeline.counted()) << "a pipeline of texts";
  for (const std::string_view text : {"", "#happyday !! x", "happy", ""}) {
    const Exact exact(text);
    zoo::ConstView in, out;
    in.data = exact.view().data(), in.dtype = zoo::DType::kU8;
    in.extent.dim[0] = static_cast<int64_t>(text.size());
    in.range = {0, in.extent.dim[0]};
    const zoo::Status status = pipeline.RunCounted(in, *state, &out);
    EXPECT_TRUE(status.ok()) << status.message();
    const auto ids = out.as<int64_t>();
    EXPECT_EQ(ids.size(), (text.size() > 5 ? 5u : 1u)) << ids.size() << " numbers";
    if (text.size() > 5) {
      EXPECT_TRUE(ids[0] == 2 && ids[1] == 4 && ids[2] == 5 && ids[3] == 3) << "other numbers";
    }
    if (text.empty()) {
      EXPECT_EQ(ids[0], 0) << "padding";
    }
  }
}

}  // namespace
