// SPDX-License-Identifier: Apache-2.0
// Brings an array as a caller has it (any rank, several types, channels) to what a pipeline's input port takes.
#ifndef ZOO_PIPELINE_INPUT_H_
#define ZOO_PIPELINE_INPUT_H_

#include <cstdint>

#include "core/buffer.h"
#include "core/kernels.h"
#include "zoo/pipeline.h"

namespace zoo {

enum class SampleType : int32_t { kF32, kF64, kI16, kI32, kU8 };

// A row-major array that the caller owns.
struct ArrayView {
  const void* data = nullptr;
  SampleType type = SampleType::kF32;
  int32_t rank = 1;
  int64_t dims[kMaxRank] = {0, 1, 1, 1};  // 1 beyond the rank
};

// Of audio: a whole number of Hz, 1 to 768000.
Status CheckRate(double rate);

// One a thread. Its memory is used again by the next input.
class PipelineInput {
 public:
  // port: of a pipeline that outlives this.
  PipelineInput(const PortType& port, const Kernels* kernels) : port_(port), kernels_(kernels) {}

  // Dimensions of an array as this port sees them: channels of audio averaged, images and EEG with a channel axis.
  Status Format(const ArrayView& array, double rate, Extent* out) const;

  // Rows `need` of the whole, of which the array holds those from `first` on. A value that is not finite is an error.
  Status View(const ArrayView& array, const Extent& whole, Range need, int64_t first, ConstView* out) noexcept;

 private:
  Status Mono(const ArrayView& array, int64_t skip, int64_t count, int64_t first, ConstView* out);

  const PortType& port_;
  const Kernels* kernels_;
  Buffer<float> mono_;
  Buffer<double> wide_;
};

}  // namespace zoo

#endif  // ZOO_PIPELINE_INPUT_H_
