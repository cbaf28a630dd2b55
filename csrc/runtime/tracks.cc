// SPDX-License-Identifier: Apache-2.0
#include "runtime/tracks.h"

#include <algorithm>
#include <string>
#include <utility>

#include "zoo/audio_io.h"

namespace zoo {
namespace {

constexpr double kBlockSeconds = 10;
constexpr int64_t kBlockFrames = 16;

// An array at hand.
class ArrayTrack final : public FilmTrack {
 public:
  ArrayTrack(const FilmBranch& branch, const RawInput& raw, const Kernels* kernels)
      : input_(branch.pipeline.port(0), kernels), raw_(raw), block_(kBlockFrames) {}
  Status Open() {
    ZOO_RETURN_IF_ERROR(input_.Format(raw_.array, raw_.rate, &format_));
    // of sound the rate is known to be one now
    if (raw_.array.rank < 3) block_ = static_cast<int64_t>(kBlockSeconds * raw_.rate);
    return Status::Ok();
  }

  const Extent& format() const override { return format_; }
  Status Next(ConstView* block) override {
    const Range need{at_, std::min(at_ + block_, format_.dim[0])};
    at_ = need.end;
    return input_.View(raw_.array, format_, need, 0, block);
  }
  void Rewind() override { at_ = 0; }

 private:
  PipelineInput input_;
  const RawInput& raw_;
  Extent format_;
  int64_t block_, at_ = 0;
};

// The sound of a file.
class FileTrack final : public FilmTrack {
 public:
  explicit FileTrack(AudioReader reader) : reader_(std::move(reader)) {
    format_.rate = reader_.info().rate, format_.dim[0] = reader_.info().frames;
  }

  const Extent& format() const override { return format_; }
  Status Next(ConstView* block) override {
    const int64_t end = std::min(at_ + static_cast<int64_t>(kBlockSeconds) * reader_.info().rate, format_.dim[0]);
    const size_t count = static_cast<size_t>(end - at_);
    if (!samples_.Reserve(count)) return OutOfMemory();
    if (count > 0) ZOO_RETURN_IF_ERROR(reader_.Read(at_, {samples_.data(), count}));
    *block = AudioView({samples_.data(), count}, reader_.info().rate, at_, format_.dim[0]);
    at_ = end;
    return Status::Ok();
  }
  void Rewind() override { at_ = 0; }

 private:
  AudioReader reader_;
  Extent format_;
  Buffer<float> samples_;
  int64_t at_ = 0;
};

}  // namespace

Result<std::unique_ptr<FilmTrack>> OpenTrack(const FilmBranch& branch, const RawInput& input, const Kernels* kernels) {
  if (input.kind == RawInput::Kind::kFile && !branch.pictures) {
    auto reader = AudioReader::Open(std::string(input.text));
    if (!reader.ok()) return reader.status();
    return std::unique_ptr<FilmTrack>(new FileTrack(std::move(reader.value())));
  }
  if (input.kind != RawInput::Kind::kArray) return InvalidArgument(branch.pictures ? "pictures must be an array of frames" : "sound must be an array or a file");
  auto track = std::make_unique<ArrayTrack>(branch, input, kernels);
  ZOO_RETURN_IF_ERROR(track->Open());
  return std::unique_ptr<FilmTrack>(std::move(track));
}

}  // namespace zoo
