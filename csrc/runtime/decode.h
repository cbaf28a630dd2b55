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
  std::vector<int32_t> bins;   // of curves, one for each value
  std::vector<int32_t> counts; // of curves, one for each head: how many bins there are
};

// Which of a head's values are given, and the best label of a softmax (-1 for others).
void Judge(const Head& head, Span<const float> values, uint8_t* given, int32_t* best) noexcept;

// Appends the answer of one head. An error where labels and output do not have the same size.
Status Decode(const Head& head, Span<const float> output, Answers* answers);

// The same for a head that gives a curve; output: [steps, bins].
Status DecodeCurve(const Head& head, Span<const float> output, int64_t steps, Answers* answers);

// An exponential mean of answers over time; embeddings stay as they are.
class Smoother {
 public:
  // seconds: time constant; 0: nothing is smoothed.
  Smoother(const std::vector<Head>& heads, double seconds) : heads_(heads), seconds_(seconds) {}
  // The next answers, elapsed seconds after the ones before, become the mean so far, and are judged again.
  void Apply(double elapsed, Answers* answers);

 private:
  const std::vector<Head>& heads_;
  double seconds_;
  std::vector<double> mean_;
};

}  // namespace zoo

#endif  // ZOO_RUNTIME_DECODE_H_
