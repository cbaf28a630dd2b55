// SPDX-License-Identifier: Apache-2.0
#include "pipeline/input.h"

#include <cmath>
#include <cstdio>
#include <new>
#include <string>

#include "audio/kernels.h"
#include "eeg/kernels.h"

namespace zoo {
namespace {

constexpr const char* kAudioTypes = "it must be float32, float64, int16 or int32 in native byte order";

template <class T>
void Widen(const void* from, int64_t at, int64_t n, double* to) {
  const T* x = static_cast<const T*>(from) + at;
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<double>(x[i]);
}

}  // namespace

Status CheckRate(double rate) {
  const bool whole = rate == std::floor(rate);
  if (rate >= 1 && rate <= 768000 && whole) return Status::Ok();
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", rate);
  return InvalidSignal(std::string("the rate is ") + text + " Hz; it must lie between 1 and 768000" + (whole ? "" : " and be a whole number"));
}

Status PipelineInput::Format(const ArrayView& a, double rate, Extent* out) const {
  Extent e;
  if (port_.kind == PortKind::kAudio) {
    if (a.rank > 2) return InvalidArgument("samples has " + std::to_string(a.rank) + " dimensions; it must have 1 or 2");
    if (a.type == SampleType::kU8) return InvalidArgument(std::string("samples has elements of type 'B'; ") + kAudioTypes);
    if (a.dims[1] < 1 || a.dims[1] > 64) {
      return InvalidSignal("samples has " + std::to_string(a.dims[1]) + " channels; it must have 1 to 64, as (n, channels)");
    }
    ZOO_RETURN_IF_ERROR(CheckRate(rate));
    e.rate = rate;
    e.dim[0] = a.dims[0];
    *out = e;
    return Status::Ok();
  }
  const std::string name = PortKindName(port_.kind);
  const bool pixels = port_.kind == PortKind::kImage || port_.kind == PortKind::kFrames;
  const int32_t rank = static_cast<int32_t>(port_.shape.size());
  if (pixels && a.type != SampleType::kU8) return InvalidArgument(name + " must be uint8");
  if (!pixels && a.type == SampleType::kU8) return InvalidArgument(name + " must not be uint8");
  if (port_.kind == PortKind::kTensor && a.type != SampleType::kF32) return InvalidArgument("the input must be float32");
  // a missing channel axis is one channel
  const bool grey = port_.kind != PortKind::kTensor && a.rank == rank - 1;
  if (a.rank != rank && !grey) {
    return InvalidArgument(name + " has " + std::to_string(a.rank) + " dimensions; it must have " +
                           (port_.kind == PortKind::kTensor ? "" : std::to_string(rank - 1) + " or ") + std::to_string(rank));
  }
  e.rate = rate;
  e.rank = rank;
  for (int i = 0; i < kMaxRank; ++i) e.dim[i] = a.dims[i];
  *out = e;
  return Status::Ok();
}

Status PipelineInput::View(const ArrayView& a, const Extent& whole, Range need, int64_t first, ConstView* out) noexcept try {
  *out = {nullptr, port_.dtype, whole, need};
  const int64_t skip = need.begin - first, rows = need.size();
  if (port_.kind == PortKind::kAudio) return Mono(a, skip, rows, need.begin, out);
  const int64_t at = skip * whole.row(), count = rows * whole.row();
  if (port_.dtype == DType::kU8) {
    out->data = static_cast<const uint8_t*>(a.data) + at;
    return Status::Ok();
  }
  if (port_.dtype == DType::kF32) {
    const float* x = static_cast<const float*>(a.data) + at;
    out->data = x;
    const int64_t bad = kernels_->audio.find_nonfinite(x, count);
    if (bad >= 0) return InvalidSignal("value " + std::to_string(at + bad) + " is not finite (NaN or Inf)");
    return Status::Ok();
  }
  const double* x = nullptr;
  if (a.type == SampleType::kF64) {
    x = static_cast<const double*>(a.data) + at;
  } else {
    if (!wide_.Reserve(static_cast<size_t>(count))) return OutOfMemory();
    switch (a.type) {
      case SampleType::kI16: Widen<int16_t>(a.data, at, count, wide_.data()); break;
      case SampleType::kI32: Widen<int32_t>(a.data, at, count, wide_.data()); break;
      default: Widen<float>(a.data, at, count, wide_.data()); break;
    }
    x = wide_.data();
  }
  out->data = x;
  const int64_t bad = kernels_->eeg.find_nonfinite(x, count);
  if (bad >= 0) {
    return InvalidSignal("sample " + std::to_string(need.begin + bad / whole.row()) + " of channel " + std::to_string(bad % whole.row()) + " is not finite (NaN or Inf)");
  }
  return Status::Ok();
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status PipelineInput::Mono(const ArrayView& in, int64_t skip, int64_t count, int64_t first, ConstView* out) {
  const int32_t channels = static_cast<int32_t>(in.dims[1]);
  const float* mono = nullptr;
  if (count > 0 && in.type == SampleType::kF32 && channels == 1) {
    mono = static_cast<const float*>(in.data) + skip;
  } else {
    if (!mono_.Reserve(static_cast<size_t>(count))) return OutOfMemory();
    float* to = mono_.data();
    mono = to;
    const int64_t at = skip * channels;
    if (count > 0) {
      const AudioKernels& k = kernels_->audio;
      switch (in.type) {
        case SampleType::kF64: k.mix_f64(static_cast<const double*>(in.data) + at, count, channels, 1.0, to); break;
        case SampleType::kI16: k.mix_i16(static_cast<const int16_t*>(in.data) + at, count, channels, 1.0f / 32768, to); break;
        case SampleType::kI32: k.mix_i32(static_cast<const int32_t*>(in.data) + at, count, channels, 1.0 / 2147483648.0, to); break;
        default: k.mix_f32(static_cast<const float*>(in.data) + at, count, channels, 1.0f, to); break;
      }
    }
  }
  const int64_t bad = kernels_->audio.find_nonfinite(mono, count);
  if (bad >= 0) return InvalidSignal("sample " + std::to_string(first + bad) + " is not finite (NaN, Inf or beyond float32)");
  out->data = mono;
  return Status::Ok();
}

}  // namespace zoo
