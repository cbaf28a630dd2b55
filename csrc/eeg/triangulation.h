// SPDX-License-Identifier: Apache-2.0
// Delaunay triangulation of a few hundred points and the Clough-Tocher interpolant on it, for building topomaps.
#ifndef ZOO_EEG_TRIANGULATION_H_
#define ZOO_EEG_TRIANGULATION_H_

#include <array>
#include <cstdint>
#include <vector>

namespace zoo {

struct Point {
  double x = 0, y = 0;
};

class Triangulation {
 public:
  // False when the points are fewer than 3 or all on a line. Points must not coincide. Of two ways to cut four points on a
  // circle, the one through the point of the smallest index is taken.
  bool Build(std::vector<Point> points);

  struct Triangle {
    std::array<int32_t, 3> v;     // anticlockwise
    std::array<int32_t, 3> next;  // the triangle across from v[i], or -1
  };
  const std::vector<Point>& points() const { return points_; }
  const std::vector<Triangle>& triangles() const { return triangles_; }
  const std::vector<std::vector<int32_t>>& neighbours() const { return neighbours_; }  // of each point

  // Barycentric coordinates of p in a triangle.
  std::array<double, 3> Barycentric(int32_t triangle, Point p) const;
  // The triangle that holds p, searched from `start` on, or -1 outside of all.
  int32_t Locate(Point p, int32_t start) const;

  // Gradients at the points that minimise the curvature along the edges: values [points][count] -> [points][2][count].
  // Linear in the values. Solved by relaxation; false when it does not settle.
  bool Gradients(const std::vector<double>& values, int64_t count, std::vector<double>* gradients) const;
  // Weights of the three values and of the three gradients (x and y) in the cubic at p.
  std::array<double, 9> CloughTocher(int32_t triangle, Point p) const;

 private:
  void Link();
  bool Flip();
  std::vector<Point> points_;
  std::vector<Triangle> triangles_;
  std::vector<std::vector<int32_t>> neighbours_;
};

}  // namespace zoo

#endif  // ZOO_EEG_TRIANGULATION_H_
