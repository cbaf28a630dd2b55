// SPDX-License-Identifier: Apache-2.0
// Runs every audio op with many shapes on every instruction set and compares it with the baseline. Buffers have
// exactly the promised size, so that AddressSanitizer sees any access beyond them.
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "testing.h"
#include "zoo/isa.h"
#include "zoo/pipeline.h"
#include "zoo/signal.h"
#include "zoo/spectral.h"

namespace {

using zoo::Span;

// Exactly n floats on the heap, none behind them.
std::unique_ptr<float[]> Exact(const std::vector<float>& v) {
  auto p = std::make_unique<float[]>(v.size());
  std::copy(v.begin(), v.end(), p.get());
  return p;
}

double Difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - b[i]));
  return worst;
}

std::vector<float> Noise(std::mt19937& rng, int64_t n) {
  std::uniform_real_distribution<float> u(-1, 1);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = u(rng);
  return x;
}

TEST(Audio, MfccAndStft) {
  std::mt19937 rng(7);
  for (const int n_fft : {16, 18, 50, 64, 120, 256, 400, 486, 512, 1000, 2048}) {
    for (const int64_t n : {int64_t{1}, int64_t{2}, int64_t{n_fft - 1}, int64_t{n_fft}, int64_t{3 * n_fft + 7}}) {
      const std::vector<float> wave = Noise(rng, n);
      const auto exact = Exact(wave);
      std::vector<float> reference;
      for (const std::string& isa : zoo::SupportedIsas()) {
        zoo::MfccOptions o;
        o.n_fft = n_fft;
        o.hop_length = 1 + static_cast<int>(rng() % 1) + n_fft / 3;
        o.n_mels = 23;
        o.n_mfcc = 19;
        o.pad_mode = n % 2 == 0 ? zoo::PadMode::kReflect : zoo::PadMode::kConstant;
        const zoo::Mfcc op = Take(zoo::Mfcc::Create(o, isa));
        const auto state = Take(op.NewState());
        const zoo::Range frames{0, o.Frames(n)};
        EXPECT_TRUE(op.Reserve(frames.end, *state).ok()) << "n_fft " << n_fft;
        const size_t count = static_cast<size_t>(frames.end) * 19;
        const auto out = std::make_unique<float[]>(count);
        const zoo::Status s = op.Compute(zoo::Signal::Whole({exact.get(), wave.size()}), frames, {out.get(), count}, *state);
        EXPECT_TRUE(s.ok()) << s.message();
        const std::vector<float> got(out.get(), out.get() + count);
        if (reference.empty()) reference = got;
        EXPECT_LT(Difference(got, reference), 2e-3) << isa << " n_fft " << n_fft << " n " << n;
        zoo::StftOptions so;
        static_cast<zoo::FrameOptions&>(so) = o;
        const zoo::Stft stft = Take(zoo::Stft::Create(so, isa));
        const auto stft_state = Take(stft.NewState());
        const size_t cells = static_cast<size_t>(so.Frames(n) * stft.columns());
        const auto spectrum = std::make_unique<float[]>(cells);
        EXPECT_TRUE(stft.Compute(zoo::Signal::Whole({exact.get(), wave.size()}), frames, {spectrum.get(), cells}, *stft_state).ok()) << "stft";
        // each third of the frames from exactly the samples that it needs
        for (int third = 0; third < 3; ++third) {
          const zoo::Range some{frames.end * third / 3, frames.end * (third + 1) / 3}, need = so.Needed(some, n);
          const auto part = Exact(std::vector<float>(wave.begin() + need.begin, wave.begin() + need.end));
          const size_t part_cells = static_cast<size_t>(some.size() * stft.columns());
          const auto to = std::make_unique<float[]>(part_cells);
          const zoo::Signal signal{{part.get(), static_cast<size_t>(need.size())}, need.begin, n};
          EXPECT_TRUE(stft.Compute(signal, some, {to.get(), part_cells}, *stft_state).ok()) << "stft of a part";
          EXPECT_TRUE(std::equal(to.get(), to.get() + part_cells, spectrum.get() + some.begin * stft.columns())) << isa << " n_fft " << n_fft
              << ": a part differs";
        }
      }
    }
  }
}

// Against the definition, since instruction sets could all be wrong in the same way, and there is only one on arm64.
TEST(Audio, DftByItsDefinition) {
  std::mt19937 rng(7);
  for (const int n : {16, 64, 120, 256, 480}) {
    const std::vector<float> wave = Noise(rng, n);
    for (const std::string& isa : zoo::SupportedIsas()) {
      zoo::StftOptions o;
      o.n_fft = n;
      o.hop_length = n;
      o.center = false;
      o.output = zoo::StftOutput::kComplex;
      const zoo::Stft stft = Take(zoo::Stft::Create(o, isa));
      const auto state = Take(stft.NewState());
      std::vector<float> out(static_cast<size_t>(stft.columns()), 1e9f);
      EXPECT_TRUE(stft.Compute(zoo::Signal::Whole({wave.data(), wave.size()}), {0, 1}, {out.data(), out.size()}, *state).ok()) << "stft";
      for (int k = 0; k <= n / 2; ++k) {
        double re = 0, im = 0;
        for (int i = 0; i < n; ++i) {
          const double x = wave[static_cast<size_t>(i)] * (0.5 - 0.5 * std::cos(2 * M_PI * i / n));
          re += x * std::cos(2 * M_PI * k * i / n);
          im -= x * std::sin(2 * M_PI * k * i / n);
        }
        const float* got = out.data() + 2 * k;
        EXPECT_LT(std::fabs(got[0] - re), 1e-4) << isa << ", bin " << k << " of " << n << ": " << got[0] << ", not " << re;
        EXPECT_LT(std::fabs(got[1] - im), 1e-4) << isa << ", bin " << k << " of " << n << ": " << got[1] << ", not " << im;
      }
    }
  }
}

TEST(Audio, Resample) {
  std::mt19937 rng(7);
  for (const auto& [in, out] : {std::pair<int, int>{16000, 22050}, {48000, 22050}, {3, 2}, {1, 7}, {44100, 44100}, {22050, 16001}, {8000, 8001}, {8000, 16000}, {96000, 48000}, {8000, 24000}, {48000, 16000}, {16000, 48000}, {192000, 8000}, {768000, 3000}, {5, 1024}}) {
    for (const int64_t n : {1, 5, 99, 5000}) {
      const std::vector<float> wave = Noise(rng, n);
      const auto exact = Exact(wave);
      std::vector<float> reference;
      for (const std::string& isa : zoo::SupportedIsas()) {
        const zoo::Resample op = Take(zoo::Resample::Create({in, out}, isa));
        const auto state = Take(op.NewState());
        const int64_t m = op.OutputSize(n);

        const auto got = std::make_unique<float[]>(static_cast<size_t>(m));
        EXPECT_TRUE(op.Compute({exact.get(), wave.size()}, 0, n, {0, m}, {got.get(), static_cast<size_t>(m)}, *state).ok()) << "whole";
        const int64_t cut = m / 3;
        for (const zoo::Range r : {zoo::Range{0, cut}, zoo::Range{cut, m}}) {
          const zoo::Range need = zoo::Resample::Needed(op.options(), r, n);
          const auto part = Exact(std::vector<float>(wave.begin() + need.begin, wave.begin() + need.end));
          std::vector<float> to(static_cast<size_t>(r.size()));
          EXPECT_TRUE(op.Compute({part.get(), static_cast<size_t>(need.size())}, need.begin, n, r, {to.data(), to.size()}, *state).ok()) << "part";
          EXPECT_TRUE(std::equal(to.begin(), to.end(), got.get() + r.begin)) << isa << " " << in << " to " << out << ": a range differs";
        }
        const std::vector<float> all(got.get(), got.get() + m);
        if (reference.empty()) reference = all;
        EXPECT_LT(Difference(all, reference), 4e-6) << isa << " " << in << " to " << out;
      }
    }
  }
}

TEST(Audio, Log) {
  std::mt19937 rng(7);
  for (const int64_t n : {1, 15, 16, 17, 1000}) {
    const auto exact = Exact(Noise(rng, n));
    for (const std::string& isa : zoo::SupportedIsas()) {
      const zoo::Log op = Take(zoo::Log::Create({zoo::LogBase::k10, 1e-3}, isa));
      const auto out = std::make_unique<float[]>(static_cast<size_t>(n));
      EXPECT_TRUE(op.Compute({exact.get(), static_cast<size_t>(n)}, {out.get(), static_cast<size_t>(n)}).ok()) << "log";
      for (int64_t i = 0; i < n; ++i) {
        EXPECT_LE(std::fabs(out[i] - std::log10(std::max(exact[i], 1e-3f))), 5e-7) << isa << ": log10(" << exact[i] << ") is " << out[i];
      }
    }
  }
}

TEST(Audio, Pipeline) {
  std::mt19937 rng(7);
  const std::vector<zoo::OpDesc> ops = {
      {"resample", {{"rate", int64_t{22050}}}},
      {"fit", {{"length", int64_t{3000}}}},
      {"mfcc", {}},
      {"standardize", {}},
  };
  for (const std::string& isa : zoo::SupportedIsas()) {
    const zoo::Pipeline p = Take(zoo::Pipeline::Create(ops, isa));
    const auto state = Take(p.NewState());
    for (const int rate : {8000, 22050, 192000}) {
      for (const int64_t n : {int64_t{1}, int64_t{700}, int64_t{90000}}) {
        const std::vector<float> wave = Noise(rng, n);
        zoo::Range need;
        EXPECT_TRUE(p.InputRange(zoo::AudioView({}, rate, 0, n).extent, &need).ok()) << "range";
        const auto part = Exact(std::vector<float>(wave.begin() + need.begin, wave.begin() + need.end));
        const auto out = std::make_unique<float[]>(6 * 39);
        const zoo::Status s = p.Run(zoo::AudioView({part.get(), static_cast<size_t>(need.size())}, rate, need.begin, n), out.get(), *state);
        EXPECT_TRUE(s.ok()) << s.message();
      }
    }
  }
  EXPECT_FALSE(zoo::Pipeline::Create({{"fit", {{"length", std::string("x")}}}}).ok()) << "a bad parameter was taken";
}

// A stream in chunks of every size gives the bits of the whole run; rows computed by themselves too.
TEST(Audio, Stream) {
  std::mt19937 rng(7);
  const std::vector<zoo::OpDesc> ops = {{"resample", {{"rate", int64_t{16000}}}}, {"resample", {{"rate", int64_t{22050}}}}};
  for (const std::string& isa : zoo::SupportedIsas()) {
    const zoo::Pipeline p = Take(zoo::Pipeline::Create(ops, isa));
    const auto state = Take(p.NewState());
    for (const int64_t n : {1, 300, 7001}) {
      const std::vector<float> wave = Noise(rng, n);
      const zoo::ConstView whole = zoo::AudioView({wave.data(), wave.size()}, 44100, 0, n);
      zoo::Extent extent;
      EXPECT_TRUE(p.OutputExtent(whole.extent, &extent).ok()) << "extent";
      std::vector<float> expected(static_cast<size_t>(extent.count()));
      EXPECT_TRUE(p.Run(whole, expected.data(), *state).ok()) << "run";
      for (int64_t at = 0; at < extent.dim[0]; at += 97) {
        const zoo::Range rows{at, std::min<int64_t>(at + 97, extent.dim[0])};
        const auto part = std::make_unique<float[]>(static_cast<size_t>(rows.size()));
        EXPECT_TRUE(p.RunRows(whole, rows, part.get(), *state).ok()) << "rows";
        EXPECT_TRUE(std::equal(part.get(), part.get() + rows.size(), expected.begin() + rows.begin)) << isa << ": rows differ";
      }
      for (const int64_t most : {1, 50, 8000}) {
        zoo::Extent format;
        format.rate = 44100;
        zoo::PipelineStream stream = Take(zoo::PipelineStream::Create(p, format));
        std::vector<float> got;
        const auto keep = [&] {
          const float* rows = static_cast<const float*>(stream.data());
          if (stream.extent().dim[0] > 0) got.insert(got.end(), rows, rows + stream.extent().count());
        };
        for (int64_t at = 0; at < n;) {
          const int64_t size = std::min<int64_t>(n - at, static_cast<int64_t>(rng() % static_cast<uint64_t>(most)) + 1);
          const auto chunk = Exact(std::vector<float>(wave.begin() + at, wave.begin() + at + size));
          EXPECT_TRUE(stream.Push(chunk.get(), size, false).ok()) << "push";
          keep();
          at += size;
        }
        EXPECT_TRUE(stream.Push(nullptr, 0, true).ok()) << "end";
        keep();
        EXPECT_EQ(got, expected) << isa << ": a stream of " << n << " samples differs";
        EXPECT_FALSE(stream.Push(nullptr, 0, true).ok()) << "a push after the end was taken";
      }
    }
  }
}

}  // namespace
