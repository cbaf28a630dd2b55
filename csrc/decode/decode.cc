// SPDX-License-Identifier: Apache-2.0
#include "zoo/decode.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace zoo {

const char* DecodeKindName(DecodeKind kind) noexcept {
  switch (kind) {
    case DecodeKind::kSoftmax: return "softmax";
    case DecodeKind::kSigmoid: return "sigmoid";
    case DecodeKind::kRegression: return "regression";
    case DecodeKind::kEmbedding: return "embedding";
    case DecodeKind::kCurve: return "curve";
  }
  return "unknown";
}

void Judge(const Head& head, Span<const float> values, uint8_t* given, int32_t* best) noexcept {
  *best = -1;
  std::fill(given, given + values.size(), uint8_t{0});
  if (head.kind == DecodeKind::kSoftmax && values.size() > 0) {
    *best = static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin());
    given[*best] = 1;
  }
  if (head.kind == DecodeKind::kSigmoid) {
    for (size_t i = 0; i < values.size(); ++i) given[i] = static_cast<double>(values[i]) >= head.thresholds[i];
  }
}

Status Decode(const Head& head, Span<const float> output, Answers* answers) {
  const size_t n = output.size(), first = answers->values.size();
  if (head.kind != DecodeKind::kEmbedding && n != head.labels.size()) {
    return InvalidBundle("the engine's output " + head.output + " has " + std::to_string(n) + " values for " + std::to_string(head.labels.size()) + " labels");
  }
  if (head.kind == DecodeKind::kSoftmax && n == 0) return InvalidBundle("the engine's output " + head.output + " is empty");
  answers->values.insert(answers->values.end(), output.begin(), output.end());
  answers->given.resize(first + n, 0);
  float* values = answers->values.data() + first;
  if (head.kind == DecodeKind::kRegression) {
    for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(std::min(std::max(static_cast<double>(values[i]), head.low), head.high));
  }
  if (head.kind == DecodeKind::kEmbedding && head.normalize) {
    double square = 0;
    for (size_t i = 0; i < n; ++i) square += static_cast<double>(values[i]) * values[i];
    const float norm = static_cast<float>(std::max(std::sqrt(square), 1e-12));
    for (size_t i = 0; i < n; ++i) values[i] /= norm;
  }
  int32_t best = -1;
  Judge(head, {values, n}, answers->given.data() + first, &best);
  answers->best.push_back(best);
  answers->sizes.push_back(static_cast<int64_t>(n));
  return Status::Ok();
}

Status DecodeCurve(const Head& head, Span<const float> output, int64_t steps, bool smooth, Answers* answers) {
  const size_t n = static_cast<size_t>(steps), count = n > 0 ? output.size() / n : 0, first = answers->values.size();
  if (count < 2) return InvalidBundle("the engine's output " + head.output + " has " + std::to_string(count) + " bins; a curve needs 2 or more");
  for (const float* row = output.begin(); row != output.end(); row += count) {
    // the first of the highest, or of those that are no number, as numpy.argmax
    size_t best = 0;
    for (size_t i = 1; i < count && !std::isnan(row[best]); ++i) best = row[i] > row[best] || std::isnan(row[i]) ? i : best;
    answers->bins.push_back(static_cast<int32_t>(best));
  }
  answers->values.resize(first + n);
  answers->given.resize(first + n, 0);
  answers->best.push_back(-1);
  answers->sizes.push_back(steps);
  answers->counts.push_back(static_cast<int32_t>(count));
  return MakeCurve({answers->bins.data() + first, n}, static_cast<int64_t>(count), head.low, head.high, smooth ? head.smooth : SmoothOptions(), {answers->values.data() + first, n});
}

void Smoother::Apply(double elapsed, Answers* answers) {
  if (seconds_ <= 0) return;
  std::vector<float>& values = answers->values;
  const bool first = mean_.size() != values.size();
  if (first) mean_.assign(values.begin(), values.end());
  const double weight = first ? 1 : -std::expm1(-elapsed / seconds_);
  size_t at = 0;
  for (size_t h = 0; h < heads_.size(); ++h) {
    const size_t n = static_cast<size_t>(answers->sizes[h]);
    if (heads_[h].kind != DecodeKind::kEmbedding) {
      for (size_t i = at; i < at + n; ++i) {
        mean_[i] += weight * (static_cast<double>(values[i]) - mean_[i]);
        values[i] = static_cast<float>(mean_[i]);
      }
      Judge(heads_[h], {values.data() + at, n}, answers->given.data() + at, &answers->best[h]);
    }
    at += n;
  }
}

}  // namespace zoo
