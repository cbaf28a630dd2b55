// SPDX-License-Identifier: Apache-2.0
// From summed harmonic spectra to a smooth pitch contour, one frame at a time.
#ifndef ZOO_LLD_PITCH_H_
#define ZOO_LLD_PITCH_H_

#include <cstdint>

namespace zoo {

struct PitchCandidate {
  float f0 = 0, voicing = 0, score = 0;  // Hz; 0 .. 1; height of the peak
};

struct PitchRow {
  float envelope = 0;  // Hz, a running mean over voiced frames
  float voicing = 0;
  float f0 = 0;  // Hz, 0 where unvoiced
};

// The best candidate. peak: indices of up to three peaks, latest (highest) first, -1 where there is none; sum[i]: value of
// point i of the octave scale, `stride` apart.
PitchCandidate BestCandidate(const double* sum, int64_t stride, const double* peak, double mean, float first, float step,
                             double f0_min, double f0_max) noexcept;

// Removes voiced runs and octave jumps of one frame: a frame's row comes out with the next frame.
class PitchSmoother {
 public:
  explicit PitchSmoother(double cutoff) : cutoff_(static_cast<float>(cutoff)) {}
  void Start() { *this = PitchSmoother(cutoff_); }
  // False for the first frame, which gives no row.
  bool Next(const PitchCandidate& best, PitchRow* row) noexcept;

 private:
  float cutoff_;
  bool started_ = false;
  float last_f0_ = 0, last_voicing_ = 0, envelope_ = 0;
  int voiced_change_ = 0;  // +1: voicing has just begun, -1: just ended
  int octave_change_ = 0;  // +1: has just jumped up, -1: down
};

}  // namespace zoo

#endif  // ZOO_LLD_PITCH_H_
