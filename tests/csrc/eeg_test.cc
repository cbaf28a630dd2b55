// SPDX-License-Identifier: Apache-2.0
// Runs every EEG op with many shapes on every instruction set and compares it with the baseline. Buffers have exactly the
// promised size, so that AddressSanitizer sees any access beyond them.
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "testing.h"
#include "zoo/eeg.h"
#include "zoo/isa.h"

namespace {

using zoo::Range;
using zoo::Span;

void Good(const zoo::Status& s) { EXPECT_TRUE(s.ok()) << s.message(); }

// Exactly these values on the heap, none behind them.
template <class T>
std::unique_ptr<T[]> Exact(const std::vector<T>& v, size_t first, size_t count) {
  auto p = std::make_unique<T[]>(count);
  std::copy_n(v.begin() + static_cast<int64_t>(first), count, p.get());
  return p;
}

template <class T>
std::vector<T> Noise(std::mt19937& rng, int64_t n) {
  std::uniform_real_distribution<T> u(-1, 1);
  std::vector<T> x(static_cast<size_t>(n));
  for (T& v : x) v = u(rng);
  return x;
}

template <class T>
double Difference(const std::vector<T>& a, const std::vector<T>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return worst;
}

// The whole, and in pieces of `piece` outputs where the filter allows it; the same bits.
std::vector<double> RunFilter(const zoo::Filter& f, const std::vector<double>& x, int64_t channels, int64_t piece) {
  const int64_t total = static_cast<int64_t>(x.size()) / channels;
  auto state = Take(f.NewState());
  std::vector<double> y;
  if (f.recursive() && f.options().phase == zoo::FilterPhase::kCausal && piece < total) {
    std::vector<double> memory(static_cast<size_t>(f.MemorySize(channels)));
    for (int64_t t = 0; t < total; t += piece) {
      const size_t count = static_cast<size_t>(std::min(piece, total - t) * channels);
      auto in = Exact(x, static_cast<size_t>(t * channels), count);
      auto mem = Exact(memory, 0, memory.size());
      auto out = std::make_unique<double[]>(count);
      f.Continue({in.get(), count}, channels, t == 0, mem.get(), out.get());
      memory.assign(mem.get(), mem.get() + memory.size());
      y.insert(y.end(), out.get(), out.get() + count);
    }
    return y;
  }
  if (f.recursive()) piece = total;
  for (int64_t t = 0; t < total; t += piece) {
    const Range rows{t, std::min(t + piece, total)}, need = f.Needed(rows, total);
    const size_t count = static_cast<size_t>(need.size() * channels);
    auto in = Exact(x, static_cast<size_t>(need.begin * channels), count);
    auto out = std::make_unique<double[]>(static_cast<size_t>(rows.size() * channels));
    Good(f.Reserve(rows, channels, *state));
    Good(f.Compute({in.get(), count}, need, total, channels, rows, {out.get(), static_cast<size_t>(rows.size() * channels)}, *state));
    y.insert(y.end(), out.get(), out.get() + rows.size() * channels);
  }
  return y;
}

TEST(Eeg, Filters) {
  std::mt19937 rng(7);
  std::vector<zoo::FilterOptions> all;
  for (const auto phase : {zoo::FilterPhase::kCausal, zoo::FilterPhase::kZero}) {
    for (const auto pad : {zoo::FilterPad::kOdd, zoo::FilterPad::kEven, zoo::FilterPad::kConstant, zoo::FilterPad::kNone}) {
      zoo::FilterOptions o;
      o.rate = 128;
      o.freqs = {4, 40};
      o.phase = phase;
      o.pad = pad;
      o.initial = pad == zoo::FilterPad::kOdd ? zoo::FilterInitial::kSteady : zoo::FilterInitial::kZero;
      for (const int32_t order : {1, 4, 9}) o.order = order, all.push_back(o);
      o.design = zoo::FilterDesign::kFir;
      for (const int32_t taps : {1, 7, 47, 49, 101}) o.taps = taps, all.push_back(o);
    }
  }
  for (const zoo::FilterOptions& o : all) {
    for (const int64_t channels : {1, 2, 3, 8, 14, 17}) {
      for (const int64_t n : {1, 2, 70, 333}) {
        const std::vector<double> x = Noise<double>(rng, n * channels);
        std::vector<double> baseline;
        for (const std::string& isa : zoo::SupportedIsas()) {
          const zoo::Filter f = Take(zoo::Filter::Create(o, isa));
          if (n < f.MinSamples()) continue;
          const std::vector<double> whole = RunFilter(f, x, channels, n);
          EXPECT_EQ(RunFilter(f, x, channels, 37), whole) << isa << ": pieces differ, " << channels << " channels, " << n << " samples";
          if (baseline.empty()) baseline = whole;
          EXPECT_LT(Difference(whole, baseline), 1e-11) << isa;
        }
      }
    }
  }
}

TEST(Eeg, BandPowers) {
  std::mt19937 rng(7);
  for (const int64_t window : {2, 16, 31, 50, 128}) {
    for (const int64_t segment : {window, window / 2 + 1}) {
      for (const int64_t channels : {1, 2, 5, 8, 14, 33}) {
        zoo::BandPowerOptions o;
        o.rate = 128;
        o.bands = {0, 64};
        o.window_length = window;
        o.hop_length = window / 3 + 1;
        o.segment_length = segment;
        o.output = zoo::BandOutput::kPower;
        const std::vector<double> x = Noise<double>(rng, (3 * window + 5) * channels);
        const int64_t windows = o.Windows(3 * window + 5);
        std::vector<float> baseline;
        for (const std::string& isa : zoo::SupportedIsas()) {
          const zoo::BandPower p = Take(zoo::BandPower::Create(o, isa));
          auto state = Take(p.NewState());
          std::vector<float> all;
          for (int64_t w = 0; w < windows; ++w) {  // one by one, from exactly their samples
            const size_t count = static_cast<size_t>(window * channels);
            auto in = Exact(x, static_cast<size_t>(w * o.hop_length * channels), count);
            auto out = std::make_unique<float[]>(static_cast<size_t>(channels));
            Good(p.Compute({in.get(), count}, channels, {w, w + 1}, {out.get(), static_cast<size_t>(channels)}, *state));
            all.insert(all.end(), out.get(), out.get() + channels);
          }
          std::vector<float> together(all.size());
          Good(p.Compute({x.data(), x.size()}, channels, {0, windows}, {together.data(), together.size()}, *state));
          EXPECT_EQ(together, all) << isa << ": windows differ";
          if (baseline.empty()) baseline = all;
          EXPECT_LT(Difference(all, baseline), 1e-6) << isa;
        }
      }
    }
  }
}

TEST(Eeg, Topomaps) {
  std::mt19937 rng(7);
  std::normal_distribution<double> normal;
  for (const size_t channels : {3u, 4u, 5u, 14u, 40u}) {
    for (const int32_t size : {1, 2, 7, 32, 33}) {
      for (const auto method : {zoo::MapMethod::kSpline, zoo::MapMethod::kCloughTocher}) {
        if (channels == 3 && method == zoo::MapMethod::kCloughTocher) continue;
        zoo::TopomapOptions o;
        for (size_t i = 0; i < channels; ++i) {
          o.positions.push_back(normal(rng));
          o.positions.push_back(normal(rng));
          o.positions.push_back(std::fabs(normal(rng)) + 0.1);
        }
        o.size = size;
        o.method = method;
        const size_t maps = 67, pixels = static_cast<size_t>(size * size);
        const std::vector<float> values = Noise<float>(rng, static_cast<int64_t>(maps * channels));
        std::vector<float> baseline;
        for (const std::string& isa : zoo::SupportedIsas()) {
          const zoo::Topomap t = Take(zoo::Topomap::Create(o, isa));
          auto state = Take(t.NewState());
          auto in = Exact(values, 0, values.size());
          auto out = std::make_unique<float[]>(maps * pixels);
          Good(t.Compute({in.get(), values.size()}, {out.get(), maps * pixels}, *state));
          const std::vector<float> all(out.get(), out.get() + maps * pixels);
          auto one = Exact(values, (maps - 1) * channels, channels);
          auto image = std::make_unique<float[]>(pixels);
          Good(t.Compute({one.get(), channels}, {image.get(), pixels}, *state));
          EXPECT_TRUE(std::equal(image.get(), image.get() + pixels, all.end() - static_cast<int64_t>(pixels))) << isa << ": a map alone differs";
          if (baseline.empty()) baseline = all;
          EXPECT_LT(Difference(all, baseline), 1e-3) << isa;
        }
      }
    }
  }
  // degenerate layouts: an error or a map, never a crash or a hang
  for (int kind = 0; kind < 300; ++kind) {
    zoo::TopomapOptions o;
    const int n = 3 + kind % 30;
    for (int i = 0; i < n; ++i) {
      const double grid = kind % 7 + 1.0;
      o.positions.push_back(std::round(normal(rng) * grid) / grid);
      o.positions.push_back(kind % 3 == 0 ? 0.0 : std::round(normal(rng) * grid) / grid);
      o.positions.push_back(kind % 5 == 0 ? 1.0 : normal(rng));
    }
    o.size = 9;
    o.method = kind % 2 == 0 ? zoo::MapMethod::kCloughTocher : zoo::MapMethod::kSpline;
    const auto made = zoo::Topomap::Create(o);
    EXPECT_TRUE(made.ok() || !made.status().message().empty()) << "an error without words";
  }
}

}  // namespace
