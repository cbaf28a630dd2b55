// SPDX-License-Identifier: Apache-2.0
// Tensor ops of zoo/signal.h. The ops on signals are reached as pipelines of one op.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include "bindings/common.h"
#include "zoo/signal.h"

namespace zoo::python {

void BindSignal(nb::module_& m) {
  nb::class_<Standardize>(m, "Standardize", "(x - mean) / std of each column; both empty: of the clip itself.")
      .def("__init__",
           [](Standardize* self, std::vector<double> mean, std::vector<double> std, double epsilon) {
             new (self) Standardize(Take(Standardize::Create({std::move(mean), std::move(std), epsilon})));
           },
           nb::kw_only(), nb::arg("mean") = std::vector<double>{}, nb::arg("std") = std::vector<double>{},
           nb::arg("epsilon") = 1e-8)
      .def("__call__", [](const Standardize& self, nb::handle rows) {
        const ArrayIn in(rows, "rows", 2);
        if (in.type() != ArrayIn::Type::kF32 || in.rank() != 2) Check(InvalidArgument("rows must be float32 of shape (n, columns)"));
        ArrayOut out({in.rows(), in.columns()});
        Status status;
        {
          const nb::gil_scoped_release release;
          status = self.Compute({static_cast<const float*>(in.data()), out.span().size()}, in.columns(), out.span());
        }
        Check(status);
        return out.object();
      }, nb::arg("rows"), nb::sig("def __call__(self, rows: object) -> numpy.typing.NDArray[numpy.float32]"));
}

}  // namespace zoo::python
