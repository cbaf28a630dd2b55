// SPDX-License-Identifier: Apache-2.0
// Ops on images: row-major [height, width, channels], uint8 or float32, 1 to 4 channels.
#ifndef ZOO_IMAGE_H_
#define ZOO_IMAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "zoo/isa.h"
#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

constexpr int32_t kMaxChannels = 4;
constexpr int64_t kMaxSide = 1 << 20;  // pixels

struct ImageSize {
  int64_t height = 0, width = 0, channels = 0;
  int64_t count() const { return height * width * channels; }
  bool operator==(const ImageSize& o) const { return height == o.height && width == o.width && channels == o.channels; }
};
// 1 to 2^20 pixels a side, 1 to 4 channels.
Status ValidateImage(const char* op, const ImageSize& size);

enum class ResizeFilter : int32_t {
  kNearest,            // Pillow's choice of pixel: the one under the output pixel's centre
  kNearestTopLeft,     // OpenCV's INTER_NEAREST: the one under its top left corner
  kBilinear,           // two by two pixels, half-pixel centres: OpenCV's INTER_LINEAR
  kBilinearAntialias,  // Pillow's BILINEAR: the triangle grows with the reduction
  kBicubicAntialias,   // Pillow's BICUBIC, a = -0.5
  kBox,                // Pillow's BOX
  kArea,               // OpenCV's INTER_AREA: exact pixel areas
};

enum class ImageLayout : int32_t { kHwc, kChw };

// (x * scale - mean) / std of each channel.
struct NormalizeOptions {
  double scale = 1.0 / 255;
  std::vector<double> mean;  // one value, or one a channel; empty: 0
  std::vector<double> std;   // the same; empty: 1
  ImageLayout layout = ImageLayout::kChw;
  Status Validate() const;
  // An error when a list has neither one value nor one a channel.
  Status ValidateChannels(int64_t channels) const;
};

class Normalize {
 public:
  static Result<Normalize> Create(const NormalizeOptions& options, const std::string& isa = "");
  const NormalizeOptions& options() const noexcept { return options_; }
  // out: size.count() values, [height, width, channels] or [channels, height, width]
  Status Compute(const ImageSize& size, Span<const uint8_t> in, Span<float> out) const noexcept;
  Status Compute(const ImageSize& size, Span<const float> in, Span<float> out) const noexcept;

 private:
  friend class Resize;
  // What is subtracted from and multiplied with value c of a pixel, for 48 values: a multiple of every vector and every channel count.
  struct Pattern {
    float mean[48], scale[48];
  };
  template <class T>
  Status Run(const ImageSize& size, Span<const T> in, Span<float> out) const noexcept;
  NormalizeOptions options_;
  const Kernels* kernels_ = nullptr;
  Pattern patterns_[kMaxChannels];  // by number of channels - 1
};

struct ResizeOptions {
  int32_t height = 0, width = 0;  // pixels
  int32_t shorter = 0;            // instead: pixels of the shorter side, the longer one in proportion, cut to a whole number
  ResizeFilter filter = ResizeFilter::kBilinearAntialias;
  bool rounded = true;  // to whole grey levels, as 8-bit libraries do; else fractions are kept in float32
  Status Validate() const;
  ImageSize Output(const ImageSize& in) const;
};

// Resampling of uint8 images. Pillow's filters are computed as Pillow does (22-bit coefficients, rounded to 8 bits after the
// horizontal pass and again after the vertical one): the same bits on every instruction set.
class Resize {
 public:
  class State {  // scratch and coefficients of one thread
   public:
    virtual ~State() = default;
  };
  static Result<Resize> Create(const ResizeOptions& options, const std::string& isa = "");
  // The resized image normalized in the same pass over its rows.
  static Result<Resize> Create(const ResizeOptions& options, const NormalizeOptions& normalize, const std::string& isa = "");
  const ResizeOptions& options() const noexcept { return options_; }
  const Normalize* normalize() const noexcept { return normalize_.get(); }
  Result<std::unique_ptr<State>> NewState() const;
  // Coefficients for images of this size. The only call that allocates.
  Status Reserve(const ImageSize& in, State& state) const noexcept;
  // `in` of the size last reserved. The first form is for rounded images that are not normalized, the second for all others.
  Status Compute(Span<const uint8_t> in, Span<uint8_t> out, State& state) const noexcept;
  Status Compute(Span<const uint8_t> in, Span<float> out, State& state) const noexcept;

 private:
  struct Impl;
  Status Run(Span<const uint8_t> in, uint8_t* bytes, float* floats, size_t count, State& state) const noexcept;
  ResizeOptions options_;
  const Kernels* kernels_ = nullptr;
  std::shared_ptr<const Normalize> normalize_;
};

// Part of an image; coordinates beyond its edges take the nearest edge pixel.
struct CropWindow {
  int64_t top = 0, left = 0, height = 0, width = 0;
};
// Copies; a pixel has `pixel` bytes.
Status CopyWindow(const ImageSize& size, int64_t pixel, const CropWindow& window, Span<const uint8_t> in, Span<uint8_t> out) noexcept;

struct CropOptions {
  int32_t height = 0, width = 0;  // pixels
  int32_t top = -1, left = -1;    // -1: centred, floor of half the rest before it
  Status Validate() const;
  Status Place(const ImageSize& in, CropWindow* out) const;  // an error when the window does not lie within the image
};

// The square around a box that a face detector gives: side = round(scale * longer side), centred on the box.
struct SquareCropOptions {
  std::vector<double> box;  // left, top, right, bottom in pixels
  double scale = 1.2;
  Status Validate() const;
  CropWindow Place() const;
};

// Pillow's and ITU-R BT.601's luma of RGB: (19595 r + 38470 g + 7471 b + 32768) >> 16. A fourth channel is ignored.
Status ToGrey(const ImageSize& size, Span<const uint8_t> in, Span<uint8_t> out, const Kernels& kernels) noexcept;

struct FaceAlignOptions {
  std::vector<double> landmarks;    // x, y of 5 points in the image, pixels; pixel centres are whole numbers
  std::vector<double> destination;  // the same points in the output; empty: ArcFace's in 112 x 112, scaled to `size`
  int32_t size = 112;               // pixels a side
  Status Validate() const;
  // Row-major 2 x 3: the similarity (rotation, scale, shift) that moves the landmarks onto the destination with the least
  // squared distance.
  void Transform(double (&matrix)[6]) const;
};

class FaceAlign {
 public:
  static Result<FaceAlign> Create(const FaceAlignOptions& options, const std::string& isa = "");
  const FaceAlignOptions& options() const noexcept { return options_; }
  // Bilinear, black beyond the image's edges. out: size x size x channels.
  Status Compute(const ImageSize& size, Span<const uint8_t> in, Span<uint8_t> out) const noexcept;

 private:
  FaceAlignOptions options_;
  const Kernels* kernels_ = nullptr;
  double inverse_[6] = {};  // from output to image
};

}  // namespace zoo

#endif  // ZOO_IMAGE_H_
