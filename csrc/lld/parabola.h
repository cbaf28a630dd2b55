// SPDX-License-Identifier: Apache-2.0
#ifndef ZOO_LLD_PARABOLA_H_
#define ZOO_LLD_PARABOLA_H_

namespace zoo {

struct Vertex {
  double x, y;
};

// Determinant of the matrix with these columns.
inline double Determinant(const double (&a)[3], const double (&b)[3], const double (&c)[3]) {
  return a[0] * b[1] * c[2] + a[1] * b[2] * c[0] + a[2] * b[0] * c[1] - a[2] * b[1] * c[0] - a[1] * b[0] * c[2] - a[0] * b[2] * c[1];
}

// Vertex of the parabola through three points, the middle one above or below both others. By Cramer's rule, and not in the
// better-conditioned form around the middle point: openSMILE compares the vertex with itself rounded to float32, so that
// the last bits of its double arithmetic decide which periods count.
inline Vertex Parabola(const double (&x)[3], const double (&y)[3]) {
  const double squares[3] = {x[0] * x[0], x[1] * x[1], x[2] * x[2]}, ones[3] = {1.0, 1.0, 1.0};
  const double all = Determinant(squares, x, ones);
  const double curve = Determinant(y, x, ones) / all, slope = Determinant(squares, y, ones) / all, offset = Determinant(squares, x, y) / all;
  const double at = -slope / (2.0 * curve);
  return {at, offset - curve * at * at};
}

}  // namespace zoo

#endif  // ZOO_LLD_PARABOLA_H_
