// SPDX-License-Identifier: Apache-2.0
#include "lld/lsp.h"

#include <algorithm>
#include <cmath>

namespace zoo {
namespace {

constexpr int kHalf = kLpcOrder / 2;

// Levinson-Durbin. a: predictor of order kLpcOrder, signs as in 1 + sum a z^-i.
void Predictor(const double* r, double* a) {
  std::fill(a, a + kLpcOrder, 0.0);
  double error = r[0];
  for (int m = 0; m < kLpcOrder && error != 0.0; ++m) {
    double sum = r[m + 1];
    for (int i = 0; i < m; ++i) sum += a[i] * r[m - i];
    const double k = -sum / error;
    double next[kLpcOrder];
    for (int i = 0; i < m; ++i) next[i] = a[i] + k * a[m - 1 - i];
    std::copy(next, next + m, a);
    a[m] = k;
    error *= 1.0 - k * k;
  }
}

// Chebyshev series with the coefficients c[kHalf] (constant) .. c[0].
float Series(const float* c, float x) {
  const float x2 = 2.0f * x;
  float b0 = 0.0f, b1 = 0.0f;
  for (int k = 0; k < kHalf; ++k) {
    const float b = x2 * b0 - b1 + c[k];
    b1 = b0;
    b0 = b;
  }
  return -b1 + 0.5f * x2 * b0 + c[kHalf];
}

bool Opposite(float a, float b) { return a * b < 0.0f; }

// Zeros of the two series in turn, from x = 1 down. Steps are shorter near 1 and -1, and near a zero. Returns how many.
int Search(const float (&series)[2][kHalf + 1], float step, float* frequencies) {
  float left = 1.0f, right = 0.0f;
  for (int root = 0; root < kLpcOrder; ++root) {
    const float* c = series[root % 2];
    float at_left = Series(c, left);
    bool found = false;
    while (!found && right >= -1.0f) {
      float width = step * (1.0f - 0.9f * left * left);
      if (std::fabs(at_left) < 0.2) width *= 0.5f;
      right = left - width;
      const float at_right = Series(c, right);
      if (!Opposite(at_right, at_left)) {
        at_left = at_right;
        left = right;
        continue;
      }
      float middle = left;
      for (int bisection = 0; bisection < 11; ++bisection) {
        middle = 0.5f * (left + right);
        const float at_middle = Series(c, middle);
        if (Opposite(at_middle, at_left)) {
          right = middle;
        } else {
          at_left = at_middle;
          left = middle;
        }
      }
      left = std::clamp(middle, -1.0f, 1.0f);
      frequencies[root] = std::acos(left);
      found = true;
    }
    if (!found) return root;
  }
  return kLpcOrder;
}

}  // namespace

void LineSpectralFrequencies(const double* autocorrelation, float* frequencies) noexcept {
  double predictor[kLpcOrder];
  float a[kLpcOrder], series[2][kHalf + 1];
  Predictor(autocorrelation, predictor);
  std::copy(predictor, predictor + kLpcOrder, a);
  series[0][0] = series[1][0] = 1.0f;
  for (int i = 0; i < kHalf; ++i) {
    series[0][i + 1] = a[i] + a[kLpcOrder - 1 - i] - series[0][i];
    series[1][i + 1] = a[i] - a[kLpcOrder - 1 - i] + series[1][i];
  }
  for (auto& s : series) {
    for (int i = 0; i < kHalf; ++i) s[i] *= 2.0f;
  }
  int found = Search(series, 0.2f, frequencies);
  if (found != kLpcOrder) found = Search(series, 0.05f, frequencies);
  std::fill(frequencies + found, frequencies + kLpcOrder, 0.0f);
}

}  // namespace zoo
