// SPDX-License-Identifier: Apache-2.0
// Mel bands and MFCC beside librosa.
#include <string>
#include <vector>

#include "oracle/oracle.h"
#include "oracle/signals.h"
#include "zoo/spectral.h"

namespace {

struct MelCase {
  const char* name;
  int32_t rate = 22050, n_fft = 2048, hop = 512, win = 0, n_mels = 128, n_mfcc = 39;
  zoo::Window window = zoo::Window::kHann;
  bool center = true, htk = false, slaney = true;
  double power = 2, fmin = 0, fmax = 0;  // fmax 0: rate / 2
  bool top_db = true;
};
std::vector<MelCase> MelCases() {
  std::vector<MelCase> cases = {{"defaults"},
                                {"emotion", 48000, 1024, 512, 512},
                                {"tacotron", 22050, 1024, 256, 0, 80, 80},
                                {"recogniser", 16000, 512, 160, 400, 40, 13},
                                {"whisper", 16000, 400, 160, 0, 80},
                                {"long", 22050, 4096, 1024, 0, 256, 256},
                                {"not_centred"},
                                {"no_top_db"},
                                {"one_coefficient", 8000, 256, 64, 0, 20, 1},
                                {"three_five", 8000, 750, 200, 0, 26, 17}};
  cases[1].window = zoo::Window::kHamming, cases[1].htk = true;
  cases[2].power = 1, cases[2].fmax = 8000;
  cases[4].htk = true, cases[4].slaney = false;
  cases[5].htk = true;
  cases[6].center = false;
  cases[7].top_db = false;
  return cases;
}

zoo::MfccOptions MfccOptionsOf(const MelCase& c, zoo::PadMode pad) {
  zoo::MfccOptions o;
  o.rate = c.rate, o.n_fft = c.n_fft, o.hop_length = c.hop, o.win_length = c.win, o.n_mels = c.n_mels, o.n_mfcc = c.n_mfcc;
  o.window = c.window, o.center = c.center, o.pad_mode = pad, o.power = c.power, o.fmin = c.fmin, o.htk = c.htk;
  if (c.fmax > 0) o.fmax = c.fmax;
  o.norm = c.slaney ? zoo::MelNorm::kSlaney : zoo::MelNorm::kNone;
  if (!c.top_db) o.db.top_db.reset();
  return o;
}

// librosa's, [frames, bands] and [frames, coefficients].
struct Librosa {
  std::vector<float> mel, mfcc;
};
Librosa LibrosaOf(const MelCase& c, zoo::PadMode pad, const std::vector<float>& wave) {
  const py::module_ librosa = py::module_::import("librosa");
  const py::object none = py::none();
  const py::object norm = c.slaney ? py::object(py::str("slaney")) : none, fmax = c.fmax > 0 ? py::object(py::float_(c.fmax)) : none;
  const py::object win = c.win > 0 ? py::object(py::int_(c.win)) : none, top_db = c.top_db ? py::object(py::float_(80.0)) : none;
  const py::object mel = librosa.attr("feature").attr("melspectrogram")(
      "y"_a = Array(wave), "sr"_a = c.rate, "n_fft"_a = c.n_fft, "hop_length"_a = c.hop, "win_length"_a = win,
      "window"_a = c.window == zoo::Window::kHann ? "hann" : "hamming", "center"_a = c.center,
      "pad_mode"_a = pad == zoo::PadMode::kReflect ? "reflect" : "constant", "power"_a = c.power, "n_mels"_a = c.n_mels, "fmin"_a = c.fmin,
      "fmax"_a = fmax, "htk"_a = c.htk, "norm"_a = norm);
  const py::object mfcc = librosa.attr("feature").attr("mfcc")("S"_a = librosa.attr("power_to_db")(mel, "top_db"_a = top_db), "n_mfcc"_a = c.n_mfcc);
  return {Values<float>(mel.attr("T")), Values<float>(mfcc.attr("T"))};
}

Librosa Ours(const zoo::MfccOptions& o, const std::string& isa, const std::vector<float>& wave) {
  const zoo::Mel mel = Take(zoo::Mel::Create(o, isa));
  const zoo::Mfcc mfcc = Take(zoo::Mfcc::Create(o, isa));
  const auto mel_state = Take(mel.NewState());
  const auto mfcc_state = Take(mfcc.NewState());
  const zoo::Range frames{0, o.Frames(static_cast<int64_t>(wave.size()))};
  Librosa out{std::vector<float>(static_cast<size_t>(frames.end * o.n_mels)), std::vector<float>(static_cast<size_t>(frames.end * o.n_mfcc))};
  EXPECT_TRUE(mel.Compute(zoo::Signal::Whole(View(wave)), frames, To(&out.mel), *mel_state).ok());
  EXPECT_TRUE(mfcc.Reserve(frames.end, *mfcc_state).ok());
  EXPECT_TRUE(mfcc.Compute(zoo::Signal::Whole(View(wave)), frames, To(&out.mfcc), *mfcc_state).ok());
  return out;
}

class MelOracle : public OnIsa<MelCase> {};
INSTANTIATE_TEST_SUITE_P(Librosa, MelOracle, OnEveryIsa(MelCases()), kName);

TEST_P(MelOracle, NoiseThatGrows) {
  std::vector<float> wave = Normal<float>(20011, 5);
  for (size_t i = 0; i < wave.size(); ++i) wave[i] *= static_cast<float>(0.01 + 0.99 * static_cast<double>(i) / 20010);
  const Librosa want = LibrosaOf(param(), zoo::PadMode::kConstant, wave), got = Ours(MfccOptionsOf(param(), zoo::PadMode::kConstant), isa(), wave);
  EXPECT_LE(Difference(got.mfcc, want.mfcc), 5e-3) << "dB";
}

TEST_P(MelOracle, BandsOfNoise) {
  const std::vector<float> wave = Normal<float>(20011, 6);
  const Librosa want = LibrosaOf(param(), zoo::PadMode::kConstant, wave), got = Ours(MfccOptionsOf(param(), zoo::PadMode::kConstant), isa(), wave);
  ASSERT_EQ(got.mel.size(), want.mel.size());
  const size_t bands = static_cast<size_t>(param().n_mels);
  for (size_t at = 0; at < got.mel.size(); at += bands) {  // of a frame's peak
    const std::vector<float> ours(&got.mel[at], &got.mel[at] + bands), theirs(&want.mel[at], &want.mel[at] + bands);
    EXPECT_LE(Difference(ours, theirs), 1e-5 * Largest(theirs)) << "frame " << at / bands;
  }
}

class MfccOfExtremes : public OnIsa<SignalCase> {};
INSTANTIATE_TEST_SUITE_P(Librosa, MfccOfExtremes, OnEveryIsa(SignalCases(30000, 22050, {1, 2, 511, 1024, 1025})), kName);

TEST_P(MfccOfExtremes, Defaults) {
  for (const zoo::PadMode pad : {zoo::PadMode::kConstant, zoo::PadMode::kReflect}) {
    const MelCase c{"defaults"};
    EXPECT_LE(Difference(Ours(MfccOptionsOf(c, pad), isa(), param().wave).mfcc, LibrosaOf(c, pad, param().wave).mfcc), 0.05) << "dB";
  }
}

}  // namespace
