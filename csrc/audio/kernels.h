// SPDX-License-Identifier: Apache-2.0
// Kernels of the audio family and the plans that they read. Rules as in core/kernels.h.
#ifndef ZOO_AUDIO_KERNELS_H_
#define ZOO_AUDIO_KERNELS_H_

#include "core/kernels.h"

namespace zoo {

// A real FFT of even size n, as a complex FFT of n/2 points: decimation in frequency, in place, the output in
// permuted order. Frames lie in the vector lanes, so no step needs a shuffle except the first load.
struct SpectrumPlan {
  int32_t n;                      // samples a frame
  int32_t half;                   // n / 2 complex points
  int32_t stages;                 // number of passes
  int32_t radix[kMaxStages];      // 8, 4, 2, 5, 3
  const double* twiddle[kMaxStages];  // (radix - 1) complex factors for each butterfly of the pass
  // The first pass splits the points into radix[0] blocks that lie block_stride points apart: a little more than
  // their length, so that the blocks do not fall on the same cache sets.
  int32_t block_stride;
  const int32_t* position;  // [half / radix[0]] where bin j of a block's own transform lies
  const double* window;     // [n], halved: the real-to-complex step needs no further scale
  int32_t window_first, window_end;  // it is zero elsewhere
  const double* untangle;   // [half][2]: -i * exp(-2 pi i k / n), re and im
};

enum SpectrumKind : int32_t { kSpectrumPower = 0, kSpectrumMagnitude = 1, kSpectrumComplex = 2 };

// Sparse filter bank: band b covers bins [first[b], first[b] + count[b]) with weights at offset[b].
struct BandPlan {
  int32_t bands;
  const int32_t* first;
  const int32_t* count;
  const int32_t* offset;
  const double* weight;
};

enum { kTile = 16 };  // outputs that are resampled together

// One polyphase filter: output i lies at input position i * step / phases. Outputs are computed in tiles of kTile
// neighbours, one in each lane: each input sample in the tile's window is multiplied by a vector of coefficients, zero for
// the outputs that it does not reach. Tiles repeat after `outputs` outputs, which are `inputs` inputs.
struct ResamplePlan {
  int64_t phases, step;
  int32_t window;  // inputs that a tile reads
  int32_t before;  // the first tap of an output lies at floor(position) - before
  int64_t outputs, inputs;
  int32_t tiles;         // of a period; the last one may be partly filled
  const int32_t* first;  // [tiles] where each tile's window starts, relative to the period's first input
  const float* coef;     // [tiles][window][kTile]
  // Ratios too fine for a table of all phases: tiles = 0, coef is [rows][window] on a grid that is interpolated linearly.
  int32_t rows;
  // Ratios of 2 and 1/2: tiles = 0, pairs > 0, a multiple of 12. Each filter is symmetric: samples at equal distances are added,
  // then multiplied. coef is [2][pairs], distances 0, 2, 4 .. and 1, 3, 5 .. of the input (half), or of the even and the odd
  // outputs (double); the first of an output that lies on an input is halved.
  int32_t pairs;
};

// Room that resample_pairs needs: inputs of all lanes, and their outputs.
enum { kPairSpan = 480, kMaxPairs = 72, kPairRows = kPairSpan + 4 * (kMaxPairs + 2), kPairWork = kMaxFloatLanes * (kPairRows + 2 * kPairSpan) };

struct AudioKernels {
  // frames: `lanes` pointers to n samples. work: 2 * radix[0] * block_stride * lanes doubles, aligned to 64 bytes.
  // out[bin][lane] for bins [bin_lo, bin_hi), power or magnitude; [bin][2][lane] when complex. Aligned to 64.
  void (*spectrum)(const SpectrumPlan* plan, const float* const* frames, double* work, int32_t kind,
                   int32_t bin_lo, int32_t bin_hi, double* out);
  // The same of x[i] - factor * x[i - 1] - offset[lane], with x[-1] = x[0]. offset: `lanes` values, aligned to 64.
  void (*emphasized_spectrum)(const SpectrumPlan* plan, const float* const* frames, double factor, const double* offset, double* work,
                              int32_t kind, int32_t bin_lo, int32_t bin_hi, double* out);
  // in[col][lane] -> out[lane][col] for the first `rows` lanes.
  void (*to_rows_f64)(const double* in, int64_t cols, int64_t rows, float* out);
  void (*to_rows_f32)(const float* in, int64_t cols, int64_t rows, float* out);
  // The same of frames in float64 that already lie in the lanes: packed[n][lanes].
  void (*spectrum_packed)(const SpectrumPlan* plan, const double* packed, double* work, int32_t kind, int32_t bin_lo,
                          int32_t bin_hi, double* out);
  // in[bin][lane] (bin 0 first) -> out[band][lane]
  void (*bands)(const BandPlan* plan, const double* in, float* out);
  // x <- 10 log10(max(amin, x)) - subtract, in place; returns the largest result. n is a multiple of 16.
  float (*decibel)(float* x, int64_t n, float amin, float subtract);
  // x <- max(x, floor). n is a multiple of 16.
  void (*raise)(float* x, int64_t n, float floor);
  // out[r][c] = sum_m in[m * stride_m + r * stride_r] * basis[m][c]; basis is [inner][cols_padded], cols_padded a
  // multiple of 48. The bits of a row do not depend on the other rows.
  void (*project)(const float* in, int64_t rows, int64_t inner, int64_t stride_m, int64_t stride_r,
                  const float* basis, int64_t cols_padded, int64_t cols, float* out);
  // Outputs [begin, end) of the filter (begin may be negative). x[0] is input sample x_first; all windows of the tiles
  // that hold these outputs must be readable. The bits do not depend on how outputs are divided into ranges.
  void (*resample)(const ResamplePlan* plan, const float* x, int64_t x_first, int64_t begin, int64_t end,
                   float* out);
  // The same for plans with pairs. work: kPairWork floats, aligned to 64 bytes. Of x, the taps of the outputs are read only.
  void (*resample_pairs)(const ResamplePlan* plan, const float* x, int64_t x_first, int64_t begin, int64_t end, float* work,
                         float* out);
  // out <- log(max(x, floor)) * scale, in float64. n is a multiple of 16.
  void (*logarithm)(const float* x, int64_t n, float floor, double scale, float* out);
  // Index of the first NaN or Inf, or -1.
  int64_t (*find_nonfinite)(const float* x, int64_t n);
  // Interleaved channels to mono (mean), scaled.
  void (*mix_f32)(const float* x, int64_t frames, int32_t channels, float scale, float* out);
  void (*mix_f64)(const double* x, int64_t frames, int32_t channels, double scale, float* out);
  void (*mix_i16)(const int16_t* x, int64_t frames, int32_t channels, float scale, float* out);
  void (*mix_i32)(const int32_t* x, int64_t frames, int32_t channels, double scale, float* out);
};

}  // namespace zoo

#endif  // ZOO_AUDIO_KERNELS_H_
