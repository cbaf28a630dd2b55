// SPDX-License-Identifier: Apache-2.0
// One training step of TIM-Net (forward and backward) for zoo/models/tim_net/train.py.
//
// Why it exists: a 500-epoch run is 12 TFLOP of 39-channel convolutions, a shape at which a general framework spends
// most of its time on memory traffic and narrow matrix products. The same function as model.py in training mode:
// tests/models/tim_net/test_train.py compares outputs and gradients. Used only for training, never on a device.
//
// Layout: activations are [t][channel][clip], clips padded to whole vectors. The batch lies along the vector lanes, so
// the causal shift by `d` frames is pointer arithmetic, every convolution is a [39 x 39*2] by [39*2 x 64] product per
// frame, and no lane is wasted on the odd channel count. Padded lanes are kept out of all sums by a lane mask.
// One thread, no global state, no allocation inside a step: results depend only on the inputs and the instruction set.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

constexpr int kC = 39;      // filters (fixed by the sheet; other widths use the PyTorch path)
constexpr int kBatch = 64;  // clips in one step at most
#if defined(__AVX512F__)
constexpr int kLanes = 16, kWide = 2;  // 13 x 2 accumulators of 32 registers
#elif defined(__AVX__)
constexpr int kLanes = 8, kWide = 1;
#else
constexpr int kLanes = 4, kWide = 1;
#endif
constexpr int kRow = kBatch / kLanes;  // vectors in one [channel] row
constexpr int kTile = 13, kTiles = 3;  // output channels of one register tile; 3 * 13 = 39
constexpr int kPairs = 20;             // input-channel pairs of the weight gradient; the last one is half used
constexpr int kChunk = 8;              // frames whose weight-gradient products stay in the first-level cache

typedef float V __attribute__((vector_size(kLanes * 4)));
typedef int32_t I __attribute__((vector_size(kLanes * 4)));

inline V Splat(float x) { return x - V{}; }  // x + 0 would not fold: -0 + 0 is 0
inline float Sum(V v) {
  double s = 0;
  for (int i = 0; i < kLanes; ++i) s += v[i];
  return static_cast<float>(s);
}
inline double SumD(V v) {
  double s = 0;
  for (int i = 0; i < kLanes; ++i) s += v[i];
  return s;
}
inline V Relu(V v) { return v > 0.f ? v : V{}; }

// exp(x) for x <= 0, relative error < 2e-7: 2^n * polynomial on [-ln2/2, ln2/2] (Taylor to degree 7).
inline V ExpNeg(V x) {
  x = x < -87.f ? Splat(-87.f) : x;
  const V magic = Splat(12582912.f);  // 1.5 * 2^23 rounds to nearest
  const V n = (x * 1.44269504f + magic) - magic;
  const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = Splat(1.f / 5040.f);
  p = p * r + 1.f / 720.f;
  p = p * r + 1.f / 120.f;
  p = p * r + 1.f / 24.f;
  p = p * r + 1.f / 6.f;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  const I e = (__builtin_convertvector(n, I) + 127) << 23;
  return p * (V)e;
}
inline V Gate(V r) { return 1.f / (1.f + ExpNeg(-r)); }  // sigmoid of a value >= 0

#define ZOO_UNROLL _Pragma("GCC unroll 26")
#define ZOO_NOINLINE __attribute__((noinline))  // each pass gets its own registers

// y[13 channels][W vectors] (+)= w1 . x1 + w0 . x0; w packed [39][13], x rows of kRow vectors; x0 only if Taps is 2.
template <int W, int Taps>
inline void Tile(const float* w1, const V* x1, const float* w0, const V* x0, const float* bias, bool add, V* y) {
  V acc[kTile][W];
  ZOO_UNROLL for (int i = 0; i < kTile; ++i)
    ZOO_UNROLL for (int j = 0; j < W; ++j) acc[i][j] = V{};
  for (int k = 0; k < kC; ++k, w1 += kTile, x1 += kRow) {
    V a[W];
    ZOO_UNROLL for (int j = 0; j < W; ++j) a[j] = x1[j];
    ZOO_UNROLL for (int i = 0; i < kTile; ++i) {
      const V s = Splat(w1[i]);
      ZOO_UNROLL for (int j = 0; j < W; ++j) acc[i][j] += s * a[j];
    }
  }
  if (Taps == 2)
    for (int k = 0; k < kC; ++k, w0 += kTile, x0 += kRow) {
      V a[W];
      ZOO_UNROLL for (int j = 0; j < W; ++j) a[j] = x0[j];
      ZOO_UNROLL for (int i = 0; i < kTile; ++i) {
        const V s = Splat(w0[i]);
        ZOO_UNROLL for (int j = 0; j < W; ++j) acc[i][j] += s * a[j];
      }
    }
  if (add) {
    ZOO_UNROLL for (int i = 0; i < kTile; ++i)
      ZOO_UNROLL for (int j = 0; j < W; ++j) y[i * kRow + j] += acc[i][j];
  } else if (bias) {
    ZOO_UNROLL for (int i = 0; i < kTile; ++i)
      ZOO_UNROLL for (int j = 0; j < W; ++j) y[i * kRow + j] = acc[i][j] + bias[i];
  } else {
    ZOO_UNROLL for (int i = 0; i < kTile; ++i)
      ZOO_UNROLL for (int j = 0; j < W; ++j) y[i * kRow + j] = acc[i][j];
  }
}

struct Packed {  // one convolution's weights for both products
  float forward[2][kTiles][kC][kTile];   // [tap: 0 = x(t-d), 1 = x(t)]
  float backward[2][kTiles][kC][kTile];
  float bias[kC];
};

struct Norm {  // one batch normalisation in training mode
  float mean[kC], inv[kC], scale[kC], shift[kC];  // normalised value is y*scale + shift
};

struct Sums {  // lane-wise sums of a plane, per channel: of the value and of the value times something
  V one[kC], two[kC];
  void Clear() { std::memset(this, 0, sizeof(*this)); }
};

struct Net {
  int frames, blocks, classes, batch = 0;
  V lane[kRow];      // 1 for a real clip, 0 for padding
  V* input;          // features; the reversed stream reads the frames backwards
  V *stream[2];      // blocks + 1 activations per direction
  V *pre[2];         // 2 * blocks convolution outputs per direction
  V *act[2];         // blocks activations between the two convolutions
  V *grad, *tmp[2], *mask;
  V pooled[16][kC][kRow];
  Packed* packed;    // [direction][1 + 2 * blocks]
  Norm* norm;        // [direction][2 * blocks]
  V weight_acc[2][kTiles][kPairs][2 * kTile];

  size_t Frame() const { return static_cast<size_t>(kC) * kRow; }
  size_t Plane() const { return Frame() * frames; }
};

// ---- flat parameter layout, as state_dict order of train.py's `layout` -------------------------------------------
constexpr int kIn = kC * kC + kC;                // 1x1 weight [out][in], bias
constexpr int kConv = kC * kC * 2 + kC + 2 * kC; // weight [out][in][tap], bias, gamma, beta
int InAt(int dir) { return dir * kIn; }
int Layer(int dir, int i) { return (i / 2) * 4 + dir * 2 + i % 2; }
int ConvAt(int dir, int i) { return 2 * kIn + Layer(dir, i) * kConv; }
int HeadAt(int blocks) { return 2 * kIn + blocks * 4 * kConv; }

void Pack(const float* w, int taps, const float* bias, Packed* p) {
  for (int tap = 0; tap < taps; ++tap) {
    const int slot = taps == 1 ? 1 : tap;
    for (int n = 0; n < kTiles; ++n)
      for (int k = 0; k < kC; ++k)
        for (int i = 0; i < kTile; ++i) {
          p->forward[slot][n][k][i] = w[((n * kTile + i) * kC + k) * taps + tap];
          p->backward[slot][n][k][i] = w[(k * kC + n * kTile + i) * taps + tap];
        }
  }
  std::memcpy(p->bias, bias, sizeof(p->bias));
}

// The passes below work on frames [t0, t1) of a plane, so that a step can chain them on one chunk while it is in the
// second-level cache. N is the number of vectors in use of a row.

// y(t) = W1 x(t) + W0 x(t - shift) + bias; with `shift` < 0 the other way round (the data gradient).
template <int W>
inline void ConvolveFrame(const float (*w)[kTiles][kC][kTile], const float* bias, const V* x1, const V* x0, bool add,
                          V* y) {
  for (int n = 0; n < kTiles; ++n) {
    const float* b = bias ? bias + n * kTile : nullptr;
    if (x0)
      Tile<W, 2>(w[1][n][0], x1, w[0][n][0], x0, b, add, y + n * kTile * kRow);
    else
      Tile<W, 1>(w[1][n][0], x1, nullptr, nullptr, b, add, y + n * kTile * kRow);
  }
}

template <int N>
ZOO_NOINLINE void Convolve(const Net& net, const float (*w)[kTiles][kC][kTile], const float* bias, const V* x, int shift, bool add,
              V* y, int t0, int t1) {
  const size_t frame = net.Frame();
  for (int t = t0; t < t1; ++t) {
    const int s = t - shift;
    const V* x1 = x + t * frame;
    const V* x0 = s >= 0 && s < net.frames ? x + s * frame : nullptr;
    int j = 0;
    for (; j + kWide <= N; j += kWide)
      ConvolveFrame<kWide>(w, bias, x1 + j, x0 ? x0 + j : nullptr, add, y + t * frame + j);
    for (; j < N; ++j) ConvolveFrame<1>(w, bias, x1 + j, x0 ? x0 + j : nullptr, add, y + t * frame + j);
  }
}

template <int N>
inline void OuterTile(const V* dy, const V* xa, const V* xb, size_t frame, long x_step, int frames, V* out) {
  V even[kTile], odd[kTile];
  ZOO_UNROLL for (int i = 0; i < kTile; ++i) even[i] = odd[i] = V{};
  for (int t = 0; t < frames; ++t, dy += frame, xa += x_step, xb += x_step)
    for (int v = 0; v < N; ++v) {
      const V a = xa[v], b = xb[v];
      ZOO_UNROLL for (int i = 0; i < kTile; ++i) {
        const V d = dy[i * kRow + v];
        even[i] += d * a;
        odd[i] += d * b;
      }
    }
  ZOO_UNROLL for (int i = 0; i < kTile; ++i) {
    out[2 * i] += even[i];
    out[2 * i + 1] += odd[i];
  }
}

// weight_acc[tap] += dy(t) x(t - lag); frames of x lie `x_step` apart (negative: the reversed stream's input).
template <int N>
ZOO_NOINLINE void OuterProducts(Net& net, int tap, const V* dy, const V* x, long x_step, int frames) {
  if (frames <= 0) return;
  for (int n = 0; n < kTiles; ++n)
    for (int p = 0; p < kPairs; ++p) {
      const V* xa = x + 2 * p * kRow;
      OuterTile<N>(dy + n * kTile * kRow, xa, 2 * p + 1 < kC ? xa + kRow : xa, net.Frame(), x_step, frames,
                   net.weight_acc[tap][n][p]);
    }
}

template <int N>
ZOO_NOINLINE void WeightProducts(Net& net, const V* dy, const V* x, int shift, int t0, int t1) {
  const size_t frame = net.Frame();
  OuterProducts<N>(net, 1, dy + t0 * frame, x + t0 * frame, static_cast<long>(frame), t1 - t0);
  const int begin = t0 > shift ? t0 : shift;
  if (begin < t1)
    OuterProducts<N>(net, 0, dy + begin * frame, x + (begin - shift) * frame, static_cast<long>(frame), t1 - begin);
}

// weight_acc -> dW[out][in][tap]
void WeightGradient(const Net& net, int taps, float* out) {
  for (int tap = 2 - taps; tap < 2; ++tap)
    for (int n = 0; n < kTiles; ++n)
      for (int p = 0; p < kPairs; ++p)
        for (int i = 0; i < kTile; ++i)
          for (int e = 0; e < 2; ++e) {
            const int in = 2 * p + e;
            if (in >= kC) continue;
            out[((n * kTile + i) * kC + in) * taps + (taps == 1 ? 0 : tap)] =
                Sum(net.weight_acc[tap][n][p][2 * i + e]);
          }
}

// Sums of (y - pivot) and its square; the pivot (the plane's first value) keeps the variance free of cancellation.
template <int N>
ZOO_NOINLINE void Collect(const Net& net, const V* y, const float* pivot, Sums* sums, int t0, int t1) {
  const size_t frame = net.Frame();
  for (int c = 0; c < kC; ++c) {
    V one = sums->one[c], two = sums->two[c];
    const float zero = pivot[c];
    for (int t = t0; t < t1; ++t)
      for (int v = 0; v < N; ++v) {
        const V d = (y[t * frame + c * kRow + v] - zero) * net.lane[v];
        one += d;
        two += d * d;
      }
    sums->one[c] = one;
    sums->two[c] = two;
  }
}

// Batch statistics (biased variance) and the running averages (Keras: of the biased variance too).
void Statistics(const Net& net, const Sums& sums, const float* pivot, const float* gamma, const float* beta, float eps,
                float keep, float* running_mean, float* running_var, Norm* out) {
  const double count = static_cast<double>(net.batch) * net.frames;
  for (int c = 0; c < kC; ++c) {
    const double off = SumD(sums.one[c]) / count;
    const double var = SumD(sums.two[c]) / count - off * off;
    out->mean[c] = static_cast<float>(pivot[c] + off);
    out->inv[c] = static_cast<float>(1.0 / std::sqrt((var > 0 ? var : 0) + eps));
    out->scale[c] = gamma[c] * out->inv[c];
    out->shift[c] = beta[c] - out->mean[c] * out->scale[c];
    running_mean[c] = running_mean[c] * keep + out->mean[c] * (1.f - keep);
    running_var[c] = running_var[c] * keep + static_cast<float>(var > 0 ? var : 0) * (1.f - keep);
  }
}

// out = dropout(relu(batchnorm(y)))
template <int N>
ZOO_NOINLINE void Activate(const Net& net, const V* y, const Norm& norm, const V* mask, V* out, int t0, int t1) {
  const size_t frame = net.Frame();
  for (int t = t0; t < t1; ++t)
    for (int c = 0; c < kC; ++c)
      for (int v = 0; v < N; ++v) {
        const size_t at = t * frame + c * kRow + v;
        out[at] = Relu(y[at] * norm.scale[c] + norm.shift[c]) * mask[c * kRow + v];
      }
}

// next = u * sigmoid(dropout(relu(batchnorm(y)))), summed over time into `pooled`
template <int N>
ZOO_NOINLINE void GateForward(const Net& net, const V* y, const Norm& norm, const V* mask, const V* u, V* next, V (*pooled)[kRow],
                 int t0, int t1) {
  const size_t frame = net.Frame();
  for (int t = t0; t < t1; ++t)
    for (int c = 0; c < kC; ++c)
      for (int v = 0; v < N; ++v) {
        const size_t at = t * frame + c * kRow + v;
        const V value = u[at] * Gate(Relu(y[at] * norm.scale[c] + norm.shift[c]) * mask[c * kRow + v]);
        next[at] = value;
        pooled[c][v] += value;
      }
}

// g: gradient at the block's output (without the pooled share) -> share of it that passes the gate to the input.
// out: gradient behind the second batch normalisation, with its sums.
template <int N>
ZOO_NOINLINE void GateBackward(const Net& net, const V* y, const Norm& norm, const V* mask, const V* u, const V (*dz)[kRow],
                  float share, V* g, V* out, Sums* sums, int t0, int t1) {
  const size_t frame = net.Frame();
  for (int t = t0; t < t1; ++t)
    for (int c = 0; c < kC; ++c) {
      V one = sums->one[c], two = sums->two[c];
      for (int v = 0; v < N; ++v) {
        const size_t at = t * frame + c * kRow + v;
        const V n = y[at] * norm.scale[c] + norm.shift[c];
        const V k = mask[c * kRow + v];
        const V s = Gate(Relu(n) * k);
        const V up = (g[at] + dz[c][v] * share) * net.lane[v];
        g[at] = up * s;
        V back = up * u[at] * s * (1.f - s) * k;
        back = n > 0.f ? back : V{};
        out[at] = back;
        one += back;
        two += back * ((y[at] - norm.mean[c]) * norm.inv[c]);
      }
      sums->one[c] = one;
      sums->two[c] = two;
    }
}

// In place: gradient behind the dropout -> gradient behind the first batch normalisation, with its sums.
template <int N>
ZOO_NOINLINE void ActivateBackward(const Net& net, const V* y, const Norm& norm, const V* mask, V* g, Sums* sums, int t0, int t1) {
  const size_t frame = net.Frame();
  for (int t = t0; t < t1; ++t)
    for (int c = 0; c < kC; ++c) {
      V one = sums->one[c], two = sums->two[c];
      for (int v = 0; v < N; ++v) {
        const size_t at = t * frame + c * kRow + v;
        const V n = y[at] * norm.scale[c] + norm.shift[c];
        V back = g[at] * mask[c * kRow + v];
        back = n > 0.f ? back : V{};
        g[at] = back;
        one += back;
        two += back * ((y[at] - norm.mean[c]) * norm.inv[c]);
      }
      sums->one[c] = one;
      sums->two[c] = two;
    }
}

struct NormBack {  // dy = dz * s + (y - mean) * b + a
  float a[kC], b[kC], s[kC];
};

// dy = scale * (dz - sum/N - xhat * dot/N), xhat = (y - mean) * inv
NormBack NormGradient(const Net& net, const Norm& norm, const Sums& sums, float* dgamma, float* dbeta) {
  const double count = static_cast<double>(net.batch) * net.frames;
  NormBack out;
  for (int c = 0; c < kC; ++c) {
    const double one = SumD(sums.one[c]), two = SumD(sums.two[c]);
    dbeta[c] = static_cast<float>(one);
    dgamma[c] = static_cast<float>(two);
    out.s[c] = norm.scale[c];
    out.b[c] = static_cast<float>(-norm.scale[c] * norm.inv[c] * two / count);
    out.a[c] = static_cast<float>(-norm.scale[c] * (one / count));
  }
  return out;
}

template <int N>
ZOO_NOINLINE void NormBackward(const Net& net, const V* y, const Norm& norm, const NormBack& k, V* grad, int t0, int t1) {
  const size_t frame = net.Frame();
  for (int t = t0; t < t1; ++t)
    for (int c = 0; c < kC; ++c)
      for (int v = 0; v < N; ++v) {
        const size_t at = t * frame + c * kRow + v;
        grad[at] = (grad[at] * k.s[c] + (y[at] - norm.mean[c]) * k.b[c] + k.a[c]) * net.lane[v];
      }
}

template <class T>
T* Take(size_t n) {
  void* p = nullptr;
  const size_t huge = size_t{1} << 21;
  const bool big = n * sizeof(T) >= huge;
  if (posix_memalign(&p, big ? huge : 64, n * sizeof(T)) != 0) return nullptr;
#if defined(MADV_HUGEPAGE)
  if (big) madvise(p, n * sizeof(T), MADV_HUGEPAGE);  // a hint: fewer misses of the address cache
#endif
  std::memset(p, 0, n * sizeof(T));
  return static_cast<T*>(p);
}

struct Call {
  const float *params, *x, *target, *mask;
  float *running, *grad, *logits;
  int batch;
  float eps, keep;
};

template <int N>
float Step(Net& net, const Call& call) {
  const int blocks = net.blocks, frames = net.frames, classes = net.classes, batch = call.batch;
  const size_t plane = net.Plane(), frame = net.Frame();
  net.batch = batch;
  for (int b = 0; b < kBatch; ++b) reinterpret_cast<float*>(net.lane)[b] = b < batch ? 1.f : 0.f;
  std::memset(net.pooled, 0, sizeof(net.pooled));
  for (int t = 0; t < frames; ++t) {
    float* out = reinterpret_cast<float*>(net.input + t * frame);
    std::memset(out, 0, sizeof(V) * frame);
    for (int b = 0; b < batch; ++b) {
      const float* row = call.x + (static_cast<size_t>(b) * frames + t) * kC;
      for (int c = 0; c < kC; ++c) out[c * kBatch + b] = row[c];
    }
  }
  float* drop = reinterpret_cast<float*>(net.mask);
  std::memset(drop, 0, sizeof(float) * 4 * blocks * kC * kBatch);
  for (int i = 0; i < 4 * blocks; ++i, drop += kC * kBatch)
    for (int b = 0; b < batch; ++b)
      for (int c = 0; c < kC; ++c)
        drop[c * kBatch + b] = call.mask ? call.mask[(static_cast<size_t>(i) * batch + b) * kC + c] : 1.f;
  const auto mask_at = [&](int dir, int i) { return net.mask + static_cast<size_t>(Layer(dir, i)) * kC * kRow; };
  const auto norm_at = [&](int dir, int i) -> Norm& { return net.norm[dir * 2 * blocks + i]; };
  const auto end_of = [&](int t0) { return t0 + kChunk < frames ? t0 + kChunk : frames; };
  const int last_chunk = (frames - 1) / kChunk * kChunk;

  // ---- forward
  for (int d = 0; d < 2; ++d) {
    Packed* pk = net.packed + d * (1 + 2 * blocks);
    const float* in = call.params + InAt(d);
    Pack(in, 1, in + kC * kC, pk);
    Sums sums;
    float pivot[kC];
    for (int i = 0; i < 2 * blocks; ++i) {
      const int j = i / 2, dilation = 1 << j;
      const float* w = call.params + ConvAt(d, i);
      const float *bias = w + kC * kC * 2, *gamma = bias + kC, *beta = gamma + kC;
      Packed& p = pk[1 + i];
      float* run = call.running + static_cast<size_t>(Layer(d, i)) * 2 * kC;
      V* y = net.pre[d] + plane * i;
      V* u = net.stream[d] + plane * j;
      V* a = net.act[d] + plane * j;
      Pack(w, 2, bias, &p);
      sums.Clear();
      for (int t0 = 0; t0 < frames; t0 += kChunk) {
        const int t1 = end_of(t0);
        if (i == 0) {
          for (int t = t0; t < t1; ++t) {
            const V* from = net.input + (d ? frames - 1 - t : t) * frame;
            int v = 0;
            for (; v + kWide <= N; v += kWide)
              ConvolveFrame<kWide>(pk->forward, pk->bias, from + v, nullptr, false, u + t * frame + v);
            for (; v < N; ++v) ConvolveFrame<1>(pk->forward, pk->bias, from + v, nullptr, false, u + t * frame + v);
          }
        } else if (i % 2 == 0) {
          GateForward<N>(net, y - plane, norm_at(d, i - 1), mask_at(d, i - 1), u - plane, u, net.pooled[j - 1], t0, t1);
        } else {
          Activate<N>(net, y - plane, norm_at(d, i - 1), mask_at(d, i - 1), a, t0, t1);
        }
        Convolve<N>(net, p.forward, p.bias, i % 2 ? a : u, dilation, false, y, t0, t1);
        if (t0 == 0)
          for (int c = 0; c < kC; ++c) pivot[c] = y[c * kRow][0];
        Collect<N>(net, y, pivot, &sums, t0, t1);
      }
      Statistics(net, sums, pivot, gamma, beta, call.eps, call.keep, run, run + kC, &norm_at(d, i));
    }
    const int i = 2 * blocks - 1;
    V* u = net.stream[d] + plane * (blocks - 1);
    GateForward<N>(net, net.pre[d] + plane * i, norm_at(d, i), mask_at(d, i), u, u + plane, net.pooled[blocks - 1], 0,
                   frames);
  }

  // ---- fusion of the scales, dense layer, loss, and back to the pooled features
  const float* head = call.params + HeadAt(blocks);
  const float *dense = head + blocks, *dense_bias = dense + classes * kC;
  float* head_grad = call.grad + HeadAt(blocks);
  std::memset(head_grad, 0, sizeof(float) * (blocks + classes * kC + classes));
  V z[kC][kRow], dz[kC][kRow];
  std::memset(z, 0, sizeof(z));
  std::memset(dz, 0, sizeof(dz));
  for (int c = 0; c < kC; ++c)
    for (int v = 0; v < N; ++v)
      for (int j = 0; j < blocks; ++j) {
        net.pooled[j][c][v] *= 1.f / static_cast<float>(frames);
        z[c][v] += net.pooled[j][c][v] * head[j];
      }
  double loss = 0;
  for (int b = 0; b < batch; ++b) {
    float* row = call.logits + static_cast<size_t>(b) * classes;
    float top = -INFINITY;
    for (int k = 0; k < classes; ++k) {
      double s = dense_bias[k];
      for (int c = 0; c < kC; ++c) s += static_cast<double>(dense[k * kC + c]) * reinterpret_cast<float*>(z[c])[b];
      row[k] = static_cast<float>(s);
      top = row[k] > top ? row[k] : top;
    }
    double total = 0;
    for (int k = 0; k < classes; ++k) total += std::exp(static_cast<double>(row[k]) - top);
    const double log_total = std::log(total) + top;
    for (int k = 0; k < classes; ++k) {
      const double log_p = row[k] - log_total, want = call.target[static_cast<size_t>(b) * classes + k];
      loss -= want * log_p;
      const float g = static_cast<float>((std::exp(log_p) - want) / batch);
      head_grad[blocks + classes * kC + k] += g;
      for (int c = 0; c < kC; ++c) {
        head_grad[blocks + k * kC + c] += g * reinterpret_cast<float*>(z[c])[b];
        reinterpret_cast<float*>(dz[c])[b] += g * dense[k * kC + c];
      }
    }
  }
  for (int j = 0; j < blocks; ++j) {
    V s{};
    for (int c = 0; c < kC; ++c)
      for (int v = 0; v < N; ++v) s += net.pooled[j][c][v] * dz[c][v] * net.lane[v];
    head_grad[j] = Sum(s);
  }

  // ---- backward, chunks of frames from the last to the first: dy(t + dilation) is complete when frame t needs it
  for (int d = 0; d < 2; ++d) {
    Packed* pk = net.packed + d * (1 + 2 * blocks);
    V *g = net.grad, *g2 = net.tmp[0], *g1 = net.tmp[1];
    const auto gate = [&](int j, Sums* sums, int t0, int t1) {
      const int i = 2 * j + 1;
      GateBackward<N>(net, net.pre[d] + plane * i, norm_at(d, i), mask_at(d, i), net.stream[d] + plane * j, dz,
                      head[j] / static_cast<float>(frames), g, g2, sums, t0, t1);
    };
    std::memset(g, 0, sizeof(V) * plane);
    Sums sums2;
    sums2.Clear();
    gate(blocks - 1, &sums2, 0, frames);
    for (int j = blocks - 1; j >= 0; --j) {
      const int dilation = 1 << j;
      const V *u = net.stream[d] + plane * j, *a = net.act[d] + plane * j;
      const V *y1 = net.pre[d] + plane * 2 * j, *y2 = y1 + plane;
      float *gw1 = call.grad + ConvAt(d, 2 * j), *gb1 = gw1 + kC * kC * 2;
      float *gw2 = call.grad + ConvAt(d, 2 * j + 1), *gb2 = gw2 + kC * kC * 2;
      std::memset(gb1, 0, sizeof(float) * kC);  // a bias in front of a batch normalisation has no gradient
      std::memset(gb2, 0, sizeof(float) * kC);
      Sums sums1;
      sums1.Clear();
      NormBack back = NormGradient(net, norm_at(d, 2 * j + 1), sums2, gb2 + kC, gb2 + 2 * kC);
      std::memset(net.weight_acc, 0, sizeof(net.weight_acc));
      for (int t0 = last_chunk; t0 >= 0; t0 -= kChunk) {
        const int t1 = end_of(t0);
        NormBackward<N>(net, y2, norm_at(d, 2 * j + 1), back, g2, t0, t1);
        WeightProducts<N>(net, g2, a, dilation, t0, t1);
        Convolve<N>(net, pk[2 + 2 * j].backward, nullptr, g2, -dilation, false, g1, t0, t1);
        ActivateBackward<N>(net, y1, norm_at(d, 2 * j), mask_at(d, 2 * j), g1, &sums1, t0, t1);
      }
      WeightGradient(net, 2, gw2);
      back = NormGradient(net, norm_at(d, 2 * j), sums1, gb1 + kC, gb1 + 2 * kC);
      std::memset(net.weight_acc, 0, sizeof(net.weight_acc));
      sums2.Clear();
      for (int t0 = last_chunk; t0 >= 0; t0 -= kChunk) {
        const int t1 = end_of(t0);
        NormBackward<N>(net, y1, norm_at(d, 2 * j), back, g1, t0, t1);
        WeightProducts<N>(net, g1, u, dilation, t0, t1);
        Convolve<N>(net, pk[1 + 2 * j].backward, nullptr, g1, -dilation, true, g, t0, t1);
        if (j > 0) gate(j - 1, &sums2, t0, t1);
      }
      WeightGradient(net, 2, gw1);
    }
    float* gi = call.grad + InAt(d);
    std::memset(net.weight_acc, 0, sizeof(net.weight_acc));
    V sum[kC];
    std::memset(sum, 0, sizeof(sum));
    const long step = d ? -static_cast<long>(frame) : static_cast<long>(frame);
    for (int t0 = 0; t0 < frames; t0 += kChunk)
      OuterProducts<N>(net, 1, g + t0 * frame, net.input + (d ? frames - 1 - t0 : t0) * frame, step, end_of(t0) - t0);
    for (int t = 0; t < frames; ++t)
      for (int c = 0; c < kC; ++c)
        for (int v = 0; v < N; ++v) sum[c] += g[t * frame + c * kRow + v] * net.lane[v];
    WeightGradient(net, 1, gi);
    for (int c = 0; c < kC; ++c) gi[kC * kC + c] = static_cast<float>(SumD(sum[c]));
  }
  return static_cast<float>(loss / batch);
}

}  // namespace

extern "C" {

void timnet_destroy(void* handle) {
  Net* net = static_cast<Net*>(handle);
  if (!net) return;
  for (int d = 0; d < 2; ++d) {
    std::free(net->stream[d]);
    std::free(net->pre[d]);
    std::free(net->act[d]);
    std::free(net->tmp[d]);
  }
  std::free(net->input);
  std::free(net->grad);
  std::free(net->mask);
  std::free(net->packed);
  std::free(net->norm);
  std::free(net);
}

// Scratch for clips of `frames` frames; null if an argument is out of range or memory is short.
void* timnet_create(int frames, int blocks, int classes) {
  if (frames < 1 || blocks < 1 || blocks > 16 || classes < 1 || classes > 64) return nullptr;
  Net* net = Take<Net>(1);
  if (!net) return nullptr;
  net->frames = frames;
  net->blocks = blocks;
  net->classes = classes;
  bool ok = true;
  for (int d = 0; d < 2; ++d) {
    ok &= (net->stream[d] = Take<V>(net->Plane() * (blocks + 1))) != nullptr;
    ok &= (net->pre[d] = Take<V>(net->Plane() * 2 * blocks)) != nullptr;
    ok &= (net->act[d] = Take<V>(net->Plane() * blocks)) != nullptr;
    ok &= (net->tmp[d] = Take<V>(net->Plane())) != nullptr;
  }
  ok &= (net->input = Take<V>(net->Plane())) != nullptr;
  ok &= (net->grad = Take<V>(net->Plane())) != nullptr;
  ok &= (net->mask = Take<V>(static_cast<size_t>(4) * blocks * kC * kRow)) != nullptr;
  ok &= (net->packed = Take<Packed>(2 * (1 + 2 * blocks))) != nullptr;
  ok &= (net->norm = Take<Norm>(2 * 2 * blocks)) != nullptr;
  if (!ok) {
    timnet_destroy(net);
    return nullptr;
  }
  return net;
}

int timnet_parameters(int blocks, int classes) { return HeadAt(blocks) + blocks + classes * kC + classes; }
int timnet_lanes(void) { return kLanes; }

// x [batch][frames][39], target [batch][classes] (rows sum to 1), mask [4*blocks][batch][39] of dropout factors in the
// order block, direction, layer (null: none). grad: gradient of the mean cross-entropy. running: [4*blocks][2][39], the
// running mean and variance. keep: share of their old value (0.99). Returns the loss, or -1 for a bad argument.
float timnet_step(void* handle, const float* params, float* running, float* grad, const float* x, const float* target,
                  const float* mask, int batch, float eps, float keep, float* logits) {
  if (!handle || batch < 1 || batch > kBatch) return -1.f;
  Net& net = *static_cast<Net*>(handle);
  const Call call{params, x, target, mask, running, grad, logits, batch, eps, keep};
#if defined(__AVX512F__)
  switch ((batch + kLanes - 1) / kLanes) {
    case 1: return Step<1>(net, call);
    case 2: return Step<2>(net, call);
    case 3: return Step<3>(net, call);
  }
#endif
  return Step<kRow>(net, call);
}

}  // extern "C"
