// SPDX-License-Identifier: Apache-2.0
#include "zoo/eeg.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <vector>

#include "bindings/common.h"

namespace zoo::python {
namespace {

nb::object Matrix(const std::vector<double>& v, int64_t columns) {
  const int64_t dims[2] = {static_cast<int64_t>(v.size()) / columns, columns};
  ArrayOut out(dims, 2, DType::kF64);
  std::memcpy(out.data(), v.data(), v.size() * sizeof(double));
  return out.object();
}

}  // namespace

void BindEeg(nb::module_& m) {
  m.def(
      "project_positions", [](const std::vector<double>& positions) { return Matrix(Take(ProjectPositions(positions)), 2); },
      nb::arg("positions"), nb::sig("def project_positions(positions: Sequence[float]) -> numpy.typing.NDArray[numpy.float64]"),
      "Azimuthal equidistant projection of x, y, z of each electrode.");
  m.def(
      "filter_coefficients",
      [](double rate, int kind, int design, const std::vector<double>& freqs, int order, double q, int taps, int window) {
        FilterOptions o;
        o.rate = rate;
        o.kind = static_cast<FilterKind>(kind);
        o.design = static_cast<FilterDesign>(design);
        o.freqs = freqs;
        o.order = order;
        o.q = q;
        o.taps = taps;
        o.window = static_cast<FirWindow>(window);
        const FilterCoefficients c = Take(DesignFilter(o));
        return c.taps.empty() ? Matrix(c.sections, 6) : Matrix(c.taps, 1);
      },
      nb::arg("rate"), nb::arg("kind"), nb::arg("design"), nb::arg("freqs"), nb::arg("order"), nb::arg("q"), nb::arg("taps"), nb::arg("window"),
      nb::sig("def filter_coefficients(rate: float, kind: int, design: int, freqs: Sequence[float], order: int, q: float, "
              "taps: int, window: int) -> numpy.typing.NDArray[numpy.float64]"),
      "Sections [n, 6] or taps [n, 1] of a filter; kind, design and window are indices into the op's choices.");
}

}  // namespace zoo::python
