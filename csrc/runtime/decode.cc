// SPDX-License-Identifier: Apache-2.0
#include "runtime/decode.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace zoo {

Status Decode(const Head& head, Span<const float> output, Answers* answers) {
  if (head.kind == DecodeKind::kCurve) return UnsupportedBundle("curves are not decoded here");
  const size_t n = output.size(), first = answers->values.size();
  if (head.kind != DecodeKind::kEmbedding && n != head.labels.size()) {
    return InvalidBundle("the engine's output " + head.output + " has " + std::to_string(n) + " values for " + std::to_string(head.labels.size()) + " labels");
  }
  answers->values.insert(answers->values.end(), output.begin(), output.end());
  answers->given.resize(first + n, 0);
  float* values = answers->values.data() + first;
  uint8_t* given = answers->given.data() + first;
  int32_t best = -1;
  switch (head.kind) {
    case DecodeKind::kSoftmax:
      if (n == 0) return InvalidBundle("the engine's output " + head.output + " is empty");
      best = static_cast<int32_t>(std::max_element(values, values + n) - values);
      given[best] = 1;
      break;
    case DecodeKind::kSigmoid:
      for (size_t i = 0; i < n; ++i) given[i] = static_cast<double>(values[i]) >= head.thresholds[i];
      break;
    case DecodeKind::kRegression:
      for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(std::min(std::max(static_cast<double>(values[i]), head.low), head.high));
      break;
    case DecodeKind::kEmbedding: {
      double square = 0;
      for (size_t i = 0; i < n; ++i) square += static_cast<double>(values[i]) * values[i];
      const float norm = static_cast<float>(std::max(std::sqrt(square), 1e-12));
      for (size_t i = 0; head.normalize && i < n; ++i) values[i] /= norm;
      break;
    }
    case DecodeKind::kCurve: break;
  }
  answers->best.push_back(best);
  answers->sizes.push_back(static_cast<int64_t>(n));
  return Status::Ok();
}

}  // namespace zoo
