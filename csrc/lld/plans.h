// SPDX-License-Identifier: Apache-2.0
// Everything about the LLD that depends on the options only: lengths, windows, filter banks, interpolation.
#ifndef ZOO_LLD_PLANS_H_
#define ZOO_LLD_PLANS_H_

#include <memory>
#include <vector>

#include "audio/spectrum.h"
#include "lld/kernels.h"
#include "zoo/lld.h"

namespace zoo {

struct LldPlans {
  static constexpr int32_t kMel = 26, kCepstra = 15, kBands = 8;

  int32_t frame = 0, pitch_frame = 0, hop = 0;  // samples
  int32_t fft = 0, pitch_fft = 0;               // samples, powers of two
  std::unique_ptr<SpectrumTables> spectrum, pitch_spectrum;
  float loudness = 0;  // factor of a squared sample
  std::unique_ptr<BandTables> mel, bands;
  std::vector<float> cosine;    // [kCepstra][kMel]
  std::vector<float> lifter;    // [kCepstra], with the scale of the transform
  ResampleSpectrumPlan resample{};
  OctavePlan octave{};
  HarmonicPlan harmonics{};
  float octave_first = 0, octave_step = 0;  // log2 Hz of the points

  static Result<std::unique_ptr<LldPlans>> Create(const LldOptions& options);

 private:
  void MakeResample(const LldOptions& o, double padded_seconds);
  void MakeOctave(const LldOptions& o, double padded_seconds);
  Buffer<double> wave_;
  std::vector<double> turn_, nyquist_, forward_, back_, weight_;
  std::vector<int32_t> knot_;
};

// openSMILE divides 16-bit samples by 32767, our reader by 32768.
inline float FullScale(float sample) { return sample * 32768.0f / 32767.0f; }

}  // namespace zoo

#endif  // ZOO_LLD_PLANS_H_
