// SPDX-License-Identifier: Apache-2.0
// The table of kernels that each instruction set fills in: one struct of function pointers a family. Plain data only:
// this header and the families' kernels.h are included by translation units compiled for other instruction sets, so
// they must not instantiate any inline function that the linker could share between them.
#ifndef ZOO_CORE_KERNELS_H_
#define ZOO_CORE_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

namespace zoo {

enum { kMaxStages = 20, kMaxLanes = 8, kMaxFloatLanes = 16 };

// A family of ops declares its kernels in <family>/kernels.h, defines them in <family>/*.kernel.cc as kXKernels and
// has one line here and one in core/table.kernel.cc.
struct AudioKernels;
struct SpeechKernels;
struct EegKernels;
struct DenseFlowKernels;
struct FlowKernels;
struct FunctionalsKernels;
struct LldKernels;
struct ImageKernels;
struct VideoKernels;

struct Kernels {
  const char* name;
  int32_t lanes;  // doubles a vector: frames per spectrum batch
  const AudioKernels& audio;
  const SpeechKernels& speech;
  const EegKernels& eeg;
  const DenseFlowKernels& dense_flow;
  const FlowKernels& flow;
  const FunctionalsKernels& functionals;
  const LldKernels& lld;
  const ImageKernels& image;
  const VideoKernels& video;
};

}  // namespace zoo

#endif  // ZOO_CORE_KERNELS_H_
