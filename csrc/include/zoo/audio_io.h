// SPDX-License-Identifier: Apache-2.0
// Audio files as mono float32: WAV (PCM 8, 16, 24, 32 bit, float 32, 64 bit) and FLAC.
#ifndef ZOO_AUDIO_IO_H_
#define ZOO_AUDIO_IO_H_

#include <cstdint>
#include <memory>
#include <string>

#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo {

struct AudioInfo {
  int32_t rate = 0;      // Hz, 1 to 768000
  int32_t channels = 0;  // 1 to 64
  int64_t frames = 0;    // samples a channel
  int32_t bits = 0;
  const char* format = "";  // "wav-pcm", "wav-float", "flac"
};

// Decodes any range of a file in blocks; memory does not grow with the file.
class AudioReader {
 public:
  static Result<AudioReader> Open(const std::string& path);
  AudioReader(AudioReader&&) noexcept;
  ~AudioReader();
  const AudioInfo& info() const noexcept;
  // Frames [start, start + out.size()), channels averaged, integers scaled to [-1, 1). A NaN or Inf sample is an
  // error that names its index.
  Status Read(int64_t start, Span<float> out);

 private:
  struct Impl;
  explicit AudioReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zoo

#endif  // ZOO_AUDIO_IO_H_
