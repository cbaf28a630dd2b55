// SPDX-License-Identifier: Apache-2.0
// Farnebaeck's optical flow beside OpenCV.
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "oracle/oracle.h"
#include "zoo/flow_farneback.h"

namespace {

struct FlowCase {
  const char* name;
  zoo::FlowFarnebackOptions options;
};
std::vector<FlowCase> FlowCases() {
  std::vector<FlowCase> c(4);
  c[0].name = "box_5";
  c[1].name = "box_7", c[1].options.poly_n = 7, c[1].options.poly_sigma = 1.5;
  c[2].name = "gaussian_5", c[2].options.window = zoo::FarnebackWindow::kGaussian;
  c[3].name = "gaussian_7", c[3].options = c[1].options, c[3].options.window = zoo::FarnebackWindow::kGaussian;
  return c;
}

class FlowOracle : public OnIsa<FlowCase> {
 protected:
  // Lengths of the differences between our flow and OpenCV's; each component's largest.
  std::vector<double> Distances(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b, int32_t height, int32_t width, double* worst) const {
    const auto& o = param().options;
    const zoo::FlowFarneback op = Take(zoo::FlowFarneback::Create(o, isa()));
    const auto state = Take(op.NewState());
    std::vector<float> got(2 * a.size());
    EXPECT_TRUE(op.Reserve(width, height, *state).ok());
    EXPECT_TRUE(op.Begin(View(a), *state).ok());
    EXPECT_TRUE(op.Advance(View(b), To(&got), *state).ok());
    const py::object flow = py::module_::import("cv2").attr("calcOpticalFlowFarneback")(
        Array(a, {height, width}), Array(b, {height, width}), py::none(), o.pyr_scale, o.levels, o.winsize, o.iterations, o.poly_n, o.poly_sigma,
        o.window == zoo::FarnebackWindow::kGaussian ? 256 : 0);
    const std::vector<float> want = Values<float>(flow);
    *worst = Difference(got, want);
    std::vector<double> far;
    for (size_t i = 0; i + 1 < got.size() && i + 1 < want.size(); i += 2) far.push_back(std::hypot(got[i] - want[i], got[i + 1] - want[i + 1]));
    return far;
  }
};
INSTANTIATE_TEST_SUITE_P(OpenCv, FlowOracle, OnEveryIsa(FlowCases()), kName);

// Noise through a Gaussian of OpenCV.
std::vector<uint8_t> Texture(int32_t height, int32_t width, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<uint8_t> noise(static_cast<size_t>(height * width));
  for (uint8_t& v : noise) v = static_cast<uint8_t>(rng());
  return Values<uint8_t>(py::module_::import("cv2").attr("GaussianBlur")(Array(noise, {height, width}), py::make_tuple(0, 0), 1.5));
}

class FlowOfSmallFrames : public FlowOracle {};  // the bound is that of the default expansion
INSTANTIATE_TEST_SUITE_P(OpenCv, FlowOfSmallFrames, OnEveryIsa(std::vector<FlowCase>{FlowCases()[0], FlowCases()[2]}), kName);

TEST_P(FlowOfSmallFrames, MoveDownByAPixel) {
  const int32_t sizes[][2] = {{10, 10}, {11, 300}, {300, 11}, {33, 31}, {64, 40}, {47, 129}, {1, 1}, {1, 9}, {4, 7}};
  for (const auto& [height, width] : sizes) {
    const std::vector<uint8_t> image = Texture(height + 2, width, static_cast<unsigned>(height * 1000 + width));
    const size_t pixels = static_cast<size_t>(height * width);
    const std::vector<uint8_t> previous(image.begin() + width, image.begin() + width + static_cast<int64_t>(pixels)),
        following(image.begin(), image.begin() + static_cast<int64_t>(pixels));
    double worst;
    Distances(previous, following, height, width, &worst);
    EXPECT_LE(worst, 2e-3) << height << " x " << width;
  }
}

TEST_P(FlowOracle, TextureThatMoves) {
  const int32_t side = 224, margin = 4;
  const std::vector<uint8_t> image = Texture(side + 2 * margin, side + 2 * margin, 9);
  const auto crop = [&](int32_t top, int32_t left) {
    std::vector<uint8_t> out;
    for (int32_t y = 0; y < side; ++y) {
      const auto row = image.begin() + (top + y) * (side + 2 * margin) + left;
      out.insert(out.end(), row, row + side);
    }
    return out;
  };
  double worst;
  std::vector<double> far = Distances(crop(margin, margin), crop(margin - 1, margin + 2), side, side, &worst);
  ASSERT_EQ(far.size(), static_cast<size_t>(side * side));
  double sum = 0;
  for (const double d : far) sum += d;
  EXPECT_LE(sum / static_cast<double>(far.size()), 1e-4);
  std::sort(far.begin(), far.end());
  EXPECT_LE(far[far.size() * 999 / 1000], 1e-2);
}

}  // namespace
