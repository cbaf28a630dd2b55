// SPDX-License-Identifier: Apache-2.0
#include "zoo/decode.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <vector>

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

template <class T>
nb::object Copied(const std::vector<T>& values, DType type) {
  const int64_t dims[1] = {static_cast<int64_t>(values.size())};
  ArrayOut out(dims, 1, type);
  if (!values.empty()) std::memcpy(out.data(), values.data(), values.size() * sizeof(T));
  return out.object();
}

Span<const float> Floats(const ArrayIn& in) {
  if (in.type() != SampleType::kF32) Check(InvalidArgument("an output must be float32"));
  return {static_cast<const float*>(in.data()), static_cast<size_t>(in.rows() * in.columns())};
}

SmoothOptions Smooth(double cutoff, double rate, int32_t order, int64_t mean, int64_t median) {
  SmoothOptions smooth;
  smooth.cutoff = cutoff, smooth.rate = rate, smooth.order = order, smooth.mean = mean, smooth.median = median;
  return smooth;
}

}  // namespace

void BindDecode(nb::module_& m) {
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
        const int64_t dims[1] = {in.rows()};
        ArrayOut out(dims, 1, DType::kF32);
        const size_t n = static_cast<size_t>(in.rows());
        Check(MakeCurve({static_cast<const int32_t*>(in.data()), n}, count, low, high, Smooth(cutoff, rate, order, mean, median), {static_cast<float*>(out.data()), n}));
        return out.object();
      },
      nb::arg("bins"), nb::arg("count"), nb::arg("low"), nb::arg("high"), nb::arg("cutoff") = 0.0, nb::arg("rate") = 1.0, nb::arg("order") = 6, nb::arg("mean") = 1,
      nb::arg("median") = 1,
      nb::sig("def curve(bins: numpy.typing.NDArray[numpy.int32], count: int, low: float, high: float, cutoff: float = 0.0, rate: float = 1.0, order: int = 6, "
              "mean: int = 1, median: int = 1) -> numpy.typing.NDArray[numpy.float32]"),
      "Values of a curve from the bin of each step; cutoff 0: no low-pass.");
  m.def(
      "decode_curve",
      [](nb::handle output, double low, double high, double cutoff, double rate, int32_t order, int64_t mean, int64_t median) {
        const ArrayIn in(output, "output", 2);
        Head head;
        head.output = "of a curve", head.kind = DecodeKind::kCurve, head.low = low, head.high = high, head.smooth = Smooth(cutoff, rate, order, mean, median);
        Answers answers;
        Check(DecodeCurve(head, Floats(in), in.rows(), true, &answers));
        const int64_t dims[1] = {in.rows()};
        ArrayOut bins(dims, 1, DType::kI64);
        std::copy(answers.bins.begin(), answers.bins.end(), static_cast<int64_t*>(bins.data()));
        return nb::make_tuple(bins.object(), Copied(answers.values, DType::kF32));
      },
      nb::arg("output"), nb::arg("low"), nb::arg("high"), nb::arg("cutoff") = 0.0, nb::arg("rate") = 1.0, nb::arg("order") = 6, nb::arg("mean") = 1, nb::arg("median") = 1,
      nb::sig("def decode_curve(output: numpy.typing.NDArray[numpy.float32], low: float, high: float, cutoff: float = 0.0, rate: float = 1.0, order: int = 6, "
              "mean: int = 1, median: int = 1) -> tuple[numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.float32]]"),
      "Bins and values of a curve, from its output [steps, bins].");
  m.def(
      "decode",
      [](nb::handle output, int32_t kind, int64_t labels, const std::vector<double>& thresholds, double low, double high, bool normalize) {
        const ArrayIn in(output, "output", 1);
        Head head;
        head.output = "of a head", head.kind = static_cast<DecodeKind>(kind), head.labels.resize(static_cast<size_t>(labels));
        head.thresholds = thresholds, head.low = low, head.high = high, head.normalize = normalize;
        Answers answers;
        Check(Decode(head, Floats(in), &answers));
        return nb::make_tuple(Copied(answers.values, DType::kF32), Copied(answers.given, DType::kU8), answers.best[0]);
      },
      nb::arg("output"), nb::arg("kind"), nb::arg("labels"), nb::arg("thresholds"), nb::arg("low"), nb::arg("high"), nb::arg("normalize"),
      nb::sig("def decode(output: numpy.typing.NDArray[numpy.float32], kind: int, labels: int, thresholds: Sequence[float], low: float, high: float, normalize: bool) -> "
              "tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.uint8], int]"),
      "Values of one head, which of them are given, and the best (-1: none); kind: 0 softmax, 1 sigmoid, 2 regression, 3 embedding.");
}

}  // namespace zoo::python
