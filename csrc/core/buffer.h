// SPDX-License-Identifier: Apache-2.0
// Scratch memory aligned to a cache line that only ever grows.
#ifndef ZOO_CORE_BUFFER_H_
#define ZOO_CORE_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace zoo {

template <class T>
class Buffer {
 public:
  Buffer() noexcept = default;
  Buffer(Buffer&& o) noexcept : data_(std::exchange(o.data_, nullptr)), capacity_(std::exchange(o.capacity_, 0)) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(capacity_, o.capacity_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  // False when out of memory. Contents are lost and zeroed when it grows.
  [[nodiscard]] bool Reserve(size_t count) noexcept {
    if (count <= capacity_) return true;
    if (count > (size_t{1} << 46) / sizeof(T)) return false;
    const size_t bytes = (count * sizeof(T) + 127) / 64 * 64;
    void* p = nullptr;
    if (posix_memalign(&p, 64, bytes) != 0) return false;
    std::memset(p, 0, bytes);
    std::free(data_);
    data_ = static_cast<T*>(p);
    capacity_ = count;
    return true;
  }
  // As Reserve, but the first `used` values are kept; grows by at least a half, so that appending costs no more than linear.
  [[nodiscard]] bool Extend(size_t used, size_t count) noexcept {
    if (count <= capacity_) return true;
    Buffer larger;
    if (!larger.Reserve(count > capacity_ + capacity_ / 2 ? count : capacity_ + capacity_ / 2)) return false;
    if (used > 0) std::memcpy(larger.data_, data_, used * sizeof(T));
    *this = std::move(larger);
    return true;
  }
  T* data() const noexcept { return data_; }
  size_t capacity() const noexcept { return capacity_; }
  T& operator[](size_t i) const noexcept { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t capacity_ = 0;
};

}  // namespace zoo

#endif  // ZOO_CORE_BUFFER_H_
