// SPDX-License-Identifier: Apache-2.0
#include "runtime/stream_input.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/windows.h"

namespace zoo {
namespace {

constexpr int32_t kMostPixels = 16384;  // of a side of a picture
constexpr int32_t kMostElectrodes = 1024;

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", value);
  return text;
}

size_t SizeOf(SampleType type) {
  switch (type) {
    case SampleType::kF64: return 8;
    case SampleType::kI16: return 2;
    case SampleType::kU8: return 1;
    default: return 4;
  }
}

// Windows of samples, or pictures one by one, which go through the whole pipeline when they are full.
class RawWindows final : public StreamInput {
 public:
  RawWindows(Windows windows, const StreamFormat& format) : windows_(std::move(windows)), format_(format) {}

  double rate() const noexcept override { return format_.rate; }
  Status Take(const void* data, int64_t count, int64_t* taken) override {
    *taken = windows_.Take(data, count);
    return Status::Ok();
  }
  Status End() override {
    windows_.End();
    return Status::Ok();
  }
  bool ended() const noexcept override { return windows_.ended(); }
  bool ready() const noexcept override { return windows_.ready(); }
  StreamWindow window() const noexcept override {
    StreamWindow w;
    ArrayView& array = w.input.array;
    array.data = windows_.data(), array.type = format_.type;
    if (format_.height > 0) array.rank = 3, array.dims[0] = format_.height, array.dims[1] = format_.width, array.dims[2] = format_.channels;
    else array.rank = 2, array.dims[0] = windows_.size(), array.dims[1] = format_.channels;
    w.input.rate = format_.rate;
    w.start = windows_.start(), w.end = windows_.end();
    return w;
  }
  void Advance() noexcept override { windows_.Advance(); }

 private:
  Windows windows_;
  StreamFormat format_;
};

// What pipelines that run on over the whole stream have in common: every push goes through them at once.
class RunningWindows : public StreamInput {
 public:
  RunningWindows(const PortType& port, const Kernels* kernels, const StreamFormat& format) : format_(format), input_(port, kernels) {}

  double rate() const noexcept override { return format_.rate; }

  // A value that is not finite is an error, and nothing is taken.
  Status Take(const void* data, int64_t count, int64_t* taken) override {
    *taken = 0;
    const int64_t rows = std::min(Wanted(), count);
    if (ready() || ended_ || rows <= 0) return Status::Ok();
    const Clock::time_point start = Clock::now();
    ArrayView array;
    array.data = data, array.type = format_.type, array.dims[0] = rows;
    if (format_.height > 0) array.rank = 4, array.dims[1] = format_.height, array.dims[2] = format_.width, array.dims[3] = format_.channels;
    else array.rank = 2, array.dims[1] = format_.channels;
    Extent whole;
    ConstView view;
    ZOO_RETURN_IF_ERROR(input_.Format(array, format_.rate, &whole));
    whole.dim[0] = seen_ + rows;
    ZOO_RETURN_IF_ERROR(input_.View(array, whole, {seen_, seen_ + rows}, seen_, &view));
    ZOO_RETURN_IF_ERROR(Push(view.data, rows, false));
    spent_ += std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    *taken = rows;
    seen_ += rows;
    return Status::Ok();
  }

  bool ended() const noexcept override { return ended_; }

 protected:
  // Rows that may be pushed at once.
  virtual int64_t Wanted() const noexcept = 0;
  virtual Status Push(const void* data, int64_t rows, bool last) = 0;

  const StreamFormat format_;
  int64_t seen_ = 0, given_ = 0;  // rows so far; windows
  double spent_ = 0;              // milliseconds since the last window
  bool ended_ = false;

 private:
  using Clock = std::chrono::steady_clock;
  PipelineInput input_;
};

// EEG: the pipeline runs on over all samples, as in zoo/runtime/modality/eeg.py, for its filters look far back; it cuts the windows
// itself, and what is judged are its rows.
class EegWindows final : public RunningWindows {
 public:
  EegWindows(const Model& model, PipelineStream stream, const StreamFormat& format, int64_t window, int64_t hop)
      : RunningWindows(model.pipeline().port(0), model.kernels(), format), name_(model.manifest().name), stream_(std::move(stream)), window_(window), hop_(hop) {}

  Status End() override {
    if (ended_) return Status::Ok();
    ended_ = true;
    if (seen_ < window_) {
      return InvalidSignal(name_ + ": the recording has " + std::to_string(seen_) + " samples, less than one window of " + std::to_string(window_));
    }
    return Push(nullptr, 0, true);
  }

  bool ready() const noexcept override { return at_ < rows_.size(); }

  StreamWindow window() const noexcept override {
    const Extent& rows = stream_.extent();
    StreamWindow w;
    w.input.kind = RawInput::Kind::kFeatures;
    w.input.features.data = &rows_[at_];
    w.input.features.rank = rows.rank - 1;
    std::copy(rows.dim + 1, rows.dim + rows.rank, w.input.features.shape);
    w.start = static_cast<double>(given_ * hop_) / format_.rate;
    w.end = static_cast<double>(given_ * hop_ + window_) / format_.rate;
    w.preprocess = spent_;
    return w;
  }

  void Advance() noexcept override {
    at_ += static_cast<size_t>(stream_.extent().row());
    ++given_;
    spent_ = 0;
    if (at_ == rows_.size()) rows_.clear(), at_ = 0;
  }

 private:
  // Up to the sample that completes the next window, but for filters that look ahead.
  int64_t Wanted() const noexcept override { return seen_ < window_ ? window_ - seen_ : hop_ - (seen_ - window_) % hop_; }
  // Rows come one by one; only the end, where such filters give up what they kept, may bring several.
  Status Push(const void* data, int64_t rows, bool last) override {
    ZOO_RETURN_IF_ERROR(stream_.Push(data, rows, last));
    const float* from = static_cast<const float*>(stream_.data());
    rows_.insert(rows_.end(), from, from + stream_.extent().count());
    return Status::Ok();
  }

  const std::string& name_;
  PipelineStream stream_;
  int64_t window_, hop_;     // samples
  std::vector<float> rows_;  // features of windows that wait, from at_ on
  size_t at_ = 0;
};

std::string Names(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

Result<std::unique_ptr<StreamInput>> OpenEeg(const Model& model, StreamFormat format) {
  const Manifest& m = model.manifest();
  if (!m.rate) return InvalidArgument(m.name + ": its manifest names no rate, so it cannot stream");
  const auto window = m.WindowSamples(), hop = m.HopSamples();
  if (!window || !hop) return InvalidArgument(m.name + ": its pipeline cuts no windows, so it cannot stream");
  const double rate = *m.rate, step = static_cast<double>(*hop) / rate;
  if ((format.rate != 0 && format.rate != rate) || (format.hop != 0 && format.hop != step)) {
    return InvalidArgument(m.name + ": a stream at " + Number(format.rate != 0 ? format.rate : rate) + " Hz every " + Number(format.hop != 0 ? format.hop : step) +
                           " s; its pipeline is made for " + Number(rate) + " Hz and " + Number(step) + " s. Leave both 0, and resample before");
  }
  format.rate = rate, format.hop = step;
  if (format.type == SampleType::kU8) return InvalidArgument("stream: EEG may be float32, float64, int16 or int32");
  if (!m.channels.empty() && static_cast<size_t>(format.channels) != m.channels.size()) {
    return InvalidSignal("stream: channels is " + std::to_string(format.channels) + "; " + m.name + " takes " + std::to_string(m.channels.size()) + ": " + Names(m.channels));
  }
  if (format.channels < 1 || format.channels > kMostElectrodes) {
    return InvalidSignal("stream: channels is " + std::to_string(format.channels) + "; it must be 1 to " + std::to_string(kMostElectrodes));
  }
  Extent extent;
  extent.rate = rate, extent.rank = 2, extent.dim[1] = format.channels;
  auto stream = PipelineStream::Create(model.pipeline(), extent);
  if (!stream.ok()) return InvalidArgument(m.name + ": " + stream.status().message());
  return std::unique_ptr<StreamInput>(new EegWindows(model, std::move(stream.value()), format, *window, *hop));
}

// Curves, step by step: every branch's pipeline runs on over the pictures, or the sound, and the engine sees each new row with those
// that it looks back on.
class FilmWindows final : public RunningWindows {
 public:
  FilmWindows(const Model& model, std::vector<PipelineStream> streams, const StreamFormat& format)
      : RunningWindows(model.film()->branches()[0].pipeline.port(0), model.kernels(), format), streams_(std::move(streams)), context_(model.film()->context()),
        period_(model.manifest().heads[0].period), length_(model.manifest().heads[0].window), rows_(streams_.size()) {}

  Status End() override {
    if (ended_) return Status::Ok();
    ended_ = true;
    return seen_ > 0 ? Push(nullptr, 0, true) : Status::Ok();
  }

  bool ready() const noexcept override {
    return std::all_of(rows_.begin(), rows_.end(), [&](const FilmRows& r) { return r.extent.dim[0] > lead_; });
  }

  StreamWindow window() const noexcept override {
    StreamWindow w;
    w.input.kind = RawInput::Kind::kStep;
    w.input.rows = &rows_, w.input.count = lead_ + 1;
    w.start = static_cast<double>(given_) * period_, w.end = w.start + length_;
    w.preprocess = spent_;
    return w;
  }

  void Advance() noexcept override {
    const int64_t from = std::max<int64_t>(lead_ + 1 - context_, 0);
    for (FilmRows& rows : rows_) rows.Drop(from);
    lead_ += 1 - from;
    ++given_;
    spent_ = 0;
  }

 private:
  // A step of sound, or one picture.
  int64_t Wanted() const noexcept override { return format_.height > 0 ? 1 : std::max<int64_t>(1, static_cast<int64_t>(std::min(period_ * format_.rate, 1e9))); }
  Status Push(const void* data, int64_t rows, bool last) override {
    for (size_t i = 0; i < streams_.size(); ++i) {
      ZOO_RETURN_IF_ERROR(streams_[i].Push(data, rows, last));
      if (streams_[i].extent().dim[0] > 0) rows_[i].Append(static_cast<const float*>(streams_[i].data()), streams_[i].extent());
    }
    return Status::Ok();
  }

  std::vector<PipelineStream> streams_;
  int64_t context_;
  double period_, length_;  // seconds
  std::vector<FilmRows> rows_;  // of each branch, the first lead_ of which were judged before
  int64_t lead_ = 0;
};

Result<std::unique_ptr<StreamInput>> OpenFilm(const Model& model, StreamFormat format) {
  const Manifest& m = model.manifest();
  const bool pictures = m.modality == "video";
  const double period = m.heads[0].period;
  for (const FilmBranch& branch : model.film()->branches()) {
    if (branch.own_bounds) return InvalidArgument(m.name + " scales its input by the extremes of all of it, so it cannot stream; run it on the whole");
    if (branch.pictures != pictures) return InvalidArgument(m.name + " looks at pictures and at sound; a stream carries one of them, so run it on the whole");
  }
  if (format.hop != 0 && format.hop != period) {
    return InvalidArgument(m.name + ": a stream every " + Number(format.hop) + " s; its steps are " + Number(period) + " s apart. Leave hop 0");
  }
  if ((format.type == SampleType::kU8) != pictures) return InvalidArgument(pictures ? "stream: pictures are uint8" : "stream: samples may be float32, float64, int16 or int32");
  if (pictures ? format.channels != 3 : format.channels < 1 || format.channels > 64) {
    return InvalidSignal("stream: channels is " + std::to_string(format.channels) + "; it must be " + (pictures ? "3 (RGB)" : "1 to 64"));
  }
  if (format.rate == 0 && m.rate) format.rate = *m.rate;
  if (pictures && m.rate && format.rate != *m.rate) {
    return InvalidArgument(m.name + ": a stream of " + Number(format.rate) + " pictures a second; it takes " + std::to_string(*m.rate) + ". Leave some out, or show some again");
  }
  if (!pictures) ZOO_RETURN_IF_ERROR(CheckRate(format.rate));
  Extent extent;
  extent.rate = format.rate;
  if (pictures) extent.rank = 4, extent.dim[1] = format.height, extent.dim[2] = format.width, extent.dim[3] = 3;
  std::vector<PipelineStream> streams;
  for (const FilmBranch& branch : model.film()->branches()) {
    auto stream = PipelineStream::Create(branch.pipeline, extent);
    if (!stream.ok()) return InvalidArgument(m.name + ": " + stream.status().message());
    streams.push_back(std::move(stream.value()));
  }
  return std::unique_ptr<StreamInput>(new FilmWindows(model, std::move(streams), format));
}

}  // namespace

Result<std::unique_ptr<StreamInput>> StreamInput::Create(const Model& model, const StreamFormat& given) {
  StreamFormat format = given;
  const Manifest& m = model.manifest();
  const PortKind kind = model.pipeline().port(0).kind;
  const bool pictures = kind == PortKind::kImage || (m.curves() && m.modality == "video");
  if (!pictures && kind != PortKind::kAudio && kind != PortKind::kEeg) return InvalidArgument(m.name + " takes neither sound nor pictures nor EEG; only these are streamed");
  if (pictures ? format.height < 1 || format.height > kMostPixels || format.width < 1 || format.width > kMostPixels : format.height != 0 || format.width != 0) {
    return InvalidSignal("stream: height and width are " + std::to_string(format.height) + " and " + std::to_string(format.width) + "; " + m.name + " takes " +
                         (pictures ? "pictures of 1 to " + std::to_string(kMostPixels) + " pixels a side" : kind == PortKind::kEeg ? "EEG: leave them 0" : "sound: leave them 0"));
  }
  if (kind == PortKind::kEeg) return OpenEeg(model, format);
  if ((format.type == SampleType::kU8) != pictures) return InvalidArgument(pictures ? "stream: pictures are uint8" : "stream: samples may be float32, float64, int16 or int32");
  if (m.curves()) return OpenFilm(model, format);
  if (pictures ? format.channels != 1 && format.channels != 3 : format.channels < 1 || format.channels > 64) {
    return InvalidSignal("stream: channels is " + std::to_string(format.channels) + "; it must be " + (pictures ? "1 (grey) or 3 (RGB)" : "1 to 64"));
  }
  if (format.rate == 0 && m.rate) format.rate = *m.rate;
  if (!pictures) ZOO_RETURN_IF_ERROR(CheckRate(format.rate));
  // each picture is judged by itself
  const auto window = pictures ? std::optional<double>(format.rate > 0 ? 1 / format.rate : 0) : m.WindowSeconds(format.rate);
  if (!window) return InvalidArgument(m.name + ": its pipeline fixes no window length, so it cannot stream");
  size_t frame = SizeOf(format.type) * static_cast<size_t>(format.channels);
  if (pictures) frame *= static_cast<size_t>(format.height) * static_cast<size_t>(format.width);
  auto windows = Windows::Create(format.rate, *window, format.hop, frame);
  if (!windows.ok()) return windows.status();
  return std::unique_ptr<StreamInput>(new RawWindows(std::move(windows.value()), format));
}

}  // namespace zoo
