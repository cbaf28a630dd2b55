// SPDX-License-Identifier: Apache-2.0
// Linear prediction in float64; line spectral frequencies in float32 step by step as openSMILE: they are found by
// bisection, so that other rounding would move them by whole steps.
#ifndef ZOO_LLD_LSP_H_
#define ZOO_LLD_LSP_H_

#include "lld/kernels.h"

namespace zoo {

// autocorrelation: lags 0 .. kLpcOrder. frequencies: kLpcOrder angles in radians, 0 where one was not found.
void LineSpectralFrequencies(const double* autocorrelation, float* frequencies) noexcept;

}  // namespace zoo

#endif  // ZOO_LLD_LSP_H_
