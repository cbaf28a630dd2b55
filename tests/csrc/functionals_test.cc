// SPDX-License-Identifier: Apache-2.0
// Runs the functionals with many lengths, windows and hops on every instruction set, in parts and as a whole. Buffers have
// exactly the promised size, so that AddressSanitizer sees any access beyond them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "testing.h"
#include "zoo/functionals.h"
#include "zoo/isa.h"

namespace {

using zoo::Span;

// Values on the heap, none behind them.
struct Exact {
  explicit Exact(int64_t n) : size(static_cast<size_t>(n)), data(new float[size]) {}
  Span<float> span() const { return {data.get(), size}; }
  Span<const float> view() const { return {data.get(), size}; }
  size_t size;
  std::unique_ptr<float[]> data;
};

// Rows of descriptors, a third of group B zero.
Exact Rows(std::mt19937& rng, int64_t n) {
  std::normal_distribution<float> normal;
  Exact rows(n * zoo::kDescriptors);
  for (size_t i = 0; i < rows.size; ++i) {
    const int column = static_cast<int>(i % zoo::kDescriptors) % 38;
    rows.data[i] = column >= 34 && rng() % 3 == 0 ? 0.f : normal(rng) + (column == 34 ? 100.f : 0.f);
  }
  return rows;
}

bool Same(Span<const float> a, Span<const float> b) { return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0; }

TEST(Functionals, Whole) {
  std::mt19937 rng(11);
  for (const int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 200, 1000}) {
    const Exact rows = Rows(rng, n);
    std::vector<float> reference;
    for (const std::string& isa : zoo::SupportedIsas()) {
      const zoo::Functionals op = Take(zoo::Functionals::Create({}, isa));
      const auto state = Take(op.NewState());
      EXPECT_TRUE(op.Reserve(n, *state).ok()) << "reserve";
      const Exact out(zoo::kFunctionals);
      const zoo::Status s = op.Compute(rows.view(), out.span(), *state);
      EXPECT_TRUE(s.ok()) << s.message();
      if (reference.empty()) reference.assign(out.data.get(), out.data.get() + out.size);
      for (size_t i = 0; i < out.size; ++i) {
        const double difference = std::fabs(static_cast<double>(out.data[i]) - reference[i]);
        EXPECT_LE(difference, 1e-5 * (1 + std::fabs(reference[i]))) << isa << " n " << n << " value " << i;
      }
    }
  }
}

TEST(Functionals, Sliding) {
  std::mt19937 rng(11);
  for (const auto& [window, hop] : {std::pair<int, int>{40, 4}, {1, 1}, {2, 3}, {3, 1}, {5, 5}, {17, 2}, {40, 1}, {64, 63}, {100, 7}, {9, 50}, {700, 600}}) {
    zoo::SlidingFunctionalsOptions o;
    o.window = window;
    o.hop = hop;
    const int64_t n = window + hop * 83 + hop / 2, count = o.Windows(n);
    const Exact rows = Rows(rng, n);
    for (const std::string& isa : zoo::SupportedIsas()) {
      const zoo::SlidingFunctionals op = Take(zoo::SlidingFunctionals::Create(o, isa));
      const auto state = Take(op.NewState());
      const Exact all(count * zoo::kFunctionals);
      const zoo::Status s = op.Compute(rows.view(), 0, {0, count}, all.span(), *state);
      EXPECT_TRUE(s.ok()) << s.message();
      int64_t at = 0;
      while (at < count) {
        const zoo::Range part{at, std::min<int64_t>(count, at + 1 + static_cast<int64_t>(rng() % 40))};
        const zoo::Range need = o.Needed(part);
        Exact held(need.size() * zoo::kDescriptors);
        std::copy(rows.data.get() + need.begin * zoo::kDescriptors, rows.data.get() + need.end * zoo::kDescriptors, held.data.get());
        const Exact out(part.size() * zoo::kFunctionals);
        EXPECT_TRUE(op.Compute(held.view(), need.begin, part, out.span(), *state).ok()) << "part";
        EXPECT_TRUE(Same(out.view(), {all.data.get() + part.begin * zoo::kFunctionals, out.size})) << isa << " window " << window << " hop " << hop
            << ": windows " << part.begin << " to " << part.end << " differ";
        at = part.end;
      }
      EXPECT_TRUE(!op.Compute({rows.data.get(), 76}, 0, {0, count}, all.span(), *state).ok() || n == 1) << "too few rows were taken";
    }
  }
}

TEST(Functionals, Refusals) {
  EXPECT_FALSE(zoo::Functionals::Create({-1, 0.01}).ok()) << "tail";
  EXPECT_FALSE(zoo::Functionals::Create({3, NAN}).ok()) << "period";
  EXPECT_FALSE(zoo::SlidingFunctionals::Create({0, 4, 0.01}).ok()) << "window";
  EXPECT_FALSE(zoo::SlidingFunctionals::Create({40, 0, 0.01}).ok()) << "hop";
  const zoo::Functionals op = Take(zoo::Functionals::Create({}));
  const auto state = Take(op.NewState());
  EXPECT_TRUE(op.Reserve(2, *state).ok()) << "reserve";
  const Exact out(zoo::kFunctionals);
  for (const float bad : {NAN, INFINITY, -INFINITY, 2e18f}) {
    const Exact rows(2 * zoo::kDescriptors);
    std::fill(rows.data.get(), rows.data.get() + rows.size, 1.f);
    rows.data[rows.size - 1] = bad;
    const zoo::Status s = op.Compute(rows.view(), out.span(), *state);
    EXPECT_FALSE(s.ok());
    EXPECT_NE(s.message().find("row 1, column 75"), std::string::npos) << s.message();
  }
  EXPECT_FALSE(op.Compute({out.data.get(), 75}, out.span(), *state).ok()) << "75 values";
  const Exact more(3 * zoo::kDescriptors);
  EXPECT_FALSE(op.Compute(more.view(), out.span(), *state).ok()) << "more rows than reserved";
}

}  // namespace
