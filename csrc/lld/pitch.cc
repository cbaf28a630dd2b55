// SPDX-License-Identifier: Apache-2.0
#include "lld/pitch.h"

#include <cmath>
#include <utility>

#include "lld/parabola.h"

namespace zoo {

PitchCandidate BestCandidate(const double* sum, int64_t stride, const double* peak, double mean, float first, float step,
                             double f0_min, double f0_max) noexcept {
  constexpr int kCandidates = 3;
  PitchCandidate kept[kCandidates];
  int count = 0;
  for (int c = 0; c < kCandidates && peak[c * stride] >= 0; ++c) {
    const int64_t at = static_cast<int64_t>(peak[c * stride]);
    const float i = static_cast<float>(at);
    const double x[3] = {(i - 1.0f) * step + first, i * step + first, (i + 1.0f) * step + first};
    const double* y = sum + at * stride;
    const Vertex top = Parabola(x, {y[-stride], y[0], y[stride]});
    PitchCandidate p;
    p.f0 = static_cast<float>(std::exp(top.x * std::log(2.0)));
    p.score = static_cast<float>(top.y);
    p.voicing = top.y > 0.0 && top.y > mean ? static_cast<float>(1.0 - mean / top.y) : 0.0f;
    if (p.f0 >= f0_min && p.f0 <= f0_max) kept[count++] = p;
  }
  int best = 0;
  for (int c = 1; c < count; ++c) {
    if (kept[c].score > kept[best].score) best = c;
  }
  return kept[best];
}

bool PitchSmoother::Next(const PitchCandidate& best, PitchRow* row) noexcept {
  if (!started_) {
    started_ = true;
    return false;
  }
  const float f0 = best.voicing > cutoff_ ? best.f0 : 0.0f;
  if (f0 > 0.0f) {
    voiced_change_ = last_f0_ > 0.0f ? 0 : 1;
  } else if (last_f0_ == 0.0f) {
    voiced_change_ = 0;
  } else if (voiced_change_ == 0) {
    voiced_change_ = -1;
  }
  if (f0 == 0.0f && voiced_change_ == 1) last_f0_ = 0.0f;

  const float ratio = last_f0_ > 0.0f && f0 > 0.0f ? last_f0_ / f0 : 1.0f;
  const bool up = ratio < 0.8, down = ratio > 1.2;
  if ((up && octave_change_ == -1) || (down && octave_change_ == 1)) last_f0_ = f0;
  octave_change_ = up ? 1 : down ? -1 : 0;

  row->f0 = std::exchange(last_f0_, f0);
  if (row->f0 > 0.0f) envelope_ = envelope_ == 0.0f ? row->f0 : 0.75f * envelope_ + 0.25f * row->f0;
  row->envelope = envelope_;
  row->voicing = std::exchange(last_voicing_, best.voicing);
  return true;
}

}  // namespace zoo
