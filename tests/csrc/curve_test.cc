// SPDX-License-Identifier: Apache-2.0
// Curves of any length and any window, and what decoders make of outputs of any numbers.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "zoo/curve.h"
#include "zoo/decode.h"

namespace {

using zoo::Span;

std::vector<double> Mean(const std::vector<double>& values, int64_t window) {
  std::vector<double> out(values.size());
  const zoo::Status status = zoo::MovingMean({values.data(), values.size()}, window, {out.data(), out.size()});
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

TEST(Curve, MeansAndMediansOfAnyWindow) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  for (size_t n = 1; n < 40; ++n) {
    std::vector<double> values(n), medians(n);
    for (double& v : values) v = normal(random);
    for (int64_t window = 1; window < 60; window += 2) {
      const std::vector<double> means = Mean(values, window);
      ASSERT_TRUE(zoo::MovingMedian({values.data(), n}, window, {medians.data(), n}).ok());
      const int64_t width = std::min<int64_t>(window, n % 2 ? n : n - 1), half = width / 2, last = static_cast<int64_t>(n) - 1;
      for (int64_t i = 0; i <= last; ++i) {
        const int64_t middle = std::clamp<int64_t>(i, half, last - half);
        double sum = 0;
        std::vector<double> about;
        for (int64_t k = -half; k <= half; ++k) {
          sum += values[static_cast<size_t>(middle + k)];
          about.push_back(values[static_cast<size_t>(std::clamp<int64_t>(i + k, 0, last))]);
        }
        std::sort(about.begin(), about.end());
        EXPECT_NEAR(means[static_cast<size_t>(i)], sum / static_cast<double>(width), 1e-12);
        EXPECT_EQ(medians[static_cast<size_t>(i)], about[static_cast<size_t>(half)]);
      }
    }
  }
}

TEST(Curve, WhatCannotBeSmoothedIsRefused) {
  std::vector<double> values(3, 0.0), out(3);
  const Span<double> to{out.data(), 3};
  for (const int64_t window : {int64_t{0}, int64_t{2}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    EXPECT_FALSE(zoo::MovingMean({values.data(), 3}, window, to).ok());
    EXPECT_FALSE(zoo::MovingMedian({values.data(), 3}, window, to).ok());
  }
  EXPECT_FALSE(zoo::MovingMean({}, 1, {}).ok());
  EXPECT_FALSE(zoo::MovingMedian({}, 1, {}).ok());
  for (const double bad : {NAN, INFINITY}) {
    values[1] = bad;
    EXPECT_FALSE(zoo::MovingMedian({values.data(), 3}, 3, to).ok());
  }
  const std::vector<int32_t> bins = {0, 1, 1};
  std::vector<float> curve(3);
  zoo::SmoothOptions smooth;
  for (const auto& [cutoff, rate, order] : {std::tuple{0.5, 1.0, 6}, {NAN, 1.0, 6}, {0.1, 0.0, 6}, {0.1, 1.0, 0}, {0.1, 1.0, 1000}, {-1.0, 1.0, 6}}) {
    smooth.cutoff = cutoff, smooth.rate = rate, smooth.order = order;
    EXPECT_FALSE(zoo::MakeCurve({bins.data(), 3}, 2, -1, 1, smooth, {curve.data(), 3}).ok()) << cutoff << " " << rate << " " << order;
  }
  EXPECT_FALSE(zoo::MakeCurve({bins.data(), 3}, 1, -1, 1, {}, {curve.data(), 3}).ok());
  EXPECT_FALSE(zoo::MakeCurve({}, 2, -1, 1, {}, {}).ok());
}

TEST(Curve, WithoutSmoothingItGoesFromEndToEnd) {
  const std::vector<int32_t> bins = {0, 3, 6};
  std::vector<float> curve(3);
  ASSERT_TRUE(zoo::MakeCurve({bins.data(), 3}, 7, -1, 1, {}, {curve.data(), 3}).ok());
  EXPECT_EQ(curve, (std::vector<float>{-1, 0, 1}));
}

TEST(Decode, OutputsOfAnyNumbers) {
  const float nan = NAN, inf = INFINITY;
  std::mt19937 random(2);
  const float odd[] = {nan, inf, -inf, 0.0f, -0.0f, 1e-45f, 3e38f, -3e38f, 0.5f};
  for (int turn = 0; turn < 2000; ++turn) {
    zoo::Head head;
    head.kind = static_cast<zoo::DecodeKind>(random() % 4);
    head.labels.resize(random() % 4), head.thresholds.assign(head.labels.size(), 0.5);
    head.low = -1, head.high = 1, head.normalize = random() % 2 == 0;
    std::vector<float> output(random() % 4);
    for (float& v : output) v = odd[random() % std::size(odd)];
    zoo::Answers answers;
    const zoo::Status status = zoo::Decode(head, {output.data(), output.size()}, &answers);
    const bool embedding = head.kind == zoo::DecodeKind::kEmbedding;
    const bool fits = embedding || (output.size() == head.labels.size() && (head.kind != zoo::DecodeKind::kSoftmax || !output.empty()));
    ASSERT_EQ(status.ok(), fits) << status.message();
    if (!fits) continue;
    EXPECT_EQ(answers.values.size(), output.size());
    EXPECT_EQ(answers.given.size(), output.size());
    EXPECT_EQ(answers.best[0] >= 0, head.kind == zoo::DecodeKind::kSoftmax);
  }
}

TEST(Decode, ACurvesBinIsTheFirstOfTheHighest) {
  zoo::Head head;
  head.kind = zoo::DecodeKind::kCurve, head.low = 0, head.high = 2;
  const std::vector<float> output = {1, 2, 2, NAN, 5, 1, 0, 0, 0, 1, NAN, 3};
  zoo::Answers answers;
  ASSERT_TRUE(zoo::DecodeCurve(head, {output.data(), output.size()}, 4, true, &answers).ok());
  EXPECT_EQ(answers.bins, (std::vector<int32_t>{1, 0, 0, 1}));
  EXPECT_EQ(answers.values, (std::vector<float>{1, 0, 0, 1}));
  EXPECT_FALSE(zoo::DecodeCurve(head, {output.data(), 4}, 4, true, &answers).ok()) << "one bin";
  EXPECT_FALSE(zoo::DecodeCurve(head, {output.data(), 0}, 0, true, &answers).ok()) << "no steps";
}

}  // namespace
