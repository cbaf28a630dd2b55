// SPDX-License-Identifier: Apache-2.0
// Dense inverse search over many shapes on every instruction set. Buffers have exactly the promised size, so that
// AddressSanitizer sees any access beyond them.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "testing.h"
#include "zoo/flow_dis.h"
#include "zoo/isa.h"
#include "zoo/pipeline.h"

namespace {

// A smooth pattern moved by (dx, dy), exactly width * height bytes.
std::unique_ptr<uint8_t[]> Pattern(int width, int height, double dx, double dy) {
  auto p = std::make_unique<uint8_t[]>(static_cast<size_t>(width) * static_cast<size_t>(height));
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double u = x - dx, v = y - dy;
      const double value = 128 + 40 * std::sin(0.31 * u + 0.12 * v) + 40 * std::sin(0.27 * v - 0.17 * u) + 30 * std::sin(0.09 * u * 0.7 + 0.05 * v + 1);
      p[static_cast<size_t>(y * width + x)] = static_cast<uint8_t>(std::lround(value));
    }
  }
  return p;
}

TEST(FlowDis, Shapes) {
  const int shapes[][2] = {{8, 8}, {9, 8}, {8, 31}, {13, 11}, {16, 16}, {17, 33}, {47, 45}, {48, 48}, {65, 64}, {95, 101}, {200, 8}, {131, 97}, {224, 224}};
  for (const auto& [width, height] : shapes) {
    const size_t n = static_cast<size_t>(width) * static_cast<size_t>(height);
    const auto a = Pattern(width, height, 0, 0), b = Pattern(width, height, 0.8, -0.6);
    for (const std::string& isa : zoo::SupportedIsas()) {
      for (int preset = 0; preset < 4; ++preset) {
        zoo::FlowDisOptions o = zoo::FlowDisOptions::Preset(static_cast<zoo::DisPreset>(preset % 3));
        if (preset == 3) o.finest_scale = 0;
        const zoo::FlowDis op = Take(zoo::FlowDis::Create(o, isa));
        const auto state = Take(op.NewState());
        const auto flow = std::make_unique<float[]>(2 * n), again = std::make_unique<float[]>(2 * n);
        EXPECT_FALSE(op.Begin({a.get(), n}, *state).ok()) << "a state that was not reserved";
        EXPECT_TRUE(op.Reserve(width, height, *state).ok()) << "reserve";
        EXPECT_FALSE(op.Advance({a.get(), n}, {flow.get(), 2 * n}, *state).ok()) << "nothing was taken before";
        EXPECT_TRUE(op.Begin({a.get(), n}, *state).ok()) << "begin";
        EXPECT_TRUE(op.Advance({a.get(), n}, {flow.get(), 2 * n}, *state).ok()) << "advance";
        for (size_t i = 0; i < 2 * n; ++i) EXPECT_EQ(flow[i], 0.0f) << "equal frames: " << flow[i];
        EXPECT_TRUE(op.Advance({b.get(), n}, {flow.get(), 2 * n}, *state).ok()) << "advance";
        double u = 0, v = 0;
        for (size_t i = 0; i < n; ++i) u += flow[2 * i], v += flow[2 * i + 1];
        u /= static_cast<double>(n), v /= static_cast<double>(n);
        EXPECT_TRUE(std::isfinite(u + v)) << isa << " " << width << " x " << height;
        if (width >= 64 && height >= 64) {
          EXPECT_LT(std::hypot(u - 0.8, v + 0.6), 0.15) << isa << " " << width << " x " << height << " preset " << preset << ": " << u << " " << v;
        }
        EXPECT_TRUE(op.Begin({a.get(), n}, *state).ok()) << "begin";
        EXPECT_TRUE(op.Advance({b.get(), n}, {again.get(), 2 * n}, *state).ok()) << "advance";
        for (size_t i = 0; i < 2 * n; ++i) EXPECT_EQ(flow[i], again[i]) << isa << ": the state leaks into the next run";
        EXPECT_FALSE(op.Advance({b.get(), n - 1}, {again.get(), 2 * n}, *state).ok()) << "a frame of another size";
        EXPECT_FALSE(op.Advance({b.get(), n}, {again.get(), 2 * n - 1}, *state).ok()) << "an output of another size";
      }
    }
  }
}

TEST(FlowDis, Pipeline) {
  const int width = 61, height = 50, frames = 4;
  for (const int channels : {1, 3}) {
    std::vector<uint8_t> video(static_cast<size_t>(width * height * channels * frames));
    for (size_t i = 0; i < video.size(); ++i) video[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
    for (const std::string& isa : zoo::SupportedIsas()) {
      const zoo::Pipeline p = Take(zoo::Pipeline::Create({{"flow_dis", {{"preset", std::string("fast")}}}}, isa));
      const auto state = Take(p.NewState());
      zoo::ConstView in;
      in.data = video.data();
      in.dtype = zoo::DType::kU8;
      in.extent.rank = 4;
      in.extent.dim[0] = frames, in.extent.dim[1] = height, in.extent.dim[2] = width, in.extent.dim[3] = channels;
      in.range = {0, frames};
      const size_t row = static_cast<size_t>(2 * width * height);
      const auto all = std::make_unique<float[]>(row * (frames - 1)), one = std::make_unique<float[]>(row);
      EXPECT_TRUE(p.Run(in, all.get(), *state).ok()) << "run";
      for (int t = 0; t + 1 < frames; ++t) {
        EXPECT_TRUE(p.RunRows(in, {t, t + 1}, one.get(), *state).ok()) << "rows";
        for (size_t i = 0; i < row; ++i) EXPECT_EQ(one[i], all[static_cast<size_t>(t) * row + i]) << "pair " << t << " differs by itself";
      }
    }
  }
}

TEST(FlowDis, Refusals) {
  zoo::FlowDisOptions o;
  o.patch_stride = 5;
  EXPECT_FALSE(zoo::FlowDis::Create(o).ok()) << "stride 5";
  EXPECT_FALSE(zoo::FlowDis::CheckSize(7, 99).ok()) << "sizes";
  EXPECT_FALSE(zoo::FlowDis::CheckSize(99, 16385).ok()) << "sizes";
  EXPECT_TRUE(zoo::FlowDis::CheckSize(8, 16384).ok()) << "sizes";
}

}  // namespace
