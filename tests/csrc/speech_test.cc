// SPDX-License-Identifier: Apache-2.0
// Runs every speech op with many shapes on every instruction set, compares it with the baseline, and parts of its output
// with the whole. Buffers have exactly the promised size, so that AddressSanitizer sees any access beyond them.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "testing.h"
#include "zoo/isa.h"
#include "zoo/speech.h"

namespace {

using zoo::Range;
using zoo::Span;

std::vector<float> Noise(std::mt19937& rng, int64_t n) {
  std::uniform_real_distribution<float> u(-1, 1);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = u(rng);
  return x;
}

// Rows [rows.begin, rows.end) computed from exactly the input rows that they need. `width`, `out_width`: values a row.
using Compute = std::function<zoo::Status(Span<const float>, int64_t first, Range rows, Span<float>)>;
std::vector<float> Part(const std::vector<float>& in, int64_t width, Range need, Range rows, int64_t out_width, const Compute& compute) {
  const size_t held = static_cast<size_t>(need.size() * width), count = static_cast<size_t>(rows.size() * out_width);
  const auto part = std::make_unique<float[]>(held);
  std::copy(in.begin() + need.begin * width, in.begin() + need.end * width, part.get());
  const auto out = std::make_unique<float[]>(count);
  const zoo::Status s = compute({part.get(), held}, need.begin, rows, {out.get(), count});
  EXPECT_TRUE(s.ok()) << s.message();
  return {out.get(), out.get() + count};
}

// The whole, three parts of it against the whole, and the whole against that of the baseline.
void Check(const char* what, const std::vector<float>& in, int64_t width, int64_t rows, int64_t out_width,
           const std::function<Range(Range)>& needed, const Compute& compute, double bound, std::vector<float>* reference) {
  const std::vector<float> whole = Part(in, width, needed({0, rows}), {0, rows}, out_width, compute);
  for (const Range r : {Range{0, rows / 3}, Range{rows / 3, rows / 2}, Range{rows / 2, rows}}) {
    if (r.size() == 0) continue;
    const std::vector<float> part = Part(in, width, needed(r), r, out_width, compute);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + r.begin * out_width)) << what << ": rows " << r.begin << " to " << r.end
        << " of " << rows << " differ";
  }
  if (reference->empty()) *reference = whole;
  for (size_t i = 0; i < whole.size(); ++i) {
    if (std::fabs(whole[i] - (*reference)[i]) <= bound) continue;
    ADD_FAILURE() << what << ": value " << i << " is " << whole[i] << ", on the baseline " << (*reference)[i];
    break;
  }
}

template <class Options>
void TestFeatures(std::mt19937& rng, const Options& options, double bound) {
  for (const int64_t n : {50, 51, 64, 99, 700, 3001}) {
    const std::vector<float> wave = Noise(rng, n);
    std::vector<float> reference;
    for (const std::string& isa : zoo::SupportedIsas()) {
      const zoo::FrameFeatures op = Take(zoo::FrameFeatures::Create(options, isa));
      const auto state = Take(op.NewState());
      const int64_t frames = op.Frames(n);
      EXPECT_LE(op.Ready(n), frames) << op.name();
      if (frames < 1) continue;
      Check(op.name(), wave, 1, frames, op.columns(), [&](Range r) { return op.Needed(r, n); },
            [&](Span<const float> part, int64_t first, Range rows, Span<float> to) { return op.Compute(part, first, n, rows, to, *state); },
            bound, &reference);
    }
  }
}

TEST(Speech, FrameFeatures) {
  std::mt19937 rng(7);
  for (const bool snip : {true, false}) {
    for (const bool pad : {true, false}) {
      for (const bool raw : {true, false}) {
        for (const double shift : {3.5, 10.0, 60.0}) {
          zoo::KaldiFbankOptions o;
          o.rate = 2000;
          o.num_bins = 7;
          o.snip_edges = snip;
          o.round_to_power_of_two = pad;
          o.frame_shift_ms = shift;
          o.use_energy = o.raw_energy = raw;
          o.use_log_fbank = raw || pad;
          o.window_type = static_cast<zoo::KaldiWindow>(rng() % 5);
          TestFeatures(rng, o, o.use_log_fbank ? 1e-4 : 1e7);
          zoo::KaldiMfccOptions m;
          static_cast<zoo::KaldiOptions&>(m) = o;
          m.raw_energy = raw;
          m.num_ceps = 7;
          TestFeatures(rng, m, 2e-3);
        }
      }
    }
  }
  for (const int window : {50, 64}) {
    zoo::DeepSpeechMfccOptions o;
    o.rate = 2000;
    o.win_length = window;
    o.hop_length = 17;
    o.n_mels = 9;
    o.n_mfcc = 5;
    TestFeatures(rng, o, 1e-4);
  }
}

TEST(Speech, Matrices) {
  std::mt19937 rng(7);
  for (const int64_t columns : {1, 3, 8, 26, 39, 80, 131}) {
    for (const int64_t rows : {1, 2, 30, 211}) {
      const std::vector<float> in = Noise(rng, rows * columns);
      const auto all = [rows](Range) { return Range{0, rows}; };
      std::vector<float> context, cmvn, own, given, sliding[6];
      for (const std::string& isa : zoo::SupportedIsas()) {
        const zoo::ContextOptions around{static_cast<int64_t>(rng() % 4), static_cast<int64_t>(rng() % 12)};
        context.clear();
        Check("context", in, columns, rows, around.Width(columns), [&](Range r) { return around.Needed(r, rows); },
              [&](Span<const float> part, int64_t first, Range r, Span<float> to) { return around.Compute(part, first, rows, columns, r, to); }, 0,
              &context);
        // these need the whole: the part that is asked for is cut out of it
        const auto cut = [&](const std::function<zoo::Status(Span<const float>, Span<float>)>& f) {
          return [&, f](Span<const float> part, int64_t, Range r, Span<float> to) {
            const auto full = std::make_unique<float[]>(part.size());
            const zoo::Status s = f(part, {full.get(), part.size()});
            std::copy(full.get() + r.begin * columns, full.get() + r.end * columns, to.begin());
            return s;
          };
        };
        const zoo::Cmvn normal = Take(zoo::Cmvn::Create({true, true}, isa));
        Check("cmvn", in, columns, rows, columns, all,
              cut([&](Span<const float> x, Span<float> y) { return normal.Compute(x, columns, y); }), 1e-5, &cmvn);
        zoo::StandardizeOptions statistics;
        const zoo::Standardize by_own = Take(zoo::Standardize::Create(statistics, isa));
        Check("standardize", in, columns, rows, columns, all,
              cut([&](Span<const float> x, Span<float> y) { return by_own.Compute(x, columns, y); }), 1e-5, &own);
        statistics.mean.assign(static_cast<size_t>(columns), 0.3);
        statistics.std.assign(static_cast<size_t>(columns), 0.7);
        const zoo::Standardize by_given = Take(zoo::Standardize::Create(statistics, isa));
        Check("standardize, given", in, columns, rows, columns, [](Range r) { return r; },
              [&](Span<const float> part, int64_t, Range, Span<float> to) { return by_given.Compute(part, columns, to); }, 1e-6, &given);
        int i = 0;
        for (const int64_t window : {1, 12, 500}) {
          for (const bool center : {true, false}) {
            const zoo::SlidingCmvn op = Take(zoo::SlidingCmvn::Create({window, 1 + window / 2, center, true}, isa));
            const auto state = Take(op.NewState());
            EXPECT_TRUE(op.Reserve(rows, columns, *state).ok()) << "reserve";
            Check("cmvn_sliding", in, columns, rows, columns, [&](Range r) { return op.Needed(r, rows); },
                  [&](Span<const float> part, int64_t first, Range r, Span<float> to) {
                    return op.Compute(part, first, rows, columns, r, to, *state);
                  },
                  1e-5, &sliding[i++]);
          }
        }
      }
    }
  }
}

TEST(Speech, WaveNormalize) {
  std::mt19937 rng(7);
  for (const int64_t n : {1, 2, 63, 64, 65, 1000, 4096}) {
    const std::vector<float> in = Noise(rng, n);
    std::vector<float> reference;
    for (const std::string& isa : zoo::SupportedIsas()) {
      const zoo::WaveNormalize op = Take(zoo::WaveNormalize::Create(1e-7, isa));
      Check("wave_normalize", in, n, 1, n, [](Range) { return Range{0, 1}; },
            [&](Span<const float> part, int64_t, Range, Span<float> to) { return op.Compute(part, to); }, 1e-5, &reference);
    }
  }
}

TEST(Speech, Refusals) {
  const zoo::FrameFeatures op = Take(zoo::FrameFeatures::Create(zoo::KaldiFbankOptions{}));
  const auto state = Take(op.NewState());
  std::vector<float> wave(500), out(23);
  EXPECT_FALSE(op.Compute({wave.data(), wave.size()}, 0, 500, {0, 2}, {out.data(), out.size()}, *state).ok()) << "a frame beyond the end";
  EXPECT_FALSE(op.Compute({wave.data(), 300}, 0, 500, {0, 1}, {out.data(), out.size()}, *state).ok()) << "samples are missing";
  EXPECT_FALSE(op.Compute({wave.data(), wave.size()}, 0, 500, {0, 1}, {out.data(), 22}, *state).ok()) << "the output is too small";
  const zoo::SlidingCmvn sliding = Take(zoo::SlidingCmvn::Create({}));
  const auto unreserved = Take(sliding.NewState());
  EXPECT_FALSE(sliding.Compute({wave.data(), wave.size()}, 0, 500, 1, {0, 500}, {wave.data(), wave.size()}, *unreserved).ok()) << "not reserved";
  const zoo::ContextOptions around;
  EXPECT_FALSE(around.Compute({wave.data(), 100}, 0, 100, 1, {95, 101}, {out.data(), out.size()}).ok()) << "a row beyond the end";
}

}  // namespace
