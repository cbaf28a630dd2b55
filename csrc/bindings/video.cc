// SPDX-License-Identifier: Apache-2.0
#include "zoo/video.h"

#include <nanobind/nanobind.h>

#include "bindings/common.h"

namespace zoo::python {

void BindVideo(nb::module_& m) {
  m.def("sample_times", [](nb::handle times, double fps) {
    const ArrayIn in(times, "times", 1);
    if (in.type() != SampleType::kF64) Check(InvalidArgument("times must be float64"));
    SampleFpsOptions options;
    options.fps = fps;
    std::vector<int64_t> indices;
    Check(options.Choose({static_cast<const double*>(in.data()), static_cast<size_t>(in.rows())}, &indices));
    nb::list out;
    for (int64_t i : indices) out.append(i);
    return out;
  }, nb::arg("times"), nb::arg("fps"), nb::sig("def sample_times(times: numpy.typing.NDArray[numpy.float64], fps: float) -> list[int]"),
     "Indices of the first frame and of each that lies at least 1 / fps s after the last one taken.");
}

}  // namespace zoo::python
