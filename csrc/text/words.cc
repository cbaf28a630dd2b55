// SPDX-License-Identifier: Apache-2.0
#include "text/words.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "text/lines.h"

namespace zoo::text {
namespace {

constexpr int kWidth = Words::kMaxWord + 1;  // lengths 0 to kMaxWord
constexpr size_t kMaxWordBytes = 255;
constexpr double kNever = -std::numeric_limits<double>::infinity();

bool ParseCount(std::string_view text, int64_t* out) {
  if (text.empty() || text.size() > 15) return false;
  *out = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    *out = *out * 10 + (c - '0');
  }
  return *out > 0;
}

std::string Squeeze(std::string_view word) {
  std::string out;
  for (char c : word) {
    if (out.empty() || out.back() != c) out.push_back(c);
  }
  return out;
}

bool IsPlain(std::string_view word) {
  return std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

constexpr uint64_t kFree = ~uint64_t{0};
uint64_t PairKey(int32_t word, int32_t next) { return static_cast<uint64_t>(word) << 32 | static_cast<uint32_t>(next); }
uint64_t Mix(uint64_t key) { return key * 0x9E3779B97F4A7C15u; }
size_t Slot(uint64_t key, size_t slots) { return static_cast<size_t>(Mix(key) >> 32) & (slots - 1); }

// Whether halving the runs of each letter some number of times turns `from` into `to`; both have the same squeezed form.
bool Halves(std::string_view from, std::string_view to) {
  uint32_t times[26];  // of each letter: bit k is set when k times fit all its runs
  std::fill(times, times + 26, ~uint32_t{0});
  size_t i = 0, j = 0;
  while (i < from.size()) {
    const char c = from[i];
    size_t n = 0, m = 0;
    while (i < from.size() && from[i] == c) ++i, ++n;
    while (j < to.size() && to[j] == c) ++j, ++m;
    uint32_t fits = 0;
    for (uint32_t k = 0; k < 32; ++k, n -= n / 2) fits |= static_cast<uint32_t>(n == m) << k;
    uint32_t& all = times[c - 'a'];
    if ((all &= fits) == 0) return false;
  }
  return true;
}

}  // namespace

Status Words::Load(std::string_view content) {
  int64_t total = 0;
  struct Listed {
    std::string_view word, next;
    int64_t count, line;
  };
  std::vector<Listed> listed;
  ZOO_RETURN_IF_ERROR(EachLine(content, [&](std::string_view line, int64_t number) -> Status {
    std::string_view field[3];
    size_t fields = 0;
    for (std::string_view rest = line;; ++fields) {
      const size_t tab = rest.find('\t');
      if (fields < 3) field[fields] = rest.substr(0, tab);
      if (tab == std::string_view::npos) break;
      rest.remove_prefix(tab + 1);
    }
    ++fields;
    int64_t count = 0;
    if (fields < 2 || fields > 3 || !ParseCount(field[std::min<size_t>(fields, 3) - 1], &count)) {
      return BadLine(number, "must be a word, perhaps the next word, and a count from 1 to 10^15, divided by tabs");
    }
    for (size_t f = 0; f + 1 < fields; ++f) {
      if (field[f].empty() || field[f].size() > kMaxWordBytes) return BadLine(number, "a word must have 1 to 255 bytes");
    }
    if (fields == 3) {
      listed.push_back({field[0], field[1], count, number});
      return Status::Ok();
    }
    if (!table_.Insert(field[0]).second) return BadLine(number, "the word '" + std::string(field[0]) + "' is counted twice");
    count_.push_back(count);
    total += count;
    if (total > int64_t{1} << 52) return BadLine(number, "the counts add up to more than 2^52");
    return Status::Ok();
  }));
  if (empty()) return InvalidFile("it counts no words; make one with zoo.data.words.count_words");
  leads_.assign(count_.size(), false);
  size_t slots = 16;
  while (slots < 2 * listed.size()) slots *= 2;
  pairs_.assign(slots, Pair{});
  pair_bits_.Reserve(listed.size());
  for (const Listed& p : listed) {
    const int32_t word = table_.Find(p.word), next = table_.Find(p.next);
    if (word < 0 || next < 0) {
      return BadLine(p.line, "the word '" + std::string(word < 0 ? p.word : p.next) + "' of a pair has no count of its own");
    }
    const double log_p = std::log10(static_cast<double>(p.count) / static_cast<double>(count_[static_cast<size_t>(word)]));
    if (LogPair(word, next) != nullptr) {
      return BadLine(p.line, "the pair '" + std::string(p.word) + " " + std::string(p.next) + "' is counted twice");
    }
    const uint64_t key = PairKey(word, next);
    size_t at = Slot(key, slots);
    while (pairs_[at].key != kFree) at = (at + 1) & (slots - 1);
    pairs_[at] = {key, log_p};
    pair_bits_.Add(Mix(key));
    leads_[static_cast<size_t>(word)] = true;
  }
  const double n = static_cast<double>(total);
  log_p_.clear();
  for (int64_t c : count_) log_p_.push_back(std::log10(static_cast<double>(c) / n));
  double power = 1;
  for (double& l : log_unknown_) l = std::log10(10.0 / (n * power)), power *= 10;
  size_t letters = 0;
  for (int32_t i = 0; i < table_.size(); ++i) letters += table_.key(i).size();
  beginnings_.Reserve(letters / 2);
  for (int32_t i = 0; i < table_.size(); ++i) {
    uint64_t hash = ByteTable::kSeed;
    for (char c : table_.key(i)) beginnings_.Add(hash = ByteTable::Add(hash, static_cast<unsigned char>(c)));
  }
  next_.assign(count_.size(), -1);
  for (int32_t i = 0; i < table_.size(); ++i) {
    if (!IsPlain(table_.key(i))) continue;
    const auto [at, fresh] = squeezed_.Insert(Squeeze(table_.key(i)));
    if (fresh) first_.push_back(-1);
    next_[static_cast<size_t>(i)] = first_[static_cast<size_t>(at)];
    first_[static_cast<size_t>(at)] = i;
  }
  return Status::Ok();
}

const double* Words::LogPair(int32_t word, int32_t next) const noexcept {
  const uint64_t key = PairKey(word, next);
  if (!pair_bits_.MayHave(Mix(key))) return nullptr;
  for (size_t at = Slot(key, pairs_.size());; at = (at + 1) & (pairs_.size() - 1)) {
    if (pairs_[at].key == key) return &pairs_[at].log_p;
    if (pairs_[at].key == kFree) return nullptr;
  }
}

void Words::Divide(const char32_t* text, size_t begin, size_t end, Scratch& s, std::vector<uint8_t>* lengths) const {
  const size_t n = end - begin;
  const size_t cells = (n + 1) * kWidth;
  if (s.id.size() < cells) s.id.resize(cells), s.best.resize(cells), s.choice.resize(cells);
  std::fill_n(s.best.begin() + static_cast<int64_t>(n * kWidth), kWidth, 0.0);
  s.bytes.clear();
  s.offset.clear();
  for (size_t i = begin; i < end; ++i) {
    s.offset.push_back(s.bytes.size());
    Encode(text[i], &s.bytes);
  }
  s.offset.push_back(s.bytes.size());
  for (size_t i = 0; i < n; ++i) {
    const size_t most = std::min<size_t>(kMaxWord, n - i);
    int32_t* id = s.id.data() + i * kWidth;
    uint64_t hash = ByteTable::kSeed;
    size_t k = 1;
    for (; k <= most; ++k) {
      for (size_t b = s.offset[i + k - 1]; b < s.offset[i + k]; ++b) hash = ByteTable::Add(hash, static_cast<unsigned char>(s.bytes[b]));
      if (!beginnings_.MayHave(hash)) break;
      id[k] = table_.Find(std::string_view(s.bytes).substr(s.offset[i], s.offset[i + k] - s.offset[i]), hash);
    }
    for (; k <= most; ++k) id[k] = -1;
  }
  // From the end on, as the sums of the reference run: best[i][b] is the probability of text[i, n) after a word of b characters.
  for (size_t i = n; i-- > 0;) {
    const int most = static_cast<int>(std::min<size_t>(kMaxWord, n - i));
    const int32_t* id = s.id.data() + i * kWidth;
    const auto rest = [&](int k) { return s.best[(i + static_cast<size_t>(k)) * kWidth + static_cast<size_t>(k)]; };
    // Of equals the longest, as the reference takes it.
    const auto better = [](double value, int length, double than, int than_length) { return value > than || (value == than && length > than_length); };
    double alone[kWidth], plain = kNever, value = kNever;  // plain: the best of unknown words; value: of all
    int known[kWidth], knowns = 0, plain_length = 0, length = 0;
    for (int k = 1; k <= most; ++k) {
      alone[k] = (id[k] >= 0 ? log_p_[static_cast<size_t>(id[k])] : log_unknown_[k]) + rest(k);
      if (better(alone[k], k, value, length)) value = alone[k], length = k;
      if (id[k] >= 0) {
        known[knowns++] = k;
      } else if (better(alone[k], k, plain, plain_length)) {
        plain = alone[k], plain_length = k;
      }
    }
    const double best = value;
    const int best_length = length;
    for (size_t b = 0; b <= std::min<size_t>(kMaxWord, i); ++b) {
      value = best, length = best_length;
      const int32_t before = b > 0 ? s.id[(i - b) * kWidth + b] : -1;
      if (before >= 0 && leads_[static_cast<size_t>(before)]) {
        value = plain, length = plain_length;
        for (int j = 0; j < knowns; ++j) {
          const int k = known[j];
          const double* pair = LogPair(before, id[k]);
          const double v = pair != nullptr ? *pair + rest(k) : alone[k];
          if (better(v, k, value, length)) value = v, length = k;
        }
      }
      s.best[i * kWidth + b] = value;
      s.choice[i * kWidth + b] = static_cast<uint8_t>(length);
    }
  }
  lengths->clear();
  for (size_t i = 0, b = 0; i < n; i += b) {
    b = s.choice[i * kWidth + b];
    lengths->push_back(static_cast<uint8_t>(b));
  }
}

std::string_view Words::Shorten(std::string_view word) const {
  const int32_t form = squeezed_.Find(Squeeze(word));
  int32_t best = -1;
  const auto better = [&](int32_t a, int32_t b) {
    const int64_t ca = count_[static_cast<size_t>(a)], cb = count_[static_cast<size_t>(b)];
    if (ca != cb) return ca > cb;
    const std::string_view wa = table_.key(a), wb = table_.key(b);
    return wa.size() != wb.size() ? wa.size() > wb.size() : wa < wb;
  };
  for (int32_t i = form < 0 ? -1 : first_[static_cast<size_t>(form)]; i >= 0; i = next_[static_cast<size_t>(i)]) {
    if ((best < 0 || better(i, best)) && Halves(word, table_.key(i))) best = i;
  }
  return best < 0 ? word : table_.key(best);
}

}  // namespace zoo::text
