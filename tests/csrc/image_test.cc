// SPDX-License-Identifier: Apache-2.0
// Runs every image and video op with many shapes on every instruction set and compares it with the baseline. Buffers have
// exactly the promised size, so that AddressSanitizer sees any access beyond them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "testing.h"
#include "zoo/isa.h"
#include "zoo/pipeline.h"

namespace {

using Bytes = std::vector<uint8_t>;

zoo::Extent ExtentOf(std::initializer_list<int64_t> dims, double rate) {
  zoo::Extent e;
  e.rank = static_cast<int32_t>(dims.size());
  e.rate = rate;
  std::copy(dims.begin(), dims.end(), e.dim);
  return e;
}

// The output's bytes, from an input and into an output of exactly their sizes.
Bytes Run(const zoo::Pipeline& p, const Bytes& data, const zoo::Extent& e) {
  const auto in = std::make_unique<uint8_t[]>(data.size());
  std::copy(data.begin(), data.end(), in.get());
  const auto state = Take(p.NewState());
  zoo::Extent out;
  const zoo::Status fits = p.OutputExtent(e, &out);
  EXPECT_TRUE(fits.ok()) << fits.message();
  if (!fits.ok()) return {};
  const size_t bytes = static_cast<size_t>(out.count()) * zoo::SizeOf(p.port(p.size()).dtype);
  const auto to = std::make_unique<uint8_t[]>(bytes);
  zoo::ConstView view;
  view.data = in.get();
  view.dtype = p.port(0).dtype;
  view.extent = e;
  view.range = {0, e.dim[0]};
  for (int pass = 0; pass < 2; ++pass) {
    const zoo::Status s = p.Run(view, to.get(), *state);
    EXPECT_TRUE(s.ok()) << s.message();
  }
  return Bytes(to.get(), to.get() + bytes);
}

double Difference(const zoo::Pipeline& p, const Bytes& a, const Bytes& b) {
  if (a.size() != b.size()) return 1e30;
  double worst = 0;
  if (p.port(p.size()).dtype == zoo::DType::kU8) {
    for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - b[i]));
    return worst;
  }
  for (size_t i = 0; i + 4 <= a.size(); i += 4) {
    float x, y;
    std::memcpy(&x, a.data() + i, 4);
    std::memcpy(&y, b.data() + i, 4);
    worst = std::max(worst, std::fabs(static_cast<double>(x) - y));
  }
  return worst;
}

void OnEveryIsa(const std::vector<zoo::OpDesc>& ops, const Bytes& data, const zoo::Extent& e, double bound, const std::vector<int64_t>& shape = {}) {
  Bytes reference;
  for (const std::string& isa : zoo::SupportedIsas()) {
    const zoo::Pipeline p = Take(zoo::Pipeline::Create(ops, isa, shape));
    const Bytes got = Run(p, data, e);
    if (reference.empty()) reference = got;
    EXPECT_LE(Difference(p, got, reference), bound) << ops[0].op << " " << isa;
  }
}

Bytes Noise(std::mt19937& rng, int64_t n) {
  Bytes x(static_cast<size_t>(n));
  for (uint8_t& v : x) v = static_cast<uint8_t>(rng());
  return x;
}

TEST(Image, Resize) {
  std::mt19937 rng(11);
  const char* const methods[] = {"nearest", "nearest_opencv", "bilinear", "bilinear_antialias", "bicubic_antialias", "box", "area"};
  for (int round = 0; round < 60; ++round) {
    const auto side = [&](int64_t most) { return 1 + static_cast<int64_t>(rng() % static_cast<uint32_t>(most)); };
    const int64_t h = side(90), w = side(90), c = side(4), out_h = side(140), out_w = side(140);
    const Bytes data = Noise(rng, h * w * c);
    for (const char* method : methods) {
      for (const bool rounded : {true, false}) {
        const std::vector<std::pair<std::string, zoo::ParamValue>> size = {{"height", out_h}, {"width", out_w}, {"method", std::string(method)}, {"rounded", rounded}};
        const bool area = std::strcmp(method, "area") == 0;
        OnEveryIsa({{"resize", size}}, data, ExtentOf({h, w, c}, 0), !rounded ? 1e-3 : area ? 1 : 0);
        for (const char* layout : {"hwc", "chw"}) {
          auto params = size;
          params.emplace_back("layout", std::string(layout));
          OnEveryIsa({{"resize_normalize", params}}, data, ExtentOf({h, w, c}, 0), area ? 0.005 : 1e-5);
        }
      }
    }
  }
}

TEST(Image, Images) {
  std::mt19937 rng(11);
  for (int round = 0; round < 300; ++round) {
    const auto side = [&](int64_t most) { return 1 + static_cast<int64_t>(rng() % static_cast<uint32_t>(most)); };
    const int64_t h = side(20), w = side(40), c = side(4);
    const Bytes data = Noise(rng, h * w * c);
    const zoo::Extent e = ExtentOf({h, w, c}, 0);
    const auto place = [&] { return static_cast<double>(rng() % 6000) / 100 - 20; };
    std::vector<double> marks(10);
    for (double& m : marks) m = place();
    OnEveryIsa({{"face_align", {{"landmarks", marks}, {"size", side(30)}}}}, data, e, 1);
    const double left = place(), top = place();
    OnEveryIsa({{"square_crop", {{"box", std::vector<double>{left, top, left + 0.1 + std::fabs(place()), top + 3}}}}}, data, e, 0);
    OnEveryIsa({{"crop", {{"height", side(h)}, {"width", side(w)}}}}, data, e, 0);
    OnEveryIsa({{"normalize", {{"mean", std::vector<double>{0.3}}}}, {"layout", {{"to", std::string("hwc")}}}}, data, e, 0);
    if (c != 2) OnEveryIsa({{"to_grey", {}}, {"grey_to_rgb", {}}}, data, e, 0);
  }
}

TEST(Image, Video) {
  std::mt19937 rng(11);
  for (int round = 0; round < 40; ++round) {
    const auto side = [&](int64_t most) { return 1 + static_cast<int64_t>(rng() % static_cast<uint32_t>(most)); };
    const int64_t n = side(60), h = side(30), w = side(30);
    const double rate = 1 + static_cast<double>(rng() % 500) / 10;
    const Bytes data = Noise(rng, n * h * w * 3);
    const zoo::Extent e = ExtentOf({n, h, w, 3}, rate);
    OnEveryIsa({{"motion", {}}}, data, e, 0);
    OnEveryIsa({{"frame_difference", {}}}, data, e, 0);
    OnEveryIsa({{"sample_fps", {{"fps", 3.0}}}, {"resize", {{"height", int64_t{5}}, {"width", int64_t{4}}}}}, data, e, 0);
    OnEveryIsa({{"scene_offset", {{"threshold", 1.0}, {"min_scene_length", int64_t{0}}, {"downscale", side(3)}}}}, data, e, 0);
    Bytes flow(static_cast<size_t>(n * h * w * 2) * sizeof(float));
    for (size_t i = 0; i < flow.size(); i += sizeof(float)) {
      const float f = static_cast<float>(static_cast<int32_t>(rng() % 60000) - 30000) / 1000;
      std::memcpy(flow.data() + i, &f, sizeof(f));
    }
    OnEveryIsa({{"flow_encode", {}}, {"flow_stack", {{"length", side(12)}}}}, flow, ExtentOf({n, h, w, 2}, rate), 0, {-1, -1, -1, 2});
  }
}

}  // namespace
