// SPDX-License-Identifier: Apache-2.0
// From an engine output to labels and numbers: what zoo/runtime/prediction.py does.
#ifndef ZOO_RUNTIME_DECODE_H_
#define ZOO_RUNTIME_DECODE_H_

#include <cstdint>
#include <vector>

#include "bundle/manifest.h"
#include "zoo/span.h"

namespace zoo {

struct Answers {
  std::vector<float> values;   // of all heads, one after another: probabilities, values or an embedding
  std::vector<uint8_t> given;  // one for each value: 1 where its label is given
  std::vector<int32_t> best;   // one for each head: index of the best label of a softmax, -1 for others
  std::vector<int64_t> sizes;  // one for each head: how many of the values are its
};

// Appends the answer of one head. An error where labels and output do not have the same size.
Status Decode(const Head& head, Span<const float> output, Answers* answers);

}  // namespace zoo

#endif  // ZOO_RUNTIME_DECODE_H_
