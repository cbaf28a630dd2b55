// SPDX-License-Identifier: Apache-2.0
// Runs the LLD over many rates, lengths and chunks on every instruction set. Buffers have exactly the promised size, so that
// AddressSanitizer sees any access beyond them; chunks must give the bits of the whole.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "testing.h"
#include "zoo/isa.h"
#include "zoo/lld.h"

namespace {

// Voiced stretches of changing pitch, noise and silence in turn.
std::vector<float> Signal(std::mt19937& rng, int64_t n, int32_t rate) {
  std::uniform_real_distribution<double> u(-1, 1);
  std::vector<float> x(static_cast<size_t>(n));
  double phase = 0, f0 = 120;
  int kind = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (i % (rate / 7) == 0) kind = static_cast<int>(rng() % 4), f0 = 330 + 270 * u(rng);
    phase += f0 * (1 + 0.01 * u(rng)) / rate;
    phase -= std::floor(phase);
    x[static_cast<size_t>(i)] = static_cast<float>(kind == 0 ? 0.0 : kind == 1 ? 0.3 * u(rng) : 0.5 * (2 * phase - 1) + 0.01 * u(rng));
  }
  return x;
}

// Pushes chunks of `chunk` samples; what is passed holds no sample more or less than promised.
std::vector<float> Push(const zoo::Lld& lld, zoo::Lld::State& state, const std::vector<float>& x, int64_t chunk) {
  std::vector<float> out;
  lld.Start(state);
  const int64_t n = static_cast<int64_t>(x.size());
  for (int64_t end = std::min(chunk, n);; end = std::min(end + chunk, n)) {
    const bool last = end == n;
    const int64_t first = std::min(lld.Needed(state), end), rows = std::max<int64_t>(0, (last ? lld.Frames(n) : lld.Ready(end)) - lld.Rows(state));
    const size_t held = static_cast<size_t>(end - first), values = static_cast<size_t>(rows) * zoo::Lld::kColumns;
    std::unique_ptr<float[]> wave(new float[held]), to(new float[values]);
    std::copy(x.begin() + first, x.begin() + end, wave.get());
    const zoo::Status status = lld.Push({wave.get(), held}, first, last, {to.get(), values}, state);
    EXPECT_EQ(status.ok(), !last || lld.Frames(n) > 0) << n << " samples: " << status.message();
    out.insert(out.end(), to.get(), to.get() + values);
    if (last) return out;
  }
}

class LldOnIsa : public testing::TestWithParam<std::string> {};  // of an instruction set
INSTANTIATE_TEST_SUITE_P(Isas, LldOnIsa, testing::ValuesIn(zoo::SupportedIsas()), [](const auto& info) { return info.param; });

// Options that a caller may choose, and those that are refused.
TEST_P(LldOnIsa, OtherOptions) {
  std::mt19937 rng(static_cast<unsigned>(GetParam().size()));  // other numbers on each instruction set
  std::uniform_real_distribution<double> u(0, 1);
  int made = 0, refused = 0;
  for (int i = 0; i < 200; ++i) {
    zoo::LldOptions o;
    o.rate = 4000 + static_cast<int32_t>(20000 * u(rng));
    o.frame = 0.008 + 0.04 * u(rng), o.hop = 0.0005 + 0.02 * u(rng), o.pitch_frame = 0.03 + 0.055 * u(rng);
    o.mel_low = 3000 * u(rng), o.mel_high = 10000 * u(rng), o.band_low = 3000 * u(rng), o.band_high = 10000 * u(rng);
    o.lpc_rate = 1800 + 20000 * u(rng), o.pitch_sigma = 0.01 + 0.5 * u(rng), o.octave_low = 15 + 490 * u(rng);
    o.harmonics = static_cast<int32_t>(17 * u(rng)), o.f0_min = 30 + 100 * u(rng), o.f0_max = 100 + 800 * u(rng), o.search_range = 0.55 * u(rng);
    const zoo::Result<zoo::Lld> lld = zoo::Lld::Create(o, GetParam());
    if (!lld.ok()) {
      EXPECT_EQ(lld.status().code(), zoo::StatusCode::kInvalidArgument) << lld.status().message();
      ++refused;
      continue;
    }
    ++made;
    const auto state = Take(lld.value().NewState());
    const std::vector<float> x = Signal(rng, o.rate / 3, o.rate), whole = Push(lld.value(), *state, x, o.rate);
    const std::vector<float> parts = Push(lld.value(), *state, x, 777);
    EXPECT_TRUE(!whole.empty() && parts.size() == whole.size() && std::memcmp(parts.data(), whole.data(), whole.size() * sizeof(float)) == 0)
        << o.rate << " Hz";
  }
  EXPECT_GT(made, 5) << "sets of options taken";
  EXPECT_GT(refused, 5) << "sets of options refused";
}

TEST_P(LldOnIsa, ChunksAreTheWhole) {
  std::mt19937 rng(static_cast<unsigned>(GetParam().size()));  // other numbers on each instruction set
  for (const int32_t rate : {4000, 11025, 16000, 44100, 384000}) {
    zoo::LldOptions options;
    options.rate = rate;
    const zoo::Lld lld = Take(zoo::Lld::Create(options, GetParam()));
    const auto state = Take(lld.NewState());
    const int64_t shortest = lld.Shortest(), hop = (rate + 50) / 100;
    std::vector<int64_t> lengths = {1, shortest - 1};
    for (int64_t rows = 2; rows < 14; ++rows) lengths.push_back(shortest + (rows - 2) * hop + static_cast<int64_t>(rng() % static_cast<uint32_t>(hop)));
    lengths.push_back(rate < 50000 ? 2 * rate + 7 : rate / 4);
    for (const int64_t n : lengths) {
      const std::vector<float> x = Signal(rng, n, rate), whole = Push(lld, *state, x, n);
      EXPECT_EQ(static_cast<int64_t>(whole.size()), lld.Frames(n) * zoo::Lld::kColumns) << whole.size() << " values";
      for (const int64_t chunk : {hop / 3, hop * 5 + 1, shortest}) {
        const std::vector<float> parts = Push(lld, *state, x, chunk);
        EXPECT_TRUE(parts.size() == whole.size() && (whole.empty() || std::memcmp(parts.data(), whole.data(), whole.size() * sizeof(float)) == 0))
            << rate << " Hz, " << n << " samples in chunks of " << chunk;
      }
    }
  }
}

}  // namespace
