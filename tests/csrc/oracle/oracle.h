// SPDX-License-Identifier: Apache-2.0
// What the comparisons with Python libraries share: cases on every instruction set, arrays to Python and back, differences.
#ifndef ZOO_TESTS_ORACLE_ORACLE_H_
#define ZOO_TESTS_ORACLE_ORACLE_H_

#include <algorithm>
#include <cmath>
#include <ostream>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <pybind11/embed.h>
#include <pybind11/numpy.h>

#include "testing.h"
#include "zoo/isa.h"
#include "zoo/span.h"

namespace {

namespace py = pybind11;
using py::literals::operator""_a;

// A case of a family, and the instruction set that it runs on.
template <class Case>
class OnIsa : public testing::TestWithParam<std::tuple<std::string, Case>> {
 protected:
  const std::string& isa() const { return std::get<0>(this->GetParam()); }
  const Case& param() const { return std::get<1>(this->GetParam()); }
};
template <class Case>
auto OnEveryIsa(const std::vector<Case>& cases) {
  return testing::Combine(testing::ValuesIn(zoo::SupportedIsas()), testing::ValuesIn(cases));
}
// How GoogleTest prints a case.
template <class Case>
auto operator<<(std::ostream& out, const Case& c) -> decltype(out << c.name) {
  return out << c.name;
}
const auto kName = [](const auto& info) { return std::string(std::get<1>(info.param).name) + "_" + std::get<0>(info.param); };

template <class T>
zoo::Span<const T> View(const std::vector<T>& v) {
  return {v.data(), v.size()};
}
template <class T>
zoo::Span<T> To(std::vector<T>* v) {
  return {v->data(), v->size()};
}

template <class T>
py::array_t<T> Array(const std::vector<T>& values, std::vector<py::ssize_t> shape = {}) {
  if (shape.empty()) shape = {static_cast<py::ssize_t>(values.size())};
  py::array_t<T> a(shape);
  std::copy(values.begin(), values.end(), a.mutable_data());
  return a;
}

// An array's values, row by row.
template <class T>
std::vector<T> Values(const py::object& array) {
  const auto a = py::array_t<T, py::array::c_style | py::array::forcecast>::ensure(array);
  if (!a) throw py::error_already_set();
  return std::vector<T>(a.data(), a.data() + a.size());
}

template <class T>
double Largest(const std::vector<T>& v) {
  double most = 0;
  for (const T x : v) most = std::max(most, std::fabs(static_cast<double>(x)));
  return most;
}

// Infinite where sizes differ or something is no number.
template <class T, class U>
double Difference(const std::vector<T>& a, const std::vector<U>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    worst = std::isnan(d) ? INFINITY : std::max(worst, d);
  }
  return worst;
}

template <class T>
std::vector<T> Normal(size_t n, unsigned seed, double scale = 1, double offset = 0) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> normal;
  std::vector<T> x(n);
  for (T& v : x) v = static_cast<T>(offset + scale * normal(rng));
  return x;
}

}  // namespace

#endif  // ZOO_TESTS_ORACLE_ORACLE_H_
