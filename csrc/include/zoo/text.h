// SPDX-License-Identifier: Apache-2.0
// Text as it is written on social networks: the tokenizer of Baziotis et al. (ekphrasis) and a vocabulary. Both are data and
// code without options of speed: no allocation once a state has seen its longest text.
#ifndef ZOO_TEXT_H_
#define ZOO_TEXT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "zoo/status.h"

namespace zoo {

// Ends every token in a list of tokens. UTF-8 has no such byte.
constexpr char kTokenEnd = '\xff';
constexpr int64_t kMaxTextBytes = int64_t{1} << 28;

class SocialTokenizer {
 public:
  class State;
  // counts: content of a count file, or empty. Lines `word TAB count` and `word TAB next TAB count` (how often the one
  // word follows the other), UTF-8, LF. With it hashtags in lower case become words and elongated words known ones.
  static Result<SocialTokenizer> Create(std::string_view counts);
  SocialTokenizer(SocialTokenizer&&) noexcept;
  ~SocialTokenizer();

  Result<std::unique_ptr<State>> NewState() const;
  // text: UTF-8; each ill-formed part counts as U+FFFD. tokens: UTF-8, in lower case, each with kTokenEnd; it points into the
  // state. Linear in the length of the text.
  Status Compute(std::string_view text, State& state, std::string_view* tokens) const noexcept;

 private:
  struct Impl;
  explicit SocialTokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class SocialTokenizer::State {
 public:
  State();
  ~State();

 private:
  friend class SocialTokenizer;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct VocabularyOptions {
  std::string unknown = "<unk>";  // the token that stands for those that are not in the vocabulary
  Status Validate() const;
};

// Tokens and their numbers: one token a line, numbered from 1; 0 is left to padding.
class Vocabulary {
 public:
  // content: of a vocabulary file (UTF-8, LF).
  static Result<Vocabulary> Create(const VocabularyOptions& options, std::string_view content);
  Vocabulary(Vocabulary&&) noexcept;
  ~Vocabulary();
  int64_t size() const noexcept;
  int64_t operator[](std::string_view token) const noexcept;  // the number of `unknown` where there is none

 private:
  struct Impl;
  explicit Vocabulary(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_TEXT_H_
