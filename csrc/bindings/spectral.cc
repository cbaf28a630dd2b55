// SPDX-License-Identifier: Apache-2.0
// Tensor ops of zoo/spectral.h. The ops that start from a signal are reached as pipelines of one op.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include "bindings/common.h"
#include "zoo/spectral.h"

namespace zoo::python {
namespace {

const float* Floats(const ArrayIn& a, const char* what) {
  if (a.type() != ArrayIn::Type::kF32) Check(InvalidArgument(std::string(what) + " must be float32"));
  return static_cast<const float*>(a.data());
}

}  // namespace

void BindSpectral(nb::module_& m) {
  nb::class_<PowerToDb>(m, "PowerToDb", "Decibels of a power. Source: librosa 0.11 power_to_db.")
      .def("__init__",
           [](PowerToDb* self, double ref, double amin, std::optional<double> top_db) {
             new (self) PowerToDb(Take(PowerToDb::Create({ref, amin, top_db})));
           },
           nb::kw_only(), nb::arg("ref") = 1.0, nb::arg("amin") = 1e-10, nb::arg("top_db").none() = 80.0)
      .def("__call__", [](const PowerToDb& self, nb::handle power) {
        const ArrayIn in(power, "power", 2);
        const float* data = Floats(in, "power");
        const int64_t dims[2] = {in.rows(), in.columns()};
        ArrayOut out(dims, static_cast<size_t>(in.rank()));
        Status status;
        {
          const nb::gil_scoped_release release;
          status = self.Compute({data, out.span().size()}, out.span());
        }
        Check(status);
        return out.object();
      }, nb::arg("power"), nb::sig("def __call__(self, power: object) -> numpy.typing.NDArray[numpy.float32]"));

  nb::class_<Dct>(m, "Dct", "Orthonormal DCT-II of rows of n_in values, n_out kept.")
      .def("__init__", [](Dct* self, int32_t n_in, int32_t n_out) { new (self) Dct(Take(Dct::Create({n_in, n_out}))); },
           nb::kw_only(), nb::arg("n_in"), nb::arg("n_out"))
      .def("__call__", [](const Dct& self, nb::handle rows) {
        const ArrayIn in(rows, "rows", 2);
        const float* data = Floats(in, "rows");
        if (in.rank() != 2 || in.columns() != self.options().n_in) {
          Check(InvalidArgument("rows must have shape (n, " + std::to_string(self.options().n_in) + ")"));
        }
        ArrayOut out({in.rows(), self.options().n_out});
        Status status;
        {
          const nb::gil_scoped_release release;
          status = self.Compute({data, static_cast<size_t>(in.rows() * in.columns())}, out.span());
        }
        Check(status);
        return out.object();
      }, nb::arg("rows"), nb::sig("def __call__(self, rows: object) -> numpy.typing.NDArray[numpy.float32]"));
}

}  // namespace zoo::python
