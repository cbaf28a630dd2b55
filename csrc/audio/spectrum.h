// SPDX-License-Identifier: Apache-2.0
// The FFT plan, the mel filter bank and the framing that Stft, Mel and Mfcc share.
#ifndef ZOO_AUDIO_SPECTRUM_H_
#define ZOO_AUDIO_SPECTRUM_H_

#include <functional>
#include <vector>

#include "core/buffer.h"
#include "audio/kernels.h"
#include "zoo/spectral.h"

namespace zoo {

// True when the FFT takes frames of n samples.
bool FftSizeSupported(int64_t n);

class SpectrumTables {
 public:
  static Result<std::unique_ptr<SpectrumTables>> Create(const FrameOptions& options);
  // Frames of n samples (FftSizeSupported) weighted by `window`, of which the missing end is zero.
  static Result<std::unique_ptr<SpectrumTables>> Create(int32_t n, const std::vector<double>& window);
  const SpectrumPlan& plan() const { return plan_; }

 private:
  SpectrumPlan plan_{};
  Buffer<double> window_, untangle_, twiddle_;
  std::vector<int32_t> position_;
};

class BandTables {
 public:
  static Result<std::unique_ptr<BandTables>> CreateMel(const MelOptions& options);
  // weight(band, bin), where most are zero.
  static Result<std::unique_ptr<BandTables>> Create(int32_t bands, int32_t bins, const std::function<float(int32_t, int32_t)>& weight);
  const BandPlan& plan() const { return plan_; }
  int32_t bin_lo = 0, bin_hi = 0;  // bins that any band uses

 private:
  BandPlan plan_{};
  std::vector<int32_t> first_, count_, offset_;
  std::vector<float> weight_;
};

// Pointers to the frames of one batch; frames that reach over an edge are padded into scratch. Lanes past the last
// frame repeat it, so that they change no maximum.
class Framer {
 public:
  Status Init(const FrameOptions& options, int32_t lanes);
  void Batch(const FrameOptions& o, Span<const float> wave, int64_t frame, int64_t frames, int32_t lanes,
             const float** out) noexcept;

 private:
  Buffer<float> edge_;
};

// Orthonormal DCT-II basis, [inner][padded], padded a multiple of 16.
Status MakeDctBasis(int32_t inner, int32_t cols, Buffer<float>* basis, int32_t* padded);

Status CheckWave(const char* op, Span<const float> wave, const FrameOptions& options);

}  // namespace zoo

#endif  // ZOO_AUDIO_SPECTRUM_H_
