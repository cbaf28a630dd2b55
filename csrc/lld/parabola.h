// SPDX-License-Identifier: Apache-2.0
#ifndef ZOO_LLD_PARABOLA_H_
#define ZOO_LLD_PARABOLA_H_

namespace zoo {

struct Vertex {
  double x, y;
};

// Vertex of the parabola through (x[0], below), (x[1], peak), (x[2], above), where the peak is above its neighbours.
inline Vertex Parabola(const double (&x)[3], double below, double peak, double above) {
  const double left = x[0] - x[1], right = x[2] - x[1];
  const double fall = (below - peak) / left, rise = (above - peak) / right;
  const double curve = (rise - fall) / (right - left), slope = fall - curve * left;
  const double at = -slope / (2.0 * curve);
  return {x[1] + at, peak + slope * at / 2.0};
}

}  // namespace zoo

#endif  // ZOO_LLD_PARABOLA_H_
