// SPDX-License-Identifier: Apache-2.0
// Runs Farnebaeck's and the TV-L1 flow on many shapes and options on every instruction set and compares with the baseline.
// Frames and flows have exactly the promised size, so that AddressSanitizer sees any access beyond them. The medians are
// checked against all orders that matter.
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "core/buffer.h"
#include "core/kernels.h"
#include "flow/dense_kernels.h"
#include "testing.h"
#include "zoo/flow_farneback.h"
#include "zoo/flow_tvl1.h"
#include "zoo/isa.h"

namespace {

// Smooth texture that moves by (t, -t / 2) pixels.
std::unique_ptr<uint8_t[]> Frame(int width, int height, double t, std::mt19937 rng) {
  auto p = std::make_unique<uint8_t[]>(static_cast<size_t>(width) * static_cast<size_t>(height));
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double v = 128 + 60 * std::sin(0.4 * (x - t)) * std::cos(0.3 * (y + t / 2)) + static_cast<double>(rng() % 5);
      p[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)] = static_cast<uint8_t>(v);
    }
  }
  return p;
}

template <class Core, class Options>
std::vector<float> Run(const Options& options, const std::string& isa, int width, int height, const char* what) {
  const Core core = Take(Core::Create(options, isa));
  const auto state = Take(core.NewState());
  const size_t pixels = static_cast<size_t>(width) * static_cast<size_t>(height);
  const auto flow = std::make_unique<float[]>(2 * pixels);
  EXPECT_FALSE(core.Advance({}, {flow.get(), 2 * pixels}, *state).ok()) << "a frame before Reserve was taken";
  EXPECT_TRUE(core.Reserve(width, height, *state).ok()) << what;
  const auto first = Frame(width, height, 0, std::mt19937(3)), second = Frame(width, height, 1, std::mt19937(4));
  EXPECT_FALSE(core.Advance({second.get(), pixels}, {flow.get(), 2 * pixels}, *state).ok()) << "Advance before Begin was taken";
  for (int i = 0; i < 2; ++i) {  // the second time on used scratch
    EXPECT_TRUE(core.Begin({first.get(), pixels}, *state).ok()) << what;
    EXPECT_TRUE(core.Advance({second.get(), pixels}, {flow.get(), 2 * pixels}, *state).ok()) << what;
    EXPECT_TRUE(core.Advance({first.get(), pixels}, {flow.get(), 2 * pixels}, *state).ok()) << what;
  }
  return std::vector<float>(flow.get(), flow.get() + 2 * pixels);
}

template <class Core, class Options>
void TestShapes(const std::vector<Options>& options, const char* what) {
  const int sizes[][2] = {{1, 1}, {1, 5}, {5, 1}, {2, 2}, {3, 7}, {15, 16}, {16, 15}, {17, 9}, {31, 33}, {64, 48}, {100, 70}};
  for (size_t k = 0; k < options.size(); ++k) {
    for (const auto& size : sizes) {
      std::vector<float> reference;
      for (const std::string& isa : zoo::SupportedIsas()) {
        const std::vector<float> got = Run<Core>(options[k], isa, size[0], size[1], what);
        double sum = 0;
        for (size_t i = 0; i < got.size(); ++i) {
          EXPECT_TRUE(std::isfinite(got[i])) << what << " " << isa << " " << size[0] << " x " << size[1];
          if (!reference.empty()) sum += std::fabs(got[i] - reference[i]);
        }
        EXPECT_LE(sum, 2e-3 * static_cast<double>(got.size())) << what << " " << isa << " option " << k << ", " << size[0] << " x " << size[1]
            << ": mean difference " << (sum / static_cast<double>(got.size()));
        if (reference.empty()) reference = got;
      }
    }
  }
}

// A network of minima and maxima finds the median of all values when it does so of zeros and ones. Its first step sorts
// columns, so all that can differ is how many ones each has: 6^5 cases, and the sorting of one column: 2^5.
TEST(DenseFlow, Median) {
  for (const std::string& isa : zoo::SupportedIsas()) {
    const zoo::Kernels* kernels = Take(zoo::SelectKernels(isa));
    for (const int size : {3, 5}) {
      const int64_t width = size, stride = zoo::kPlaneAlign * 2, rows = size;
      zoo::Buffer<float> in, out, line;
      if (!in.Reserve(static_cast<size_t>(stride * (rows + 2))) || !out.Reserve(static_cast<size_t>(stride * rows)) ||
          !line.Reserve(static_cast<size_t>(5 * (stride + 2 * zoo::kPlaneAlign)))) {
        FAIL() << "no memory";
      }
      float* plane = in.data() + zoo::kPlaneAlign;
      const int cases = 1 << size;
      std::vector<int> column(static_cast<size_t>(size));
      int64_t tried = 0;
      // every column any pattern of ones would be 2^25; one column any pattern, the others sorted, covers both steps
      for (int pattern = 0; pattern < cases; ++pattern) {
        int64_t counts = 1;
        for (int c = 1; c < size; ++c) counts *= size + 1;
        for (int64_t code = 0; code < counts; ++code) {
          int ones = 0;
          int64_t rest = code;
          for (int c = 0; c < size; ++c) {
            const int n = static_cast<int>(rest % (size + 1));
            if (c > 0) rest /= size + 1;
            for (int r = 0; r < size; ++r) {
              const bool one = c == 0 ? (pattern >> r & 1) != 0 : r >= size - n;
              plane[r * stride + c] = one ? 1.0f : 0.0f;
              ones += one;
            }
          }
          kernels->dense_flow.median(plane, width, rows, stride, size, line.data(), out.data());
          const float expected = 2 * ones > size * size ? 1.0f : 0.0f;
          EXPECT_EQ(out[static_cast<size_t>(size / 2 * stride + size / 2)], expected) << isa << " median " << size << ": pattern " << pattern
              << ", code " << code;
          ++tried;
        }
      }
      EXPECT_GE(tried, size == 3 ? 128 : 40000);
    }
  }
}

TEST(DenseFlow, Farneback) {
  std::vector<zoo::FlowFarnebackOptions> farneback(6);
  farneback[1].window = zoo::FarnebackWindow::kGaussian;
  farneback[2].pyr_scale = 0.9;
  farneback[2].levels = 4;
  farneback[2].iterations = 5;
  farneback[3].winsize = 255;
  farneback[3].iterations = 2;
  farneback[4].winsize = 20;
  farneback[4].poly_n = 7;
  farneback[4].poly_sigma = 1.5;
  farneback[5].winsize = 3;
  farneback[5].poly_n = 15;
  farneback[5].poly_sigma = 4;
  TestShapes<zoo::FlowFarneback>(farneback, "farneback");
}

TEST(DenseFlow, TvL1) {
  std::vector<zoo::FlowTvL1Options> tvl1(4);
  for (auto& o : tvl1) o.warps = 2, o.inner_iterations = 3, o.outer_iterations = 2;
  tvl1[1].gamma = 0.3;
  tvl1[1].median_filtering = 3;
  tvl1[2].scale_step = 0.5;
  tvl1[2].scales = 2;
  tvl1[3].median_filtering = 1;
  TestShapes<zoo::FlowTvL1>(tvl1, "tvl1");
}

}  // namespace
