// SPDX-License-Identifier: Apache-2.0
// What cuts a live signal into windows, by what the model takes: sound, pictures or EEG.
#ifndef ZOO_RUNTIME_STREAM_INPUT_H_
#define ZOO_RUNTIME_STREAM_INPUT_H_

#include <cstdint>
#include <memory>

#include "runtime/model.h"

namespace zoo {

// See zoo_stream_options. 0: the model's own rate, and of EEG its own hop.
struct StreamFormat {
  SampleType type = SampleType::kF32;
  int32_t channels = 1;
  double rate = 0, hop = 0;
  int32_t height = 0, width = 0;  // of pictures
};

struct StreamWindow {
  RawInput input;
  double start = 0, end = 0;  // seconds of the stream
  double preprocess = 0;      // milliseconds already spent on it
};

class StreamInput {
 public:
  // The model must outlive it. An error where it does not stream, or not this.
  static Result<std::unique_ptr<StreamInput>> Create(const Model& model, const StreamFormat& format);
  virtual ~StreamInput() = default;

  virtual double rate() const noexcept = 0;  // samples of a channel, or pictures, a second
  // Takes what fits until a window is full: *taken samples of all channels, or pictures; none where it fails.
  virtual Status Take(const void* data, int64_t count, int64_t* taken) = 0;
  // Nothing more comes.
  virtual Status End() = 0;
  virtual bool ended() const noexcept = 0;
  virtual bool ready() const noexcept = 0;
  // The full window, valid until Advance.
  virtual StreamWindow window() const noexcept = 0;
  // Goes on to the next window.
  virtual void Advance() noexcept = 0;
};

}  // namespace zoo

#endif  // ZOO_RUNTIME_STREAM_INPUT_H_
