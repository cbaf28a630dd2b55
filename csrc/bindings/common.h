// SPDX-License-Identifier: Apache-2.0
// Shared by the bindings: errors, arrays in, arrays out.
#ifndef ZOO_BINDINGS_COMMON_H_
#define ZOO_BINDINGS_COMMON_H_

#include <nanobind/nanobind.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "zoo/span.h"
#include "zoo/status.h"

namespace zoo::python {

namespace nb = nanobind;

// Raises the Python error that belongs to the status; returns when it is ok.
void Check(const Status& status);

template <class T>
T Take(Result<T> result) {
  Check(result.status());
  return std::move(result.value());
}

// A C-contiguous view of any object with the buffer protocol (a strided one is copied).
class ArrayIn {
 public:
  enum class Type { kF32, kF64, kI16, kI32 };
  // `what` names the argument in messages. max_rank: 1 or 2.
  ArrayIn(nb::handle object, const char* what, int max_rank);
  ~ArrayIn();
  ArrayIn(const ArrayIn&) = delete;
  ArrayIn& operator=(const ArrayIn&) = delete;
  Type type() const { return type_; }
  int rank() const { return rank_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }  // 1 for rank 1
  const void* data() const { return view_.buf; }

 private:
  nb::object copy_;
  Py_buffer view_{};
  Type type_ = Type::kF32;
  int rank_ = 1;
  int64_t rows_ = 0, columns_ = 1;
};

// A new numpy float32 array that owns its memory.
class ArrayOut {
 public:
  explicit ArrayOut(std::initializer_list<int64_t> shape) : ArrayOut(shape.begin(), shape.size()) {}
  ArrayOut(const int64_t* dims, size_t rank);
  Span<float> span() const { return {data_, size_}; }
  nb::object object() { return std::move(object_); }

 private:
  nb::object object_;
  float* data_ = nullptr;
  size_t size_ = 0;
};

std::string PathOf(nb::handle path);

void BindCore(nb::module_& m);
void BindSpectral(nb::module_& m);
void BindSignal(nb::module_& m);
void BindAudioIo(nb::module_& m);
void BindPipeline(nb::module_& m);

}  // namespace zoo::python

#endif  // ZOO_BINDINGS_COMMON_H_
