// SPDX-License-Identifier: Apache-2.0
#include "zoo/flow_farneback.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/denormals.h"
#include "flow/dense.h"

namespace zoo {
namespace {

constexpr char kOp[] = "flow_farneback";
constexpr int32_t kMaxPasses = 3;  // iterations in one sweep: as many as the second-level cache has room for
constexpr int32_t kMinSide = 32;  // no level is smaller, but for the finest
// Pixels near the border count less: expansions there have seen repeated pixels.
constexpr int32_t kEdge = 5;
constexpr float kEdgeWeight[kEdge] = {0.14f, 0.14f, 0.4472f, 0.4472f, 0.4472f};

// Smoothing ahead of a level of 1 / `scale` of the side.
std::vector<double> Blur(double scale) {
  const double sigma = (1 / scale - 1) / 2;
  const int32_t size = std::max(static_cast<int32_t>(std::nearbyint(sigma * 5)) | 1, 3);
  if (!(sigma > 0)) return {0.25, 0.5, 0.25};
  std::vector<double> g(static_cast<size_t>(size));
  double sum = 0;
  for (int32_t i = 0; i < size; ++i) {
    const double x = i - size / 2;
    sum += g[static_cast<size_t>(i)] = std::exp(-x * x / (2 * sigma * sigma));
  }
  for (double& v : g) v /= sum;
  return g;
}

// Least squares with Gaussian weights for the polynomial a + x b1 + y b2 + x^2 c1 + y^2 c2 + x y d: by symmetry the
// 6 x 6 system falls apart into one of three unknowns (a, c1, c2) and three of one.
PolyPlan MakePoly(int32_t radius, double sigma) {
  PolyPlan p{};
  p.radius = radius;
  std::vector<double> g(static_cast<size_t>(radius) + 1);
  double sum = 0, m2 = 0, m4 = 0;
  for (int32_t x = 0; x <= radius; ++x) {
    g[static_cast<size_t>(x)] = std::exp(-x * x / (2 * sigma * sigma));
    sum += (x == 0 ? 1 : 2) * g[static_cast<size_t>(x)];
  }
  for (int32_t x = 0; x <= radius; ++x) {
    double& w = g[static_cast<size_t>(x)];
    w /= sum;
    m2 += 2 * w * x * x;
    m4 += 2 * w * x * x * x * x;
  }
  // [1 m2 m2; m2 m4 m2^2; m2 m2^2 m4]: rows of the inverse for c1 are (-m2, 1, 0) / (m4 - m2^2)
  const double spread = m4 - m2 * m2;
  for (int32_t x = 0; x <= radius; ++x) {
    const double w = g[static_cast<size_t>(x)];
    p.gauss[x] = static_cast<float>(w);
    p.slope[x] = static_cast<float>(x * w);
    p.second[x] = static_cast<float>((x * x - m2) * w / spread);
  }
  p.linear = static_cast<float>(1 / m2);
  p.cross = static_cast<float>(1 / (m2 * m2));
  return p;
}

struct Level {
  int32_t width = 0, height = 0, stride = 0;
  Axis shrink_x, shrink_y;    // from the frame to this level, smoothed
  Axis enlarge_x, enlarge_y;  // of the next coarser level's flow
  Buffer<float> expansion[2];
  Buffer<float> flow_x, flow_y;
  Buffer<float> edge_x, edge_y;
};

struct FarnebackState : FlowFarneback::State {
  int32_t width = 0, height = 0;
  std::vector<Level> levels;  // finest first
  int32_t held = 0;           // which expansion belongs to the frame taken last
  bool begun = false;
  Buffer<float> frame, image, line, ring, total, sums_line, sum;
};

bool EdgeWeights(int32_t n, int32_t stride, Buffer<float>* to) {
  if (!to->Reserve(static_cast<size_t>(stride))) return false;
  for (int32_t i = 0; i < n; ++i) {
    (*to)[static_cast<size_t>(i)] = (i < kEdge ? kEdgeWeight[i] : 1.0f) * (n - 1 - i < kEdge ? kEdgeWeight[n - 1 - i] : 1.0f);
  }
  return true;
}

}  // namespace

Status FlowFarnebackOptions::Validate() const {
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "pyr_scale", pyr_scale, 0.1, 0.95));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "levels", levels, 0, 30));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "winsize", winsize, 3, 255));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "iterations", iterations, 1, 100));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "poly_n", poly_n, 1, kMaxPolyRadius));
  return CheckOption(kOp, "poly_sigma", poly_sigma, 0.3, 15.0);
}

struct FlowFarneback::Impl {
  FlowFarnebackOptions options;
  const DenseFlowKernels* kernels = nullptr;
  PolyPlan poly{};
  std::vector<float> window;  // empty: a box
  float scale = 1;

  void Take(Span<const uint8_t> grey, int32_t slot, FarnebackState& s) const noexcept;
};

FlowFarneback::FlowFarneback(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FlowFarneback::FlowFarneback(FlowFarneback&&) noexcept = default;
FlowFarneback::~FlowFarneback() = default;
const FlowFarnebackOptions& FlowFarneback::options() const noexcept { return impl_->options; }

Status FlowFarneback::CheckSize(int64_t width, int64_t height) { return CheckFlowSize(kOp, width, height); }

Result<FlowFarneback> FlowFarneback::Create(const FlowFarnebackOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  const auto kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->kernels = &kernels.value()->dense_flow;
  impl->poly = MakePoly(options.poly_n, options.poly_sigma);
  const int32_t m = options.winsize / 2;
  if (options.window == FarnebackWindow::kBox) {
    impl->scale = static_cast<float>(1.0 / (options.winsize * options.winsize));
  } else {
    const double sigma = m * 0.3;
    double sum = 0;
    for (int32_t i = -m; i <= m; ++i) sum += std::exp(-i * i / (2 * sigma * sigma));
    for (int32_t i = 0; i <= m; ++i) impl->window.push_back(static_cast<float>(std::exp(-i * i / (2 * sigma * sigma)) / sum));
  }
  return FlowFarneback(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<FlowFarneback::State>> FlowFarneback::NewState() const try {
  return std::unique_ptr<State>(std::make_unique<FarnebackState>());
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status FlowFarneback::Reserve(int32_t width, int32_t height, State& state) const noexcept try {
  FarnebackState& s = static_cast<FarnebackState&>(state);
  if (s.width == width && s.height == height) return Status::Ok();
  ZOO_RETURN_IF_ERROR(CheckSize(width, height));
  s.width = s.height = 0;
  s.begun = false;
  const FlowFarnebackOptions& o = impl_->options;
  int32_t count = 0;
  double scale = 1;
  for (; count < o.levels; ++count) {
    scale *= o.pyr_scale;
    if (width * scale < kMinSide || height * scale < kMinSide) break;
  }
  s.levels.clear();
  s.levels.resize(static_cast<size_t>(count) + 1);
  scale = 1;
  for (size_t k = 0; k < s.levels.size(); ++k, scale *= o.pyr_scale) {
    Level& l = s.levels[k];
    l.width = static_cast<int32_t>(std::nearbyint(width * scale));
    l.height = static_cast<int32_t>(std::nearbyint(height * scale));
    l.stride = static_cast<int32_t>(PlaneStride(l.width));
    const std::vector<double> blur = Blur(scale);
    ZOO_RETURN_IF_ERROR(l.shrink_x.Build(width, l.width, static_cast<double>(width) / l.width, blur));
    ZOO_RETURN_IF_ERROR(l.shrink_y.Build(height, l.height, static_cast<double>(height) / l.height, blur));
    const size_t pixels = static_cast<size_t>(l.height + 1) * static_cast<size_t>(l.width) + 2 * kPlaneAlign;
    const size_t plane = static_cast<size_t>(l.height) * static_cast<size_t>(l.stride);
    for (Buffer<float>& e : l.expansion) {
      if (!e.Reserve(pixels * kPolyTerms)) return OutOfMemory();
    }
    if (!l.flow_x.Reserve(plane) || !l.flow_y.Reserve(plane) || !EdgeWeights(l.width, l.stride, &l.edge_x) ||
        !EdgeWeights(l.height, l.height, &l.edge_y)) {
      return OutOfMemory();
    }
    if (k > 0) {
      Level& fine = s.levels[k - 1];
      ZOO_RETURN_IF_ERROR(fine.enlarge_x.Build(l.width, fine.width, static_cast<double>(l.width) / fine.width, {1.0}));
      ZOO_RETURN_IF_ERROR(fine.enlarge_y.Build(l.height, fine.height, static_cast<double>(l.height) / fine.height, {1.0}));
    }
  }
  const size_t stride = static_cast<size_t>(s.levels[0].stride), plane = stride * static_cast<size_t>(height);
  const size_t radius = static_cast<size_t>(o.winsize / 2), passes = static_cast<size_t>(std::min(o.iterations, kMaxPasses));
  if (!s.frame.Reserve(plane) || !s.image.Reserve(plane) || !s.line.Reserve(8 * (stride + 2 * kPlaneAlign)) ||
      !s.ring.Reserve(passes * (2 * radius + 1) * 5 * stride) || !s.total.Reserve(5 * stride) || !s.sum.Reserve(passes * 5 * stride) ||
      !s.sums_line.Reserve(9 * (stride + 2 * radius + 5 * kPlaneAlign))) {
    return OutOfMemory();
  }
  s.width = width;
  s.height = height;
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

void FlowFarneback::Impl::Take(Span<const uint8_t> grey, int32_t slot, FarnebackState& s) const noexcept {
  const int64_t stride = s.levels[0].stride;
  for (int64_t y = 0; y < s.height; ++y) kernels->load_u8(grey.data() + y * s.width, s.width, s.frame.data() + y * stride);
  for (Level& l : s.levels) {
    kernels->resample(&l.shrink_x.plan(), &l.shrink_y.plan(), s.frame.data(), stride, 1.0f, s.line.data(), s.image.data(), l.stride);
    kernels->expand(&poly, s.image.data(), l.width, l.height, l.stride, s.line.data(), l.expansion[slot].data());
  }
}

Status FlowFarneback::Begin(Span<const uint8_t> grey, State& state) const noexcept {
  FarnebackState& s = static_cast<FarnebackState&>(state);
  ZOO_RETURN_IF_ERROR(CheckFrame(kOp, grey.size(), s.width, s.height));
  const FlushDenormals flush;
  s.held = 0;
  impl_->Take(grey, s.held, s);
  s.begun = true;
  return Status::Ok();
}

Status FlowFarneback::Advance(Span<const uint8_t> grey, Span<float> flow, State& state) const noexcept {
  FarnebackState& s = static_cast<FarnebackState&>(state);
  ZOO_RETURN_IF_ERROR(CheckFrame(kOp, grey.size(), s.width, s.height));
  if (!s.begun) return InvalidArgument(std::string(kOp) + ": Advance before Begin; give the first frame to Begin");
  if (flow.size() != 2 * grey.size()) return InvalidArgument(std::string(kOp) + ": the output must hold 2 values for each pixel");
  const FlushDenormals flush;
  const DenseFlowKernels& k = *impl_->kernels;
  impl_->Take(grey, 1 - s.held, s);
  for (size_t i = s.levels.size(); i-- > 0;) {
    Level& l = s.levels[i];
    if (i + 1 == s.levels.size()) {
      const size_t bytes = static_cast<size_t>(l.height) * static_cast<size_t>(l.stride) * sizeof(float);
      std::memset(l.flow_x.data(), 0, bytes);
      std::memset(l.flow_y.data(), 0, bytes);
    } else {
      const Level& coarse = s.levels[i + 1];
      const float gain = static_cast<float>(1 / impl_->options.pyr_scale);
      k.resample(&l.enlarge_x.plan(), &l.enlarge_y.plan(), coarse.flow_x.data(), coarse.stride, gain, s.line.data(), l.flow_x.data(), l.stride);
      k.resample(&l.enlarge_x.plan(), &l.enlarge_y.plan(), coarse.flow_y.data(), coarse.stride, gain, s.line.data(), l.flow_y.data(), l.stride);
    }
    FarnebackSweep sweep = {l.width,
                                  l.height,
                                  l.stride,
                                  l.expansion[s.held].data(),
                                  l.expansion[1 - s.held].data(),
                                  l.edge_x.data(),
                                  l.edge_y.data(),
                                  l.flow_x.data(),
                                  l.flow_y.data(),
                                  impl_->options.winsize / 2,
                                  impl_->window.empty() ? nullptr : impl_->window.data(),
                                  impl_->scale,
                                  0,
                                  s.ring.data(),
                                  s.sum.data(),
                                  s.sums_line.data(),
                                  s.total.data()};
    for (int32_t left = impl_->options.iterations; left > 0; left -= sweep.passes) {
      sweep.passes = std::min(left, kMaxPasses);
      k.farneback_sweep(&sweep);
    }
  }
  s.held = 1 - s.held;
  const Level& l = s.levels[0];
  for (int64_t y = 0; y < l.height; ++y) {
    k.interleave(l.flow_x.data() + y * l.stride, l.flow_y.data() + y * l.stride, l.width, flow.data() + 2 * y * l.width);
  }
  return Status::Ok();
}

}  // namespace zoo
