// SPDX-License-Identifier: Apache-2.0
// Cuts, grey, and faces brought to a template.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "core/kernels.h"
#include "image/kernels.h"
#include "zoo/image.h"

namespace zoo {

Status CopyWindow(const ImageSize& size, int64_t pixel, const CropWindow& w, Span<const uint8_t> in, Span<uint8_t> out) noexcept {
  const int64_t row = size.width * pixel, out_row = w.width * pixel;
  if (in.size() != static_cast<size_t>(size.height * row) || out.size() != static_cast<size_t>(w.height * out_row)) {
    return InvalidArgument("crop: " + std::to_string(in.size()) + " bytes in and " + std::to_string(out.size()) + " out do not fit");
  }
  // columns before, in and after the image
  const int64_t before = std::clamp<int64_t>(-w.left, 0, w.width), after = std::clamp<int64_t>(w.left + w.width - size.width, 0, w.width - before);
  const int64_t inside = w.width - before - after;
  for (int64_t y = 0; y < w.height; ++y) {
    const uint8_t* from = in.data() + std::clamp<int64_t>(w.top + y, 0, size.height - 1) * row;
    uint8_t* to = out.data() + y * out_row;
    for (int64_t x = 0; x < before; ++x, to += pixel) std::memcpy(to, from, static_cast<size_t>(pixel));
    if (inside > 0) std::memcpy(to, from + (w.left + before) * pixel, static_cast<size_t>(inside * pixel));
    to += inside * pixel;
    for (int64_t x = 0; x < after; ++x, to += pixel) std::memcpy(to, from + row - pixel, static_cast<size_t>(pixel));
  }
  return Status::Ok();
}

Status CropOptions::Validate() const {
  for (const auto& [name, value] : {std::pair<const char*, int32_t>{"height", height}, {"width", width}}) {
    if (value < 1 || value > kMaxSide) return InvalidArgument(std::string("crop: ") + name + " is " + std::to_string(value) + "; it must lie between 1 and 1048576");
  }
  return Status::Ok();
}

Status CropOptions::Place(const ImageSize& in, CropWindow* out) const {
  *out = {top < 0 ? (in.height - height) / 2 : top, left < 0 ? (in.width - width) / 2 : left, height, width};
  if (out->top >= 0 && out->left >= 0 && height <= in.height && width <= in.width && out->top + height <= in.height && out->left + width <= in.width) return Status::Ok();
  return InvalidSignal("crop: rows " + std::to_string(out->top) + " to " + std::to_string(out->top + height) + " and columns " + std::to_string(out->left) +
                       " to " + std::to_string(out->left + width) + " do not lie within an image of " + std::to_string(in.height) + " x " +
                       std::to_string(in.width) + " pixels; resize it first or take a smaller part");
}

Status SquareCropOptions::Validate() const {
  if (box.size() != 4) return InvalidArgument("square_crop: box has " + std::to_string(box.size()) + " values; it must be left, top, right, bottom");
  for (size_t i = 0; i < 4; ++i) {
    if (!(std::fabs(box[i]) <= kMaxSide)) return InvalidArgument("square_crop: box[" + std::to_string(i) + "] is " + std::to_string(box[i]) + "; it must lie within 1048576 pixels");
  }
  if (box[2] <= box[0] || box[3] <= box[1]) return InvalidArgument("square_crop: the box is empty; left < right and top < bottom must hold");
  if (!(scale > 0 && scale <= 100)) return InvalidArgument("square_crop: scale is " + std::to_string(scale) + "; it must be positive and at most 100");
  if (Place().height > 65536) return InvalidArgument("square_crop: the square has " + std::to_string(Place().height) + " pixels a side; it must have at most 65536");
  return Status::Ok();
}

CropWindow SquareCropOptions::Place() const {
  const double longer = std::max(box[2] - box[0], box[3] - box[1]);
  const double side = std::max(1.0, std::floor(scale * longer + 0.5));
  const auto start = [&](double a, double b) { return static_cast<int64_t>(std::floor((a + b) / 2 - side / 2 + 0.5)); };
  return {start(box[1], box[3]), start(box[0], box[2]), static_cast<int64_t>(side), static_cast<int64_t>(side)};
}

Status ToGrey(const ImageSize& size, Span<const uint8_t> in, Span<uint8_t> out, const Kernels& kernels) noexcept {
  ZOO_RETURN_IF_ERROR(ValidateImage("to_grey", size));
  const int64_t pixels = size.height * size.width;
  if (in.size() != static_cast<size_t>(size.count()) || out.size() != static_cast<size_t>(pixels)) return InvalidArgument("to_grey: the sizes do not fit");
  if (size.channels == 1) {
    std::memcpy(out.data(), in.data(), in.size());
  } else if (size.channels == 2) {
    return InvalidSignal("to_grey: the image has 2 channels; it must have 1, 3 (RGB) or 4");
  } else {
    kernels.image.grey(in.data(), pixels, static_cast<int32_t>(size.channels), out.data());
  }
  return Status::Ok();
}

namespace {

// Left eye, right eye, nose tip, left and right corner of the mouth (as seen in the image) of a 112 x 112 face, as used by ArcFace.
constexpr double kArcFace[10] = {38.2946, 51.6963, 73.5318, 51.5014, 56.0252, 71.7366, 41.5493, 92.3655, 70.7299, 92.2041};

}  // namespace

Status FaceAlignOptions::Validate() const {
  if (landmarks.size() != 10) return InvalidArgument("face_align: landmarks has " + std::to_string(landmarks.size()) + " values; it must have x and y of 5 points");
  if (!destination.empty() && destination.size() != 10) return InvalidArgument("face_align: destination has " + std::to_string(destination.size()) + " values; it must have x and y of 5 points");
  for (const auto& [name, list] : {std::pair<const char*, const std::vector<double>*>{"landmarks", &landmarks}, {"destination", &destination}}) {
    for (size_t i = 0; i < list->size(); ++i) {
      if (!(std::fabs((*list)[i]) <= 4 * kMaxSide)) return InvalidArgument(std::string("face_align: ") + name + "[" + std::to_string(i) + "] is " + std::to_string((*list)[i]) + "; it must lie within 4194304 pixels");
    }
  }
  if (size < 1 || size > 4096) return InvalidArgument("face_align: size is " + std::to_string(size) + "; it must lie between 1 and 4096");
  double m[6];
  Transform(m);
  const double det = m[0] * m[4] - m[1] * m[3];
  if (!(det > 1e-12) || !std::isfinite(1 / det)) return InvalidArgument("face_align: the landmarks, or the destination's points, lie all in one place; no similarity moves one onto the other");
  return Status::Ok();
}

void FaceAlignOptions::Transform(double (&m)[6]) const {
  double to[10];
  for (int i = 0; i < 10; ++i) to[i] = destination.empty() ? kArcFace[i] * size / 112.0 : destination[static_cast<size_t>(i)];
  double cx = 0, cy = 0, dx = 0, dy = 0;
  for (int i = 0; i < 10; i += 2) {
    cx += landmarks[static_cast<size_t>(i)] / 5, cy += landmarks[static_cast<size_t>(i + 1)] / 5;
    dx += to[i] / 5, dy += to[i + 1] / 5;
  }
  // As complex numbers: the slope of the regression of the destination on the landmarks.
  double re = 0, im = 0, norm = 0;
  for (int i = 0; i < 10; i += 2) {
    const double x = landmarks[static_cast<size_t>(i)] - cx, y = landmarks[static_cast<size_t>(i + 1)] - cy, u = to[i] - dx, v = to[i + 1] - dy;
    re += x * u + y * v;
    im += x * v - y * u;
    norm += x * x + y * y;
  }
  const double a = norm > 0 ? re / norm : 0, b = norm > 0 ? im / norm : 0;
  m[0] = a, m[1] = -b, m[2] = dx - a * cx + b * cy;
  m[3] = b, m[4] = a, m[5] = dy - b * cx - a * cy;
}

Result<FaceAlign> FaceAlign::Create(const FaceAlignOptions& options, const std::string& isa) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  auto kernels = SelectKernels(isa);
  if (!kernels.ok()) return kernels.status();
  FaceAlign f;
  f.options_ = options;
  f.kernels_ = kernels.value();
  double m[6];
  options.Transform(m);
  const double det = m[0] * m[4] - m[1] * m[3];
  double* i = f.inverse_;
  i[0] = m[4] / det, i[1] = -m[1] / det, i[3] = -m[3] / det, i[4] = m[0] / det;
  i[2] = -i[0] * m[2] - i[1] * m[5];
  i[5] = -i[3] * m[2] - i[4] * m[5];
  return f;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status FaceAlign::Compute(const ImageSize& size, Span<const uint8_t> in, Span<uint8_t> out) const noexcept {
  ZOO_RETURN_IF_ERROR(ValidateImage("face_align", size));
  const int64_t side = options_.size;
  if (in.size() != static_cast<size_t>(size.count()) || out.size() != static_cast<size_t>(side * side * size.channels)) {
    return InvalidArgument("face_align: the sizes do not fit");
  }
  kernels_->image.warp(in.data(), size.height, size.width, static_cast<int32_t>(size.channels), inverse_, side, side, out.data());
  return Status::Ok();
}

}  // namespace zoo
