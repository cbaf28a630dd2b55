// SPDX-License-Identifier: Apache-2.0
// Filters and band powers beside SciPy.
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "oracle/oracle.h"
#include "zoo/eeg.h"

namespace {

struct FilterCase {
  const char* name;
  zoo::FilterKind kind;
  std::vector<double> edges;  // of the rate
};
const std::vector<FilterCase> kFilterCases = {
    {"lowpass", zoo::FilterKind::kLowpass, {0.31}},         {"lowpass_deep", zoo::FilterKind::kLowpass, {0.008}},
    {"highpass", zoo::FilterKind::kHighpass, {0.01}},       {"bandpass", zoo::FilterKind::kBandpass, {1.0 / 128, 45.0 / 128}},
    {"bandstop", zoo::FilterKind::kBandstop, {0.36, 0.41}}, {"notch", zoo::FilterKind::kNotch, {50.0 / 128}}};
const char* const kKinds[] = {"lowpass", "highpass", "bandpass", "bandstop"};

py::object Hz(const std::vector<double>& freqs) { return freqs.size() > 1 ? py::object(Array(freqs)) : py::object(py::float_(freqs[0])); }

// Sections of SciPy.
py::object Sos(const zoo::FilterOptions& o) {
  const py::module_ signal = py::module_::import("scipy.signal");
  if (o.kind == zoo::FilterKind::kNotch) {
    const py::object ba = signal.attr("iirnotch")(o.freqs[0], o.q, "fs"_a = o.rate);
    return py::module_::import("numpy").attr("concatenate")(ba).attr("reshape")(1, 6);
  }
  return signal.attr("butter")(o.order, Hz(o.freqs), kKinds[static_cast<int>(o.kind)], "fs"_a = o.rate, "output"_a = "sos");
}

class FilterOracle : public OnIsa<FilterCase> {
 protected:
  zoo::FilterOptions Options(double rate) const {
    zoo::FilterOptions o;
    o.rate = rate, o.kind = param().kind;
    for (const double e : param().edges) o.freqs.push_back(rate * e);
    return o;
  }
};
INSTANTIATE_TEST_SUITE_P(SciPy, FilterOracle, OnEveryIsa(kFilterCases), kName);

TEST_P(FilterOracle, Design) {
  for (const double rate : {128.0, 250.0, 1000.0, 44100.0}) {
    for (int32_t order = 1; order <= 12; ++order) {
      zoo::FilterOptions o = Options(rate);
      o.order = order;
      const std::vector<double> want = Values<double>(Sos(o)), got = Take(zoo::DesignFilter(o)).sections;
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < got.size(); ++i) {  // the first numerator holds the gain; all others are of the order of 1
        const bool relative = i < 3 || o.kind == zoo::FilterKind::kNotch;
        EXPECT_LE(std::fabs(got[i] - want[i]), relative ? 1e-12 * std::fabs(want[i]) : 1e-12) << rate << " Hz, order " << order << ", value " << i;
      }
    }
    if (param().kind == zoo::FilterKind::kNotch) continue;
    for (const int32_t taps : {1, 31, 101}) {
      for (const auto& [window, name] : {std::pair<zoo::FirWindow, const char*>{zoo::FirWindow::kHamming, "hamming"},
                                         {zoo::FirWindow::kHann, "hann"},
                                         {zoo::FirWindow::kBlackman, "blackman"}}) {
        zoo::FilterOptions o = Options(rate);
        o.design = zoo::FilterDesign::kFir, o.taps = taps, o.window = window;
        const py::object want =
            py::module_::import("scipy.signal")
                .attr("firwin")(taps, Hz(o.freqs), "window"_a = name, "pass_zero"_a = kKinds[static_cast<int>(o.kind)], "fs"_a = rate);
        EXPECT_LE(Difference(Take(zoo::DesignFilter(o)).taps, Values<double>(want)), 1e-12) << rate << " Hz, " << taps << " taps, " << name;
      }
    }
  }
}

TEST_P(FilterOracle, Signals) {
  const py::module_ signal = py::module_::import("scipy.signal");
  std::vector<double> impulse(900 * 3, 0.0);
  impulse[400 * 3 + 1] = 1;
  const std::map<std::string, std::pair<int64_t, std::vector<double>>> signals = {{"noise", {8, Normal<double>(900 * 8, 1)}},
                                                                                  {"offset", {5, Normal<double>(900 * 5, 2, 1, 1e6)}},
                                                                                  {"volts", {5, Normal<double>(900 * 5, 3, 1e-6)}},
                                                                                  {"huge", {5, Normal<double>(900 * 5, 4, 1e100)}},
                                                                                  {"impulse", {3, impulse}},
                                                                                  {"constant", {2, std::vector<double>(1800, 7.5)}}};
  for (const auto& [name, held] : signals) {
    const auto& [channels, x] = held;
    const int64_t n = static_cast<int64_t>(x.size()) / channels;
    const py::array_t<double> wave = Array(x, {static_cast<py::ssize_t>(n), static_cast<py::ssize_t>(channels)});
    const auto compare = [&, &name = name, &channels = channels, &x = x](const zoo::FilterOptions& o, const py::object& theirs) {
      const zoo::Filter f = Take(zoo::Filter::Create(o, isa()));
      const auto state = Take(f.NewState());
      std::vector<double> got(x.size());
      EXPECT_TRUE(f.Reserve({0, n}, channels, *state).ok());
      const zoo::Status status = f.Compute(View(x), {0, n}, n, channels, {0, n}, To(&got), *state);
      EXPECT_TRUE(status.ok()) << status.message();
      const std::vector<double> want = Values<double>(theirs);
      // beside what double precision leaves of the offset that is taken out
      EXPECT_LE(Difference(got, want), 1e-9 * Largest(want) + 1e-12 * Largest(x)) << name;
    };
    zoo::FilterOptions o = Options(128);
    const py::object sos = Sos(o);
    compare(o, signal.attr("sosfilt")(sos, wave, "axis"_a = 0));
    o.phase = zoo::FilterPhase::kZero;
    const std::pair<zoo::FilterPad, const char*> pads[] = {
        {zoo::FilterPad::kOdd, "odd"}, {zoo::FilterPad::kEven, "even"}, {zoo::FilterPad::kConstant, "constant"}};
    for (const auto& [pad, padtype] : pads) {
      o.pad = pad;
      compare(o, signal.attr("sosfiltfilt")(sos, wave, "axis"_a = 0, "padtype"_a = padtype));
    }
    o.pad = zoo::FilterPad::kNone;
    compare(o, signal.attr("sosfiltfilt")(sos, wave, "axis"_a = 0, "padtype"_a = py::none()));
  }
}

struct WelchCase {
  const char* name;
  double rate;
  int64_t window, hop, segment, overlap;  // overlap -1: half a segment
};
const std::vector<WelchCase> kWelchCases = {{"one_segment", 128, 128, 64, 128, -1}, {"rate_250", 250, 250, 125, 250, -1},
                                            {"segments", 250, 500, 250, 250, -1},   {"overlap_100", 1000, 1000, 500, 500, 100},
                                            {"no_overlap", 512, 1024, 700, 256, 0}, {"odd", 125, 125, 62, 125, -1},
                                            {"prime", 128, 254, 64, 127, 30}};

class BandPowerOracle : public OnIsa<WelchCase> {};
INSTANTIATE_TEST_SUITE_P(SciPy, BandPowerOracle, OnEveryIsa(kWelchCases), kName);

TEST_P(BandPowerOracle, Welch) {
  const WelchCase& c = param();
  const int64_t n = 3 * c.window + 50, channels = 11;
  const std::vector<double> x = Normal<double>(static_cast<size_t>(n * channels), 2, 20, 4000);
  for (const auto& [taper, taper_name] :
       {std::pair<zoo::Taper, const char*>{zoo::Taper::kHann, "hann"}, {zoo::Taper::kHamming, "hamming"}, {zoo::Taper::kBoxcar, "boxcar"}}) {
    for (const bool density : {true, false}) {
      zoo::BandPowerOptions o;
      o.rate = c.rate, o.bands = {0, 8, 8, 14, 14, 31, 31, c.rate / 2};
      o.window_length = c.window, o.hop_length = c.hop, o.segment_length = c.segment, o.overlap = c.overlap;
      o.taper = taper, o.density = density, o.output = zoo::BandOutput::kPower;
      const zoo::BandPower op = Take(zoo::BandPower::Create(o, isa()));
      const auto state = Take(op.NewState());
      const int64_t windows = o.Windows(n), bands = o.band_count(), bins = c.segment / 2 + 1;
      std::vector<float> got(static_cast<size_t>(windows * bands * channels));
      ASSERT_TRUE(op.Compute(View(x), channels, {0, windows}, To(&got), *state).ok());
      for (int64_t w = 0; w < windows; ++w) {
        const std::vector<double> part(x.begin() + w * c.hop * channels, x.begin() + (w * c.hop + c.window) * channels);
        const py::object found =
            py::module_::import("scipy.signal")
                .attr("welch")(Array(part, {static_cast<py::ssize_t>(c.window), static_cast<py::ssize_t>(channels)}), c.rate, "nperseg"_a = c.segment,
                               "noverlap"_a = c.overlap < 0 ? py::object(py::none()) : py::object(py::int_(c.overlap)), "axis"_a = 0,
                               "window"_a = taper_name, "scaling"_a = density ? "density" : "spectrum", "detrend"_a = "constant");
        const std::vector<double> power = Values<double>(found.cast<py::tuple>()[1]);
        ASSERT_EQ(static_cast<int64_t>(power.size()), bins * channels);
        for (int64_t b = 0; b < bands; ++b) {
          for (int64_t k = 0; k < channels; ++k) {
            double want = 0;
            for (int64_t i = 0; i < bins; ++i) {
              const double f = static_cast<double>(i) * c.rate / static_cast<double>(c.segment);
              if (f >= o.bands[static_cast<size_t>(2 * b)] && f < o.bands[static_cast<size_t>(2 * b + 1)])
                want += power[static_cast<size_t>(i * channels + k)];
            }
            if (density) want *= c.rate / static_cast<double>(c.segment);
            const double ours = got[static_cast<size_t>((w * bands + b) * channels + k)];
            EXPECT_LE(std::fabs(ours - want), 2e-7 * want)
                << taper_name << ", window " << w << ", band " << b << ", channel " << k << ": " << ours << ", not " << want;
          }
        }
      }
    }
  }
}

}  // namespace
