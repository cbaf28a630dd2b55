// SPDX-License-Identifier: Apache-2.0
#include "zoo/flow_tvl1.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/denormals.h"
#include "flow/dense.h"

namespace zoo {
namespace {

constexpr char kOp[] = "flow_tvl1";
constexpr int32_t kMinSide = 16;  // no level is smaller, but for the finest
constexpr int32_t kParts = 3;     // components of u: x, y, brightness

struct Level {
  int32_t width = 0, height = 0, stride = 0;
  Axis shrink_x, shrink_y;    // from the next finer level
  Axis enlarge_x, enlarge_y;  // of the next coarser level's flow
  Buffer<float> image[2];
  int64_t plane() const { return int64_t{height} * stride; }
};

struct TvL1State : FlowTvL1::State {
  int32_t width = 0, height = 0;
  std::vector<Level> levels;  // finest first
  int32_t held = 0;           // which image belongs to the frame taken last
  bool begun = false;
  Buffer<float> line, texture;
  Buffer<float> planes;  // memory of those below, each with room for the finest level
  float *wx = nullptr, *wy = nullptr, *rho = nullptr, *pull = nullptr;
  float *u[kParts] = {}, *spare[kParts] = {}, *px[kParts] = {}, *py[kParts] = {};
};

// The first value of a plane with room before it for a row and for the values left of one.
float* Start(float* plane, const Level& l) { return plane + kPlaneAlign + l.stride; }

// Floats from one plane to the next. An iteration walks along all planes in step: were they a multiple of 4 KiB apart, they
// would meet in one set of the first-level cache. So they are a multiple and a sixteenth.
size_t PlaneSpacing(const Level& l) {
  constexpr size_t kPage = 1024;
  return (static_cast<size_t>(l.plane() + 2 * l.stride + 2 * kPlaneAlign) + kPage - 1) / kPage * kPage + kPage / 16;
}

}  // namespace

Status FlowTvL1Options::Validate() const {
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "tau", tau, 0.001, 0.25));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "lambda", lambda, 0.001, 10.0));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "theta", theta, 0.01, 10.0));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "scales", scales, 1, 30));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "warps", warps, 1, 100));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "epsilon", epsilon, 0.0, 1.0));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "inner_iterations", inner_iterations, 1, 1000));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "outer_iterations", outer_iterations, 1, 1000));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "scale_step", scale_step, 0.1, 0.95));
  ZOO_RETURN_IF_ERROR(CheckOption(kOp, "gamma", gamma, 0.0, 10.0));
  if (median_filtering != 1 && median_filtering != 3 && median_filtering != 5) {
    return InvalidArgument(std::string(kOp) + ": median_filtering is " + std::to_string(median_filtering) + "; it must be 1 (none), 3 or 5");
  }
  return Status::Ok();
}

struct FlowTvL1::Impl {
  FlowTvL1Options options;
  const DenseFlowKernels* kernels = nullptr;

  void Take(Span<const uint8_t> grey, int32_t slot, TvL1State& s) const noexcept;
  void Solve(const Level& l, const float* first, const float* second, TvL1State& s) const noexcept;
};

FlowTvL1::FlowTvL1(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FlowTvL1::FlowTvL1(FlowTvL1&&) noexcept = default;
FlowTvL1::~FlowTvL1() = default;
const FlowTvL1Options& FlowTvL1::options() const noexcept { return impl_->options; }

Status FlowTvL1::CheckSize(int64_t width, int64_t height) { return CheckFlowSize(kOp, width, height); }

Result<FlowTvL1> FlowTvL1::Create(const FlowTvL1Options& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  const auto kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->kernels = &kernels.value()->dense_flow;
  return FlowTvL1(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<FlowTvL1::State>> FlowTvL1::NewState() const try {
  return std::unique_ptr<State>(std::make_unique<TvL1State>());
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status FlowTvL1::Reserve(int32_t width, int32_t height, State& state) const noexcept try {
  TvL1State& s = static_cast<TvL1State&>(state);
  if (s.width == width && s.height == height) return Status::Ok();
  ZOO_RETURN_IF_ERROR(CheckSize(width, height));
  s.width = s.height = 0;
  s.begun = false;
  s.levels.clear();
  const double step = impl_->options.scale_step;
  std::vector<std::pair<int32_t, int32_t>> sizes = {{width, height}};
  while (static_cast<int32_t>(sizes.size()) < impl_->options.scales) {
    const int32_t w = static_cast<int32_t>(std::nearbyint(sizes.back().first * step));
    const int32_t h = static_cast<int32_t>(std::nearbyint(sizes.back().second * step));
    if (w < kMinSide || h < kMinSide) break;
    sizes.emplace_back(w, h);
  }
  s.levels.resize(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    Level& l = s.levels[i];
    l.width = sizes[i].first;
    l.height = sizes[i].second;
    l.stride = static_cast<int32_t>(PlaneStride(l.width)) + kPlaneAlign;
    for (Buffer<float>& m : l.image) {
      if (!m.Reserve(static_cast<size_t>(l.plane()))) return OutOfMemory();
    }
    if (i > 0) {
      Level& fine = s.levels[i - 1];
      ZOO_RETURN_IF_ERROR(l.shrink_x.Build(fine.width, l.width, 1 / step, {1.0}));
      ZOO_RETURN_IF_ERROR(l.shrink_y.Build(fine.height, l.height, 1 / step, {1.0}));
      ZOO_RETURN_IF_ERROR(fine.enlarge_x.Build(l.width, fine.width, static_cast<double>(l.width) / fine.width, {1.0}));
      ZOO_RETURN_IF_ERROR(fine.enlarge_y.Build(l.height, fine.height, static_cast<double>(l.height) / fine.height, {1.0}));
    }
  }
  const Level& l = s.levels[0];
  const size_t texture = 4 * static_cast<size_t>(l.width + 2 * kCubicPad) * static_cast<size_t>(l.height + 2 * kCubicPad);
  const size_t parts = impl_->options.gamma != 0 ? kParts : 2, spacing = PlaneSpacing(l);
  if (!s.line.Reserve(5 * static_cast<size_t>(l.stride + 2 * kPlaneAlign)) || !s.texture.Reserve(texture) ||
      !s.planes.Reserve((4 + 4 * parts) * spacing)) {
    return OutOfMemory();
  }
  float* next = s.planes.data();
  const auto take = [&next, spacing] { return std::exchange(next, next + spacing); };
  s.wx = take();
  s.wy = take();
  s.rho = take();
  s.pull = take();
  for (size_t i = 0; i < parts; ++i) {
    s.u[i] = take();
    s.spare[i] = take();
    s.px[i] = take();
    s.py[i] = take();
  }
  s.width = width;
  s.height = height;
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

void FlowTvL1::Impl::Take(Span<const uint8_t> grey, int32_t slot, TvL1State& s) const noexcept {
  for (size_t i = 0; i < s.levels.size(); ++i) {
    Level& l = s.levels[i];
    float* image = l.image[slot].data();
    if (i == 0) {
      for (int64_t y = 0; y < l.height; ++y) kernels->load_u8(grey.data() + y * l.width, l.width, image + y * l.stride);
    } else {
      const Level& fine = s.levels[i - 1];
      kernels->resample(&l.shrink_x.plan(), &l.shrink_y.plan(), fine.image[slot].data(), fine.stride, 1.0f, s.line.data(), image, l.stride);
    }
  }
}

// One level: the flow in s.u is the start and the result.
void FlowTvL1::Impl::Solve(const Level& l, const float* first, const float* second, TvL1State& s) const noexcept {
  const FlowTvL1Options& o = options;
  const int32_t parts = o.gamma != 0 ? kParts : 2;
  std::memset(s.texture.data(), 0, sizeof(float) * 4 * static_cast<size_t>(l.width + 2 * kCubicPad) * static_cast<size_t>(l.height + 2 * kCubicPad));
  kernels->tvl1_texture(second, l.width, l.height, l.stride, s.texture.data());
  TvL1Sweep sweep{};
  sweep.width = l.width;
  sweep.height = l.height;
  sweep.stride = l.stride;
  sweep.theta = static_cast<float>(o.theta);
  sweep.lambda_theta = static_cast<float>(o.lambda * o.theta);
  sweep.tau_theta = static_cast<float>(o.tau / o.theta);
  sweep.gamma = static_cast<float>(o.gamma);
  float* wx = Start(s.wx, l);
  float* wy = Start(s.wy, l);
  float* rho = Start(s.rho, l);
  float* pull = Start(s.pull, l);
  sweep.wx = wx;
  sweep.wy = wy;
  sweep.rho = rho;
  sweep.pull = pull;
  for (int32_t i = 0; i < parts; ++i) {
    for (float* p : {s.px[i], s.py[i]}) {
      std::memset(p, 0, sizeof(float) * static_cast<size_t>(l.plane() + l.stride + 2 * kPlaneAlign));
    }
    sweep.px[i] = Start(s.px[i], l);
    sweep.py[i] = Start(s.py[i], l);
  }
  const double enough = o.epsilon * o.epsilon * l.width * l.height;
  for (int32_t warp = 0; warp < o.warps; ++warp) {
    kernels->tvl1_warp(s.texture.data(), first, l.stride, Start(s.u[0], l), Start(s.u[1], l), l.width, l.height, l.stride, wx, wy, rho, pull);
    double error = std::numeric_limits<double>::max();
    for (int32_t outer = 0; error > enough && outer < o.outer_iterations; ++outer) {
      if (o.median_filtering > 1) {
        for (int32_t i = 0; i < 2; ++i) {
          kernels->median(Start(s.u[i], l), l.width, l.height, l.stride, o.median_filtering, s.line.data(), Start(s.spare[i], l));
          std::swap(s.u[i], s.spare[i]);
        }
      }
      for (int32_t i = 0; i < parts; ++i) sweep.u[i] = Start(s.u[i], l);
      for (int32_t inner = 0; error > enough && inner < o.inner_iterations; ++inner) error = kernels->tvl1_iterate(&sweep);
    }
  }
}

Status FlowTvL1::Begin(Span<const uint8_t> grey, State& state) const noexcept {
  TvL1State& s = static_cast<TvL1State&>(state);
  ZOO_RETURN_IF_ERROR(CheckFrame(kOp, grey.size(), s.width, s.height));
  const FlushDenormals flush;
  s.held = 0;
  impl_->Take(grey, s.held, s);
  s.begun = true;
  return Status::Ok();
}

Status FlowTvL1::Advance(Span<const uint8_t> grey, Span<float> flow, State& state) const noexcept {
  TvL1State& s = static_cast<TvL1State&>(state);
  ZOO_RETURN_IF_ERROR(CheckFrame(kOp, grey.size(), s.width, s.height));
  if (!s.begun) return InvalidArgument(std::string(kOp) + ": Advance before Begin; give the first frame to Begin");
  if (flow.size() != 2 * grey.size()) return InvalidArgument(std::string(kOp) + ": the output must hold 2 values for each pixel");
  const FlushDenormals flush;
  const DenseFlowKernels& k = *impl_->kernels;
  impl_->Take(grey, 1 - s.held, s);
  const int32_t parts = impl_->options.gamma != 0 ? kParts : 2;
  for (size_t i = s.levels.size(); i-- > 0;) {
    const Level& l = s.levels[i];
    for (int32_t part = 0; part < parts; ++part) {
      if (i + 1 == s.levels.size()) {
        std::memset(s.u[part], 0, sizeof(float) * static_cast<size_t>(l.plane() + l.stride + 2 * kPlaneAlign));
      } else {
        const Level& coarse = s.levels[i + 1];
        const float gain = part < 2 ? static_cast<float>(1 / impl_->options.scale_step) : 1.0f;
        k.resample(&l.enlarge_x.plan(), &l.enlarge_y.plan(), Start(s.u[part], coarse), coarse.stride, gain, s.line.data(),
                   Start(s.spare[part], l), l.stride);
        std::swap(s.u[part], s.spare[part]);
      }
    }
    impl_->Solve(l, l.image[s.held].data(), l.image[1 - s.held].data(), s);
  }
  s.held = 1 - s.held;
  const Level& l = s.levels[0];
  for (int64_t y = 0; y < l.height; ++y) {
    k.interleave(Start(s.u[0], l) + y * l.stride, Start(s.u[1], l) + y * l.stride, l.width, flow.data() + 2 * y * l.width);
  }
  return Status::Ok();
}

}  // namespace zoo
