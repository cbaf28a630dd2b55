// SPDX-License-Identifier: Apache-2.0
// Resized images beside OpenCV.
#include <cstdlib>
#include <random>
#include <utility>
#include <vector>

#include "oracle/oracle.h"
#include "zoo/image.h"

namespace {

struct ResizeCase {
  const char* name;
  zoo::ResizeFilter filter;
  int flag;  // OpenCV's interpolation
};
const std::vector<ResizeCase> kResizeCases = {
    {"bilinear", zoo::ResizeFilter::kBilinear, 1}, {"area", zoo::ResizeFilter::kArea, 3}, {"nearest_opencv", zoo::ResizeFilter::kNearestTopLeft, 0}};

class ResizeOracle : public OnIsa<ResizeCase> {};
INSTANTIATE_TEST_SUITE_P(OpenCv, ResizeOracle, OnEveryIsa(kResizeCases), kName);

TEST_P(ResizeOracle, NoiseChecksAndARamp) {
  const py::module_ cv2 = py::module_::import("cv2");
  std::mt19937 rng(5);
  enum Content { kNoise, kBlackOrWhite, kChecks, kRamp, kWhite };
  const std::pair<zoo::ImageSize, Content> images[] = {
      {{64, 64, 3}, kNoise},        {{131, 17, 4}, kNoise}, {{33, 45, 3}, kNoise},  {{240, 320, 3}, kNoise}, {{5, 1, 3}, kNoise},
      {{1, 300, 1}, kBlackOrWhite}, {{1, 1, 3}, kNoise},    {{61, 83, 1}, kChecks}, {{3, 256, 2}, kRamp},    {{33, 45, 3}, kWhite}};
  const int32_t sizes[][2] = {{224, 224}, {112, 112}, {48, 48}, {500, 300}, {97, 301}, {301, 97}, {1, 1}, {7, 700}};
  for (const auto& [in, content] : images) {
    std::vector<uint8_t> image(static_cast<size_t>(in.count()));
    for (size_t i = 0; i < image.size(); ++i) {
      const size_t pixel = i / static_cast<size_t>(in.channels), x = pixel % static_cast<size_t>(in.width), y = pixel / static_cast<size_t>(in.width);
      const size_t made[] = {rng(), rng() % 2 * 255, (x + y) % 2 * 255, x, 255};
      image[i] = static_cast<uint8_t>(made[content]);
    }
    const auto pixels =
        Array(image, {static_cast<py::ssize_t>(in.height), static_cast<py::ssize_t>(in.width), static_cast<py::ssize_t>(in.channels)});
    for (const auto& [height, width] : sizes) {
      SCOPED_TRACE(testing::Message() << in.height << " x " << in.width << " x " << in.channels << " to " << height << " x " << width);
      zoo::ResizeOptions o;
      o.height = height, o.width = width, o.filter = param().filter;
      const zoo::Resize op = Take(zoo::Resize::Create(o, isa()));
      const auto state = Take(op.NewState());
      ASSERT_TRUE(op.Reserve(in, *state).ok());
      std::vector<uint8_t> got(static_cast<size_t>(height * width * in.channels));
      ASSERT_TRUE(op.Compute(View(image), To(&got), *state).ok());
      const auto want = Values<uint8_t>(cv2.attr("resize")(pixels, py::make_tuple(width, height), "interpolation"_a = param().flag));
      // OpenCV rounds rows of less than 16 values, and what is left of longer ones, in another way than its vectors
      const bool exact =
          param().filter == zoo::ResizeFilter::kNearestTopLeft || (param().filter == zoo::ResizeFilter::kBilinear && width * in.channels % 64 == 0);
      EXPECT_LE(Difference(got, want), exact ? 0 : 1);
      if (got.size() < 64 || got.size() != want.size()) continue;  // a mean of a few values is chance
      double sum = 0;
      for (size_t i = 0; i < got.size(); ++i) sum += std::abs(got[i] - want[i]);
      EXPECT_LE(sum / static_cast<double>(got.size()), exact ? 0 : width < 16 ? 0.3 : 0.1);
    }
  }
}

}  // namespace
