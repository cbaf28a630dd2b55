// SPDX-License-Identifier: Apache-2.0
// The one translation unit that holds the vendored decoder: WAV and FLAC, nothing else.
#define MA_NO_DEVICE_IO
#define MA_NO_THREADING
#define MA_NO_ENCODING
#define MA_NO_MP3
#define MA_NO_GENERATION
#define MA_NO_ENGINE
#define MA_NO_NODE_GRAPH
#define MA_NO_RESOURCE_MANAGER
#define MA_NO_STDIO
#define MA_DR_FLAC_NO_OGG
#define MA_API static
#define MINIAUDIO_IMPLEMENTATION
#include "miniaudio.h"

#include "audio/decoder.h"

namespace zoo {
namespace {

size_t OnRead(void* user, void* to, size_t bytes) { return static_cast<ByteSource*>(user)->Read(to, bytes); }

template <class Origin>
ma_bool32 OnSeek(void* user, int offset, Origin origin) {
  ByteSource* s = static_cast<ByteSource*>(user);
  // both decoders number the origins as stdio does: start, current, end
  const int64_t base = static_cast<int>(origin) == 0 ? 0 : static_cast<int>(origin) == 1 ? s->tell() : s->size();
  // From where they are, both only go forward; a damaged chunk size that is negative as an int would send them round for ever.
  if (static_cast<int>(origin) == 1 && offset < 0) return MA_FALSE;
  return s->Seek(base + offset) ? MA_TRUE : MA_FALSE;
}
static_assert(MA_DR_WAV_SEEK_SET == 0 && MA_DR_WAV_SEEK_CUR == 1 && MA_DR_WAV_SEEK_END == 2);
static_assert(MA_DR_FLAC_SEEK_SET == 0 && MA_DR_FLAC_SEEK_CUR == 1 && MA_DR_FLAC_SEEK_END == 2);

ma_bool32 OnTell(void* user, ma_int64* cursor) {
  *cursor = static_cast<ByteSource*>(user)->tell();
  return MA_TRUE;
}

}  // namespace

bool ParseWav(ByteSource* source, WavHeader* h) {
  ma_dr_wav wav;
  // without a tell function the decoder keeps the size that the header claims, which the reader compares
  if (!source->Seek(0) || !ma_dr_wav_init(&wav, OnRead, OnSeek<ma_dr_wav_seek_origin>, nullptr, source, nullptr)) return false;
  *h = {wav.sampleRate, wav.channels, wav.bitsPerSample, wav.fmt.blockAlign, wav.translatedFormatTag,
        wav.container == ma_dr_wav_container_riff || wav.container == ma_dr_wav_container_rf64 ||
            wav.container == ma_dr_wav_container_w64,
        wav.dataChunkDataPos, wav.dataChunkDataSize};
  ma_dr_wav_uninit(&wav);
  return true;
}

std::unique_ptr<FlacDecoder> FlacDecoder::Open(ByteSource* source) {
  if (!source->Seek(0)) return nullptr;
  ma_dr_flac* flac = ma_dr_flac_open(OnRead, OnSeek<ma_dr_flac_seek_origin>, OnTell, source, nullptr);
  if (flac == nullptr) return nullptr;
  std::unique_ptr<FlacDecoder> d(new FlacDecoder);
  d->flac_ = flac;
  return d;
}

FlacDecoder::~FlacDecoder() { ma_dr_flac_close(static_cast<ma_dr_flac*>(flac_)); }
uint32_t FlacDecoder::rate() const { return static_cast<ma_dr_flac*>(flac_)->sampleRate; }
uint32_t FlacDecoder::channels() const { return static_cast<ma_dr_flac*>(flac_)->channels; }
uint32_t FlacDecoder::bits() const { return static_cast<ma_dr_flac*>(flac_)->bitsPerSample; }
uint64_t FlacDecoder::frames() const { return static_cast<ma_dr_flac*>(flac_)->totalPCMFrameCount; }
uint64_t FlacDecoder::Read(uint64_t frames, int32_t* interleaved) {
  return ma_dr_flac_read_pcm_frames_s32(static_cast<ma_dr_flac*>(flac_), frames, interleaved);
}
bool FlacDecoder::Seek(uint64_t frame) {
  return ma_dr_flac_seek_to_pcm_frame(static_cast<ma_dr_flac*>(flac_), frame) == MA_TRUE;
}

}  // namespace zoo
