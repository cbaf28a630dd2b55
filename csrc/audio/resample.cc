// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/denormals.h"
#include "audio/kernels.h"
#include "zoo/signal.h"

namespace zoo {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kMaxTable = int64_t{1} << 20;  // coefficients; finer ratios interpolate between rows
constexpr int64_t kWantedTable = int64_t{1} << 17;  // 512 KiB: half of a usual second-level cache
constexpr int64_t kChunk = 16384;  // outputs of a two-stage filter between which the intermediate signal stays in cache

// A Kaiser-windowed sinc: cutoff relative to the lower rate's Nyquist frequency, zero crossings a side, attenuation in dB.
struct Filter {
  double cutoff, crossings, attenuation;
};
// Flat to 0.902 and stopped from 1.0 of the lower Nyquist frequency on. With 72 zero crossings a side the transition is
// (108 - 7.95) / (2.285 * 144) = 0.304 rad = 0.0968 Nyquist wide.
constexpr Filter kSharp = {1.0 - 0.5 * 0.0968, 72.0, 108.0};
// Between a signal and one of 1.5 times its rate, whose Nyquist frequency the cutoff is: flat to 2/3 of it, where the
// signal ends, stopped from 4/3 on, where its first image starts: (112 - 7.95) / (2.285 * 22) = 2.07 rad = 0.659 Nyquist wide.
constexpr Filter kWide = {1.0, 11.0, 112.0};

struct Stage {
  int64_t phases, step;
  int64_t reach;  // taps a side
  Filter filter;
};

struct Design {
  int32_t count;
  Stage stage[2];
};

int64_t FloorMul(int64_t i, int64_t num, int64_t den) {
  const __int128 t = static_cast<__int128>(i) * num;
  return static_cast<int64_t>(t >= 0 ? t / den : -((-t + den - 1) / den));
}
int64_t CeilMul(int64_t i, int64_t num, int64_t den) { return -FloorMul(-i, num, den); }

Stage StageOf(int64_t in, int64_t out, const Filter& filter) {
  const int64_t g = std::gcd(in, out);
  const double ratio = std::max(1.0, static_cast<double>(in) / static_cast<double>(out));
  return {out / g, in / g, static_cast<int64_t>(std::ceil(filter.crossings * ratio)), filter};
}

bool Tabled(const Stage& s) { return s.phases * 2 * s.reach <= kMaxTable; }

// Ratios above 2.1 go through 1.5 times the lower rate: the sharp filter works near the lower rate, where it is short, and
// the filter between there and the higher rate has a wide transition.
Design DesignOf(const ResampleOptions& o) {
  const int64_t in = o.rate_in, out = o.rate_out;
  const Stage direct = StageOf(in, out, kSharp);
  if (10 * out > 21 * in) {
    const Design two = {2, {StageOf(2, 3, kSharp), StageOf(3 * in, 2 * out, kWide)}};
    if (Tabled(two.stage[1])) return two;
  } else if (10 * in > 21 * out) {
    const Design two = {2, {StageOf(2 * in, 3 * out, kWide), StageOf(3, 2, kSharp)}};
    if (Tabled(two.stage[0])) return two;
  }
  return {1, {direct, {}}};
}

// Inputs that outputs `out` depend on.
Range Inputs(const Stage& s, Range out) {
  return {FloorMul(out.begin, s.step, s.phases) - s.reach + 1, FloorMul(out.end - 1, s.step, s.phases) + s.reach + 1};
}

double BesselI0(double x) {
  double sum = 1.0, term = 1.0;
  for (int k = 1; k < 200; ++k) {
    term *= (x / (2.0 * k)) * (x / (2.0 * k));
    sum += term;
    if (term < 1e-18 * sum) break;
  }
  return sum;
}

}  // namespace

Status ResampleOptions::Validate() const {
  for (const auto& [name, rate] : {std::pair<const char*, int32_t>{"rate_in", rate_in}, {"rate_out", rate_out}}) {
    if (rate < 1 || rate > 768000) {
      return InvalidArgument(std::string("resample: ") + name + " is " + std::to_string(rate) +
                             " Hz; it must lie between 1 and 768000");
    }
  }
  if (rate_in / 256 > rate_out || rate_out / 256 > rate_in) {
    return InvalidArgument("resample: " + std::to_string(rate_in) + " Hz to " + std::to_string(rate_out) +
                           " Hz is a ratio above 256; resample in two steps");
  }
  return Status::Ok();
}

namespace {

// The plan of one stage and its tables.
class StageTables {
 public:
  Status Init(const Stage& s);
  const ResamplePlan& plan() const { return plan_; }
  // Inputs that the tiles of outputs `out` read.
  Range Touched(Range out) const { return {TileOf(out.begin), TileOf(out.end - 1) + plan_.window}; }
  // The end of the tile that output i - 1 lies in, and the start of the one that output i lies in.
  int64_t TileEnd(int64_t i) const { return Edge(i, true); }
  int64_t TileStart(int64_t i) const { return Edge(i, false); }

 private:
  int64_t Edge(int64_t i, bool up) const {
    if (plan_.tiles == 0) return i;
    const int64_t start = FloorMul(i, 1, plan_.outputs) * plan_.outputs, rest = i - start;
    return start + (up ? std::min((rest + kTile - 1) / kTile * kTile, plan_.outputs) : rest / kTile * kTile);
  }
  int64_t TileOf(int64_t i) const {
    if (plan_.tiles == 0) return FloorMul(i, plan_.step, plan_.phases) - plan_.before;
    const int64_t period = FloorMul(i, 1, plan_.outputs);
    return period * plan_.inputs + first_[static_cast<size_t>((i - period * plan_.outputs) / kTile)];
  }
  ResamplePlan plan_{};
  Buffer<float> coef_;
  std::vector<int32_t> first_;
};

Status StageTables::Init(const Stage& s) {
  ResamplePlan& p = plan_;
  const double ratio = std::max(1.0, static_cast<double>(s.step) / static_cast<double>(s.phases));
  const double beta = 0.1102 * (s.filter.attenuation - 8.7), i0 = BesselI0(beta);
  const double scale = s.filter.cutoff / ratio, half_width = s.filter.crossings * ratio;
  const int32_t taps = static_cast<int32_t>(2 * s.reach);
  std::vector<double> row(static_cast<size_t>(taps));
  // Taps of an output that lies `frac` behind an input; they sum to 1.
  const auto fill = [&](double frac) {
    double sum = 0;
    for (int32_t t = 0; t < taps; ++t) {
      const double x = t - p.before - frac;  // position of the tap relative to the output
      const double u = x / half_width;
      double h = 0;
      if (std::fabs(u) < 1.0) {
        const double a = kPi * scale * x;
        h = scale * (std::fabs(a) < 1e-9 ? 1.0 : std::sin(a) / a) * BesselI0(beta * std::sqrt(1.0 - u * u)) / i0;
      }
      row[static_cast<size_t>(t)] = h;
      sum += h;
    }
    for (double& h : row) h /= sum;
  };
  p.phases = s.phases;
  p.step = s.step;
  p.before = static_cast<int32_t>(s.reach) - 1;
  if (!Tabled(s)) {
    // linear interpolation of the kernel on a grid of 1/2048 of a zero crossing: error (pi / 2048)^2 / 8 = -131 dB
    p.rows = static_cast<int32_t>(std::ceil(2048.0 / ratio)) + 1;
    p.window = (taps + kMaxFloatLanes - 1) / kMaxFloatLanes * kMaxFloatLanes;
    if (!coef_.Reserve(static_cast<size_t>(p.rows) * p.window)) return OutOfMemory();
    for (int32_t r = 0; r < p.rows; ++r) {
      fill(static_cast<double>(r) / (p.rows - 1));
      std::copy(row.begin(), row.end(), coef_.data() + static_cast<int64_t>(r) * p.window);
    }
    p.coef = coef_.data();
    return Status::Ok();
  }
  if (s.phases * s.step == 2) {
    const bool up = s.phases == 2;
    const int32_t filled = taps / (up ? 2 : 4);
    p.pairs = (filled + 11) / 12 * 12;
    p.window = taps;
    if (!coef_.Reserve(2 * static_cast<size_t>(p.pairs))) return OutOfMemory();
    for (int32_t odd = 0; odd < 2; ++odd) {
      fill(up && odd ? 0.5 : 0.0);
      for (int32_t k = 0; k < filled; ++k) {
        const double h = row[static_cast<size_t>(p.before + (up ? k : 2 * k) + odd)];
        coef_[static_cast<size_t>(odd * p.pairs + k)] = static_cast<float>(k == 0 && odd == 0 ? 0.5 * h : h);
      }
    }
    p.coef = coef_.data();
    return Status::Ok();
  }
  const auto tiles_of = [](int64_t outputs) { return (outputs + kTile - 1) / kTile; };
  const int32_t reach = taps + static_cast<int32_t>(FloorMul(kTile - 1, s.step, s.phases)) + 1;
  // as many turns through the phases as fill the tiles best, within a table that stays in cache
  int64_t turns = 1;
  for (int64_t k = 2; k <= kTile && tiles_of(k * s.phases) * reach * kTile <= kWantedTable; ++k) {
    if (tiles_of(k * s.phases) * turns < tiles_of(turns * s.phases) * k) turns = k;
  }
  p.outputs = turns * s.phases;
  p.inputs = turns * s.step;
  p.tiles = static_cast<int32_t>(tiles_of(p.outputs));
  for (int64_t i = 0; i < p.outputs; i += kTile) {
    const int64_t lo = FloorMul(i, s.step, s.phases), hi = FloorMul(std::min(i + kTile, p.outputs) - 1, s.step, s.phases);
    first_.push_back(static_cast<int32_t>(lo - p.before));
    p.window = std::max(p.window, static_cast<int32_t>(hi - lo) + taps);
  }
  p.first = first_.data();
  if (!coef_.Reserve(static_cast<size_t>(p.tiles) * static_cast<size_t>(p.window) * kTile)) return OutOfMemory();
  for (int64_t phase = 0; phase < s.phases; ++phase) {
    // output i lies at i * step / phases
    fill(static_cast<double>(phase * s.step % s.phases) / static_cast<double>(s.phases));
    for (int64_t i = phase; i < p.outputs; i += s.phases) {
      const int64_t tile = i / kTile, at = FloorMul(i, s.step, s.phases) - p.before - first_[static_cast<size_t>(tile)];
      float* to = coef_.data() + (tile * p.window + at) * kTile + i % kTile;
      for (int32_t t = 0; t < taps; ++t) to[t * kTile] = static_cast<float>(row[static_cast<size_t>(t)]);
    }
  }
  p.coef = coef_.data();
  return Status::Ok();
}

struct ResampleState : Resample::State {
  Buffer<float> edge;  // what tiles read around the ends of the signal
  Buffer<float> lanes;  // work of resample_pairs
  Buffer<float> middle;  // between two stages
};

// Inputs that fit into the scratch for edges.
int64_t EdgeRoom(const ResamplePlan& p) { return 4 * static_cast<int64_t>(p.window) + 4 * kTile * (p.step / p.phases + 1); }

void RunPlan(const AudioKernels& k, const ResamplePlan& p, const float* x, int64_t x_first, Range out, float* to,
             const ResampleState& s) {
  if (p.pairs > 0) {
    k.resample_pairs(&p, x, x_first, out.begin, out.end, s.lanes.data(), to);
  } else {
    k.resample(&p, x, x_first, out.begin, out.end, to);
  }
}

// Outputs `out` of one stage, to[0] the first; part holds inputs from `first` on, and beyond it are zeros.
void RunStage(const AudioKernels& k, const StageTables& t, const float* part, int64_t first, int64_t stop, Range out,
              float* to, const ResampleState& s) {
  const ResamplePlan& p = t.plan();
  float* const edge = s.edge.data();
  // tiles that lie within the part read it where it is
  Range body = {t.TileEnd(CeilMul(first + p.before, p.phases, p.step)),
                t.TileStart(FloorMul(stop - p.window + p.before, p.phases, p.step))};
  body = {std::clamp(body.begin, out.begin, out.end), std::clamp(body.end, out.begin, out.end)};
  if (body.size() == 0) body = {out.end, out.end};
  const auto edges = [&](Range r) {
    const int64_t most = std::max<int64_t>(1, FloorMul(EdgeRoom(p) - p.window - 2 * kTile * (p.step / p.phases + 1) - 2, p.phases, p.step));
    for (int64_t i = r.begin; i < r.end;) {
      const Range some = {i, std::min(r.end, i + most)}, touched = t.Touched(some);
      const int64_t lo = std::clamp(first, touched.begin, touched.end), hi = std::clamp(stop, lo, touched.end);
      std::memset(edge, 0, static_cast<size_t>(lo - touched.begin) * sizeof(float));
      if (hi > lo) std::memcpy(edge + (lo - touched.begin), part + (lo - first), static_cast<size_t>(hi - lo) * sizeof(float));
      std::memset(edge + (hi - touched.begin), 0, static_cast<size_t>(touched.end - hi) * sizeof(float));
      RunPlan(k, p, edge, touched.begin, some, to + (i - out.begin), s);
      i = some.end;
    }
  };
  edges({out.begin, body.begin});
  if (body.size() > 0) RunPlan(k, p, part, first, body, to + (body.begin - out.begin), s);
  edges({body.end, out.end});
}

}  // namespace

struct Resample::Impl {
  ResampleOptions options;
  const Kernels* kernels;
  Design design{};
  StageTables stage[2];
  int64_t chunk = 0;  // outputs of a two-stage filter at a time

  // Most intermediate samples that a chunk reads.
  int64_t MiddleRoom() const {
    const ResamplePlan& p = stage[1].plan();
    return CeilMul(chunk + 2 * kTile, p.step, p.phases) + 2 * static_cast<int64_t>(p.window);
  }
};

Resample::Resample(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Resample::Resample(Resample&&) noexcept = default;
Resample::~Resample() = default;
const ResampleOptions& Resample::options() const noexcept { return impl_->options; }

Result<Resample> Resample::Create(const ResampleOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> k = SelectKernels(isa);
  if (!k.ok()) return k.status();
  std::unique_ptr<Impl> impl(new Impl);
  impl->options = options;
  impl->kernels = k.value();
  if (options.rate_in == options.rate_out) return Resample(std::move(impl));
  impl->design = DesignOf(options);
  for (int32_t s = 0; s < impl->design.count; ++s) ZOO_RETURN_IF_ERROR(impl->stage[s].Init(impl->design.stage[s]));
  if (impl->design.count == 2) {
    const int64_t block = 24 * std::max<int64_t>(1, impl->stage[1].plan().outputs);  // whole blocks of tiles for every instruction set
    impl->chunk = std::max<int64_t>(1, kChunk / block) * block;
  }
  return Resample(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

int64_t Resample::OutputSize(const ResampleOptions& o, int64_t samples) noexcept {
  return CeilMul(samples, o.rate_out, o.rate_in);
}

Range Resample::Needed(const ResampleOptions& o, Range out, int64_t samples) noexcept {
  if (out.size() == 0) return {0, 0};
  Range r = out;
  if (o.rate_in != o.rate_out) {
    const Design d = DesignOf(o);
    for (int32_t s = d.count; s-- > 0;) r = Inputs(d.stage[s], r);
  }
  const int64_t lo = std::clamp<int64_t>(r.begin, 0, samples);
  return {lo, std::clamp<int64_t>(r.end, lo, samples)};
}

int64_t Resample::Ready(const ResampleOptions& o, int64_t samples) noexcept {
  if (o.rate_in == o.rate_out) return samples;
  const Design d = DesignOf(o);
  // output i needs inputs up to floor(i * step / phases) + reach
  for (int32_t s = 0; s < d.count; ++s) {
    samples = std::max<int64_t>(0, CeilMul(samples - d.stage[s].reach, d.stage[s].phases, d.stage[s].step));
  }
  return samples;
}

Result<std::unique_ptr<Resample::State>> Resample::NewState() const {
  std::unique_ptr<ResampleState> s(new (std::nothrow) ResampleState);
  if (!s) return OutOfMemory();
  for (int32_t i = 0; i < impl_->design.count; ++i) {
    const ResamplePlan& p = impl_->stage[i].plan();
    if (!s->edge.Reserve(static_cast<size_t>(EdgeRoom(p)))) return OutOfMemory();
    if (p.pairs > 0 && !s->lanes.Reserve(kPairWork)) return OutOfMemory();
  }
  if (impl_->design.count == 2 && !s->middle.Reserve(static_cast<size_t>(impl_->MiddleRoom()))) return OutOfMemory();
  return std::unique_ptr<State>(std::move(s));
}

Status Resample::Compute(Span<const float> part, int64_t first, int64_t total, Range out, Span<float> to,
                         State& state) const noexcept {
  const ResampleOptions& o = impl_->options;
  const Range need = Needed(o, out, total);
  const int64_t stop = first + static_cast<int64_t>(part.size());
  if (need.size() > 0 && (need.begin < first || need.end > stop)) {
    return InvalidArgument("resample: samples " + std::to_string(need.begin) + " to " + std::to_string(need.end) +
                           " are needed, " + std::to_string(first) + " to " + std::to_string(stop) + " were given");
  }
  if (static_cast<int64_t>(to.size()) != out.size()) return InvalidArgument("resample: the output has the wrong size");
  if (out.size() == 0) return Status::Ok();
  if (o.rate_in == o.rate_out) {
    std::memcpy(to.data(), part.data() + (out.begin - first), static_cast<size_t>(out.size()) * sizeof(float));
    return Status::Ok();
  }
  const FlushDenormals flush;
  const AudioKernels& k = impl_->kernels->audio;
  ResampleState& s = static_cast<ResampleState&>(state);
  if (impl_->design.count == 1) {
    RunStage(k, impl_->stage[0], part.data(), first, stop, out, to.data(), s);
    return Status::Ok();
  }
  float* const middle = s.middle.data();
  int64_t held_first = 0, held_end = 0;  // intermediate samples that are there
  for (int64_t i = out.begin; i < out.end;) {
    const int64_t whole = FloorMul(i, 1, impl_->chunk) * impl_->chunk;
    const Range some = {i, std::min(out.end, whole + impl_->chunk)};
    const Range touched = impl_->stage[1].Touched(some), wanted = Inputs(impl_->design.stage[1], some);
    int64_t have = wanted.begin;
    if (wanted.begin < held_end && i > out.begin) {
      std::memmove(middle + (wanted.begin - touched.begin), middle + (wanted.begin - held_first), static_cast<size_t>(held_end - wanted.begin) * sizeof(float));
      have = held_end;
    }
    // coefficients are zero where a tile reads more than its outputs need
    std::memset(middle, 0, static_cast<size_t>(wanted.begin - touched.begin) * sizeof(float));
    RunStage(k, impl_->stage[0], part.data(), first, stop, {have, wanted.end}, middle + (have - touched.begin), s);
    if (touched.end > wanted.end) std::memset(middle + (wanted.end - touched.begin), 0, static_cast<size_t>(touched.end - wanted.end) * sizeof(float));
    RunPlan(k, impl_->stage[1].plan(), middle, touched.begin, some, to.data() + (i - out.begin), s);
    held_first = touched.begin;
    held_end = wanted.end;
    i = some.end;
  }
  return Status::Ok();
}

}  // namespace zoo
