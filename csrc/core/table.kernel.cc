// SPDX-License-Identifier: Apache-2.0
// The instruction set's table: every family's kernels under one name.
#include "core/kernels.h"
#include "core/simd.h"

namespace zoo {
namespace ZOO_TARGET {

extern const AudioKernels kAudioKernels;
extern const SpeechKernels kSpeechKernels;
extern const EegKernels kEegKernels;
extern const DenseFlowKernels kDenseFlowKernels;
extern const FlowKernels kFlowKernels;
extern const FunctionalsKernels kFunctionalsKernels;
extern const LldKernels kLldKernels;
extern const ImageKernels kImageKernels;
extern const VideoKernels kVideoKernels;

extern const Kernels kKernels;
const Kernels kKernels = {
#if defined(__AVX512F__)
    "avx512",
#elif defined(__AVX2__)
    "avx2",
#elif defined(__aarch64__)
    "neon",
#else
    "baseline",
#endif
    kD,
    kAudioKernels,
    kSpeechKernels,
    kEegKernels,
    kDenseFlowKernels,
    kFlowKernels,
    kFunctionalsKernels,
    kLldKernels,
    kImageKernels,
    kVideoKernels,
};

}  // namespace ZOO_TARGET
}  // namespace zoo
