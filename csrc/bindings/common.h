// SPDX-License-Identifier: Apache-2.0
// Shared by the bindings: errors, arrays in, arrays out.
#ifndef ZOO_BINDINGS_COMMON_H_
#define ZOO_BINDINGS_COMMON_H_

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/input.h"
#include "zoo/pipeline.h"

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
  // `what` names the argument in messages. max_rank: at most kMaxRank.
  ArrayIn(nb::handle object, const char* what, int max_rank);
  ArrayIn(ArrayIn&& o) noexcept : copy_(std::move(o.copy_)), view_(std::exchange(o.view_, {})), type_(o.type_) {}
  ~ArrayIn();
  ArrayIn(const ArrayIn&) = delete;
  ArrayIn& operator=(const ArrayIn&) = delete;
  SampleType type() const { return type_; }
  int rank() const { return view_.ndim; }
  int64_t dim(int i) const { return i < view_.ndim ? view_.shape[i] : 1; }  // 1 beyond the rank
  int64_t rows() const { return dim(0); }
  int64_t columns() const { return dim(1); }
  const void* data() const { return view_.buf; }
  ArrayView view() const {
    ArrayView v{data(), type_, rank(), {}};
    for (int i = 0; i < kMaxRank; ++i) v.dims[i] = dim(i);
    return v;
  }

 private:
  nb::object copy_;
  Py_buffer view_{};
  SampleType type_ = SampleType::kF32;
};

// A new numpy array that owns its memory.
class ArrayOut {
 public:
  ArrayOut(const int64_t* dims, size_t rank, DType dtype);
  void* data() const { return data_; }
  nb::object object() { return std::move(object_); }

 private:
  nb::object object_;
  void* data_ = nullptr;
};

std::string PathOf(nb::handle path);

void BindCore(nb::module_& m);
void BindAudioIo(nb::module_& m);
void BindDecode(nb::module_& m);
void BindEeg(nb::module_& m);
void BindPipeline(nb::module_& m);
void BindVideo(nb::module_& m);

}  // namespace zoo::python

#endif  // ZOO_BINDINGS_COMMON_H_
