// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "core/buffer.h"
#include "core/kernels.h"
#include "image/kernels.h"
#include "zoo/image.h"

namespace zoo {
namespace {

std::string Text(const ImageSize& s) {
  return std::to_string(s.height) + " x " + std::to_string(s.width) + " pixels with " + std::to_string(s.channels) + " channels";
}

// Which inputs each output of one axis takes, and how much of each.
struct Axis {
  int32_t out = 0, room = 0;
  std::vector<int32_t> first, used;
  std::vector<double> weight;  // [out][room]
  void Start(int64_t outputs, int64_t taps) {
    out = static_cast<int32_t>(outputs), room = static_cast<int32_t>(taps);
    first.assign(static_cast<size_t>(outputs), 0);
    used.assign(static_cast<size_t>(outputs), 0);
    weight.assign(static_cast<size_t>(outputs * taps), 0.0);
  }
};

double Triangle(double x) { return std::max(0.0, 1.0 - std::fabs(x)); }

double Cubic(double x) {
  const double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double Rectangle(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

// Pillow's: the filter is as wide as the reduction, cut at the edges and brought to a sum of 1.
Axis Antialiased(int64_t in, int64_t out, ResizeFilter filter) {
  double (*const shape)(double) = filter == ResizeFilter::kBox ? Rectangle : filter == ResizeFilter::kBicubicAntialias ? Cubic : Triangle;
  const double radius = filter == ResizeFilter::kBox ? 0.5 : filter == ResizeFilter::kBicubicAntialias ? 2.0 : 1.0;
  const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = std::max(scale, 1.0), support = radius * stretch;
  Axis a;
  a.Start(out, static_cast<int64_t>(std::ceil(support)) * 2 + 1);
  for (int64_t i = 0; i < out; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale, inverse = 1.0 / stretch;
    const int64_t begin = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t count = std::min(in, static_cast<int64_t>(center + support + 0.5)) - begin;
    double* w = a.weight.data() + i * a.room;
    double sum = 0;
    for (int64_t k = 0; k < count; ++k) sum += w[k] = shape((static_cast<double>(k + begin) - center + 0.5) * inverse);
    for (int64_t k = 0; k < count && sum != 0; ++k) w[k] /= sum;
    a.first[static_cast<size_t>(i)] = static_cast<int32_t>(begin);
    a.used[static_cast<size_t>(i)] = static_cast<int32_t>(count);
  }
  return a;
}

// OpenCV's INTER_AREA of a reduction: every input counts with the share of it that the output covers; shares below 1/1000 do not.
Axis Areas(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  Axis a;
  a.Start(out, static_cast<int64_t>(std::ceil(scale)) + 2);
  for (int64_t i = 0; i < out; ++i) {
    const double begin = static_cast<double>(i) * scale, end = begin + scale, cell = std::min(scale, static_cast<double>(in) - begin);
    const int64_t last = std::min(static_cast<int64_t>(std::floor(end)), in - 1), whole = std::min(static_cast<int64_t>(std::ceil(begin)), last);
    double* w = a.weight.data() + i * a.room;
    int64_t at = whole, n = 0;
    if (static_cast<double>(whole) - begin > 1e-3) {
      --at;
      w[n++] = (static_cast<double>(whole) - begin) / cell;
    }
    for (int64_t k = whole; k < last; ++k) w[n++] = 1.0 / cell;
    if (end - static_cast<double>(last) > 1e-3) w[n++] = std::min(std::min(end - static_cast<double>(last), 1.0), cell) / cell;
    a.first[static_cast<size_t>(i)] = static_cast<int32_t>(at);
    a.used[static_cast<size_t>(i)] = static_cast<int32_t>(n);
  }
  return a;
}

// Input pixels an output pixel, rounded as OpenCV rounds it, by two divisions: where a whole number of outputs fits a whole number of
// inputs, the last bit decides which pixel is taken.
double OpenCvStep(int64_t in, int64_t out) { return 1.0 / (static_cast<double>(out) / static_cast<double>(in)); }

// INTER_AREA of an enlargement: constant, with a slope where two pixels meet under the output.
double AreaPosition(int64_t in, int64_t out, int64_t i) {
  const double base = std::floor(static_cast<double>(i) * OpenCvStep(in, out));
  const double share = static_cast<double>(i + 1) - (base + 1) * (static_cast<double>(out) / static_cast<double>(in));
  return base + (share <= 0 ? 0 : share - std::floor(share));
}

// Two taps, both within the image where it has two pixels; beyond the edges the edge pixel counts.
Axis TwoTaps(int64_t in, int64_t out, bool area) {
  Axis a;
  a.Start(out, 2);
  for (int64_t i = 0; i < out; ++i) {
    const double p = area ? AreaPosition(in, out, i) : (static_cast<double>(i) + 0.5) * OpenCvStep(in, out) - 0.5;
    const double at = std::min(std::max(p, 0.0), static_cast<double>(in - 1));
    const int64_t first = std::max<int64_t>(0, std::min(static_cast<int64_t>(at), in - 2));
    a.first[static_cast<size_t>(i)] = static_cast<int32_t>(first);
    a.used[static_cast<size_t>(i)] = in > 1 ? 2 : 1;
    a.weight[static_cast<size_t>(2 * i)] = 1 - (at - static_cast<double>(first));
    a.weight[static_cast<size_t>(2 * i + 1)] = at - static_cast<double>(first);
  }
  return a;
}

struct FixedAxis {
  FixedTaps taps{};
  std::vector<int32_t> first, used, words;
  void Build(const Axis& a) {
    const int32_t pairs = (a.room + 1) / 2;
    words.assign(static_cast<size_t>(a.out) * static_cast<size_t>(pairs) * 2, 0);
    first = a.first;
    used.resize(a.used.size());
    for (int32_t i = 0; i < a.out; ++i) {
      const size_t at = static_cast<size_t>(i);
      used[at] = (a.used[at] + 1) / 2;
      for (int32_t k = 0; k < a.used[at]; ++k) {
        const double w = a.weight[at * static_cast<size_t>(a.room) + static_cast<size_t>(k)] * (1 << kCoefficientBits);
        const int32_t whole = static_cast<int32_t>(w < 0 ? w - 0.5 : w + 0.5), hi = whole >> 15, lo = whole & 0x7fff;
        int32_t* word = words.data() + (at * static_cast<size_t>(pairs) + static_cast<size_t>(k / 2)) * 2;
        const int shift = k % 2 * 16;
        word[0] = static_cast<int32_t>(static_cast<uint32_t>(word[0]) | static_cast<uint32_t>(lo) << shift);
        word[1] = static_cast<int32_t>(static_cast<uint32_t>(word[1]) | (static_cast<uint32_t>(hi) & 0xffff) << shift);
      }
    }
    taps = {a.out, pairs, first.data(), used.data(), words.data()};
  }
};

struct FloatAxis {
  FloatTaps taps{};
  std::vector<int32_t> first, used;
  std::vector<float> weight;
  void Build(const Axis& a) {
    first = a.first, used = a.used;
    weight.assign(a.weight.begin(), a.weight.end());
    taps = {a.out, a.room, first.data(), used.data(), weight.data()};
  }
};

struct LinearAxis {
  LinearTaps taps{};
  std::vector<int32_t> first, weights;
  // OpenCV computes the position in float32. Beyond the edges columns take the edge pixel with all weight, while rows keep
  // their weights, both of them on the edge row: it rounds differently. channels: values a pixel; 0: rows.
  void Build(int64_t in, int64_t out, int64_t channels, bool area) {
    first.resize(static_cast<size_t>(out)), weights.resize(static_cast<size_t>(4 * out));
    taps = {static_cast<int32_t>(out), static_cast<int32_t>(in > 1 ? channels : 0), 0, first.data(), weights.data()};
    for (int64_t i = 0; i < out; ++i) {
      const float p = static_cast<float>(area ? AreaPosition(in, out, i) : (static_cast<double>(i) + 0.5) * OpenCvStep(in, out) - 0.5);
      const float whole = std::floor(p);
      float share = p - whole;
      int64_t at = static_cast<int64_t>(whole);
      if (channels > 0 && at < 0) at = 0, share = 0;
      if (channels > 0 && at >= in - 1) at = in - 1, share = 0;
      int32_t wb = static_cast<int32_t>(std::nearbyint(share * 2048.0f)), wa = static_cast<int32_t>(std::nearbyint((1.0f - share) * 2048.0f));
      if (channels > 0 && at == in - 1 && in > 1) --at, std::swap(wa, wb);
      first[static_cast<size_t>(i)] = static_cast<int32_t>(channels > 0 ? at * channels : at);
      std::fill_n(weights.begin() + 4 * i, 4, wa | (wb << 16));
      if (taps.safe == i && (at + (in > 1 ? 1 : 0)) * channels + 4 <= in * channels) taps.safe = static_cast<int32_t>(i + 1);
    }
  }
};

int64_t Up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace

Status ValidateImage(const char* op, const ImageSize& s) {
  const bool ok = s.height >= 1 && s.height <= kMaxSide && s.width >= 1 && s.width <= kMaxSide && s.channels >= 1 && s.channels <= kMaxChannels;
  if (ok) return Status::Ok();
  return InvalidSignal(std::string(op) + ": the image has " + Text(s) + "; it must have 1 to 1048576 pixels a side and 1 to 4 channels");
}

Status ResizeOptions::Validate() const {
  if (shorter != 0 && (height != 0 || width != 0)) return InvalidArgument("resize: give either height and width, or shorter");
  if (shorter != 0) {
    if (shorter >= 1 && shorter <= 65536) return Status::Ok();
    return InvalidArgument("resize: shorter is " + std::to_string(shorter) + "; it must lie between 1 and 65536");
  }
  for (const auto& [name, value] : {std::pair<const char*, int32_t>{"height", height}, {"width", width}}) {
    if (value < 1 || value > 65536) return InvalidArgument(std::string("resize: ") + name + " is " + std::to_string(value) + "; it must lie between 1 and 65536");
  }
  return Status::Ok();
}

ImageSize ResizeOptions::Output(const ImageSize& in) const {
  if (shorter == 0) return {height, width, in.channels};
  const int64_t low = std::max<int64_t>(1, std::min(in.height, in.width));
  const auto side = [&](int64_t n) { return n == low ? int64_t{shorter} : std::max<int64_t>(1, n * shorter / low); };
  return {side(in.height), side(in.width), in.channels};
}

Result<Resize> Resize::Create(const ResizeOptions& options, const std::string& isa) {
  ZOO_RETURN_IF_ERROR(options.Validate());
  auto kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  Resize r;
  r.options_ = options;
  r.kernels_ = kernels.value();
  return r;
}

Result<Resize> Resize::Create(const ResizeOptions& options, const NormalizeOptions& normalize, const std::string& isa) try {
  auto made = Create(options, isa);
  if (!made.ok()) return made;
  auto n = Normalize::Create(normalize, isa);
  if (!n.ok()) return n.status();
  made.value().normalize_ = std::make_shared<const Normalize>(std::move(n.value()));
  return made;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

namespace {

struct ResizeState : Resize::State {
  ImageSize in, out;
  FixedAxis fixed_x, fixed_y;
  FloatAxis float_x, float_y;
  LinearAxis linear_x, linear_y;
  std::vector<int32_t> near_x, near_y;
  bool ties_up = false;
  bool vertical_first = false;
  int64_t planes = 1, stride = 0, plane = 0;  // of the horizontally resampled image, in bytes
  Buffer<uint8_t> columns, resampled, middle, reduced, tail, bytes;
  Buffer<int16_t> linear;
  Buffer<float> floats;
};

// Pillow 13's choice of the first pass (earlier ones always take the horizontal one); it decides what is rounded twice.
bool VerticalFirst(const ImageSize& in, const ImageSize& out) { return out.height < in.height && 2 * (out.width - in.width) > out.height - in.height; }

// What computes the pixels.
enum class Path { kNearest, kLinear, kFixed, kFloat };

Path PathOf(const ResizeOptions& o, const ImageSize& in, const ImageSize& out) {
  if (o.filter == ResizeFilter::kNearest || o.filter == ResizeFilter::kNearestTopLeft) return Path::kNearest;
  if (!o.rounded) return Path::kFloat;
  if (o.filter == ResizeFilter::kBilinear) return Path::kLinear;
  if (o.filter == ResizeFilter::kArea) return in.height >= out.height && in.width >= out.width ? Path::kFloat : Path::kLinear;
  return Path::kFixed;
}

Axis FloatAxisOf(const ResizeOptions& o, int64_t in, int64_t out, bool reduction) {
  if (o.filter == ResizeFilter::kArea && reduction) return Areas(in, out);
  if (o.filter == ResizeFilter::kBilinear || o.filter == ResizeFilter::kArea) return TwoTaps(in, out, o.filter == ResizeFilter::kArea);
  return Antialiased(in, out, o.filter);
}

}  // namespace

Result<std::unique_ptr<Resize::State>> Resize::NewState() const try {
  return std::unique_ptr<State>(new ResizeState);
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Resize::Reserve(const ImageSize& in, State& state) const noexcept try {
  ResizeState& s = static_cast<ResizeState&>(state);
  if (s.in == in) return Status::Ok();
  s.in = {};
  ZOO_RETURN_IF_ERROR(ValidateImage("resize", in));
  if (normalize_) ZOO_RETURN_IF_ERROR(normalize_->options().ValidateChannels(in.channels));
  s.out = options_.Output(in);
  ZOO_RETURN_IF_ERROR(ValidateImage("resize: the output", s.out));
  const int64_t c = in.channels, row = s.out.width * c;
  bool memory = s.bytes.Reserve(static_cast<size_t>(Up(row, 64) + 64));
  switch (PathOf(options_, in, s.out)) {
    case Path::kNearest: {
      // Pillow adds up the step in double precision
      const auto table = [&](int64_t from, int64_t to, std::vector<int32_t>* t) {
        t->resize(static_cast<size_t>(to));
        const double step = static_cast<double>(from) / static_cast<double>(to), opencv = OpenCvStep(from, to);
        double at = step * 0.5;
        for (int64_t i = 0; i < to; ++i, at += step) {
          const double p = options_.filter == ResizeFilter::kNearest ? at : static_cast<double>(i) * opencv;
          (*t)[static_cast<size_t>(i)] = static_cast<int32_t>(std::min(static_cast<int64_t>(p), from - 1));
        }
      };
      table(in.height, s.out.height, &s.near_y);
      table(in.width, s.out.width, &s.near_x);
      break;
    }
    case Path::kLinear: {
      const bool area = options_.filter == ResizeFilter::kArea;
      s.linear_x.Build(in.width, s.out.width, c, area);
      s.linear_y.Build(in.height, s.out.height, 0, area);
      memory = memory && s.linear.Reserve(static_cast<size_t>(2 * (row + 8)));
      break;
    }
    case Path::kFixed: {
      s.fixed_x.Build(Antialiased(in.width, s.out.width, options_.filter));
      s.fixed_y.Build(Antialiased(in.height, s.out.height, options_.filter));
      s.vertical_first = VerticalFirst(in, s.out);
      s.planes = normalize_ && normalize_->options().layout == ImageLayout::kChw ? c : 1;
      s.stride = Up(s.planes == 1 ? row : s.out.width, 64);
      s.plane = s.stride * Up(s.vertical_first ? s.out.height : in.height, kColumnRows);
      memory = memory && s.columns.Reserve(static_cast<size_t>((in.width + 1) * c * kColumnRows)) &&
               s.resampled.Reserve(static_cast<size_t>(Up(s.out.width, 16) * c * kColumnRows)) &&
               s.middle.Reserve(static_cast<size_t>(s.plane * s.planes)) && s.tail.Reserve(static_cast<size_t>(128 * s.fixed_y.taps.pairs));
      if (s.vertical_first) memory = memory && s.reduced.Reserve(static_cast<size_t>(s.out.height * in.width * c + 64));
      break;
    }
    case Path::kFloat: {
      const bool reduction = in.height >= s.out.height && in.width >= s.out.width;
      s.float_x.Build(FloatAxisOf(options_, in.width, s.out.width, reduction));
      s.float_y.Build(FloatAxisOf(options_, in.height, s.out.height, reduction));
      s.ties_up = in.height == 2 * s.out.height && in.width == 2 * s.out.width;  // OpenCV's integer path
      memory = memory && s.floats.Reserve(static_cast<size_t>(in.width * c + row + 16));
      break;
    }
  }
  if (!memory) return OutOfMemory();
  s.in = in;
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status Resize::Compute(Span<const uint8_t> in, Span<uint8_t> out, State& state) const noexcept {
  if (normalize_ || !options_.rounded) return InvalidArgument("resize: the output is float32");
  return Run(in, out.data(), nullptr, out.size(), state);
}

Status Resize::Compute(Span<const uint8_t> in, Span<float> out, State& state) const noexcept {
  if (!normalize_ && options_.rounded) return InvalidArgument("resize: the output is uint8");
  return Run(in, nullptr, out.data(), out.size(), state);
}

Status Resize::Run(Span<const uint8_t> in, uint8_t* bytes, float* floats, size_t count, State& state) const noexcept {
  ResizeState& s = static_cast<ResizeState&>(state);
  const ImageKernels& k = kernels_->image;
  if (s.in.count() == 0) return InvalidArgument("resize: the state has not been reserved");
  if (in.size() != static_cast<size_t>(s.in.count()) || count != static_cast<size_t>(s.out.count())) {
    return InvalidArgument("resize: " + std::to_string(in.size()) + " values in and " + std::to_string(count) + " out do not fit an image of " + Text(s.in));
  }
  const int64_t c = s.in.channels, row = s.out.width * c, pixels = s.out.height * s.out.width, in_row = s.in.width * c;
  const bool planar = normalize_ && normalize_->options().layout == ImageLayout::kChw;
  const Normalize::Pattern* pattern = normalize_ ? &normalize_->patterns_[c - 1] : nullptr;
  // A finished row, interleaved.
  const auto put_bytes = [&](int64_t y, const uint8_t* r) {
    if (bytes != nullptr) {
      std::memcpy(bytes + y * row, r, static_cast<size_t>(row));
    } else if (pattern == nullptr) {
      for (int64_t i = 0; i < row; ++i) floats[y * row + i] = r[i];
    } else if (planar) {
      k.planes_u8(r, s.out.width, static_cast<int32_t>(c), pattern->mean, pattern->scale, floats + y * s.out.width, pixels);
    } else {
      k.normalize_u8(r, row, pattern->mean, pattern->scale, floats + y * row);
    }
  };
  switch (PathOf(options_, s.in, s.out)) {
    case Path::kNearest:
      for (int64_t y = 0; y < s.out.height; ++y) {
        const int32_t source = s.near_y[static_cast<size_t>(y)];
        if (y == 0 || source != s.near_y[static_cast<size_t>(y - 1)]) {
          const uint8_t* from = in.data() + source * in_row;
          uint8_t* to = s.bytes.data();
          for (int64_t x = 0; x < s.out.width; ++x, to += c) {
            const uint8_t* p = from + s.near_x[static_cast<size_t>(x)] * c;
            for (int64_t i = 0; i < c; ++i) to[i] = p[i];
          }
        }
        put_bytes(y, s.bytes.data());
      }
      break;
    case Path::kLinear: {
      int16_t* held[2] = {s.linear.data(), s.linear.data() + row + 8};  // two rows of the image after the horizontal pass
      int64_t which[2] = {-1, -1};
      for (int64_t y = 0; y < s.out.height; ++y) {
        const int64_t first = s.linear_y.first[static_cast<size_t>(y)], a = std::clamp<int64_t>(first, 0, s.in.height - 1);
        const int64_t b = std::clamp<int64_t>(first + 1, 0, s.in.height - 1);
        const int32_t w = s.linear_y.weights[static_cast<size_t>(4 * y)];
        if (which[1] == a) std::swap(held[0], held[1]), std::swap(which[0], which[1]);
        for (const auto& [slot, source] : {std::pair<int, int64_t>{0, a}, {1, b}}) {
          if (which[slot] == source) continue;
          k.linear_row(&s.linear_x.taps, static_cast<int32_t>(c), in.data() + source * in_row, held[slot]);
          which[slot] = source;
        }
        k.linear_blend(held[0], held[1], w & 0xffff, w >> 16, row, s.bytes.data());
        put_bytes(y, s.bytes.data());
      }
      break;
    }
    case Path::kFixed: {
      const int64_t across = s.planes == 1 ? c : 1, step_c = s.planes == 1 ? 1 : Up(s.out.width, 16), wide = s.planes == 1 ? row : s.out.width;
      const uint8_t* image = in.data();
      int64_t height = s.in.height;
      if (s.vertical_first) {
        // whole blocks of 64 are written: each row's excess is overwritten by the next row
        for (int64_t y = 0; y < s.out.height; ++y) {
          k.fixed_row(&s.fixed_y.taps, static_cast<int32_t>(y), image, height, in_row, in_row, s.reduced.data() + y * in_row, s.tail.data());
        }
        image = s.reduced.data();
        height = s.out.height;
      }
      for (int64_t y = 0; y < height; y += kColumnRows) {
        const int64_t rows = std::min<int64_t>(kColumnRows, height - y);
        k.transpose(image + y * in_row, in_row, rows, in_row, s.columns.data(), kColumnRows);
        k.fixed_columns(&s.fixed_x.taps, s.columns.data(), static_cast<int32_t>(c), across, step_c, s.resampled.data());
        for (int64_t p = 0; p < s.planes; ++p) {
          k.transpose(s.resampled.data() + p * step_c * kColumnRows, kColumnRows, wide, rows, s.middle.data() + p * s.plane + y * s.stride, s.stride);
        }
      }
      for (int64_t y = 0; y < s.out.height; ++y) {
        for (int64_t p = 0; p < s.planes; ++p) {
          const uint8_t* done = s.middle.data() + p * s.plane + y * s.stride;
          if (!s.vertical_first) {
            k.fixed_row(&s.fixed_y.taps, static_cast<int32_t>(y), s.middle.data() + p * s.plane, height, s.stride, s.stride, s.bytes.data(), s.tail.data());
            done = s.bytes.data();
          }
          if (s.planes == 1) {
            put_bytes(y, done);
          } else {
            k.planes_u8(done, s.out.width, 1, pattern->mean + p, pattern->scale + p, floats + p * pixels + y * s.out.width, 0);
          }
        }
      }
      break;
    }
    case Path::kFloat: {
      float* narrow = s.floats.data() + in_row + 8;
      for (int64_t y = 0; y < s.out.height; ++y) {
        k.float_row(&s.float_y.taps, static_cast<int32_t>(y), in.data(), in_row, in_row, s.floats.data());
        k.float_columns(&s.float_x.taps, static_cast<int32_t>(c), s.floats.data(), narrow);
        if (options_.rounded) {
          k.round_row(narrow, row, s.ties_up, s.bytes.data());
          put_bytes(y, s.bytes.data());
        } else if (pattern == nullptr) {
          std::memcpy(floats + y * row, narrow, static_cast<size_t>(row) * sizeof(float));
        } else if (planar) {
          k.planes_f32(narrow, s.out.width, static_cast<int32_t>(c), pattern->mean, pattern->scale, floats + y * s.out.width, pixels);
        } else {
          k.normalize_f32(narrow, row, pattern->mean, pattern->scale, floats + y * row);
        }
      }
      break;
    }
  }
  return Status::Ok();
}

}  // namespace zoo
