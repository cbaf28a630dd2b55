// SPDX-License-Identifier: Apache-2.0
#include "zoo/audio_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "audio/decoder.h"
#include "audio/kernels.h"
#include "zoo/isa.h"

namespace zoo {

// ------------------------------------------------------------------------------------------------------ ByteSource

ByteSource::~ByteSource() {
  if (fd_ >= 0) close(fd_);
}

Status ByteSource::Open(const std::string& path) {
  if (path.find('\0') != std::string::npos) return InvalidFile("the file name contains a null character");
  fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) return InvalidFile(path + ": " + std::strerror(errno));
  struct stat st;
  if (fstat(fd_, &st) != 0) return InvalidFile(path + ": " + std::strerror(errno));
  if (S_ISDIR(st.st_mode)) return InvalidFile(path + ": is a directory, not an audio file");
  if (!S_ISREG(st.st_mode)) return InvalidFile(path + ": is not a regular file");
  size_ = st.st_size;
  return Status::Ok();
}

bool ByteSource::Seek(int64_t to) {
  if (to < 0 || to > size_) return false;
  at_ = to;
  return true;
}

size_t ByteSource::Read(void* to, size_t bytes) {
  unsigned char* out = static_cast<unsigned char*>(to);
  size_t done = 0;
  while (done < bytes) {
    const int64_t offset = at_ - buffer_at_;
    if (offset >= 0 && offset < static_cast<int64_t>(buffer_size_)) {
      const size_t n = std::min(bytes - done, buffer_size_ - static_cast<size_t>(offset));
      std::memcpy(out + done, buffer_ + offset, n);
      done += n;
      at_ += static_cast<int64_t>(n);
      continue;
    }
    const bool direct = bytes - done >= kBuffer;
    const ssize_t got = direct ? pread(fd_, out + done, bytes - done, at_) : pread(fd_, buffer_, kBuffer, at_);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (direct) {
      done += static_cast<size_t>(got);
      at_ += got;
    } else {
      buffer_at_ = at_;
      buffer_size_ = static_cast<size_t>(got);
    }
  }
  return done;
}

// ----------------------------------------------------------------------------------------------------- AudioReader

struct AudioReader::Impl {
  std::string path;
  AudioInfo info;
  const Kernels* kernels = nullptr;
  ByteSource source;
  WavHeader wav{};
  std::unique_ptr<FlacDecoder> flac;
  int64_t flac_at = 0;  // next frame that the FLAC decoder will give; -1: it failed
  std::vector<char> block;

  Status OpenWav();
  Status OpenFlac();
  Status ReadWav(int64_t start, Span<float> out);
  Status ReadFlac(int64_t start, Span<float> out);
  Status CheckHeader(uint64_t rate, uint64_t channels) const;
};

namespace {

constexpr size_t kBlockBytes = 1 << 16;

}  // namespace

AudioReader::AudioReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AudioReader::AudioReader(AudioReader&&) noexcept = default;
AudioReader::~AudioReader() = default;
const AudioInfo& AudioReader::info() const noexcept { return impl_->info; }

Status AudioReader::Impl::CheckHeader(uint64_t rate, uint64_t channels) const {
  if (rate < 1 || rate > 768000) {
    return InvalidFile(path + ": the header says " + std::to_string(rate) + " Hz; it must lie between 1 and 768000");
  }
  if (channels < 1 || channels > 64) {
    return InvalidFile(path + ": the header says " + std::to_string(channels) + " channels; it must lie between 1 and 64");
  }
  return Status::Ok();
}

Status AudioReader::Impl::OpenWav() {
  if (!ParseWav(&source, &wav)) {
    return InvalidFile(path + ": the WAV header is damaged, or names a rate outside 1 to 384000 Hz, no channels or no sample data");
  }
  if (!wav.little_endian) return InvalidFile(path + ": big-endian RIFX and AIFF are not supported; convert it to WAV or FLAC");
  ZOO_RETURN_IF_ERROR(CheckHeader(wav.rate, wav.channels));
  const bool pcm = wav.format == 1 && (wav.bits == 8 || wav.bits == 16 || wav.bits == 24 || wav.bits == 32);
  const bool real = wav.format == 3 && (wav.bits == 32 || wav.bits == 64);
  if (!pcm && !real) {
    return InvalidFile(path + ": WAV format " + std::to_string(wav.format) + " with " + std::to_string(wav.bits) +
                       " bits is not supported (PCM 8, 16, 24, 32 and float 32, 64 are); convert it to PCM or FLAC");
  }
  const uint64_t frame = static_cast<uint64_t>(wav.channels) * wav.bits / 8;
  if (wav.block_align != frame) {
    return InvalidFile(path + ": the header says " + std::to_string(wav.block_align) + " bytes a frame, " +
                       std::to_string(wav.channels) + " channels of " + std::to_string(wav.bits) + " bits are " + std::to_string(frame));
  }
  const uint64_t size = static_cast<uint64_t>(source.size());
  const uint64_t found = (size > wav.data_at ? size - wav.data_at : 0) / frame, expected = wav.data_bytes / frame;
  if (expected > found) {
    return InvalidFile(path + ": truncated WAV: the header says " + std::to_string(expected) + " frames, the file holds " +
                       std::to_string(found));
  }
  info = {static_cast<int32_t>(wav.rate), static_cast<int32_t>(wav.channels), static_cast<int64_t>(expected),
          static_cast<int32_t>(wav.bits), pcm ? "wav-pcm" : "wav-float"};
  return Status::Ok();
}

Status AudioReader::Impl::OpenFlac() {
  flac = FlacDecoder::Open(&source);
  if (!flac) return InvalidFile(path + ": the FLAC header is damaged");
  ZOO_RETURN_IF_ERROR(CheckHeader(flac->rate(), flac->channels()));
  info = {static_cast<int32_t>(flac->rate()), static_cast<int32_t>(flac->channels()), static_cast<int64_t>(flac->frames()),
          static_cast<int32_t>(flac->bits()), "flac"};
  // a FLAC frame holds at most 65535 samples a channel and takes more than 10 bytes
  const uint64_t most = (static_cast<uint64_t>(source.size()) / 10 + 1) * 65536;
  if (flac->frames() > most) {
    return InvalidFile(path + ": damaged FLAC: the header says " + std::to_string(flac->frames()) + " frames, a file of " +
                       std::to_string(source.size()) + " bytes cannot hold more than " + std::to_string(most));
  }
  if (info.frames == 0) {  // the header may leave it open: count
    const uint64_t room = kBlockBytes / 4 / flac->channels();
    block.resize(kBlockBytes);
    while (const uint64_t got = flac->Read(room, reinterpret_cast<int32_t*>(block.data()))) info.frames += static_cast<int64_t>(got);
    flac_at = info.frames;
  }
  return Status::Ok();
}

Result<AudioReader> AudioReader::Open(const std::string& path) try {
  std::unique_ptr<Impl> impl(new Impl);
  impl->path = path;
  Result<const Kernels*> k = SelectKernels();
  if (!k.ok()) return k.status();
  impl->kernels = k.value();
  ZOO_RETURN_IF_ERROR(impl->source.Open(path));
  if (impl->source.size() == 0) return InvalidFile(path + ": the file is empty");
  char magic[12] = {};
  const size_t got = impl->source.Read(magic, sizeof(magic));
  const auto is = [&](size_t at, const char* tag) { return got >= at + 4 && std::memcmp(magic + at, tag, 4) == 0; };
  if ((is(0, "RIFF") || is(0, "RF64") || is(0, "RIFX")) && is(8, "WAVE")) {
    ZOO_RETURN_IF_ERROR(impl->OpenWav());
  } else if (is(0, "riff")) {
    ZOO_RETURN_IF_ERROR(impl->OpenWav());
  } else if (is(0, "fLaC") || (got >= 3 && std::memcmp(magic, "ID3", 3) == 0)) {
    ZOO_RETURN_IF_ERROR(impl->OpenFlac());
  } else {
    return InvalidFile(path + ": is neither WAV nor FLAC (the first bytes are not theirs); convert it to one of them");
  }
  if (impl->info.frames == 0) return InvalidFile(path + ": the file holds 0 samples");
  return AudioReader(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status AudioReader::Impl::ReadWav(int64_t start, Span<float> out) {
  const size_t frame = wav.block_align;
  const int64_t room = static_cast<int64_t>(kBlockBytes / frame);
  // 24-bit and 8-bit samples are widened in place behind the raw bytes
  block.resize(kBlockBytes + (wav.bits == 24 || wav.bits == 8 ? kBlockBytes * 4 : 0));
  if (!source.Seek(static_cast<int64_t>(wav.data_at) + start * static_cast<int64_t>(frame))) {
    return InvalidFile(path + ": cannot seek to frame " + std::to_string(start));
  }
  const int32_t channels = info.channels;
  for (int64_t done = 0; done < static_cast<int64_t>(out.size());) {
    const int64_t n = std::min(room, static_cast<int64_t>(out.size()) - done);
    if (source.Read(block.data(), static_cast<size_t>(n) * frame) != static_cast<size_t>(n) * frame) {
      return InvalidFile(path + ": reading stopped before frame " + std::to_string(start + done + n) + " of " + std::to_string(info.frames));
    }
    float* to = out.data() + done;
    const void* raw = block.data();
    if (info.format[4] == 'f') {
      if (wav.bits == 32) {
        kernels->audio.mix_f32(static_cast<const float*>(raw), n, channels, 1.0f, to);
      } else {
        kernels->audio.mix_f64(static_cast<const double*>(raw), n, channels, 1.0, to);
      }
    } else if (wav.bits == 16) {
      kernels->audio.mix_i16(static_cast<const int16_t*>(raw), n, channels, 1.0f / 32768, to);
    } else if (wav.bits == 32) {
      kernels->audio.mix_i32(static_cast<const int32_t*>(raw), n, channels, 1.0 / 2147483648.0, to);
    } else {
      const unsigned char* b = static_cast<const unsigned char*>(raw);
      int32_t* wide = reinterpret_cast<int32_t*>(block.data() + kBlockBytes);
      const int64_t values = n * channels;
      if (wav.bits == 24) {
        for (int64_t i = 0; i < values; ++i) {
          wide[i] = static_cast<int32_t>(static_cast<uint32_t>(b[3 * i]) << 8 | static_cast<uint32_t>(b[3 * i + 1]) << 16 |
                                         static_cast<uint32_t>(b[3 * i + 2]) << 24);
        }
      } else {
        for (int64_t i = 0; i < values; ++i) wide[i] = (static_cast<int32_t>(b[i]) - 128) * (1 << 24);
      }
      kernels->audio.mix_i32(wide, n, channels, 1.0 / 2147483648.0, to);
    }
    done += n;
  }
  if (info.format[4] == 'f') {
    const int64_t bad = kernels->audio.find_nonfinite(out.data(), static_cast<int64_t>(out.size()));
    if (bad >= 0) return InvalidSignal(path + ": sample " + std::to_string(start + bad) + " is not finite (NaN or Inf)");
  }
  return Status::Ok();
}

Status AudioReader::Impl::ReadFlac(int64_t start, Span<float> out) {
  // after a failure the decoder holds half a frame, which it would go on reading from where there is no memory
  if (flac_at < 0) {
    auto again = FlacDecoder::Open(&source);
    if (again == nullptr) return InvalidFile(path + ": damaged FLAC: its header cannot be read again");
    flac = std::move(again), flac_at = 0;
  }
  if (start != flac_at && !flac->Seek(static_cast<uint64_t>(start))) {
    flac_at = -1;
    return InvalidFile(path + ": damaged FLAC: cannot seek to frame " + std::to_string(start) + " of " + std::to_string(info.frames));
  }
  flac_at = start;
  block.resize(kBlockBytes);
  const int64_t room = static_cast<int64_t>(kBlockBytes) / 4 / info.channels;
  for (int64_t done = 0; done < static_cast<int64_t>(out.size());) {
    const int64_t n = std::min(room, static_cast<int64_t>(out.size()) - done);
    const int64_t got = static_cast<int64_t>(flac->Read(static_cast<uint64_t>(n), reinterpret_cast<int32_t*>(block.data())));
    flac_at = got == n ? flac_at + got : -1;
    if (got != n) {
      return InvalidFile(path + ": truncated or damaged FLAC: " + std::to_string(info.frames) + " frames expected, decoding stopped at " +
                         std::to_string(start + done + got));
    }
    kernels->audio.mix_i32(reinterpret_cast<const int32_t*>(block.data()), n, info.channels, 1.0 / 2147483648.0, out.data() + done);
    done += n;
  }
  return Status::Ok();
}

Status AudioReader::Read(int64_t start, Span<float> out) try {
  const int64_t end = start + static_cast<int64_t>(out.size());
  if (start < 0 || end > impl_->info.frames) {
    return InvalidArgument(impl_->path + ": frames " + std::to_string(start) + " to " + std::to_string(end) +
                           " were asked for; the file holds " + std::to_string(impl_->info.frames));
  }
  if (out.empty()) return Status::Ok();
  return impl_->flac ? impl_->ReadFlac(start, out) : impl_->ReadWav(start, out);
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

}  // namespace zoo
