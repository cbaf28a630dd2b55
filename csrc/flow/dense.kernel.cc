// SPDX-License-Identifier: Apache-2.0
// Kernels of Farnebaeck's and the TV-L1 flow. Compiled once for each instruction set (see csrc/README.md); no standard
// library in here.
#include "core/simd.h"
#include "flow/dense_kernels.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace zoo {
namespace ZOO_TARGET {
namespace {

enum { kGroup = kF < 8 ? 8 : kF };  // pixels whose coefficients are turned from pixel by pixel to plane by plane at a time

ZOO_INLINE VF Min(VF a, VF b) { return a < b ? a : b; }
ZOO_INLINE VF Max(VF a, VF b) { return a > b ? a : b; }
ZOO_INLINE VF Splat(float v) { return v - VF{}; }

ZOO_INLINE VF Sqrt(VF v) {
#if ZOO_VECTOR_BYTES == 64
  return _mm512_sqrt_ps(v);
#elif ZOO_VECTOR_BYTES == 32
  return _mm256_sqrt_ps(v);
#else
  for (int l = 0; l < kF; ++l) v[l] = __builtin_sqrtf(v[l]);
  return v;
#endif
}

ZOO_INLINE VF Gather(const float* base, const int32_t* index) {
#if ZOO_VECTOR_BYTES == 64
  return _mm512_i32gather_ps(reinterpret_cast<__m512i>(LoadU<VI>(index)), base, 4);
#elif ZOO_VECTOR_BYTES == 32
  return _mm256_i32gather_ps(base, reinterpret_cast<__m256i>(LoadU<VI>(index)), 4);
#else
  VF v;
  for (int l = 0; l < kF; ++l) v[l] = base[index[l]];
  return v;
#endif
}

// v[index]
ZOO_INLINE VF Permute(VF v, VI index) {
#if ZOO_VECTOR_BYTES == 64
  return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(index), v);
#elif ZOO_VECTOR_BYTES == 32
  return _mm256_permutevar8x32_ps(v, reinterpret_cast<__m256i>(index));
#else
  VF r;
  for (int l = 0; l < kF; ++l) r[l] = v[index[l]];
  return r;
#endif
}

// Whether any lane of a comparison is true.
ZOO_INLINE bool Any(VI mask) {
#if ZOO_VECTOR_BYTES == 64
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask)) != 0;
#elif ZOO_VECTOR_BYTES == 32
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) != 0;
#else
  int32_t any = 0;
  for (int l = 0; l < kF; ++l) any |= mask[l];
  return any != 0;
#endif
}

ZOO_INLINE VI Lanes() {
  VI v;
  for (int l = 0; l < kF; ++l) v[l] = l;
  return v;
}

ZOO_INLINE VF Floor(VF v, VI* whole) {
  VI i = __builtin_convertvector(v, VI);
  VF f = __builtin_convertvector(i, VF);
  const VI above = f > v;  // -1 where truncation went up
  i += above;
  *whole = i;
  return __builtin_convertvector(i, VF);
}

// Rows of 8 pixels to 8 columns.
ZOO_INLINE void Transpose8(F8 (&r)[8]) {
  F8 t[8], s[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = ZOO_SHUF8(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = ZOO_SHUF8(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int k = 0; k < 2; ++k) {
      s[i + 2 * k] = ZOO_SHUF8(t[i + k], t[i + 2 + k], 0, 1, 8, 9, 4, 5, 12, 13);
      s[i + 2 * k + 1] = ZOO_SHUF8(t[i + k], t[i + 2 + k], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int k = 0; k < 4; ++k) {
    r[k] = ZOO_SHUF8(s[k], s[4 + k], 0, 1, 2, 3, 8, 9, 10, 11);
    r[4 + k] = ZOO_SHUF8(s[k], s[4 + k], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

void LoadU8(const uint8_t* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = in[i];
}

void Interleave(const float* x, const float* y, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[2 * i] = x[i];
    out[2 * i + 1] = y[i];
  }
}

// ------------------------------------------------------------------------------------------------------ resampling

void Resample(const AxisPlan* columns, const AxisPlan* rows, const float* in, int64_t in_stride, float gain, float* line,
              float* out, int64_t out_stride) {
  const AxisPlan c = *columns;
  for (int32_t y = 0; y < rows->out; ++y) {
    const float* from = in + rows->start[y] * in_stride;
    for (int64_t x = 0; x < c.in; x += kF) {
      VF v = VF{};
      for (int64_t t = 0; t < rows->taps; ++t) v += rows->weight[t * rows->stride + y] * Load<VF>(from + t * in_stride + x);
      Store(line + x, v * gain);
    }
    float* to = out + y * out_stride;
    for (int64_t x = 0; x < c.out; x += kF) {
      VF v = VF{};
      if (x >= c.run_begin && x + kF <= c.run_end) {
        const float* at = line + c.start[x];
        for (int64_t t = 0; t < c.taps; ++t) v += Load<VF>(c.weight + t * c.stride + x) * LoadU<VF>(at + t);
      } else if (x + kF <= c.out && c.start[x + kF - 1] - c.start[x] + c.taps <= kF) {  // one vector has all inputs
        const VF all = LoadU<VF>(line + c.start[x]);
        const VI first = LoadU<VI>(c.start + x) - c.start[x];
        for (int64_t t = 0; t < c.taps; ++t) {
          v += Load<VF>(c.weight + t * c.stride + x) * Permute(all, first + static_cast<int32_t>(t));
        }
      } else {
        for (int64_t t = 0; t < c.taps; ++t) v += Load<VF>(c.weight + t * c.stride + x) * Gather(line + t, c.start + x);
      }
      Store(to + x, v);
    }
  }
}

// ---------------------------------------------------------------------------------------------- polynomial expansion

ZOO_INLINE void Replicate(float* line, int64_t width, int64_t n) {
  for (int64_t k = 1; k <= n; ++k) {
    line[-k] = line[0];
    line[width - 1 + k] = line[width - 1];
  }
}

// kR: the radius when known at compile time, else 0.
template <int kR>
void ExpandRows(const PolyPlan* plan, const float* in, int64_t width, int64_t height, int64_t stride, float* line, float* pixels) {
  const int64_t n = kR > 0 ? kR : plan->radius, pitch = stride + 2 * kPlaneAlign;
  float* smooth = line + kPlaneAlign;          // g down the columns
  float* slope = smooth + pitch;               // x g
  float* second = slope + pitch;               // second derivative
  float* row = line + 3 * pitch;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; x += kF) {
      const VF centre = Load<VF>(in + y * stride + x);
      VF a = centre * plan->gauss[0], b = VF{}, c = centre * plan->second[0];
      for (int64_t k = 1; k <= n; ++k) {
        const int64_t up = y - k < 0 ? 0 : y - k, down = y + k >= height ? height - 1 : y + k;
        const VF p = Load<VF>(in + up * stride + x), q = Load<VF>(in + down * stride + x);
        a += (p + q) * plan->gauss[k];
        b += (q - p) * plan->slope[k];
        c += (p + q) * plan->second[k];
      }
      Store(smooth + x, a);
      Store(slope + x, b);
      Store(second + x, c);
    }
    Replicate(smooth, width, n);
    Replicate(slope, width, n);
    Replicate(second, width, n);
    for (int64_t x = 0; x < width; x += kF) {
      const VF s0 = Load<VF>(smooth + x);
      VF ry = Load<VF>(slope + x) * plan->gauss[0], rx = VF{}, ryy = Load<VF>(second + x) * plan->gauss[0];
      VF rxx = s0 * plan->second[0], rxy = VF{};
      for (int64_t k = 1; k <= n; ++k) {
        const VF sp = LoadU<VF>(smooth + x + k), sm = LoadU<VF>(smooth + x - k);
        const VF dp = LoadU<VF>(slope + x + k), dm = LoadU<VF>(slope + x - k);
        ry += (dp + dm) * plan->gauss[k];
        rx += (sp - sm) * plan->slope[k];
        ryy += (LoadU<VF>(second + x + k) + LoadU<VF>(second + x - k)) * plan->gauss[k];
        rxx += (sp + sm) * plan->second[k];
        rxy += (dp - dm) * plan->slope[k];
      }
      Store(row + x, ry * plan->linear);
      Store(row + stride + x, rx * plan->linear);
      Store(row + 2 * stride + x, ryy);
      Store(row + 3 * stride + x, rxx);
      Store(row + 4 * stride + x, rxy * plan->cross);
    }
    float* to = pixels + y * width * kPolyTerms;
    for (int64_t x = 0; x < width; x += 8) {
      F8 r[8] = {};
      for (int c = 0; c < kPolyTerms; ++c) r[c] = LoadU<F8>(row + c * stride + x);
      Transpose8(r);
      // what is too much is overwritten by the next pixel
      for (int i = 0; i < 8; ++i) StoreU(to + (x + i) * kPolyTerms, r[i]);
    }
  }
}

void Expand(const PolyPlan* plan, const float* in, int64_t width, int64_t height, int64_t stride, float* line, float* pixels) {
  switch (plan->radius) {
    case 5: ExpandRows<5>(plan, in, width, height, stride, line, pixels); break;
    case 7: ExpandRows<7>(plan, in, width, height, stride, line, pixels); break;
    default: ExpandRows<0>(plan, in, width, height, stride, line, pixels); break;
  }
}

// -------------------------------------------------------------------------------------------------- Farnebaeck's flow

// An expansion between four pixels; `row` floats lie between rows. The last 3 values mean nothing.
ZOO_INLINE F8 Between(const float* p, int64_t row, float along, float down) {
#if ZOO_VECTOR_BYTES == 64
  const VF above = LoadU<VF>(p), both = above + (LoadU<VF>(p + row) - above) * down;
  const __m512i bits = _mm512_castps_si512(both);
  const F8 left = _mm512_castps512_ps256(both);
  const F8 right = _mm512_castps512_ps256(_mm512_castsi512_ps(_mm512_alignr_epi32(bits, bits, kPolyTerms)));
#else
  const F8 a = LoadU<F8>(p), left = a + (LoadU<F8>(p + row) - a) * down;
  const F8 b = LoadU<F8>(p + kPolyTerms), right = b + (LoadU<F8>(p + row + kPolyTerms) - b) * down;
#endif
  return left + (right - left) * along;
}

// Moments of row y, m[5][stride]: the two frames' expansions, the second displaced by the flow so far, give each pixel two
// equations A d = b; wanted are A^T A and A^T b.
void Moments(const FarnebackSweep* s, int64_t y, float* m) {
  const int64_t w = s->width, stride = s->stride, row = w * kPolyTerms;
  const VF top = Splat(static_cast<float>(w)), bottom = Splat(static_cast<float>(s->height));
  const VF y_here = Splat(static_cast<float>(y)), none = Splat(-2.0f);
  // value = kept * first + added * second
  const F8 kept = {0.5f, 0.5f, 0.5f, 0.5f, 0.25f, 0, 0, 0}, added = {-0.5f, -0.5f, 0.5f, 0.5f, 0.25f, 0, 0, 0};
  const F8 alone = {0, 0, 1, 1, 1, 0, 0, 0};  // stands in for the second frame outside of it
  alignas(64) int32_t index[kGroup];
  alignas(64) float along[kGroup], down[kGroup];
  for (int64_t x = 0; x < w; x += kGroup) {
    bool outside = false;
    for (int64_t v = 0; v < kGroup; v += kF) {
      const VI column = Lanes() + static_cast<int32_t>(x + v);
      VF fx = __builtin_convertvector(column, VF) + Load<VF>(s->flow_x + y * stride + x + v);
      VF fy = y_here + Load<VF>(s->flow_y + y * stride + x + v);
      fx = Min(Max(fx, none), top);
      fy = Min(Max(fy, none), bottom);
      VI ix, iy;
      const VF wx = Floor(fx, &ix), wy = Floor(fy, &iy);
      Store(along + v, fx - wx);
      Store(down + v, fy - wy);
      const VI out = (ix < 0) | (iy < 0) | (ix >= s->width - 1) | (iy >= s->height - 1);
      Store(index + v, out ? VI{} - 1 : iy * s->width + ix);
      outside = outside || Any(out);
    }
    F8 c[kGroup / 8][8];
    for (int g = 0; g < kGroup / 8; ++g) {
      F8(&r)[8] = c[g];
      const float* first = s->first + y * row + (x + 8 * g) * kPolyTerms;
      for (int i = 0; i < 8; ++i) {
        const F8 own = LoadU<F8>(first + kPolyTerms * i);
        const int32_t at = index[8 * g + i];
        F8 other;
        if (outside && at < 0) {
          other = own * alone;
        } else {
          other = Between(s->second + static_cast<int64_t>(at) * kPolyTerms, row, along[8 * g + i], down[8 * g + i]);
        }
        r[i] = own * kept + other * added;
      }
      Transpose8(r);
    }
    for (int64_t v = 0; v < kGroup; v += kF) {
      VF r[5];
#if ZOO_VECTOR_BYTES == 64
      for (int k = 0; k < 5; ++k) r[k] = _mm512_insertf32x8(_mm512_castps256_ps512(c[0][k]), c[1][k], 1);
#else
      for (int k = 0; k < 5; ++k) __builtin_memcpy(&r[k], reinterpret_cast<const float*>(&c[0][k]) + v, sizeof(VF));
#endif
      const VF dx = Load<VF>(s->flow_x + y * stride + x + v), dy = Load<VF>(s->flow_y + y * stride + x + v);
      const VF weight = Load<VF>(s->edge_x + x + v) * s->edge_y[y];
      const VF yy = r[2] * weight, xx = r[3] * weight, xy = r[4] * weight;
      const VF by = r[0] * weight + yy * dy + xy * dx, bx = r[1] * weight + xy * dy + xx * dx;
      float* to = m + x + v;
      Store(to, yy * yy + xy * xy);
      Store(to + stride, (yy + xx) * xy);
      Store(to + 2 * stride, xx * xx + xy * xy);
      Store(to + 3 * stride, yy * by + xy * bx);
      Store(to + 4 * stride, xy * by + xx * bx);
    }
  }
}

// The sum of 2 * radius + 1 neighbours of each value of a padded line, from sums of 2, 4, 8 ...: no running sum, whose
// rounding would spread from bright to dark places.
// kR: the radius when known at compile time, else 0.
template <int kR>
ZOO_INLINE void BoxLine(float* line, int64_t pitch, int64_t stride, int64_t radius, float* total) {
  const int64_t window = 2 * (kR > 0 ? kR : radius) + 1, length = stride + window - 1;
  int top = 1;  // the highest bit of the window
  while ((int64_t{2} << top) <= window) ++top;
  for (int k = 1; k < top; ++k) {
    const float* from = line + (k - 1) * pitch;
    const int64_t reach = int64_t{1} << (k - 1);
    for (int64_t x = 0; x < length + 1 - 2 * reach; x += kF) {
      Store(line + k * pitch + x, Load<VF>(from + x) + LoadU<VF>(from + x + reach));
    }
  }
  const float* half = line + (top - 1) * pitch;
  for (int64_t x = 0; x < stride; x += kF) {
    VF v = Load<VF>(half + x) + LoadU<VF>(half + x + (int64_t{1} << (top - 1)));
    int64_t offset = int64_t{1} << top;
    for (int k = top - 1; k >= 0; --k) {
      if ((window >> k & 1) == 0) continue;
      v += LoadU<VF>(line + k * pitch + offset + x);
      offset += int64_t{1} << k;
    }
    Store(total + x, v);
  }
}

ZOO_INLINE void PadLine(float* line, int64_t width, int64_t stride, int64_t radius) {
  const float first = line[radius], last = line[radius + width - 1];
  for (int64_t k = 0; k < radius; ++k) line[k] = first;
  for (int64_t k = width; k < stride + radius; ++k) line[radius + k] = last;
}

// Adds a row of moments to the box and, given `line`, writes the sum of the last 2 * radius + 1 rows of plane p to it.
// Rows form blocks of that length: a sum is what the running block has so far and what is left of the one before, whose
// sums from each row to its end are taken when it is complete. Nothing is ever subtracted, so that bright rows leave no
// rounding behind in dark ones.
ZOO_INLINE void BoxRow(const float* row, const float* rest, bool first, float* sum, int64_t n, float* line) {
  const VF zero = VF{};
  for (int64_t x = 0; x < n; x += kF) {
    const VF so_far = (first ? zero : Load<VF>(sum + x)) + Load<VF>(row + x);
    Store(sum + x, so_far);
    if (line != nullptr) StoreU(line + x, rest != nullptr ? so_far + Load<VF>(rest + x) : so_far);
  }
}

// One step of a pass: moments of row `ahead`, then the flow of the row whose window they complete. Rows above the image
// repeat the first, those below it the last.
void FarnebackStep(const FarnebackSweep* s, int64_t ahead, float* ring, float* sum) {
  const int64_t width = s->width, height = s->height, stride = s->stride, m = s->radius;
  const int64_t held = 2 * m + 1, record = 5 * stride, pitch = stride + (2 * m / kPlaneAlign + 5) * kPlaneAlign;
  const int64_t y = ahead - m;
  if (s->window == nullptr) {
    if (ahead == 0) {
      Moments(s, 0, ring);
      BoxRow(ring, nullptr, true, sum, record, nullptr);
      for (int64_t k = 1; k <= m; ++k) {
        __builtin_memcpy(ring + k * record, ring, sizeof(float) * static_cast<size_t>(record));
        BoxRow(ring, nullptr, false, sum, record, nullptr);
      }
      return;
    }
    const int64_t slot = (ahead + m) % held, before = slot > 0 ? slot - 1 : held - 1;
    float* row = ring + slot * record;
    if (ahead < height) {
      Moments(s, ahead, row);
    } else {
      __builtin_memcpy(row, ring + before * record, sizeof(float) * static_cast<size_t>(record));
    }
    const float* rest = slot + 1 < held ? row + record : nullptr;
    if (y < 0) {
      BoxRow(row, nullptr, false, sum, record, nullptr);
      return;
    }
    for (int64_t p = 0; p < 5; ++p) {
      BoxRow(row + p * stride, rest != nullptr ? rest + p * stride : nullptr, slot == 0, sum + p * stride, stride, s->line + m);
      PadLine(s->line, width, stride, m);
      if (m == 7) {
        BoxLine<7>(s->line, pitch, stride, m, s->total + p * stride);
      } else {
        BoxLine<0>(s->line, pitch, stride, m, s->total + p * stride);
      }
    }
    if (slot == held - 1) {
      for (int64_t x = 0; x < record; x += kF) {
        VF below = Load<VF>(row + x);
        for (int64_t r = held - 2; r > 0; --r) {
          below += Load<VF>(ring + r * record + x);
          Store(ring + r * record + x, below);
        }
      }
    }
  } else {
    if (ahead < height) Moments(s, ahead, ring + ahead % held * record);
    if (y < 0) return;
    const float* up[128];
    const float* down[128];
    for (int64_t k = 0; k <= m; ++k) {
      up[k] = ring + (y - k > 0 ? y - k : 0) % held * record;
      down[k] = ring + (y + k < height ? y + k : height - 1) % held * record;
    }
    for (int p = 0; p < 5; ++p) {
      for (int64_t x = p * stride; x < (p + 1) * stride; x += kF) {
        VF v = Load<VF>(up[0] + x) * s->window[0];
        for (int64_t k = 1; k <= m; ++k) v += (Load<VF>(up[k] + x) + Load<VF>(down[k] + x)) * s->window[k];
        StoreU(s->line + m + x - p * stride, v);
      }
      PadLine(s->line, width, stride, m);
      const float* at = s->line + m;
      for (int64_t x = 0; x < stride; x += kF) {
        VF v = LoadU<VF>(at + x) * s->window[0];
        for (int64_t k = 1; k <= m; ++k) v += (LoadU<VF>(at + x + k) + LoadU<VF>(at + x - k)) * s->window[k];
        Store(s->total + p * stride + x, v);
      }
    }
  }
  const VF zero = VF{};
  for (int64_t x = 0; x < stride; x += kF) {
    const float* t = s->total + x;
    const VF yy = Load<VF>(t) * s->scale, xy = Load<VF>(t + stride) * s->scale, xx = Load<VF>(t + 2 * stride) * s->scale;
    const VF hy = Load<VF>(t + 3 * stride) * s->scale, hx = Load<VF>(t + 4 * stride) * s->scale;
    // not negative but for rounding
    const VF inverse = 1.0f / (Max(yy * xx - xy * xy, zero) + 1e-3f);
    Store(s->flow_x + y * stride + x, (yy * hx - xy * hy) * inverse);
    Store(s->flow_y + y * stride + x, (xx * hy - xy * hx) * inverse);
  }
}

// The passes run m rows behind each other, each on what the one before has just finished: expansions are read once for
// all, and stay in the cache.
void FarnebackPasses(const FarnebackSweep* s) {
  const int64_t m = s->radius, steps = s->height + m;
  for (int64_t t = 0; t < steps + (s->passes - 1) * m; ++t) {
    for (int64_t j = 0; j < s->passes; ++j) {
      const int64_t ahead = t - j * m;
      if (ahead < 0 || ahead >= steps) continue;
      FarnebackStep(s, ahead, s->ring + j * (2 * m + 1) * 5 * s->stride, s->sum + j * 5 * s->stride);
    }
  }
}

// ------------------------------------------------------------------------------------------------------------ TV-L1

void Texture(const float* in, int64_t width, int64_t height, int64_t stride, float* texture) {
  const int64_t pitch = (width + 2 * kCubicPad) * 4;
  for (int64_t y = 0; y < height; ++y) {
    const float* row = in + y * stride;
    const float* above = y > 0 ? row - stride : row;
    const float* below = y + 1 < height ? row + stride : row;
    float* to = texture + (y + kCubicPad) * pitch + kCubicPad * 4;
    for (int64_t x = 0; x < width; ++x) {
      const float left = row[x > 0 ? x - 1 : 0], right = row[x + 1 < width ? x + 1 : x];
      Store(to + 4 * x, F4{row[x], 0.5f * (right - left), 0.5f * (below[x] - above[x]), 0.0f});
    }
  }
}

// Cubic convolution weights (a = -0.75) of the samples at -1, 0, 1, 2 for a position between 0 and 1.
ZOO_INLINE void CubicWeights(VF t, float* to) {
  const float a = -0.75f;
  const VF u = 1.0f - t, before = 1.0f + t;
  const VF w0 = ((a * before - 5 * a) * before + 8 * a) * before - 4 * a;
  const VF w1 = ((a + 2) * t - (a + 3)) * t * t + 1;
  const VF w2 = ((a + 2) * u - (a + 3)) * u * u + 1;
  Store(to, w0);
  Store(to + kF, w1);
  Store(to + 2 * kF, w2);
  Store(to + 3 * kF, 1.0f - w0 - w1 - w2);
}

void Warp(const float* texture, const float* first, int64_t first_stride, const float* u1, const float* u2, int64_t width,
          int64_t height, int64_t stride, float* wx, float* wy, float* rho, float* pull) {
  const int64_t pitch = (width + 2 * kCubicPad) * 4;
  const VF low = Splat(-3.0f), right = Splat(static_cast<float>(width + 1)), bottom = Splat(static_cast<float>(height + 1));
  alignas(64) int32_t index[kF];
  alignas(64) float cx[4 * kF], cy[4 * kF];
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; x += kF) {
      const VI column = Lanes() + static_cast<int32_t>(x);
      VI ix, iy;
      // everything beyond these bounds is zeros
      const VF fx = Min(Max(__builtin_convertvector(column, VF) + Load<VF>(u1 + y * stride + x), low), right);
      const VF fy = Min(Max(static_cast<float>(y) + Load<VF>(u2 + y * stride + x), low), bottom);
      CubicWeights(fx - Floor(fx, &ix), cx);
      CubicWeights(fy - Floor(fy, &iy), cy);
      Store(index, (iy + (kCubicPad - 1)) * static_cast<int32_t>(width + 2 * kCubicPad) + ix + (kCubicPad - 1));
      for (int g = 0; g < kF; g += 4) {
        F4 s[4];
        for (int i = g; i < g + 4; ++i) {
          const float* at = texture + static_cast<int64_t>(index[i]) * 4;
          F8 a = LoadU<F8>(at) * cy[i], b = LoadU<F8>(at + 8) * cy[i];
          for (int r = 1; r < 4; ++r) {
            a += LoadU<F8>(at + r * pitch) * cy[r * kF + i];
            b += LoadU<F8>(at + r * pitch + 8) * cy[r * kF + i];
          }
          F4 q[4];
          __builtin_memcpy(q, &a, sizeof(a));
          __builtin_memcpy(q + 2, &b, sizeof(b));
          s[i - g] = q[0] * cx[i] + q[1] * cx[kF + i] + q[2] * cx[2 * kF + i] + q[3] * cx[3 * kF + i];
        }
        Transpose(s);
        const int64_t at = y * stride + x + g;
        StoreU(wx + at, s[1]);
        StoreU(wy + at, s[2]);
        F4 steep = s[1] * s[1] + s[2] * s[2];
        const F4 least = F4{} + 1.1920929e-7f;
        steep = steep > least ? steep : least;
        StoreU(pull + at, -1.0f / steep);
        StoreU(rho + at, s[0] - s[1] * LoadU<F4>(u1 + at) - s[2] * LoadU<F4>(u2 + at) - LoadU<F4>(first + y * first_stride + x + g));
      }
    }
    for (int64_t x = width; x % kPlaneAlign != 0; ++x) wx[y * stride + x] = wy[y * stride + x] = rho[y * stride + x] = pull[y * stride + x] = 0;
  }
}

// What an iteration reads everywhere, in registers.
struct TvL1Constants {
  VF theta, limit, tau_theta, gamma, one;
};

// The dual step of component i at `at`, of which gx and gy are the gradient: shrink is the reciprocal of 1 + tau_theta |g|.
ZOO_INLINE void DualStep(float* px, float* py, VF gx, VF gy, VF shrink, const TvL1Constants& c) {
  Store(px, (Load<VF>(px) + c.tau_theta * gx) * shrink);
  Store(py, (Load<VF>(py) + c.tau_theta * gy) * shrink);
}

// Row y of the primal step, and the dual step of the row above, which only needs this row besides. N: components of u.
template <int N>
ZOO_INLINE VF IterateAt(const TvL1Sweep& s, const TvL1Constants& c, int64_t at, bool dual) {
  const VF wx = Load<VF>(s.wx + at), wy = Load<VF>(s.wy + at);
  VF u[N];
  for (int i = 0; i < N; ++i) u[i] = Load<VF>(s.u[i] + at);
  VF residual = Load<VF>(s.rho + at) + wx * u[0] + wy * u[1];
  if (N == 3) residual += c.gamma * u[N - 1];
  const VF step = Max(Min(residual * Load<VF>(s.pull + at), c.limit), -c.limit);
  const VF ways[3] = {wx, wy, c.gamma};
  const int64_t above = at - s.stride;
  VF change = VF{}, gx[N], gy[N], norm[N];
  for (int i = 0; i < N; ++i) {
    const VF px = Load<VF>(s.px[i] + at), py = Load<VF>(s.py[i] + at);
    const VF divergence = (px - LoadU<VF>(s.px[i] + at - 1)) + (py - LoadU<VF>(s.py[i] + above));
    const VF next = u[i] + step * ways[i] + c.theta * divergence;
    Store(s.u[i] + at, next);
    change += (next - u[i]) * (next - u[i]);
    if (dual) {
      const VF here = Load<VF>(s.u[i] + above);
      gx[i] = LoadU<VF>(s.u[i] + above + 1) - here;
      gy[i] = next - here;
      norm[i] = c.one + c.tau_theta * Sqrt(gx[i] * gx[i] + gy[i] * gy[i]);
    }
  }
  if (dual) {  // one division for all: its unit is the bottleneck
    VF product = norm[0];
    for (int i = 1; i < N; ++i) product *= norm[i];
    const VF inverse = c.one / product;
    for (int i = 0; i < N; ++i) {
      VF shrink = inverse;
      for (int k = 0; k < N; ++k) {
        if (k != i) shrink *= norm[k];
      }
      DualStep(s.px[i] + above, s.py[i] + above, gx[i], gy[i], shrink, c);
    }
  }
  return change;
}

template <int N>
double IterateAll(const TvL1Sweep s) {
  const TvL1Constants c = {Splat(s.theta), Splat(s.lambda_theta), Splat(s.tau_theta), Splat(s.gamma), Splat(1.0f)};
  const int64_t whole = s.width / kF * kF;
  const VI kept = Lanes() < static_cast<int32_t>(s.width - whole);
  double error = 0;
  for (int64_t y = 0; y < s.height; ++y) {
    VF sum = VF{};
    const int64_t at = y * s.stride;
    if (y == 0) {
      for (int64_t x = 0; x < whole; x += kF) sum += IterateAt<N>(s, c, at + x, false);
    } else {
      for (int64_t x = 0; x < whole; x += kF) sum += IterateAt<N>(s, c, at + x, true);
    }
    if (whole < s.width) {
      const VF change = IterateAt<N>(s, c, at + whole, y > 0);
      sum += kept ? change : VF{};
    }
    // no gradient across the right border
    for (int i = 0; i < N; ++i) s.u[i][at + s.width] = s.u[i][at + s.width - 1];
    error += static_cast<double>(Sum(sum));
  }
  const int64_t last = (s.height - 1) * s.stride;
  for (int i = 0; i < N; ++i) {  // nor across the lower one
    for (int64_t at = last; at < last + s.width; at += kF) {
      const VF gx = LoadU<VF>(s.u[i] + at + 1) - Load<VF>(s.u[i] + at);
      DualStep(s.px[i] + at, s.py[i] + at, gx, VF{}, c.one / (c.one + c.tau_theta * Sqrt(gx * gx)), c);
    }
  }
  return error;
}

double Iterate(const TvL1Sweep* s) { return s->gamma != 0 ? IterateAll<3>(*s) : IterateAll<2>(*s); }

// ----------------------------------------------------------------------------------------------------------- median

ZOO_INLINE void Order(VF& a, VF& b) {
  const VF low = Min(a, b);
  b = Max(a, b);
  a = low;
}

ZOO_INLINE VF Median3x3(const float* const* row, int64_t x) {
  VF c[3][3];
  for (int r = 0; r < 3; ++r) {
    for (int i = 0; i < 3; ++i) c[r][i] = LoadU<VF>(row[r] + x + i - 1);
  }
  const VF low = Max(Max(c[0][0], c[0][1]), c[0][2]), high = Min(Min(c[2][0], c[2][1]), c[2][2]);
  Order(c[1][0], c[1][1]);
  const VF middle = Max(c[1][0], Min(c[1][1], c[1][2]));
  // the median of three
  return Max(Min(low, middle), Min(Max(low, middle), high));
}

// The columns are sorted: v[5 * r + c], rising with r. Found by removing from a sorting network what never acts on such
// columns or does not reach the middle; tests check it against all orders that columns can have.
ZOO_INLINE VF Median5x5(const float* const* row, int64_t x) {
  VF v[25];
  for (int r = 0; r < 5; ++r) {
    for (int c = 0; c < 5; ++c) v[5 * r + c] = LoadU<VF>(row[r] + x + c - 2);
  }
  Order(v[1], v[3]); Order(v[0], v[1]); Order(v[2], v[4]); Order(v[1], v[2]); Order(v[3], v[4]); Order(v[2], v[3]);
  Order(v[5], v[8]); Order(v[6], v[9]); Order(v[6], v[8]); Order(v[5], v[6]); Order(v[7], v[9]); Order(v[6], v[7]);
  Order(v[8], v[9]); Order(v[7], v[8]); Order(v[11], v[14]); Order(v[10], v[12]); Order(v[11], v[13]);
  Order(v[10], v[11]); Order(v[12], v[14]); Order(v[11], v[12]); Order(v[13], v[14]); Order(v[12], v[13]);
  Order(v[16], v[19]); Order(v[15], v[17]); Order(v[16], v[18]); Order(v[15], v[16]); Order(v[17], v[19]);
  Order(v[16], v[17]); Order(v[17], v[18]); Order(v[20], v[23]); Order(v[21], v[24]); Order(v[21], v[23]);
  Order(v[20], v[21]); Order(v[22], v[24]); Order(v[21], v[22]); Order(v[12], v[11]); Order(v[4], v[21]);
  Order(v[12], v[15]); Order(v[11], v[20]); Order(v[3], v[21]); Order(v[8], v[17]); Order(v[13], v[9]);
  Order(v[11], v[15]); Order(v[3], v[4]); Order(v[11], v[3]); Order(v[15], v[4]); Order(v[20], v[21]);
  Order(v[8], v[16]); Order(v[15], v[7]); Order(v[20], v[3]); Order(v[17], v[16]); Order(v[20], v[7]);
  Order(v[3], v[4]); Order(v[13], v[17]); Order(v[7], v[8]); Order(v[3], v[13]); Order(v[4], v[8]);
  Order(v[3], v[4]);
  return v[4];
}

void Median(float* in, int64_t width, int64_t height, int64_t stride, int32_t size, float* line, float* out) {
  const int64_t n = size / 2, pitch = stride + 2 * kPlaneAlign;
  for (int64_t y = 0; y < height; ++y) Replicate(in + y * stride, width, 2);
  float* sorted[5];
  for (int r = 0; r < 5; ++r) sorted[r] = line + kPlaneAlign + r * pitch;
  for (int64_t y = 0; y < height; ++y) {
    const float* row[5];
    for (int64_t r = -n; r <= n; ++r) {
      const int64_t at = y + r < 0 ? 0 : y + r >= height ? height - 1 : y + r;
      row[r + n] = in + at * stride;
    }
    // from two pixels before the row to two after it
    for (int64_t x = -kF; x < width + 2; x += kF) {
      VF v[5];
      if (n == 1) {
        for (int r = 0; r < 3; ++r) v[r] = Load<VF>(row[r] + x);
        Order(v[0], v[1]);
        Order(v[1], v[2]);
        Order(v[0], v[1]);
        for (int r = 0; r < 3; ++r) Store(sorted[r] + x, v[r]);
      } else {
        for (int r = 0; r < 5; ++r) v[r] = Load<VF>(row[r] + x);
        Order(v[0], v[3]);
        Order(v[1], v[4]);
        Order(v[0], v[2]);
        Order(v[1], v[3]);
        Order(v[0], v[1]);
        Order(v[2], v[4]);
        Order(v[1], v[2]);
        Order(v[3], v[4]);
        Order(v[2], v[3]);
        for (int r = 0; r < 5; ++r) Store(sorted[r] + x, v[r]);
      }
    }
    float* to = out + y * stride;
    if (n == 1) {
      for (int64_t x = 0; x < width; x += kF) Store(to + x, Median3x3(sorted, x));
    } else {
      for (int64_t x = 0; x < width; x += kF) Store(to + x, Median5x5(sorted, x));
    }
  }
}

}  // namespace

extern const DenseFlowKernels kDenseFlowKernels;
const DenseFlowKernels kDenseFlowKernels = {
    LoadU8, Resample, Interleave, Expand, FarnebackPasses, Texture, Warp, Iterate, Median,
};

}  // namespace ZOO_TARGET
}  // namespace zoo
