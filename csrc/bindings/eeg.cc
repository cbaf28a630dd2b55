// SPDX-License-Identifier: Apache-2.0
#include "zoo/eeg.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <vector>

#include "bindings/common.h"
#include "zoo/rows.h"

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
  m.def(
      "parse_rows",
      [](const nb::bytes& text, int64_t columns, const std::vector<int64_t>& wanted, const std::string& separator, int64_t first_line) {
        RowsOptions o;
        o.columns = columns;
        o.wanted = wanted;
        if (separator.size() != 1 || wanted.empty()) Check(InvalidArgument("rows: separator must be one character, and a column be wanted"));
        o.separator = separator[0];
        o.first_line = first_line;
        const std::vector<double> values = Take(ParseRows(text.c_str(), text.size(), o));
        return Matrix(values, static_cast<int64_t>(wanted.size()));
      },
      nb::arg("text"), nb::arg("columns"), nb::arg("wanted"), nb::arg("separator") = ",", nb::arg("first_line") = 1,
      nb::sig("def parse_rows(text: bytes, columns: int, wanted: Sequence[int], separator: str = ',', first_line: int = 1) -> "
              "numpy.typing.NDArray[numpy.float64]"),
      "The wanted columns, float64 [rows, len(wanted)], of lines of numbers.");
}

}  // namespace zoo::python
