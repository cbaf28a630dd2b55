// SPDX-License-Identifier: Apache-2.0
// What a stream costs: latency, time and processor time.
#ifndef ZOO_RUNTIME_LOAD_H_
#define ZOO_RUNTIME_LOAD_H_

#include <time.h>

#include <algorithm>
#include <cstddef>

namespace zoo {

// All in seconds.
class LoadMeter {
 public:
  // From here to the end of its life a stream works.
  class Work {
   public:
    explicit Work(LoadMeter* meter) : meter_(meter), wall_(Now(CLOCK_MONOTONIC)), cpu_(Now(CLOCK_PROCESS_CPUTIME_ID)) { meter->began_ = wall_; }
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;
    ~Work() {
      meter_->busy_ += Now(CLOCK_MONOTONIC) - wall_;
      meter_->cpu_ += Now(CLOCK_PROCESS_CPUTIME_ID) - cpu_;
    }

   private:
    LoadMeter* meter_;
    double wall_, cpu_;
  };
  Work Start() noexcept { return Work(this); }

  void Took(double seconds) noexcept { signal_ += seconds; }
  // A window became full with the samples of the work that is going on.
  void Full() noexcept { full_ = began_; }
  // Its result is there.
  void Given() noexcept {
    ++windows_;
    latency_last_ = Now(CLOCK_MONOTONIC) - full_;
    latency_sum_ += latency_last_;
    latency_max_ = std::max(latency_max_, latency_last_);
  }

  size_t windows() const noexcept { return windows_; }
  double latency_last() const noexcept { return latency_last_; }
  double latency_sum() const noexcept { return latency_sum_; }
  double latency_max() const noexcept { return latency_max_; }
  double signal() const noexcept { return signal_; }
  double busy() const noexcept { return busy_; }
  double cpu() const noexcept { return cpu_; }

 private:
  static double Now(clockid_t clock) noexcept {
    timespec t{};
    clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  }

  size_t windows_ = 0;
  double began_ = 0, full_ = 0, latency_last_ = 0, latency_sum_ = 0, latency_max_ = 0, signal_ = 0, busy_ = 0, cpu_ = 0;
};

}  // namespace zoo

#endif  // ZOO_RUNTIME_LOAD_H_
