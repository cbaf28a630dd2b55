// SPDX-License-Identifier: Apache-2.0
// Signals that the audio comparisons share.
#ifndef ZOO_TESTS_ORACLE_SIGNALS_H_
#define ZOO_TESTS_ORACLE_SIGNALS_H_

#include <map>
#include <string>
#include <vector>

#include "oracle/oracle.h"

namespace {

// Signals of tests/oracle/test_mfcc.py and test_kaldi.py: noise floors, steps and nothing in between.
inline std::map<std::string, std::vector<float>> Signals(size_t n, double rate) {
  const auto made = [n](auto f) {
    std::vector<float> x(n);
    for (size_t i = 0; i < n; ++i) x[i] = static_cast<float>(f(i));
    return x;
  };
  const auto tone = [&](double hz, double gain) {
    return made([=](size_t i) { return gain * std::sin(2 * M_PI * hz * static_cast<double>(i) / rate); });
  };
  return {{"silence", made([](size_t) { return 0; })},
          {"impulse", made([n](size_t i) { return i == n / 2; })},
          {"first_sample", made([](size_t i) { return i == 0; })},
          {"last_sample", made([n](size_t i) { return i + 1 == n; })},
          {"tone_1_khz", tone(1000, 0.5)},
          {"tone_3333_hz", tone(3333.3, 1)},
          {"tone_quiet", tone(440, 1e-4)},
          {"square", made([=](size_t i) { return std::sin(2 * M_PI * 100 * static_cast<double>(i) / rate) + 1e-9 > 0 ? 1 : -1; })},
          {"tone_at_nyquist", made([](size_t i) { return i % 2 == 0 ? 1 : -1; })},
          {"constant", made([](size_t) { return 1; })},
          {"noise", Normal<float>(n, 3)},
          {"denormals", Normal<float>(n, 4, 1e-40)},
          {"gain_1e9", Normal<float>(n, 5, 1e9)},
          {"gain_1e_12", Normal<float>(n, 6, 1e-12)}};
}

struct SignalCase {
  std::string name;
  std::vector<float> wave;
};
inline std::vector<SignalCase> SignalCases(size_t n, double rate, const std::vector<size_t>& lengths) {
  std::vector<SignalCase> cases;
  for (auto& [name, wave] : Signals(n, rate)) cases.push_back({name, wave});
  for (const size_t length : lengths) cases.push_back({"noise_of_" + std::to_string(length), Normal<float>(length, 7)});
  return cases;
}

}  // namespace

#endif  // ZOO_TESTS_ORACLE_SIGNALS_H_
