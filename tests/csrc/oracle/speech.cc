// SPDX-License-Identifier: Apache-2.0
// Kaldi's filter banks beside kaldi-native-fbank.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "oracle/oracle.h"
#include "oracle/signals.h"
#include "zoo/speech.h"

namespace {

struct Knf {
  std::vector<float> values;
  int64_t frames = 0;
};
Knf KnfOf(const zoo::KaldiFbankOptions& o, const std::vector<float>& wave) {
  const py::module_ knf = py::module_::import("kaldi_native_fbank");
  static const char* const kWindows[] = {"povey", "hamming", "hanning", "rectangular", "blackman"};
  const py::object options = knf.attr("FbankOptions")();
  const py::object frame = options.attr("frame_opts"), mel = options.attr("mel_opts");
  frame.attr("dither") = 0.0, frame.attr("samp_freq") = o.rate, frame.attr("window_type") = kWindows[static_cast<int>(o.window_type)];
  frame.attr("frame_length_ms") = o.frame_length_ms, frame.attr("frame_shift_ms") = o.frame_shift_ms;
  frame.attr("preemph_coeff") = o.preemph_coeff, frame.attr("remove_dc_offset") = o.remove_dc_offset;
  frame.attr("round_to_power_of_two") = o.round_to_power_of_two, frame.attr("snip_edges") = o.snip_edges;
  mel.attr("num_bins") = o.num_bins, mel.attr("low_freq") = o.low_freq, mel.attr("high_freq") = o.high_freq;
  options.attr("use_energy") = o.use_energy, options.attr("raw_energy") = o.raw_energy, options.attr("energy_floor") = o.energy_floor;
  options.attr("use_power") = o.use_power;
  const py::object computer = knf.attr("OnlineFbank")(options);
  py::list samples;
  for (const float v : wave) samples.append(v * static_cast<float>(o.scale));
  computer.attr("accept_waveform")(o.rate, samples);
  computer.attr("input_finished")();
  Knf out;
  out.frames = computer.attr("num_frames_ready").cast<int64_t>();
  for (int64_t i = 0; i < out.frames; ++i) {
    const std::vector<float> row = Values<float>(computer.attr("get_frame")(i));
    out.values.insert(out.values.end(), row.begin(), row.end());
  }
  return out;
}

// Bands within 75 dB of a frame's largest: below lies what the library's float32 transform rounds away. All: everywhere.
void CompareFbank(const zoo::KaldiFbankOptions& o, const std::string& isa, const std::vector<float>& wave, bool all) {
  const int64_t n = static_cast<int64_t>(wave.size());
  const zoo::FrameFeatures op = Take(zoo::FrameFeatures::Create(o, isa));
  const auto state = Take(op.NewState());
  const Knf want = KnfOf(o, wave);
  ASSERT_EQ(op.Frames(n), want.frames);
  std::vector<float> got(static_cast<size_t>(want.frames * op.columns()));
  ASSERT_EQ(got.size(), want.values.size());
  const zoo::Status status = op.Compute(View(wave), 0, n, {0, want.frames}, To(&got), *state);
  ASSERT_TRUE(status.ok()) << status.message();
  const size_t columns = static_cast<size_t>(op.columns()), energy = o.use_energy ? 1 : 0;
  size_t compared = 0;
  for (size_t at = 0; at < got.size(); at += columns) {
    const float* row = &want.values[at];
    const double room = (o.use_power ? 75 : 37.5) / 10 * std::log(10), peak = *std::max_element(row + energy, row + columns);
    for (size_t i = 0; i < columns; ++i) {
      if (!all && i >= energy && row[i] <= peak - room) continue;
      EXPECT_LE(std::fabs(got[at + i] - row[i]), 1e-3) << "frame " << at / columns << ", column " << i << ": " << got[at + i] << ", not " << row[i];
      ++compared;
    }
  }
  EXPECT_GE(compared, got.size() / 20);  // a tone at half the rate fills two or three bands of 40
}

struct FbankCase {
  const char* name;
  zoo::KaldiFbankOptions options;
};
std::vector<FbankCase> FbankCases() {
  std::vector<FbankCase> c(8);
  c[0].name = "defaults";
  c[1].name = "bins_80_of_one", c[1].options.num_bins = 80, c[1].options.scale = 1;
  c[2].name = "bins_80", c[2].options.num_bins = 80;
  auto& centred = c[3].options;
  c[3].name = "centred", centred.num_bins = 40, centred.snip_edges = false, centred.window_type = zoo::KaldiWindow::kHamming;
  centred.use_energy = true, centred.raw_energy = false;
  auto& magnitude = c[4].options;
  c[4].name = "magnitude", magnitude.window_type = zoo::KaldiWindow::kBlackman, magnitude.num_bins = 30, magnitude.use_power = false;
  magnitude.low_freq = 100, magnitude.high_freq = -400;
  auto& odd = c[5].options;
  c[5].name = "frames_of_400", odd.round_to_power_of_two = false, odd.window_type = zoo::KaldiWindow::kHanning, odd.high_freq = 7600,
  odd.use_energy = true;
  c[6].name = "bare", c[6].options.window_type = zoo::KaldiWindow::kRectangular, c[6].options.preemph_coeff = 0,
  c[6].options.remove_dc_offset = false;
  auto& floored = c[7].options;
  c[7].name = "floored", floored.frame_length_ms = 32, floored.frame_shift_ms = 12.5, floored.use_energy = true, floored.energy_floor = 1e9;
  floored.preemph_coeff = 0.5;
  return c;
}

class FbankOracle : public OnIsa<FbankCase> {};
INSTANTIATE_TEST_SUITE_P(Kaldi, FbankOracle, OnEveryIsa(FbankCases()), kName);

TEST_P(FbankOracle, NoiseAtEveryRate) {
  for (const int32_t rate : {8000, 11025, 16000, 22050, 44100, 48000}) {
    zoo::KaldiFbankOptions o = param().options;
    if (o.high_freq > rate / 2) continue;
    if (rate < 16000 && o.num_bins > 40) continue;            // bands narrower than a bin are refused
    if (!o.round_to_power_of_two && rate != 16000) continue;  // lengths with other factors than 2, 3 and 5
    o.rate = rate;
    CompareFbank(o, isa(), Normal<float>(static_cast<size_t>(rate / 4), static_cast<unsigned>(rate)), true);
  }
}

class FbankOfExtremes : public OnIsa<SignalCase> {};
INSTANTIATE_TEST_SUITE_P(Kaldi, FbankOfExtremes, OnEveryIsa(SignalCases(8000, 16000, {400, 401})), kName);

TEST_P(FbankOfExtremes, ThreeSets) {
  std::vector<zoo::KaldiFbankOptions> sets(3);
  sets[0].num_bins = sets[1].num_bins = 80;
  sets[1].scale = 1, sets[1].window_type = zoo::KaldiWindow::kHanning;
  sets[2].num_bins = 40, sets[2].snip_edges = false, sets[2].use_energy = true;
  for (const auto& o : sets) CompareFbank(o, isa(), param().wave, param().name.find("tone") == std::string::npos);
}

}  // namespace
