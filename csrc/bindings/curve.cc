// SPDX-License-Identifier: Apache-2.0
#include "zoo/curve.h"

#include <nanobind/nanobind.h>

#include "bindings/common.h"

namespace zoo::python {
namespace {

Span<const double> Doubles(const ArrayIn& in) {
  if (in.type() != SampleType::kF64) Check(InvalidArgument("values must be float64"));
  return {static_cast<const double*>(in.data()), static_cast<size_t>(in.rows())};
}

template <class F>
nb::object Filtered(nb::handle values, F apply) {
  const ArrayIn in(values, "values", 1);
  const Span<const double> from = Doubles(in);
  const int64_t dims[1] = {in.rows()};
  ArrayOut out(dims, 1, DType::kF64);
  Check(apply(from, Span<double>(static_cast<double*>(out.data()), from.size())));
  return out.object();
}

}  // namespace

void BindCurve(nb::module_& m) {
  m.def(
      "moving_mean", [](nb::handle values, int64_t window) { return Filtered(values, [&](auto from, auto to) { return MovingMean(from, window, to); }); },
      nb::arg("values"), nb::arg("window"),
      nb::sig("def moving_mean(values: numpy.typing.NDArray[numpy.float64], window: int) -> numpy.typing.NDArray[numpy.float64]"),
      "Mean over `window` values about each.");
  m.def(
      "moving_median", [](nb::handle values, int64_t window) { return Filtered(values, [&](auto from, auto to) { return MovingMedian(from, window, to); }); },
      nb::arg("values"), nb::arg("window"),
      nb::sig("def moving_median(values: numpy.typing.NDArray[numpy.float64], window: int) -> numpy.typing.NDArray[numpy.float64]"),
      "Median over `window` values about each.");
  m.def(
      "curve",
      [](nb::handle bins, int64_t count, double low, double high, double cutoff, double rate, int32_t order, int64_t mean, int64_t median) {
        const ArrayIn in(bins, "bins", 1);
        if (in.type() != SampleType::kI32) Check(InvalidArgument("bins must be int32"));
        SmoothOptions smooth;
        smooth.cutoff = cutoff, smooth.rate = rate, smooth.order = order, smooth.mean = mean, smooth.median = median;
        const int64_t dims[1] = {in.rows()};
        ArrayOut out(dims, 1, DType::kF32);
        const size_t n = static_cast<size_t>(in.rows());
        Check(MakeCurve({static_cast<const int32_t*>(in.data()), n}, count, low, high, smooth, {static_cast<float*>(out.data()), n}));
        return out.object();
      },
      nb::arg("bins"), nb::arg("count"), nb::arg("low"), nb::arg("high"), nb::arg("cutoff") = 0.0, nb::arg("rate") = 1.0, nb::arg("order") = 6, nb::arg("mean") = 1,
      nb::arg("median") = 1,
      nb::sig("def curve(bins: numpy.typing.NDArray[numpy.int32], count: int, low: float, high: float, cutoff: float = 0.0, rate: float = 1.0, order: int = 6, "
              "mean: int = 1, median: int = 1) -> numpy.typing.NDArray[numpy.float32]"),
      "Values of a curve from the bin of each step; cutoff 0: no low-pass.");
}

}  // namespace zoo::python
