// SPDX-License-Identifier: Apache-2.0
// Which instruction set the kernels use. Chosen once from the CPU, or forced with ZOO_ISA.
#ifndef ZOO_ISA_H_
#define ZOO_ISA_H_

#include <string>
#include <vector>

#include "zoo/status.h"

namespace zoo {

struct Kernels;  // csrc/core/kernels.h

// Names of the instruction sets that this build has and this CPU can run, slowest first:
// x86-64 "baseline" (SSE2), "avx2" (with FMA), "avx512" (F, BW, DQ, VL); arm64 "neon"; elsewhere "baseline".
std::vector<std::string> SupportedIsas();

// Kernels of one instruction set. An empty name means the process default: ZOO_ISA when set, else the
// fastest supported. An unknown or unsupported name is an error, never a silent fallback.
Result<const Kernels*> SelectKernels(const std::string& isa = "");

// Changes the process default for objects created from now on (tests and benchmarks). An empty name
// goes back to ZOO_ISA or the fastest.
Status SetDefaultIsa(const std::string& isa);

// Name of the process default.
Result<std::string> DefaultIsa();

}  // namespace zoo

#endif  // ZOO_ISA_H_
