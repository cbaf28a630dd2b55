// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/denormals.h"
#include "flow/kernels.h"
#include "zoo/flow_dis.h"

namespace zoo {
namespace {

constexpr int64_t kLine = 16;  // floats; rows begin on cache lines
constexpr int32_t kMaxSide = 16384;
// On the full scale: damping of the descent, in squared grey levels over a patch, and the weight of a smooth flow. Towards
// coarser scales noise is averaged away and flow changes more from pixel to pixel; both shrink, by these factors a scale.
constexpr float kDamping = 448.0f, kSmoothness = 23.0f;
constexpr float kDampingRatio = 0.5f, kSmoothnessRatio = 0.8f;

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int32_t FloorLog2(int32_t n) {
  int32_t k = 0;
  while (n >= 2) n /= 2, ++k;
  return k;
}

}  // namespace

FlowDisOptions FlowDisOptions::Preset(DisPreset preset) noexcept {
  switch (preset) {
    case DisPreset::kUltrafast: return {2, 4, 12, 0};
    case DisPreset::kFast: return {2, 4, 16, 5};
    case DisPreset::kMedium: break;
  }
  return {1, 3, 25, 5};
}

Status FlowDisOptions::Validate() const {
  const auto in_range = [](const char* name, int32_t value, int32_t lo, int32_t hi) {
    if (value >= lo && value <= hi) return Status::Ok();
    return InvalidArgument(std::string("flow_dis: ") + name + " is " + std::to_string(value) + "; it must lie between " +
                           std::to_string(lo) + " and " + std::to_string(hi));
  };
  ZOO_RETURN_IF_ERROR(in_range("finest_scale", finest_scale, 0, 4));
  ZOO_RETURN_IF_ERROR(in_range("patch_stride", patch_stride, 3, 4));
  ZOO_RETURN_IF_ERROR(in_range("iterations", iterations, 2, 256));
  return in_range("refinements", refinements, 0, 64);
}

struct FlowDis::Impl {
  FlowDisOptions options;
  const Kernels* kernels;
};

namespace {

struct Level {
  FlowImage image[2];    // of the two frames
  float* u = nullptr;    // dense flow
  float* v = nullptr;
  int64_t dense = 0;
};

struct DisState : FlowDis::State {
  int32_t width = 0, height = 0;
  int32_t first = 0, finest = 0, coarsest = 0;  // scales that are kept, and those on which flow is found
  int32_t held = 0;      // which of the images belongs to the frame taken last
  bool begun = false;
  std::vector<Level> levels;  // from `first` on
  Buffer<float> memory;
  float* gx = nullptr;
  float* gy = nullptr;
  float* patch_u = nullptr;
  float* patch_v = nullptr;
  float* sums = nullptr;
  float* pairs = nullptr;
  float* planes[4] = {};
  RefinePlan refine{};
};

// Hands out parts of one block: first counts, then, with memory, gives addresses.
class Arena {
 public:
  explicit Arena(float* base) : base_(base) {}
  float* Take(int64_t floats) {
    float* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += RoundUp(floats, kLine);
    return at;
  }
  FlowImage Image(int32_t width, int32_t height) {
    FlowImage m{width, height, RoundUp(width + 2 * kFlowBorder, kLine), nullptr};
    float* at = Take(m.pitch * (height + 2 * kFlowBorder) + kLine);
    if (at != nullptr) m.pixels = at + kFlowBorder * m.pitch + kFlowBorder;
    return m;
  }
  int64_t used() const { return used_; }

 private:
  float* base_;
  int64_t used_ = 0;
};

// Floats of the even (or odd) columns of a row, with a border before them and at least one pixel behind.
int64_t HalfRow(int32_t width) { return kFlowBorder + RoundUp((width + 1) / 2 + 1, kLine); }

int32_t PatchCount(int32_t side, int32_t stride) { return (side - kFlowPatch + stride - 1) / stride + 1; }

// Lays the state's arrays out in the arena and returns the floats that they take.
int64_t Layout(const FlowDisOptions& o, DisState& s, Arena arena) {
  for (int32_t l = s.first; l <= s.coarsest; ++l) {
    Level& level = s.levels[static_cast<size_t>(l - s.first)];
    const int32_t w = s.width >> l, h = s.height >> l;
    for (FlowImage& m : level.image) m = arena.Image(w, h);
    if (l < s.finest) continue;
    level.dense = RoundUp(w, kLine) + 2 * kLine;
    level.u = arena.Take(level.dense * h);
    level.v = arena.Take(level.dense * h);
  }
  const Level& finest = s.levels[static_cast<size_t>(s.finest - s.first)];
  const FlowImage& m = finest.image[0];
  s.gx = arena.Take(m.pitch * m.height);
  s.gy = arena.Take(m.pitch * m.height);
  const int64_t patches = int64_t{PatchCount(m.width, o.patch_stride)} * PatchCount(m.height, o.patch_stride);
  s.patch_u = arena.Take(patches);
  s.patch_v = arena.Take(patches);
  s.sums = arena.Take(3 * finest.dense);
  s.pairs = arena.Take(2 * (m.width + 4));
  if (o.refinements > 0) {
    const int64_t half = HalfRow(m.width);
    for (float*& p : s.planes) p = arena.Take(m.pitch * (m.height + 2));
    s.refine.terms = arena.Take(9 * 2 * half * m.height);
    s.refine.su = arena.Take(2 * half * (m.height + 2));
    s.refine.sv = arena.Take(2 * half * (m.height + 2));
    s.refine.slots = arena.Take(kFlowSlots * 6 * 2 * half);
    s.refine.edge = arena.Take(2 * half);
    s.refine.relax = arena.Take(2 * half);
  }
  return arena.used();
}

void BuildPyramid(const FlowKernels& k, DisState& s, const uint8_t* grey, int32_t slot) {
  if (s.first == 0) {
    k.convert(grey, s.width, s.levels[0].image[slot]);
  } else {
    k.halve_frame(grey, s.width, s.levels[0].image[slot]);
  }
  for (size_t i = 1; i < s.levels.size(); ++i) k.halve(s.levels[i - 1].image[slot], s.levels[i].image[slot]);
}

// Starting points of the patches: twice the flow of the next coarser scale at their centres, or zero.
void Start(const DisPlan& plan, const Level* coarser) {
  for (int32_t r = 0; r < plan.rows; ++r) {
    const int32_t y = std::min(r * plan.stride, plan.prev.height - kFlowPatch);
    for (int32_t c = 0; c < plan.columns; ++c) {
      const int64_t i = int64_t{r} * plan.columns + c;
      if (coarser == nullptr) {
        plan.u[i] = plan.v[i] = 0.0f;
        continue;
      }
      const int32_t x = std::min(c * plan.stride, plan.prev.width - kFlowPatch);
      // the centre x + 3.5 lies at (x + 4) / 2 - 0.5 on the coarser scale: between two pixels, or a pixel and a half
      const FlowImage& m = coarser->image[0];
      const int32_t x1 = std::min((x + 4) / 2, m.width - 1), x0 = (x + 4) / 2 - 1;
      const int32_t y1 = std::min((y + 4) / 2, m.height - 1), y0 = (y + 4) / 2 - 1;
      const float fx = x % 2 == 0 ? 0.5f : 1.0f, fy = y % 2 == 0 ? 0.5f : 1.0f;
      const auto at = [&](const float* p) {
        const float* top = p + y0 * coarser->dense;
        const float* bottom = p + y1 * coarser->dense;
        const float a = top[x0] + fx * (top[x1] - top[x0]), b = bottom[x0] + fx * (bottom[x1] - bottom[x0]);
        return 2.0f * (a + fy * (b - a));
      };
      plan.u[i] = at(coarser->u);
      plan.v[i] = at(coarser->v);
    }
  }
}

}  // namespace

FlowDis::FlowDis(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FlowDis::FlowDis(FlowDis&&) noexcept = default;
FlowDis::~FlowDis() = default;
const FlowDisOptions& FlowDis::options() const noexcept { return impl_->options; }

Result<FlowDis> FlowDis::Create(const FlowDisOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  return FlowDis(std::unique_ptr<Impl>(new Impl{options, k.value()}));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status FlowDis::CheckSize(int64_t width, int64_t height) {
  if (std::min(width, height) >= kFlowPatch && std::max(width, height) <= kMaxSide) return Status::Ok();
  return InvalidSignal("frames are " + std::to_string(width) + " x " + std::to_string(height) + " pixels; flow_dis takes sides of " +
                       std::to_string(kFlowPatch) + " to " + std::to_string(kMaxSide));
}

Result<std::unique_ptr<FlowDis::State>> FlowDis::NewState() const try {
  return std::unique_ptr<State>(new DisState);
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status FlowDis::Reserve(int32_t width, int32_t height, State& state) const noexcept try {
  ZOO_RETURN_IF_ERROR(CheckSize(width, height));
  DisState& s = static_cast<DisState&>(state);
  if (s.width == width && s.height == height) return Status::Ok();
  s.width = s.height = 0;  // until all of it has been laid out
  s.begun = false;
  // The search begins where a quarter of the longer side is about a patch wide, and the shorter side holds a patch.
  const int32_t longer = std::max(width, height), shorter = std::min(width, height);
  const int32_t deepest = static_cast<int32_t>(std::floor(std::log2(longer / (4.0 * kFlowPatch)) + 0.5));
  s.coarsest = std::max(0, std::min(deepest, FloorLog2(shorter / kFlowPatch)));
  s.finest = std::min(impl_->options.finest_scale, s.coarsest);
  s.first = std::min(s.finest, 1);
  s.levels.assign(static_cast<size_t>(s.coarsest - s.first + 1), Level());
  DisState measured;
  measured.width = width, measured.height = height;
  measured.first = s.first, measured.finest = s.finest, measured.coarsest = s.coarsest;
  measured.levels = s.levels;
  const int64_t floats = Layout(impl_->options, measured, Arena(nullptr));
  if (!s.memory.Reserve(static_cast<size_t>(floats))) return OutOfMemory();
  s.width = width;
  s.height = height;
  Layout(impl_->options, s, Arena(s.memory.data()));
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status FlowDis::Begin(Span<const uint8_t> grey, State& state) const noexcept {
  DisState& s = static_cast<DisState&>(state);
  if (s.width == 0 || grey.size() != static_cast<size_t>(s.width) * static_cast<size_t>(s.height)) {
    return InvalidArgument("flow_dis: the state is not reserved for a frame of this size");
  }
  BuildPyramid(impl_->kernels->flow, s, grey.data(), s.held);
  s.begun = true;
  return Status::Ok();
}

Status FlowDis::Advance(Span<const uint8_t> grey, Span<float> flow, State& state) const noexcept {
  DisState& s = static_cast<DisState&>(state);
  const FlowDisOptions& o = impl_->options;
  const FlowKernels& k = impl_->kernels->flow;
  const size_t pixels = static_cast<size_t>(s.width) * static_cast<size_t>(s.height);
  if (!s.begun || grey.size() != pixels) return InvalidArgument("flow_dis: no frame of this size has been taken before");
  if (flow.size() != 2 * pixels) return InvalidArgument("flow_dis: the output has the wrong size");
  const FlushDenormals flush;
  const int32_t held = s.held, fresh = 1 - held;
  BuildPyramid(k, s, grey.data(), fresh);
  for (int32_t l = s.coarsest; l >= s.finest; --l) {
    const Level& level = s.levels[static_cast<size_t>(l - s.first)];
    DisPlan plan;
    plan.stride = o.patch_stride;
    plan.prev = level.image[held];
    plan.next = level.image[fresh];
    plan.columns = PatchCount(plan.prev.width, plan.stride);
    plan.rows = PatchCount(plan.prev.height, plan.stride);
    plan.steps = o.iterations / 2;
    plan.damping = kDamping * std::pow(kDampingRatio, static_cast<float>(l));
    plan.gx = s.gx;
    plan.gy = s.gy;
    plan.u = s.patch_u;
    plan.v = s.patch_v;
    k.gradient(plan.prev, s.gx, s.gy);
    Start(plan, l < s.coarsest ? &level + 1 : nullptr);
    k.search(&plan, 0);
    k.search(&plan, 1);
    k.densify(&plan, s.sums, level.u, level.v, level.dense);
    if (o.refinements == 0) continue;
    RefinePlan& r = s.refine;
    r.prev = plan.prev;
    r.next = plan.next;
    r.u = level.u;
    r.v = level.v;
    r.dense = level.dense;
    r.iterations = o.refinements;
    r.smoothness = kSmoothness * std::pow(kSmoothnessRatio, static_cast<float>(l));
    r.half = HalfRow(plan.prev.width);
    float** const planes[] = {&r.mean, &r.diff, &r.dx, &r.dy};
    for (size_t i = 0; i < 4; ++i) *planes[i] = s.planes[i] + kFlowBorder;
    k.refine(&r);
  }
  const Level& finest = s.levels[static_cast<size_t>(s.finest - s.first)];
  k.enlarge(finest.u, finest.v, finest.dense, finest.image[0].width, finest.image[0].height, 1 << s.finest, s.pairs, s.width,
            s.height, flow.data());
  s.held = fresh;
  return Status::Ok();
}

}  // namespace zoo
