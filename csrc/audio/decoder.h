// SPDX-License-Identifier: Apache-2.0
// The part of the vendored decoder that the reader uses. Only miniaudio_impl.cc includes the decoder itself.
#ifndef ZOO_AUDIO_DECODER_H_
#define ZOO_AUDIO_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "zoo/status.h"

namespace zoo {

// A regular file, read through one small buffer.
class ByteSource {
 public:
  ByteSource() = default;
  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  Status Open(const std::string& path);
  int64_t size() const { return size_; }
  int64_t tell() const { return at_; }
  bool Seek(int64_t to);                  // within [0, size]
  size_t Read(void* to, size_t bytes);    // fewer only at the end of the file or on an error

 private:
  static constexpr size_t kBuffer = 16384;
  int fd_ = -1;
  int64_t size_ = 0, at_ = 0;
  int64_t buffer_at_ = 0;
  size_t buffer_size_ = 0;
  unsigned char buffer_[kBuffer];
};

struct WavHeader {
  uint32_t rate, channels, bits, block_align;
  uint32_t format;  // 1 PCM, 3 float, else what the file says
  bool little_endian;
  uint64_t data_at, data_bytes;
};

// False when the decoder does not accept the header.
bool ParseWav(ByteSource* source, WavHeader* header);

class FlacDecoder {
 public:
  static std::unique_ptr<FlacDecoder> Open(ByteSource* source);  // null when it is not FLAC
  ~FlacDecoder();
  uint32_t rate() const;
  uint32_t channels() const;
  uint32_t bits() const;
  uint64_t frames() const;  // 0 when the file does not say
  uint64_t Read(uint64_t frames, int32_t* interleaved);  // left-justified to 32 bits
  bool Seek(uint64_t frame);

 private:
  FlacDecoder() = default;
  void* flac_ = nullptr;
};

}  // namespace zoo

#endif  // ZOO_AUDIO_DECODER_H_
