// SPDX-License-Identifier: Apache-2.0
// Image ops of the pipeline: one table with their parameters, one adapter class each. After a video the executor maps them
// over its frames.
#include <cstring>
#include <new>
#include <utility>

#include "core/kernels.h"
#include "pipeline/op.h"
#include "zoo/image.h"

namespace zoo {
namespace {

ImageSize SizeOfImage(const Extent& e) { return {e.dim[0], e.dim[1], e.dim[2]}; }

Extent ExtentOf(int64_t a, int64_t b, int64_t c) {
  Extent e;
  e.rank = 3;
  e.dim[0] = a, e.dim[1] = b, e.dim[2] = c;
  return e;
}

template <class T>
Span<T> Values(void* data, const ImageSize& size) {
  return {static_cast<T*>(data), static_cast<size_t>(size.count())};
}

Status NeedBytes(const OpContext& c) {
  if (c.input.dtype == DType::kU8) return Status::Ok();
  return InvalidPipeline("it needs a uint8 image; put it before what makes the image float32");
}

std::vector<int64_t> PlanesShape(ImageLayout layout, int64_t h, int64_t w, int64_t c) {
  if (layout == ImageLayout::kChw) return {c, h, w};
  return {h, w, c};
}

ResizeOptions ResizeParams(const Params& p) {
  ResizeOptions o;
  const auto side = [&](const char* name) { return p.Has(name) ? static_cast<int32_t>(p.Int(name)) : 0; };
  o.height = side("height"), o.width = side("width"), o.shorter = side("shorter");
  o.filter = static_cast<ResizeFilter>(p.Choice("method"));
  o.rounded = p.Bool("rounded");
  return o;
}

NormalizeOptions NormalizeParams(const Params& p) {
  NormalizeOptions o;
  o.scale = p.Float("scale");
  o.mean = p.List("mean");
  o.std = p.List("std");
  o.layout = static_cast<ImageLayout>(p.Choice("layout"));
  return o;
}

// -------------------------------------------------------------------------------------------------------- resize

class ResizeOp final : public Op {
 public:
  ResizeOp(Resize core, const PortType& in) : core_(std::move(core)), channels_(in.shape[2]) {}
  PortType output() const override {
    const ResizeOptions& o = core_.options();
    const int64_t h = o.shorter > 0 ? -1 : o.height, w = o.shorter > 0 ? -1 : o.width;
    if (core_.normalize() != nullptr) return {PortKind::kTensor, 0, PlanesShape(core_.normalize()->options().layout, h, w, channels_), DType::kF32};
    return {PortKind::kImage, 0, {h, w, channels_}, o.rounded ? DType::kU8 : DType::kF32};
  }
  Status Infer(const Extent& in, Extent* out) const override {
    const ImageSize size = SizeOfImage(in);
    ZOO_RETURN_IF_ERROR(ValidateImage("resize", size));
    const ImageSize to = core_.options().Output(size);
    ZOO_RETURN_IF_ERROR(ValidateImage("resize: the output", to));
    *out = ExtentOf(to.height, to.width, to.channels);
    if (core_.normalize() != nullptr) {
      const NormalizeOptions& n = core_.normalize()->options();
      ZOO_RETURN_IF_ERROR(n.ValidateChannels(size.channels));
      if (n.layout == ImageLayout::kChw) *out = ExtentOf(to.channels, to.height, to.width);
    }
    return Status::Ok();
  }
  Result<std::unique_ptr<OpState>> NewState() const override { return NewCoreState(core_); }
  Status Prepare(const Extent& in, Range, OpState& s) const override { return core_.Reserve(SizeOfImage(in), *static_cast<CoreState<Resize>&>(s).state); }
  Status Run(const ConstView& in, Range, void* out, OpState& s) const noexcept override {
    Resize::State& state = *static_cast<CoreState<Resize>&>(s).state;
    const ImageSize to = core_.options().Output(SizeOfImage(in.extent));
    if (core_.normalize() == nullptr && core_.options().rounded) return core_.Compute(in.as<uint8_t>(), Values<uint8_t>(out, to), state);
    return core_.Compute(in.as<uint8_t>(), Values<float>(out, to), state);
  }

 private:
  Resize core_;
  int64_t channels_;
};

Result<std::unique_ptr<Op>> MakeResize(const Params& p, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(NeedBytes(c));
  auto core = Resize::Create(ResizeParams(p), c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new ResizeOp(std::move(core.value()), c.input));
}

Result<std::unique_ptr<Op>> MakeResizeNormalize(const Params& p, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(NeedBytes(c));
  auto core = Resize::Create(ResizeParams(p), NormalizeParams(p), c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new ResizeOp(std::move(core.value()), c.input));
}

// --------------------------------------------------------------------------------------------------------- crops

class CropOp final : public Op {
 public:
  CropOp(const CropOptions& o, const PortType& in) : options_(o), in_(in) {}
  PortType output() const override { return {PortKind::kImage, 0, {options_.height, options_.width, in_.shape[2]}, in_.dtype}; }
  Status Infer(const Extent& in, Extent* out) const override {
    CropWindow w;
    ZOO_RETURN_IF_ERROR(options_.Place(SizeOfImage(in), &w));
    *out = ExtentOf(w.height, w.width, in.dim[2]);
    return Status::Ok();
  }
  Status Run(const ConstView& in, Range, void* out, OpState&) const noexcept override {
    const ImageSize size = SizeOfImage(in.extent);
    CropWindow w;
    ZOO_RETURN_IF_ERROR(options_.Place(size, &w));
    return CopyPixels(in, size, w, out);
  }
  static Status CopyPixels(const ConstView& in, const ImageSize& size, const CropWindow& w, void* out) noexcept {
    const int64_t pixel = size.channels * static_cast<int64_t>(SizeOf(in.dtype));
    return CopyWindow(size, pixel, w, {static_cast<const uint8_t*>(in.data), static_cast<size_t>(size.height * size.width * pixel)},
                      {static_cast<uint8_t*>(out), static_cast<size_t>(w.height * w.width * pixel)});
  }

 private:
  CropOptions options_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeCrop(const Params& p, const OpContext& c) {
  CropOptions o;
  o.height = static_cast<int32_t>(p.Int("height")), o.width = static_cast<int32_t>(p.Int("width"));
  if (p.Has("top")) o.top = static_cast<int32_t>(p.Int("top"));
  if (p.Has("left")) o.left = static_cast<int32_t>(p.Int("left"));
  ZOO_RETURN_IF_ERROR(o.Validate());
  return std::unique_ptr<Op>(new CropOp(o, c.input));
}

class SquareCropOp final : public Op {
 public:
  SquareCropOp(const SquareCropOptions& o, const PortType& in) : window_(o.Place()), in_(in) {}
  PortType output() const override { return {PortKind::kImage, 0, {window_.height, window_.width, in_.shape[2]}, in_.dtype}; }
  Status Infer(const Extent& in, Extent* out) const override {
    ZOO_RETURN_IF_ERROR(ValidateImage("square_crop", SizeOfImage(in)));
    *out = ExtentOf(window_.height, window_.width, in.dim[2]);
    return Status::Ok();
  }
  Status Run(const ConstView& in, Range, void* out, OpState&) const noexcept override { return CropOp::CopyPixels(in, SizeOfImage(in.extent), window_, out); }

 private:
  CropWindow window_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeSquareCrop(const Params& p, const OpContext& c) {
  SquareCropOptions o;
  o.box = p.List("box");
  o.scale = p.Float("scale");
  ZOO_RETURN_IF_ERROR(o.Validate());
  return std::unique_ptr<Op>(new SquareCropOp(o, c.input));
}

// -------------------------------------------------------------------------------------------------------- colours

class ToGreyOp final : public Op {
 public:
  ToGreyOp(const Kernels* kernels, const PortType& in) : kernels_(kernels), in_(in) {}
  PortType output() const override { return {PortKind::kImage, 0, {in_.shape[0], in_.shape[1], 1}, DType::kU8}; }
  Status Infer(const Extent& in, Extent* out) const override {
    ZOO_RETURN_IF_ERROR(ValidateImage("to_grey", SizeOfImage(in)));
    if (in.dim[2] == 2) return InvalidSignal("to_grey: the image has 2 channels; it must have 1, 3 (RGB) or 4");
    *out = ExtentOf(in.dim[0], in.dim[1], 1);
    return Status::Ok();
  }
  Status Run(const ConstView& in, Range, void* out, OpState&) const noexcept override {
    const ImageSize size = SizeOfImage(in.extent);
    return ToGrey(size, in.as<uint8_t>(), Values<uint8_t>(out, {size.height, size.width, 1}), *kernels_);
  }

 private:
  const Kernels* kernels_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeToGrey(const Params&, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(NeedBytes(c));
  auto kernels = SelectKernels(c.isa);
  if (!kernels.ok()) return kernels.status();
  return std::unique_ptr<Op>(new ToGreyOp(kernels.value(), c.input));
}

class GreyToRgbOp final : public Op {
 public:
  explicit GreyToRgbOp(const PortType& in) : in_(in) {}
  PortType output() const override { return {PortKind::kImage, 0, {in_.shape[0], in_.shape[1], 3}, in_.dtype}; }
  Status Infer(const Extent& in, Extent* out) const override {
    ZOO_RETURN_IF_ERROR(ValidateImage("grey_to_rgb", SizeOfImage(in)));
    if (in.dim[2] != 1 && in.dim[2] != 3) return InvalidSignal("grey_to_rgb: the image has " + std::to_string(in.dim[2]) + " channels; it must have 1, or 3 that are kept");
    *out = ExtentOf(in.dim[0], in.dim[1], 3);
    return Status::Ok();
  }
  Status Run(const ConstView& in, Range, void* out, OpState&) const noexcept override {
    const int64_t n = in.extent.dim[0] * in.extent.dim[1];
    if (in.extent.dim[2] == 3) {
      std::memcpy(out, in.data, static_cast<size_t>(3 * n) * SizeOf(in.dtype));
    } else if (in.dtype == DType::kU8) {
      Triple(static_cast<const uint8_t*>(in.data), n, static_cast<uint8_t*>(out));
    } else {
      Triple(static_cast<const float*>(in.data), n, static_cast<float*>(out));
    }
    return Status::Ok();
  }

 private:
  template <class T>
  static void Triple(const T* in, int64_t n, T* out) {
    for (int64_t i = 0; i < n; ++i) out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = in[i];
  }
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeGreyToRgb(const Params&, const OpContext& c) { return std::unique_ptr<Op>(new GreyToRgbOp(c.input)); }

// ----------------------------------------------------------------------------------------------------- to tensors

class NormalizeOp final : public Op {
 public:
  NormalizeOp(Normalize core, const PortType& in) : core_(std::move(core)), in_(in) {}
  PortType output() const override {
    return {PortKind::kTensor, 0, PlanesShape(core_.options().layout, in_.shape[0], in_.shape[1], in_.shape[2]), DType::kF32};
  }
  Status Infer(const Extent& in, Extent* out) const override {
    ZOO_RETURN_IF_ERROR(ValidateImage("normalize", SizeOfImage(in)));
    ZOO_RETURN_IF_ERROR(core_.options().ValidateChannels(in.dim[2]));
    *out = core_.options().layout == ImageLayout::kChw ? ExtentOf(in.dim[2], in.dim[0], in.dim[1]) : in;
    return Status::Ok();
  }
  Status Run(const ConstView& in, Range, void* out, OpState&) const noexcept override {
    const ImageSize size = SizeOfImage(in.extent);
    const Span<float> to = Values<float>(out, size);
    return in.dtype == DType::kU8 ? core_.Compute(size, in.as<uint8_t>(), to) : core_.Compute(size, in.as<float>(), to);
  }

 private:
  Normalize core_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeNormalize(const Params& p, const OpContext& c) {
  auto core = Normalize::Create(NormalizeParams(p), c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new NormalizeOp(std::move(core.value()), c.input));
}

// The channel axis of an image tensor, or of a stack of them, moved.
class LayoutOp final : public Op {
 public:
  LayoutOp(ImageLayout to, const PortType& in) : to_(to), stack_(in.shape.size() == 4), in_(in) {}
  PortType output() const override {
    PortType t = in_;
    Move(in_.shape.data() + stack_, t.shape.data() + stack_);
    return t;
  }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    Move(in.dim + stack_, out->dim + stack_);
    return Status::Ok();
  }
  bool ranged() const override { return stack_; }
  bool streams() const override { return stack_; }
  Range Needed(const Extent& in, Range out) const override { return stack_ ? out : Range{0, in.dim[0]}; }
  Status Run(const ConstView& in, Range rows, void* out, OpState&) const noexcept override {
    const int64_t* d = in.extent.dim + stack_;
    const int64_t images = stack_ ? rows.size() : 1, count = d[0] * d[1] * d[2];
    const float* from = static_cast<const float*>(in.data) + (stack_ ? (rows.begin - in.range.begin) * count : 0);
    float* to = static_cast<float*>(out);
    // a matrix [pixels, channels] or [channels, pixels], transposed
    const int64_t a = to_ == ImageLayout::kChw ? d[0] * d[1] : d[0], b = count / a;
    for (int64_t i = 0; i < images; ++i, from += count, to += count) {
      for (int64_t x = 0; x < a; ++x) {
        for (int64_t y = 0; y < b; ++y) to[y * a + x] = from[x * b + y];
      }
    }
    return Status::Ok();
  }

 private:
  void Move(const int64_t* from, int64_t* to) const {
    if (to_ == ImageLayout::kChw) {
      to[0] = from[2], to[1] = from[0], to[2] = from[1];
    } else {
      to[0] = from[1], to[1] = from[2], to[2] = from[0];
    }
  }
  ImageLayout to_;
  int stack_;
  PortType in_;
};

Result<std::unique_ptr<Op>> MakeLayout(const Params& p, const OpContext& c) {
  if (c.input.shape.size() != 3 && c.input.shape.size() != 4) return InvalidPipeline("it needs an image tensor of 3 dimensions, or a stack of them");
  return std::unique_ptr<Op>(new LayoutOp(static_cast<ImageLayout>(p.Choice("to")), c.input));
}

// ---------------------------------------------------------------------------------------------------------- faces

class FaceAlignOp final : public Op {
 public:
  FaceAlignOp(FaceAlign core, const PortType& in) : core_(std::move(core)), channels_(in.shape[2]) {}
  PortType output() const override { return {PortKind::kImage, 0, {core_.options().size, core_.options().size, channels_}, DType::kU8}; }
  Status Infer(const Extent& in, Extent* out) const override {
    ZOO_RETURN_IF_ERROR(ValidateImage("face_align", SizeOfImage(in)));
    *out = ExtentOf(core_.options().size, core_.options().size, in.dim[2]);
    return Status::Ok();
  }
  Status Run(const ConstView& in, Range, void* out, OpState&) const noexcept override {
    const int64_t side = core_.options().size;
    return core_.Compute(SizeOfImage(in.extent), in.as<uint8_t>(), Values<uint8_t>(out, {side, side, in.extent.dim[2]}));
  }

 private:
  FaceAlign core_;
  int64_t channels_;
};

Result<std::unique_ptr<Op>> MakeFaceAlign(const Params& p, const OpContext& c) {
  ZOO_RETURN_IF_ERROR(NeedBytes(c));
  FaceAlignOptions o;
  o.landmarks = p.List("landmarks");
  o.destination = p.List("destination");
  o.size = static_cast<int32_t>(p.Int("size"));
  auto core = FaceAlign::Create(o, c.isa);
  if (!core.ok()) return core.status();
  return std::unique_ptr<Op>(new FaceAlignOp(std::move(core.value()), c.input));
}

// ----------------------------------------------------------------------------------------------------------- table

std::vector<ParamSpec> ResizeSpecs() {
  return {
      {"height", ParamType::kInt, kRequired, true, 1, 65536, {}, "pixels; null: by shorter"},
      {"width", ParamType::kInt, kRequired, true, 1, 65536, {}, "pixels; null: by shorter"},
      {"shorter", ParamType::kInt, kRequired, true, 1, 65536, {}, "pixels of the shorter side, instead of height and width"},
      {"method", ParamType::kChoice, S("bilinear_antialias"), false, 0, 0,
       {"nearest", "nearest_opencv", "bilinear", "bilinear_antialias", "bicubic_antialias", "box", "area"}, "filter"},
      {"rounded", ParamType::kBool, B(true), false, 0, 0, {}, "to whole grey levels; else fractions are kept, in float32"},
  };
}

std::vector<ParamSpec> NormalizeSpecs() {
  return {
      {"scale", ParamType::kFloat, F(1.0 / 255), false, 1e-12, 1e12, {}, "factor of the pixels"},
      {"mean", ParamType::kFloatList, std::vector<double>{}, false, 0, 0, {}, "one value, or one a channel; empty: 0"},
      {"std", ParamType::kFloatList, std::vector<double>{}, false, 0, 0, {}, "one value, or one a channel; empty: 1"},
      {"layout", ParamType::kChoice, S("chw"), false, 0, 0, {"hwc", "chw"}, "order of the output's dimensions"},
  };
}

}  // namespace

const std::vector<OpSpec>& ImageOpSpecs() {
  static const std::vector<OpSpec>* const specs = [] {
    const PortKind image = PortKind::kImage, tensor = PortKind::kTensor;
    std::vector<ParamSpec> both = ResizeSpecs();
    for (ParamSpec& p : NormalizeSpecs()) both.push_back(std::move(p));
    return new std::vector<OpSpec>{
        {"resize", image, image, "resamples to another size", ResizeSpecs(), MakeResize},
        {"resize_normalize", image, tensor, "resize and normalize in one pass", both, MakeResizeNormalize},
        {"crop", image, image, "a part of the image",
         {{"height", ParamType::kInt, kRequired, false, 1, 1048576, {}, "pixels"},
          {"width", ParamType::kInt, kRequired, false, 1, 1048576, {}, "pixels"},
          {"top", ParamType::kInt, kRequired, true, 0, 1048576, {}, "first row; null: centred"},
          {"left", ParamType::kInt, kRequired, true, 0, 1048576, {}, "first column; null: centred"}}, MakeCrop},
        {"square_crop", image, image, "the square around a box, edge pixels repeated beyond the image",
         {{"box", ParamType::kFloatList, kRequired, false, 0, 0, {}, "left, top, right, bottom in pixels"},
          {"scale", ParamType::kFloat, F(1.2), false, 1e-6, 100, {}, "side over the box's longer side"}}, MakeSquareCrop},
        {"to_grey", image, image, "luma of RGB (BT.601)", {}, MakeToGrey},
        {"grey_to_rgb", image, image, "the grey channel three times", {}, MakeGreyToRgb},
        {"normalize", image, tensor, "(x * scale - mean) / std of each channel", NormalizeSpecs(), MakeNormalize},
        {"layout", tensor, tensor, "moves the channel axis of an image tensor, or of a stack of them",
         {{"to", ParamType::kChoice, S("chw"), false, 0, 0, {"hwc", "chw"}, "order of the output's dimensions"}}, MakeLayout},
        {"face_align", image, image, "moves five landmarks onto a template by a similarity, bilinear, black beyond the image",
         {{"landmarks", ParamType::kFloatList, kRequired, false, 0, 0, {}, "x, y of both eyes, nose tip and both corners of the mouth, pixels"},
          {"size", ParamType::kInt, I(112), false, 1, 4096, {}, "pixels a side"},
          {"destination", ParamType::kFloatList, std::vector<double>{}, false, 0, 0, {}, "the points in the output; empty: ArcFace's, scaled to size"}}, MakeFaceAlign},
    };
  }();
  return *specs;
}

}  // namespace zoo
