// SPDX-License-Identifier: Apache-2.0
// Rows of numbers from any bytes, in buffers of exactly their size: numbers or an error that names a line, never a read beyond.
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "testing.h"
#include "zoo/eeg.h"
#include "zoo/rows.h"

namespace {

zoo::Result<std::vector<double>> Parse(const std::string& text, const zoo::RowsOptions& o) {
  auto exact = std::make_unique<char[]>(text.size());
  std::copy(text.begin(), text.end(), exact.get());
  return zoo::ParseRows(exact.get(), text.size(), o);
}

TEST(Rows, AnyBytes) {
  std::mt19937 rng(7);
  zoo::RowsOptions o;
  o.columns = 3;
  o.wanted = {2, 0};
  const std::vector<double> found = Take(Parse("1, 2,-3e2\r\n\n# x\n+4,any, .5", o));
  EXPECT_TRUE((found == std::vector<double>{-300, 1, 0.5, 4})) << found.size() << " values";
  const char alphabet[] = "0123456789+-.eEinfa ,,,,\t\r\n\n#%\x80";
  for (int round = 0; round < 20000; ++round) {
    std::string text(rng() % 60, ' ');
    for (char& c : text) c = alphabet[rng() % (sizeof alphabet - 1)];
    o.columns = 1 + static_cast<int64_t>(rng() % 4);
    o.wanted.assign(1, static_cast<int64_t>(rng() % static_cast<uint64_t>(o.columns)));
    const auto rows = Parse(text, o);
    if (rows.ok()) {
      EXPECT_TRUE(std::all_of(rows.value().begin(), rows.value().end(), [](double v) { return std::isfinite(v); })) << "not finite";
    } else {
      EXPECT_EQ(rows.status().message().rfind("line ", 0), 0u) << rows.status().message();
    }
  }
  o.wanted = {o.columns};
  EXPECT_FALSE(Parse("1\n", o).ok()) << "a column beyond the last one";
}

TEST(Rows, Despike) {
  std::mt19937 rng(7);
  std::normal_distribution<double> normal(0, 20);
  for (int64_t total = 1; total < 12; ++total) {
    for (int64_t begin = 0; begin < total; ++begin) {
      for (int64_t end = begin + 1; end <= total; ++end) {
        const int64_t channels = 1 + static_cast<int64_t>(rng() % 3);
        const zoo::Range held{std::max<int64_t>(0, std::min(begin - 1, total - 3)), std::min(total, std::max<int64_t>(end + 1, 3))};
        const size_t count = static_cast<size_t>(held.size() * channels);
        auto in = std::make_unique<double[]>(count);
        std::generate_n(in.get(), count, [&] { return normal(rng); });
        auto out = std::make_unique<double[]>(static_cast<size_t>((end - begin) * channels));
        zoo::Despike({in.get(), count}, held, total, channels, 30, {begin, end}, out.get());
        for (int64_t i = 0; i < (end - begin) * channels; ++i) EXPECT_TRUE(std::isfinite(out[static_cast<size_t>(i)])) << "sample " << i;
      }
    }
  }
  for (const double limit : {0.0, -1.0, std::nan("")}) {
    zoo::DespikeOptions o;
    o.limit = limit;
    EXPECT_FALSE(o.Validate().ok()) << "limit " << limit;
  }
}

}  // namespace
