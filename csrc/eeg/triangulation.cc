// SPDX-License-Identifier: Apache-2.0
#include "eeg/triangulation.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <utility>

namespace zoo {
namespace {

// Twice the area of (a, b, c), positive anticlockwise.
long double Area(Point a, Point b, Point c) {
  return (static_cast<long double>(b.x) - a.x) * (static_cast<long double>(c.y) - a.y) -
         (static_cast<long double>(b.y) - a.y) * (static_cast<long double>(c.x) - a.x);
}

// Positive when d lies within the circle through a, b, c (anticlockwise), in proportion to the sizes involved.
long double InCircle(Point a, Point b, Point c, Point d) {
  const long double ax = static_cast<long double>(a.x) - d.x, ay = static_cast<long double>(a.y) - d.y;
  const long double bx = static_cast<long double>(b.x) - d.x, by = static_cast<long double>(b.y) - d.y;
  const long double cx = static_cast<long double>(c.x) - d.x, cy = static_cast<long double>(c.y) - d.y;
  const long double a2 = ax * ax + ay * ay, b2 = bx * bx + by * by, c2 = cx * cx + cy * cy;
  const long double value = a2 * (bx * cy - by * cx) - b2 * (ax * cy - ay * cx) + c2 * (ax * by - ay * bx);
  const long double size = std::max({a2, b2, c2});
  return value / (size * size);
}

// Below this, four points lie on a circle: far above rounding, far below any real montage's deviation.
constexpr long double kOnCircle = 1e-12L;
constexpr double kInside = -1e-10;  // a barycentric coordinate of a point on an edge

}  // namespace

void Triangulation::Link() {
  std::map<std::pair<int32_t, int32_t>, std::pair<int32_t, int32_t>> open;  // directed edge -> triangle, corner across
  for (size_t t = 0; t < triangles_.size(); ++t) {
    for (int32_t i = 0; i < 3; ++i) {
      const int32_t a = triangles_[t].v[(i + 1) % 3], b = triangles_[t].v[(i + 2) % 3];
      triangles_[t].next[i] = -1;
      open[{a, b}] = {static_cast<int32_t>(t), i};
    }
  }
  for (const auto& [edge, place] : open) {
    const auto other = open.find({edge.second, edge.first});
    if (other != open.end()) triangles_[static_cast<size_t>(place.first)].next[place.second] = other->second.first;
  }
}

// Turns the edges that are not Delaunay's, one pass; false when there were none.
bool Triangulation::Flip() {
  bool changed = false;
  for (size_t t = 0; t < triangles_.size(); ++t) {
    for (int32_t i = 0; i < 3; ++i) {
      const int32_t n = triangles_[t].next[i];
      if (n < 0) continue;
      Triangle& one = triangles_[t];
      Triangle& two = triangles_[static_cast<size_t>(n)];
      int32_t j = 0;
      while (two.next[j] != static_cast<int32_t>(t)) ++j;
      const int32_t p = one.v[i], a = one.v[(i + 1) % 3], b = one.v[(i + 2) % 3], q = two.v[j];
      const long double in = InCircle(points_[p], points_[a], points_[b], points_[q]);
      if (in < -kOnCircle) continue;
      if (in <= kOnCircle && std::min(p, q) > std::min(a, b)) continue;
      // both new triangles must be there: the four corners form a convex shape
      if (Area(points_[p], points_[a], points_[q]) <= 0 || Area(points_[p], points_[q], points_[b]) <= 0) continue;
      const int32_t pa = one.next[(i + 2) % 3], bp = one.next[(i + 1) % 3];
      int32_t aq = -1, qb = -1;
      for (int32_t k = 0; k < 3; ++k) {
        if (two.v[k] == b) aq = two.next[k];
        if (two.v[k] == a) qb = two.next[k];
      }
      one.v = {p, a, q};
      one.next = {aq, n, pa};
      two.v = {p, q, b};
      two.next = {qb, bp, static_cast<int32_t>(t)};
      const auto relink = [&](int32_t outer, int32_t from, int32_t to) {
        if (outer < 0) return;
        for (int32_t& x : triangles_[static_cast<size_t>(outer)].next) {
          if (x == from) {
            x = to;
            return;
          }
        }
      };
      relink(aq, n, static_cast<int32_t>(t));
      relink(bp, static_cast<int32_t>(t), n);
      changed = true;
      break;
    }
  }
  return changed;
}

bool Triangulation::Build(std::vector<Point> points) {
  points_ = std::move(points);
  triangles_.clear();
  neighbours_.assign(points_.size(), {});
  const int32_t n = static_cast<int32_t>(points_.size());
  if (n < 3) return false;
  std::vector<int32_t> order(static_cast<size_t>(n));
  for (int32_t i = 0; i < n; ++i) order[static_cast<size_t>(i)] = i;
  // In an order along a direction that no cap's rows run across: the points of a row, equal but for rounding, keep theirs.
  const auto along = [this](int32_t i) { return 0.83147 * points_[i].x + 0.55557 * points_[i].y; };
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return std::make_pair(along(a), a) < std::make_pair(along(b), b); });
  // From one side to the other: the first points may lie on a line; the next one makes a fan with them. Then each point sees a part
  // of the hull and is joined to it.
  long double extent = 0;
  for (const Point& p : points_) extent = std::max({extent, std::fabs(static_cast<long double>(p.x)), std::fabs(static_cast<long double>(p.y))});
  const long double flat = 1e-13L * extent * extent;
  int32_t k = 2;
  while (k < n && std::fabs(Area(points_[order[0]], points_[order[1]], points_[order[static_cast<size_t>(k)]])) <= flat) ++k;
  if (k == n) return false;
  std::vector<int32_t> hull;  // anticlockwise
  const bool left = Area(points_[order[0]], points_[order[1]], points_[order[static_cast<size_t>(k)]]) > 0;
  for (int32_t i = 0; i + 1 < k; ++i) {
    const int32_t a = order[static_cast<size_t>(i)], b = order[static_cast<size_t>(i) + 1], c = order[static_cast<size_t>(k)];
    triangles_.push_back({left ? std::array<int32_t, 3>{a, b, c} : std::array<int32_t, 3>{b, a, c}, {-1, -1, -1}});
  }
  hull.assign(order.begin(), order.begin() + k + 1);
  if (!left) std::reverse(hull.begin(), hull.end());
  for (++k; k < n; ++k) {
    const int32_t p = order[static_cast<size_t>(k)];
    const size_t h = hull.size();
    const auto visible = [&](size_t i) { return Area(points_[hull[i % h]], points_[hull[(i + 1) % h]], points_[p]) < -flat; };
    size_t first = 0;  // the visible edges are neighbours; find where they begin
    while (first < h && !(visible(first) && !visible(first + h - 1))) ++first;
    if (first == h) return false;
    size_t last = first;
    while (visible(last + 1) && last + 1 < first + h) ++last;
    for (size_t i = first; i <= last; ++i) triangles_.push_back({{hull[(i + 1) % h], hull[i % h], p}, {-1, -1, -1}});
    std::vector<int32_t> next{p};
    for (size_t i = last + 1; i <= first + h; ++i) next.push_back(hull[i % h]);
    hull = std::move(next);
  }
  Link();
  // Every turn brings the triangulation nearer to Delaunay's; the bound only guards against rounding that contradicts itself.
  for (int32_t pass = 0; pass < 10 * n + 100 && Flip(); ++pass) {
  }
  for (const Triangle& t : triangles_) {
    for (int32_t i = 0; i < 3; ++i) {
      const int32_t a = t.v[i], b = t.v[(i + 1) % 3];
      for (const auto& [from, to] : {std::make_pair(a, b), std::make_pair(b, a)}) {
        std::vector<int32_t>& list = neighbours_[static_cast<size_t>(from)];
        if (std::find(list.begin(), list.end(), to) == list.end()) list.push_back(to);
      }
    }
  }
  return true;
}

std::array<double, 3> Triangulation::Barycentric(int32_t triangle, Point p) const {
  const auto& v = triangles_[static_cast<size_t>(triangle)].v;
  const long double area = Area(points_[v[0]], points_[v[1]], points_[v[2]]);
  const double b0 = static_cast<double>(Area(p, points_[v[1]], points_[v[2]]) / area);
  const double b1 = static_cast<double>(Area(points_[v[0]], p, points_[v[2]]) / area);
  return {b0, b1, 1 - b0 - b1};
}

int32_t Triangulation::Locate(Point p, int32_t start) const {
  const auto inside = [](const std::array<double, 3>& b) { return std::min({b[0], b[1], b[2]}) >= kInside; };
  int32_t t = start;
  for (size_t step = 0; step <= triangles_.size() && t >= 0; ++step) {
    const auto b = Barycentric(t, p);
    if (inside(b)) return t;
    t = triangles_[static_cast<size_t>(t)].next[std::min_element(b.begin(), b.end()) - b.begin()];
  }
  for (size_t i = 0; i < triangles_.size(); ++i) {  // the walk left through the hull
    if (inside(Barycentric(static_cast<int32_t>(i), p))) return static_cast<int32_t>(i);
  }
  return -1;
}

bool Triangulation::Gradients(const std::vector<double>& values, int64_t count, std::vector<double>* gradients) const {
  // For each point V the sum over its edges E (to W, of length L) of the integral of the second derivative squared along E is
  // least where sum E E^T / L^3 g_V = sum (3/2 (f_W - f_V) - 1/2 E.g_W) E / L^3 (Nielson 1983, Renka and Cline 1984).
  const size_t n = points_.size(), m = static_cast<size_t>(count);
  gradients->assign(2 * n * m, 0.0);
  std::vector<double> sx(m), sy(m);
  for (int32_t sweep = 0; sweep < 4000; ++sweep) {
    double change = 0, size = 0;
    for (size_t v = 0; v < n; ++v) {
      double xx = 0, xy = 0, yy = 0;
      std::fill(sx.begin(), sx.end(), 0.0);
      std::fill(sy.begin(), sy.end(), 0.0);
      for (const int32_t w : neighbours_[v]) {
        const double ex = points_[static_cast<size_t>(w)].x - points_[v].x, ey = points_[static_cast<size_t>(w)].y - points_[v].y;
        const double length = std::sqrt(ex * ex + ey * ey), weight = 1 / (length * length * length);
        xx += ex * ex * weight;
        xy += ex * ey * weight;
        yy += ey * ey * weight;
        const double* fv = &values[v * m];
        const double* fw = &values[static_cast<size_t>(w) * m];
        const double* gx = gradients->data() + 2 * static_cast<size_t>(w) * m;
        const double* gy = gx + m;
        for (size_t i = 0; i < m; ++i) {
          const double s = (1.5 * (fw[i] - fv[i]) - 0.5 * (ex * gx[i] + ey * gy[i])) * weight;
          sx[i] += s * ex;
          sy[i] += s * ey;
        }
      }
      const double det = xx * yy - xy * xy;
      double* gx = gradients->data() + 2 * v * m;
      double* gy = gx + m;
      for (size_t i = 0; i < m; ++i) {
        const double x = (yy * sx[i] - xy * sy[i]) / det, y = (xx * sy[i] - xy * sx[i]) / det;
        change = std::max({change, std::fabs(x - gx[i]), std::fabs(y - gy[i])});
        size = std::max({size, std::fabs(x), std::fabs(y)});
        gx[i] = x;
        gy[i] = y;
      }
    }
    if (!std::isfinite(size)) return false;
    if (change <= 1e-12 * size) return true;
  }
  return false;
}

std::array<double, 9> Triangulation::CloughTocher(int32_t triangle, Point p) const {
  const Triangle& t = triangles_[static_cast<size_t>(triangle)];
  const std::array<double, 3> b = Barycentric(triangle, p);
  const Point v[3] = {points_[t.v[0]], points_[t.v[1]], points_[t.v[2]]};
  // The three small triangles around the centroid share its direction across an edge with the neighbour's centroid, which
  // keeps the gradient continuous and does not depend on affine maps. g: where that line meets edge (k + 1, k + 2), as in
  // w = (centroid - v[k + 1]) + g (v[k + 2] - v[k + 1]).
  double g[3];
  for (int k = 0; k < 3; ++k) {
    g[k] = -0.5;
    if (t.next[k] < 0) continue;
    const auto& u = triangles_[static_cast<size_t>(t.next[k])].v;
    const Point other{(points_[u[0]].x + points_[u[1]].x + points_[u[2]].x) / 3, (points_[u[0]].y + points_[u[1]].y + points_[u[2]].y) / 3};
    const std::array<double, 3> c = Barycentric(triangle, other);
    const double c1 = c[(k + 1) % 3], c2 = c[(k + 2) % 3];
    g[k] = (2 * c2 + c1 - 1) / (2 - 3 * c2 - 3 * c1);
  }
  // Coordinates in the small triangle that holds p: the smallest one goes to the centroid.
  const double least = std::min({b[0], b[1], b[2]});
  const double q[3] = {b[0] - least, b[1] - least, b[2] - least}, m = 3 * least;
  std::array<double, 9> out{};
  for (int unit = 0; unit < 9; ++unit) {
    double f[3] = {}, d[3][2] = {};
    if (unit < 3) {
      f[unit] = 1;
    } else {
      d[(unit - 3) / 2][(unit - 3) % 2] = 1;
    }
    // Bezier ordinates: at corner i; near it towards corner j; near it towards the centroid; across edge k; at the centroid.
    double near[3][3], inner[3], across[3], centre[3];
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) near[i][j] = f[i] + (d[i][0] * (v[j].x - v[i].x) + d[i][1] * (v[j].y - v[i].y)) / 3;
    }
    for (int i = 0; i < 3; ++i) inner[i] = (f[i] + near[i][(i + 1) % 3] + near[i][(i + 2) % 3]) / 3;
    for (int k = 0; k < 3; ++k) {
      const int i = (k + 1) % 3, j = (k + 2) % 3;
      across[k] = (g[k] * (-f[i] + 3 * near[i][j] - 3 * near[j][i] + f[j]) + (-f[i] + 2 * near[i][j] - near[j][i] + inner[i] + inner[j])) / 2;
    }
    for (int i = 0; i < 3; ++i) centre[i] = (across[(i + 1) % 3] + across[(i + 2) % 3] + inner[i]) / 3;
    const double middle = (centre[0] + centre[1] + centre[2]) / 3;
    double w = m * m * m * middle;
    for (int i = 0; i < 3; ++i) {
      const int j = (i + 1) % 3, k = (i + 2) % 3;
      w += q[i] * q[i] * q[i] * f[i] + 3 * q[i] * q[i] * (q[j] * near[i][j] + q[k] * near[i][k]);
      w += 3 * q[i] * q[i] * m * inner[i] + 3 * q[i] * m * m * centre[i] + 6 * q[j] * q[k] * m * across[i];
    }
    out[static_cast<size_t>(unit)] = w;
  }
  return out;
}

}  // namespace zoo
