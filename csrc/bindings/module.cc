// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "bindings/common.h"
#include "zoo/isa.h"

namespace zoo::python {
namespace {

// Groups of status codes and the classes of zoo.errors that they become.
struct ErrorMapping {
  int32_t group;
  const char* name;
};
constexpr ErrorMapping kErrors[] = {{1, "InputError"}, {2, "ProviderUnavailable"}, {3, "BundleError"}, {4, "CheckFailed"}, {9, "ZooError"}};

nb::object Numpy(const char* name) { return nb::module_::import_("numpy").attr(name); }

}  // namespace

void Check(const Status& status) {
  if (status.ok()) return;
  if (status.code() == StatusCode::kOutOfMemory) throw std::bad_alloc();
  const char* name = "ZooError";
  for (const ErrorMapping& e : kErrors) {
    if (static_cast<int32_t>(status.code()) / 100 == e.group) name = e.name;
  }
  const nb::object type = nb::module_::import_("zoo.errors").attr(name);
  PyErr_SetString(type.ptr(), status.message().c_str());
  throw nb::python_error();
}

ArrayIn::ArrayIn(nb::handle object, const char* what, int max_rank) {
  const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT;
  if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
    PyErr_Clear();
    if (!PyObject_CheckBuffer(object.ptr())) {
      Check(InvalidArgument(std::string(what) + " is a " + nb::type_name(object.type()).c_str() +
                            "; it must be a float32, float64, int16, int32 or uint8 array"));
    }
    copy_ = Numpy("ascontiguousarray")(object);
    if (PyObject_GetBuffer(copy_.ptr(), &view_, flags) != 0) throw nb::python_error();
  }
  const char* f = view_.format == nullptr ? "B" : view_.format;
  if (*f == '<' || *f == '=' || *f == '@') ++f;
  const bool single = f[0] != '\0' && f[1] == '\0';
  bool known = true;
  if (single && *f == 'f') {
    type_ = SampleType::kF32;
  } else if (single && *f == 'd') {
    type_ = SampleType::kF64;
  } else if (single && *f == 'h') {
    type_ = SampleType::kI16;
  } else if (single && (*f == 'i' || *f == 'l') && view_.itemsize == 4) {
    type_ = SampleType::kI32;
  } else if (single && *f == 'B') {
    type_ = SampleType::kU8;
  } else {
    known = false;
  }
  std::string problem;
  if (!known) {
    problem = std::string(what) + " has elements of type '" + (view_.format ? view_.format : "B") +
              "'; it must be float32, float64, int16, int32 or uint8 in native byte order";
  } else if (view_.ndim < 1 || view_.ndim > max_rank) {
    problem = std::string(what) + " has " + std::to_string(view_.ndim) + " dimensions; it must have " +
              (max_rank == 1 ? "1" : max_rank == 2 ? "1 or 2" : "1 to " + std::to_string(max_rank));
  }
  if (!problem.empty()) {
    PyBuffer_Release(&view_);
    Check(InvalidArgument(problem));
  }
}

ArrayIn::~ArrayIn() { PyBuffer_Release(&view_); }

ArrayOut::ArrayOut(const int64_t* dims, size_t rank, DType type) {
  // numpy.empty and the dtypes, looked up once; never released, since they may outlive the interpreter's teardown
  static PyObject* const empty = Numpy("empty").release().ptr();
  static PyObject* const dtypes[] = {Numpy("dtype")(DTypeName(DType::kF32)).release().ptr(),
                                     Numpy("dtype")(DTypeName(DType::kF64)).release().ptr(),
                                     Numpy("dtype")(DTypeName(DType::kU8)).release().ptr(),
                                     Numpy("dtype")(DTypeName(DType::kI64)).release().ptr()};
  nb::object shape = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(rank)));
  for (size_t i = 0; i < rank; ++i) PyTuple_SetItem(shape.ptr(), static_cast<Py_ssize_t>(i), PyLong_FromLongLong(dims[i]));
  object_ = nb::steal(PyObject_CallFunctionObjArgs(empty, shape.ptr(), dtypes[static_cast<int>(type)], nullptr));
  if (!object_.is_valid()) throw nb::python_error();
  Py_buffer view;
  if (PyObject_GetBuffer(object_.ptr(), &view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) != 0) throw nb::python_error();
  data_ = view.buf;
  PyBuffer_Release(&view);  // the array is ours until it is returned
}

std::string PathOf(nb::handle path) {
  PyObject* bytes = nullptr;
  if (PyUnicode_FSConverter(path.ptr(), &bytes) == 0) {
    if (PyErr_ExceptionMatches(PyExc_ValueError)) {
      PyErr_Clear();
      Check(InvalidFile("the file name contains a null character"));
    }
    throw nb::python_error();
  }
  const nb::object owner = nb::steal(bytes);
  char* text = nullptr;
  Py_ssize_t size = 0;
  PyBytes_AsStringAndSize(bytes, &text, &size);
  return std::string(text, static_cast<size_t>(size));
}

void BindCore(nb::module_& m) {
  m.def("isa", [] { return Take(DefaultIsa()); },
        "Name of the instruction set that new objects use: ZOO_ISA when set, else the fastest that this CPU has.");
  m.def("isas", &SupportedIsas, "Names of the instruction sets that this build has and this CPU can run, slowest first.");
  m.def("set_isa", [](const std::string& name) { Check(SetDefaultIsa(name)); }, nb::arg("name"),
        "Sets the instruction set of objects created from now on (tests, benchmarks). '' goes back to the default.");
}

}  // namespace zoo::python

NB_MODULE(_native, m) {
  m.doc() = "Kernels and pipeline executor of affect-zoo (private; use zoo.ops and zoo.pipeline)";
  zoo::python::BindCore(m);
  zoo::python::BindAudioIo(m);
  zoo::python::BindDecode(m);
  zoo::python::BindEeg(m);
  zoo::python::BindPipeline(m);
  zoo::python::BindVideo(m);
}
