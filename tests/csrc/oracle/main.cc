// SPDX-License-Identifier: Apache-2.0
// Kernels beside the Python libraries that they follow: this program starts an interpreter, gives the library and the kernel the same
// arrays and compares, on every instruction set. Bounds are those of tests/oracle, where real recordings and more options are.
#include <gtest/gtest.h>
#include <pybind11/embed.h>

namespace py = pybind11;

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // the test environment's Python: from its place the interpreter finds the environment's packages
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.install_signal_handlers = 0;
  PyConfig_SetBytesString(&config, &config.executable, ZOO_ORACLE_PYTHON);
  const py::scoped_interpreter interpreter(&config);
  py::module_::import("warnings").attr("simplefilter")("ignore");  // "n_fft is too large for input signal", "empty mel filter"
  return RUN_ALL_TESTS();
}
