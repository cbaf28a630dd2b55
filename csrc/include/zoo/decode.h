// SPDX-License-Identifier: Apache-2.0
// From an engine output to labels and numbers.
#ifndef ZOO_DECODE_H_
#define ZOO_DECODE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "zoo/curve.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

enum class DecodeKind : int32_t { kSoftmax, kSigmoid, kRegression, kEmbedding, kCurve };
const char* DecodeKindName(DecodeKind kind) noexcept;

// How one answer is read from an engine output. A model that gives one answer has one head without a name.
struct Head {
  std::string name, output;
  DecodeKind kind = DecodeKind::kSoftmax;
  std::vector<std::string> labels;
  std::vector<double> thresholds;  // sigmoid
  double low = 0, high = 0;        // regression, curve
  bool normalize = false;          // embedding
  double period = 0, window = 0;   // curve: seconds from one step to the next, and that a step covers
  int64_t context = 0;             // curve: steps before one that the engine looks at
  SmoothOptions smooth;            // curve
};

struct Answers {
  std::vector<float> values;   // of all heads, one after another: probabilities, values or an embedding
  std::vector<uint8_t> given;  // one for each value: 1 where its label is given
  std::vector<int32_t> best;   // one for each head: index of the best label of a softmax, -1 for others
  std::vector<int64_t> sizes;  // one for each head: how many of the values are its
  std::vector<int32_t> bins;   // of curves, one for each value
  std::vector<int32_t> counts; // of curves, one for each head: how many bins there are

  void Clear() noexcept { values.clear(), given.clear(), best.clear(), sizes.clear(), bins.clear(), counts.clear(); }
};

// Which of a head's values are given, and the best label of a softmax (-1 for others).
void Judge(const Head& head, Span<const float> values, uint8_t* given, int32_t* best) noexcept;

// Appends the answer of one head. An error where labels and output do not have the same size.
Status Decode(const Head& head, Span<const float> output, Answers* answers);

// The same for a head that gives a curve; output: [steps, bins]. smooth: as the head says, else not at all.
Status DecodeCurve(const Head& head, Span<const float> output, int64_t steps, bool smooth, Answers* answers);

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

#endif  // ZOO_DECODE_H_
