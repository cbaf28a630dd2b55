// SPDX-License-Identifier: Apache-2.0
// Speech kernels. Compiled once for each instruction set (see csrc/README.md); no standard library in here.
#include "speech/kernels.h"

#include "core/simd.h"
#include "core/simd_log.h"

namespace zoo {
namespace ZOO_TARGET {
namespace {

// ------------------------------------------------------------------------------------------------------- frames

ZOO_INLINE VD LoadDouble(const float* p) {
#if ZOO_VECTOR_BYTES > 16
  return ToDouble(LoadU<FW>(p));
#else
  return VD{static_cast<double>(p[0]), static_cast<double>(p[1])};
#endif
}

ZOO_INLINE void StoreFloat(float* p, VD v) {
#if ZOO_VECTOR_BYTES > 16
  StoreU(p, ToFloat(v));
#else
  p[0] = static_cast<float>(v[0]);
  p[1] = static_cast<float>(v[1]);
#endif
}

// Sum over i of vector(i) or single(i): four vectors at a time, then one, then single values.
template <class V, class S>
ZOO_INLINE double SumOver(int64_t begin, int64_t n, V vector, S single) {
  VD acc[4] = {};
  int64_t i = begin;
  for (; i + 4 * kD <= n; i += 4 * kD) {
    for (int u = 0; u < 4; ++u) acc[u] += vector(i + u * kD);
  }
  for (; i + kD <= n; i += kD) acc[0] += vector(i);
  acc[0] = (acc[0] + acc[1]) + (acc[2] + acc[3]);
  double sum = 0;
  for (int l = 0; l < kD; ++l) sum += acc[0][l];
  for (; i < n; ++i) sum += single(i);
  return sum;
}

double SumOf(const float* x, int64_t n) {
  return SumOver(0, n, [=](int64_t i) { return LoadDouble(x + i); }, [=](int64_t i) { return static_cast<double>(x[i]); });
}

double Squares(const float* x, int64_t n, double mean) {
  const auto square = [=](auto v) {
    const auto d = v - mean;
    return d * d;
  };
  return SumOver(0, n, [=](int64_t i) { return square(LoadDouble(x + i)); }, [=](int64_t i) { return square(static_cast<double>(x[i])); });
}

double EmphasizedSquares(const float* x, const double* w, int64_t n, double factor, double offset) {
  const auto square = [=](auto v, auto before, auto weight) {
    const auto d = (v - factor * before - offset) * weight;
    return d * d;
  };
  const double first = static_cast<double>(x[0]);
  return square(first, first, w[0]) +
         SumOver(
             1, n, [=](int64_t i) { return square(LoadDouble(x + i), LoadDouble(x + i - 1), LoadU<VD>(w + i)); },
             [=](int64_t i) { return square(static_cast<double>(x[i]), static_cast<double>(x[i - 1]), w[i]); });
}

void NaturalLog(float* x, int64_t n, float floor) {
  const VF least = Splat(floor), inf = Splat(__builtin_inff());
  for (int64_t i = 0; i < n; i += kF) {
    const VF v = LoadU<VF>(x + i);
    const VF y = Ln(Max(v, least));
    StoreU(x + i, v <= 3.4028234663852886e38f ? y : inf);
  }
}

// Logarithms of a loud signal all have one sign, so float32 sums would round by the size of the sum. Products of float32 are exact
// in float64: contraction changes nothing.
template <int G>
ZOO_INLINE void ProjectRows(const float* in, int64_t inner, int64_t stride, const float* basis, int64_t cols_padded, int64_t cols,
                            float* out) {
  for (int64_t c = 0; c < cols; c += 2 * kD) {
    VD acc[G][2] = {};
    for (int64_t m = 0; m < inner; ++m) {
      const VD a = LoadDouble(basis + m * cols_padded + c), b = LoadDouble(basis + m * cols_padded + c + kD);
      for (int g = 0; g < G; ++g) {
        const double x = static_cast<double>(in[m * stride + g]);
        acc[g][0] += a * x;
        acc[g][1] += b * x;
      }
    }
    const int64_t room = cols - c < 2 * kD ? cols - c : 2 * kD;
    for (int g = 0; g < G; ++g) {
      float sums[2 * kD];
      StoreFloat(sums, acc[g][0]);
      StoreFloat(sums + kD, acc[g][1]);
      __builtin_memcpy(out + g * cols + c, sums, static_cast<size_t>(room) * sizeof(float));
    }
  }
}

void Project(const float* in, int64_t rows, int64_t inner, int64_t stride, const float* basis, int64_t cols_padded, int64_t cols,
             float* out) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) ProjectRows<4>(in + r, inner, stride, basis, cols_padded, cols, out + r * cols);
  for (; r < rows; ++r) ProjectRows<1>(in + r, inner, stride, basis, cols_padded, cols, out + r * cols);
}

// ------------------------------------------------------------------------------------------------------ columns

// Calls vectors(c, N as a constant) for groups of N * kD columns, the last group over again from the end, or
// single(c) for each column when there are fewer than kD. A column's value does not depend on its group.
template <int N>
struct Constant {
  static constexpr int value = N;
};
template <class V, class S>
ZOO_INLINE void OverColumns(int64_t cols, V vectors, S single) {
  int64_t c = 0;
  for (; c + 8 * kD <= cols; c += 8 * kD) vectors(c, Constant<8>());
  for (; c + 2 * kD <= cols; c += 2 * kD) vectors(c, Constant<2>());
  for (; c + kD <= cols; c += kD) vectors(c, Constant<1>());
  if (c == cols) return;
  if (cols >= kD) {
    vectors(cols - kD, Constant<1>());
  } else {
    for (; c < cols; ++c) single(c);
  }
}

void ColumnSums(const float* x, int64_t rows, int64_t cols, int64_t stride, double* sum) {
  OverColumns(
      cols,
      [=](int64_t c, auto count) {
        constexpr int n = decltype(count)::value;
        VD acc[n] = {};
        for (int64_t r = 0; r < rows; ++r) {
          for (int v = 0; v < n; ++v) acc[v] += LoadDouble(x + r * stride + c + v * kD);
        }
        for (int v = 0; v < n; ++v) StoreU(sum + c + v * kD, acc[v]);
      },
      [=](int64_t c) {
        double acc = 0;
        for (int64_t r = 0; r < rows; ++r) acc += static_cast<double>(x[r * stride + c]);
        sum[c] = acc;
      });
}

void ColumnSquares(const float* x, int64_t rows, int64_t cols, int64_t stride, const double* mean, double* sum) {
  OverColumns(
      cols,
      [=](int64_t c, auto count) {
        constexpr int n = decltype(count)::value;
        VD acc[n] = {}, m[n];
        for (int v = 0; v < n; ++v) m[v] = LoadU<VD>(mean + c + v * kD);
        for (int64_t r = 0; r < rows; ++r) {
          for (int v = 0; v < n; ++v) {
            const VD d = LoadDouble(x + r * stride + c + v * kD) - m[v];
            acc[v] += d * d;
          }
        }
        for (int v = 0; v < n; ++v) StoreU(sum + c + v * kD, acc[v]);
      },
      [=](int64_t c) {
        double acc = 0;
        for (int64_t r = 0; r < rows; ++r) {
          const double d = static_cast<double>(x[r * stride + c]) - mean[c];
          acc += d * d;
        }
        sum[c] = acc;
      });
}

void Affine(const float* x, int64_t rows, int64_t cols, int64_t stride, const double* shift, const double* scale, float* out) {
  OverColumns(
      cols,
      [=](int64_t c, auto count) {
        constexpr int n = decltype(count)::value;
        VD m[n], s[n];
        for (int v = 0; v < n; ++v) m[v] = LoadU<VD>(shift + c + v * kD), s[v] = LoadU<VD>(scale + c + v * kD);
        for (int64_t r = 0; r < rows; ++r) {
          for (int v = 0; v < n; ++v) {
            const int64_t at = r * stride + c + v * kD;
            StoreFloat(out + at, (LoadDouble(x + at) - m[v]) * s[v]);
          }
        }
      },
      [=](int64_t c) {
        for (int64_t r = 0; r < rows; ++r) out[r * stride + c] = static_cast<float>((static_cast<double>(x[r * stride + c]) - shift[c]) * scale[c]);
      });
}

void AddRow(const float* x, int64_t cols, int32_t squares, const double* from, double* to) {
  int64_t c = 0;
  for (; c + kD <= cols; c += kD) {
    const VD v = LoadDouble(x + c);
    StoreU(to + c, LoadU<VD>(from + c) + v);
    if (squares) StoreU(to + cols + c, LoadU<VD>(from + cols + c) + v * v);
  }
  for (; c < cols; ++c) {  // float32 squares are exact in float64, so that contraction changes nothing
    const double v = static_cast<double>(x[c]);
    to[c] = from[c] + v;
    if (squares) to[cols + c] = from[cols + c] + v * v;
  }
}

void NormalizeRow(const float* x, const double* a, const double* b, int64_t cols, int32_t squares, double rows, double floor,
                  float* out) {
  for (int64_t c = 0; c < cols; ++c) {
    const double mean = (a[c] + b[c]) / rows;  // a division, so that the mean of equal values is that value
    double y = static_cast<double>(x[c]) - mean;
    if (squares) {
      const double variance = (a[cols + c] + b[cols + c]) / rows - mean * mean;
      y /= __builtin_sqrt(variance > floor ? variance : floor);
    }
    out[c] = static_cast<float>(y);
  }
}

}  // namespace

extern const SpeechKernels kSpeechKernels;
const SpeechKernels kSpeechKernels = {
    SumOf, Squares, EmphasizedSquares, NaturalLog, Project, ColumnSums, ColumnSquares, Affine, AddRow, NormalizeRow,
};

}  // namespace ZOO_TARGET
}  // namespace zoo
