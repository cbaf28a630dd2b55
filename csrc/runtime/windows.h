// SPDX-License-Identifier: Apache-2.0
// Cuts a live signal, or pictures, into overlapping windows, as zoo/runtime/stream.py does. Memory is one window.
#ifndef ZOO_RUNTIME_WINDOWS_H_
#define ZOO_RUNTIME_WINDOWS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "pipeline/input.h"

namespace zoo {

class Windows {
 public:
  // rate: Hz; window, hop: seconds; frame: bytes of one sample of all channels, or of one picture.
  static Result<Windows> Create(double rate, double window, double hop, size_t frame) {
    if (!(rate >= 1e-3 && rate <= 768000)) return InvalidSignal("stream: rate is " + std::to_string(rate) + "; give samples, or pictures, a second: 0.001 to 768000");
    // at most an hour of a window, a year of a hop
    const double samples = std::nearbyint(window * rate), step = std::nearbyint(hop * rate);
    if (!(samples >= 1 && window <= 3600)) return InvalidSignal("stream: the window is " + std::to_string(window) + " s; it must be one sample to an hour");
    if (!(step >= 1 && hop <= 3.2e7)) return InvalidSignal("stream: hop is " + std::to_string(hop) + " s; give at least one sample (" + std::to_string(1 / rate) + " s)");
    return Windows(rate, static_cast<int64_t>(samples), static_cast<int64_t>(step), frame);
  }

  // Takes what fits until a window is full; the number of samples taken.
  int64_t Take(const void* data, int64_t count) noexcept {
    const unsigned char* from = static_cast<const unsigned char*>(data);
    const int64_t passed = std::min(skip_, count);
    skip_ -= passed;
    const int64_t take = std::min(window_ - filled_, count - passed);
    if (take > 0) std::memcpy(&buffer_[static_cast<size_t>(filled_) * frame_], from + static_cast<size_t>(passed) * frame_, static_cast<size_t>(take) * frame_);
    filled_ += take;
    return passed + take;
  }
  // The stream has ended: what is there is a window if none was given before.
  void End() noexcept { ended_ = true; }
  bool ready() const noexcept { return filled_ == window_ || (ended_ && !given_ && filled_ > 0); }
  bool ended() const noexcept { return ended_; }

  const void* data() const noexcept { return buffer_.data(); }
  int64_t size() const noexcept { return filled_; }
  double start() const noexcept { return static_cast<double>(first_) / rate_; }
  double end() const noexcept { return static_cast<double>(first_ + filled_) / rate_; }

  // Goes on to the next window.
  void Advance() noexcept {
    const int64_t keep = filled_ == window_ ? std::max<int64_t>(window_ - hop_, 0) : 0;
    if (keep > 0) std::memmove(buffer_.data(), &buffer_[static_cast<size_t>(window_ - keep) * frame_], static_cast<size_t>(keep) * frame_);
    filled_ = keep;
    skip_ = std::max<int64_t>(hop_ - window_, 0);
    first_ += hop_;
    given_ = true;
  }

 private:
  Windows(double rate, int64_t window, int64_t hop, size_t frame)
      : rate_(rate), window_(window), hop_(hop), frame_(frame), buffer_(static_cast<size_t>(window) * frame) {}

  double rate_;
  int64_t window_, hop_;
  size_t frame_;
  std::vector<unsigned char> buffer_;
  int64_t filled_ = 0;  // samples held
  int64_t first_ = 0;   // position in the stream of the first one
  int64_t skip_ = 0;    // still to pass over, where the hop is longer than the window
  bool given_ = false, ended_ = false;
};

}  // namespace zoo

#endif  // ZOO_RUNTIME_WINDOWS_H_
