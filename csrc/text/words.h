// SPDX-License-Identifier: Apache-2.0
// What counts of words and of pairs of words are used for: dividing hashtags, and finding the word behind an elongated one.
#ifndef ZOO_TEXT_WORDS_H_
#define ZOO_TEXT_WORDS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_table.h"
#include "text/chars.h"
#include "zoo/status.h"

namespace zoo::text {

class Words {
 public:
  static constexpr int kMaxWord = 20;      // characters of a part of a hashtag
  static constexpr size_t kMaxHashtag = 280;  // a tweet; longer ones stay whole

  // Memory of Divide.
  struct Scratch {
    std::string bytes;           // UTF-8
    std::vector<size_t> offset;  // in it, of each character
    std::vector<int32_t> id;      // [position][length]: the word that begins there, or -1
    std::vector<double> best;     // [position][length of the word before]
    std::vector<uint8_t> choice;  // the same: length of the word that begins there
  };

  // content: of a count file.
  Status Load(std::string_view content);
  bool empty() const noexcept { return table_.size() == 0; }

  // The most probable division of text[begin, end), at most kMaxHashtag characters, into words: lengths[i] for each. Two
  // words stand together with the probability of the pair where it was counted, else of the second one; an unknown word of
  // n characters has 10 / (N 10^n). Viterbi over positions and the word before.
  void Divide(const char32_t* text, size_t begin, size_t end, Scratch& scratch, std::vector<uint8_t>* lengths) const;

  // The most frequent known word that `word` (ASCII, lower case) becomes when, for each letter by itself, all its runs are
  // halved (rounded up) any number of times; `word` itself when none is known. Of equals the longest, then the first.
  std::string_view Shorten(std::string_view word) const;

 private:
  ByteTable table_;
  std::vector<int64_t> count_;
  std::vector<double> log_p_;                       // log10 of a word's probability
  std::vector<bool> leads_;                         // begins a counted pair
  // Of a pair that was counted, log10 of its count / that of the word; else null.
  const double* LogPair(int32_t word, int32_t next) const noexcept;

  struct Pair {
    uint64_t key = ~uint64_t{0};  // word << 32 | next
    double log_p = 0;
  };
  std::vector<Pair> pairs_;  // open addressing: a power of 2, at most half of them taken
  // Few parts of a hashtag begin a word, and few words that could stand together do: these keep the others from the tables.
  HashBits beginnings_, pair_bits_;
  double log_unknown_[kMaxWord + 1] = {};           // by length
  ByteTable squeezed_;                              // words without any run
  std::vector<int32_t> first_, next_;               // words with this squeezed form, as lists
};

}  // namespace zoo::text

#endif  // ZOO_TEXT_WORDS_H_
