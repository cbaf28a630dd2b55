// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "audio/kernels.h"
#include "core/buffer.h"
#include "core/denormals.h"
#include "core/kernels.h"
#include "eeg/triangulation.h"
#include "zoo/eeg.h"

namespace zoo {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int32_t kMaxSize = 1024;
constexpr size_t kMaxElectrodes = 1024;
constexpr double kSame = 1e-6;  // head radii: electrodes nearer than this coincide

struct Vector {
  double x = 0, y = 0, z = 0;
};

Status Normalize(const std::vector<double>& positions, std::vector<Vector>* out) {
  if (positions.size() % 3 != 0 || positions.empty()) {
    return InvalidArgument("positions has " + std::to_string(positions.size()) + " values; it must hold x, y, z of each electrode");
  }
  for (size_t i = 0; i < positions.size() / 3; ++i) {
    const double x = positions[3 * i], y = positions[3 * i + 1], z = positions[3 * i + 2];
    const double big = std::max({std::fabs(x), std::fabs(y), std::fabs(z)});
    if (!std::isfinite(x) || !std::isfinite(y) || !std::isfinite(z) || !(big > 0)) {
      return InvalidArgument("electrode " + std::to_string(i) + " has no position (NaN, Inf or all zero); leave it out of the positions and the values");
    }
    const double r = big * std::sqrt((x / big) * (x / big) + (y / big) * (y / big) + (z / big) * (z / big));
    out->push_back({x / r, y / r, z / r});
  }
  return Status::Ok();
}

Point Project(const Vector& v) {
  const double across = std::hypot(v.x, v.y), r = std::atan2(across, v.z) / (kPi / 2);
  return across > 0 ? Point{r * v.x / across, r * v.y / across} : Point{v.z > 0 ? 0.0 : 2.0, 0.0};
}

// Weights [pixels][channels] while they are built, in float64.
struct Weights {
  int64_t channels = 0;
  std::vector<double> at;
  std::vector<char> inside;
};

// Kernel of the spherical spline of order 4 (Perrin et al. 1989) at the cosine c.
double SplineKernel(double c) {
  double previous = 1, legendre = c, sum = 0;
  for (int n = 1; n <= 50; ++n) {
    const double nn = static_cast<double>(n) * (n + 1);
    sum += (2 * n + 1) / (nn * nn * nn * nn) * legendre;
    const double next = ((2 * n + 1) * c * legendre - n * previous) / (n + 1);
    previous = legendre;
    legendre = next;
  }
  return sum / (4 * kPi);
}

// Inverse of a square matrix by elimination with pivots; false when it is singular.
bool Invert(std::vector<double>* matrix, size_t n) {
  std::vector<double>& a = *matrix;
  std::vector<double> inverse(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) inverse[i * n + i] = 1;
  for (size_t col = 0; col < n; ++col) {
    size_t pivot = col;
    for (size_t r = col; r < n; ++r) {
      if (std::fabs(a[r * n + col]) > std::fabs(a[pivot * n + col])) pivot = r;
    }
    if (!(std::fabs(a[pivot * n + col]) > 1e-300)) return false;
    if (pivot != col) {
      for (size_t k = 0; k < n; ++k) std::swap(a[pivot * n + k], a[col * n + k]), std::swap(inverse[pivot * n + k], inverse[col * n + k]);
    }
    const double scale = 1 / a[col * n + col];
    for (size_t k = 0; k < n; ++k) a[col * n + k] *= scale, inverse[col * n + k] *= scale;
    for (size_t r = 0; r < n; ++r) {
      const double f = a[r * n + col];
      if (r == col || f == 0) continue;
      for (size_t k = col; k < n; ++k) a[r * n + k] -= f * a[col * n + k];
      for (size_t k = 0; k < n; ++k) inverse[r * n + k] -= f * inverse[col * n + k];
    }
  }
  a = std::move(inverse);
  return true;
}

Status BuildSpline(const TopomapOptions& o, const std::vector<Vector>& e, Weights* w) {
  const size_t c = e.size(), n = c + 1;
  std::vector<double> system(n * n, 1.0);
  for (size_t i = 0; i < c; ++i) {
    for (size_t j = 0; j < c; ++j) {
      system[i * n + j] = SplineKernel(e[i].x * e[j].x + e[i].y * e[j].y + e[i].z * e[j].z) + (i == j ? o.smoothing : 0);
    }
  }
  system[n * n - 1] = 0;
  if (!Invert(&system, n)) return InvalidArgument("the electrodes' positions do not determine a spline; raise smoothing");
  std::vector<double> g(n, 1.0);
  for (int32_t i = 0; i < o.size; ++i) {
    for (int32_t j = 0; j < o.size; ++j) {
      const double x = -1 + (2 * j + 1) / static_cast<double>(o.size), y = 1 - (2 * i + 1) / static_cast<double>(o.size);
      const double r = std::hypot(x, y);
      if (r > 1) continue;
      const size_t pixel = static_cast<size_t>(i) * static_cast<size_t>(o.size) + static_cast<size_t>(j);
      w->inside[pixel] = 1;
      const double s = r > 0 ? std::sin(r * kPi / 2) / r : 0, z = std::cos(r * kPi / 2);
      for (size_t k = 0; k < c; ++k) g[k] = SplineKernel(x * s * e[k].x + y * s * e[k].y + z * e[k].z);
      double* to = &w->at[pixel * c];
      for (size_t k = 0; k < n; ++k) {
        for (size_t m = 0; m < c; ++m) to[m] += g[k] * system[k * n + m];
      }
    }
  }
  return Status::Ok();
}

Status BuildCloughTocher(const TopomapOptions& o, const std::vector<Point>& electrodes, const Triangulation& inner, Weights* w) {
  const size_t c = electrodes.size();
  // The head's circle holds all electrodes. Beyond it lies a ring of points with the mean of the electrodes next to them.
  double far = 0;
  for (const Point& p : electrodes) far = std::max(far, std::hypot(p.x, p.y));
  const double head = std::max(1.0, far * 1.01);
  double spacing = o.spacing.value_or(0);
  if (!o.spacing) {
    std::vector<double> lengths;
    for (size_t i = 0; i < c; ++i) {
      for (const int32_t j : inner.neighbours()[i]) {
        const Point& a = electrodes[i];
        const Point& b = electrodes[static_cast<size_t>(j)];
        if (static_cast<size_t>(j) > i) lengths.push_back(std::hypot(a.x - b.x, a.y - b.y));
      }
    }
    std::sort(lengths.begin(), lengths.end());
    spacing = 0.5 * (lengths[(lengths.size() - 1) / 2] + lengths[lengths.size() / 2]);
  }
  const double angle = std::asin(std::min(spacing / head, 1.0));
  const int64_t ring = std::max<int64_t>(12, static_cast<int64_t>(std::nearbyint(2 * kPi / angle)));
  std::vector<Point> points = electrodes;
  for (int64_t i = 0; i < ring; ++i) {
    const double a = 2 * kPi * static_cast<double>(i) / static_cast<double>(ring), r = head * 1.1 + spacing;
    points.push_back({std::cos(a) * r, std::sin(a) * r});
  }
  Triangulation t;
  if (!t.Build(points)) return InvalidArgument("the electrodes cannot be triangulated");

  std::vector<double> values(points.size() * c, 0.0), all(c, 0.0);
  for (size_t i = 0; i < c; ++i) values[i * c + i] = 1;
  std::vector<char> used(points.size(), 0);
  int64_t users = 0;
  for (size_t p = c; p < points.size(); ++p) {
    double count = 0;
    for (const int32_t n : t.neighbours()[p]) count += static_cast<size_t>(n) < c;
    if (count == 0) continue;
    used[p] = 1;
    ++users;
    for (const int32_t n : t.neighbours()[p]) {
      if (static_cast<size_t>(n) < c) values[p * c + static_cast<size_t>(n)] = 1 / count;
    }
    for (size_t k = 0; k < c; ++k) all[k] += values[p * c + k];
  }
  for (size_t p = c; p < points.size(); ++p) {
    for (size_t k = 0; k < c && !used[p] && users > 0; ++k) values[p * c + k] = all[k] / static_cast<double>(users);
  }
  std::vector<double> gradients;
  if (!t.Gradients(values, static_cast<int64_t>(c), &gradients)) {
    return InvalidArgument("the interpolation does not settle for these positions: some electrodes lie too near to each other");
  }

  int32_t last = 0;
  for (int32_t i = 0; i < o.size; ++i) {
    for (int32_t j = 0; j < o.size; ++j) {
      const double step = o.size > 1 ? 2 * head / (o.size - 1) : 0;
      const Point p{j * step - head, head - i * step};
      if (std::hypot(p.x, p.y) > head * (1 + 1e-12)) continue;
      const int32_t triangle = t.Locate(p, last);
      if (triangle < 0) continue;
      last = triangle;
      const size_t pixel = static_cast<size_t>(i) * static_cast<size_t>(o.size) + static_cast<size_t>(j);
      w->inside[pixel] = 1;
      const std::array<double, 9> cubic = t.CloughTocher(triangle, p);
      double* to = &w->at[pixel * c];
      for (size_t v = 0; v < 3; ++v) {
        const size_t vertex = static_cast<size_t>(t.triangles()[static_cast<size_t>(triangle)].v[v]);
        const double* f = &values[vertex * c];
        const double* gx = &gradients[2 * vertex * c];
        const double* gy = gx + c;
        for (size_t k = 0; k < c; ++k) to[k] += cubic[v] * f[k] + cubic[3 + 2 * v] * gx[k] + cubic[4 + 2 * v] * gy[k];
      }
    }
  }
  return Status::Ok();
}

}  // namespace

Result<std::vector<double>> ProjectPositions(const std::vector<double>& positions) try {
  std::vector<Vector> unit;
  ZOO_RETURN_IF_ERROR(Normalize(positions, &unit));
  std::vector<double> out;
  for (const Vector& v : unit) {
    const Point p = Project(v);
    out.push_back(p.x);
    out.push_back(p.y);
  }
  return out;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status TopomapOptions::Validate() const {
  if (size < 1 || size > kMaxSize) return InvalidArgument("size is " + std::to_string(size) + "; it must lie between 1 and " + std::to_string(kMaxSize));
  if (positions.size() > 3 * kMaxElectrodes) {
    return InvalidArgument("positions has " + std::to_string(positions.size() / 3) + " electrodes; at most " +
                           std::to_string(kMaxElectrodes) + " are taken");
  }
  if (static_cast<double>(size) * size * static_cast<double>(positions.size() / 3) > 33554432) {
    return InvalidArgument("size * size * electrodes is more than 2^25; make size smaller");
  }
  if (!(smoothing >= 0) || !std::isfinite(smoothing)) return InvalidArgument("smoothing is " + std::to_string(smoothing) + "; it must not be negative");
  if (spacing && !(*spacing >= 1e-3 && *spacing <= 10)) {
    return InvalidArgument("spacing is " + std::to_string(*spacing) + " head radii; it must lie between 0.001 and 10");
  }
  return Status::Ok();
}

struct Topomap::Impl {
  TopomapOptions options;
  const Kernels* kernels;
  int64_t channels = 0, padded = 0;
  Buffer<float> basis;  // [channels + 1][padded]; the last row is the inside of the head
};

namespace {
struct TopomapState : Topomap::State {
  Buffer<float> centred;
};
constexpr int64_t kMapsAtOnce = 64;
}  // namespace

Topomap::Topomap(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Topomap::Topomap(Topomap&&) noexcept = default;
Topomap::~Topomap() = default;
const TopomapOptions& Topomap::options() const noexcept { return impl_->options; }
int64_t Topomap::channels() const noexcept { return impl_->channels; }
int64_t Topomap::pixels() const noexcept { return static_cast<int64_t>(impl_->options.size) * impl_->options.size; }

Result<Topomap> Topomap::Create(const TopomapOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  Result<const Kernels*> kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  std::vector<Vector> electrodes;
  ZOO_RETURN_IF_ERROR(Normalize(options.positions, &electrodes));
  const size_t c = electrodes.size(), fewest = options.method == MapMethod::kSpline ? 3 : 4;
  if (c < fewest) return InvalidArgument("positions has " + std::to_string(c) + " electrodes; a map needs at least " + std::to_string(fewest));
  std::vector<Point> flat;
  for (const Vector& v : electrodes) flat.push_back(Project(v));
  for (size_t i = 0; i < c; ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (std::hypot(flat[i].x - flat[j].x, flat[i].y - flat[j].y) < kSame) {
        return InvalidArgument("electrodes " + std::to_string(j) + " and " + std::to_string(i) + " are at the same place; leave one of them out");
      }
    }
  }
  Triangulation inner;
  if (!inner.Build(flat)) return InvalidArgument("the electrodes lie on one line; a map needs some beside it");

  std::unique_ptr<Impl> p(new Impl{options, kernels.value(), static_cast<int64_t>(c), 0, {}});
  const int64_t pixels = static_cast<int64_t>(options.size) * options.size;
  Weights w;
  w.channels = p->channels;
  w.at.assign(static_cast<size_t>(pixels) * c, 0.0);
  w.inside.assign(static_cast<size_t>(pixels), 0);
  ZOO_RETURN_IF_ERROR(options.method == MapMethod::kSpline ? BuildSpline(options, electrodes, &w) : BuildCloughTocher(options, flat, inner, &w));
  p->padded = (pixels + 47) / 48 * 48;  // as the product's kernel wants it
  if (!p->basis.Reserve(static_cast<size_t>(p->padded) * (c + 1))) return OutOfMemory();
  for (size_t i = 0; i < static_cast<size_t>(pixels); ++i) {
    for (size_t k = 0; k < c; ++k) {
      if (!std::isfinite(w.at[i * c + k])) return InvalidArgument("the electrodes' positions do not determine a map; raise smoothing");
      p->basis[k * static_cast<size_t>(p->padded) + i] = static_cast<float>(w.at[i * c + k]);
    }
    p->basis[c * static_cast<size_t>(p->padded) + i] = w.inside[i] ? 1.0f : 0.0f;
  }
  return Topomap(std::move(p));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Result<std::unique_ptr<Topomap::State>> Topomap::NewState() const {
  std::unique_ptr<TopomapState> s(new (std::nothrow) TopomapState);
  if (!s || !s->centred.Reserve(static_cast<size_t>(kMapsAtOnce * (channels() + 1)))) return OutOfMemory();
  return std::unique_ptr<State>(std::move(s));
}

Status Topomap::Compute(Span<const float> values, Span<float> out, State& state) const noexcept {
  const Impl& p = *impl_;
  const int64_t c = p.channels, maps = static_cast<int64_t>(values.size()) / c;
  if (static_cast<int64_t>(values.size()) != maps * c || static_cast<int64_t>(out.size()) != maps * pixels()) {
    return InvalidArgument("topomap: " + std::to_string(values.size()) + " values are not rows of " + std::to_string(c));
  }
  const FlushDenormals flush;
  float* x = static_cast<TopomapState&>(state).centred.data();
  for (int64_t m = 0; m < maps; m += kMapsAtOnce) {
    const int64_t some = std::min(kMapsAtOnce, maps - m);
    // The weights of a pixel sum to 1: the mean goes through by itself, so that a large offset costs no precision.
    for (int64_t r = 0; r < some; ++r) {
      const float* v = values.data() + (m + r) * c;
      double mean = 0;
      for (int64_t k = 0; k < c; ++k) mean += v[k];
      mean /= static_cast<double>(c);
      const float offset = static_cast<float>(mean);
      for (int64_t k = 0; k < c; ++k) x[r * (c + 1) + k] = v[k] - offset;
      x[r * (c + 1) + c] = offset;
    }
    p.kernels->audio.project(x, some, c + 1, 1, c + 1, p.basis.data(), p.padded, pixels(), out.data() + m * pixels());
  }
  return Status::Ok();
}

}  // namespace zoo
