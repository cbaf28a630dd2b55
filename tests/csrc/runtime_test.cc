// SPDX-License-Identifier: Apache-2.0
// The runtime under sanitizers: hostile bundles, wrong calls, hashes, versions, windows.
//   runtime_test BUNDLE [ENGINE=FOLDER ...]
// BUNDLE: a directory with an ONNX file. It is run on each engine whose folder of libraries is given, "openvino=/x/libs" say.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bundle/manifest.h"
#include "bundle/sha256.h"
#include "check.h"
#include "make_bundle.h"
#include "runtime/windows.h"
#include "zoo/zoo.h"

namespace {

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

zoo_status OpenBytes(const std::string& bytes) {
  const Exact exact(bytes);
  zoo_model* model = nullptr;
  const zoo_status status = zoo_open_memory(exact.data.get(), exact.size, nullptr, &model);
  EXPECT((status == ZOO_OK) == (model != nullptr), "status %d", status);
  zoo_close(model);
  return status;
}

// The same bundle for another engine.
Files ForEngine(Files files, const std::string& digest, const std::string& kind) {
  std::string& text = files[0].second;
  for (size_t at = 0; (at = text.find("\"onnxruntime\"", at)) != std::string::npos; at += kind.size() + 2) text.replace(at, 13, "\"" + kind + "\"");
  text = Sealed(text, digest);
  return files;
}

void TestHashes() {
  EXPECT(zoo::Sha256Hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "empty");
  EXPECT(zoo::Sha256Hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abc");
  EXPECT(zoo::Sha256Hex(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "a million");
  std::mt19937 rng(3);
  for (size_t n = 0; n < 200; ++n) {
    const std::string text(n, 'x');
    zoo::Sha256 parts;
    for (size_t at = 0; at < n;) {
      const size_t take = std::min<size_t>(n - at, 1 + rng() % 70);
      parts.Update(std::string_view(text).substr(at, take));
      at += take;
    }
    EXPECT(parts.HexDigest() == zoo::Sha256Hex(text), "%d bytes in parts", static_cast<int>(n));
  }
}

void TestVersions() {
  EXPECT(zoo::Meets("2026.4.1", ">=2024.0") && zoo::Meets("1.20", ">=1.20,<2") && zoo::Meets("1.2.0.54", "==1.2.0.54"), "met");
  EXPECT(!zoo::Meets("2.0", ">=1.20,<2") && !zoo::Meets("1.19.9", ">=1.20") && !zoo::Meets("1.2.0.5", "==1.2.0.54"), "not met");
  EXPECT(zoo::Meets("99999999999999999999", ">=1") && zoo::Meets("", "<1") && !zoo::Meets("x", ">=1"), "odd ones");
}

void TestWindows() {
  EXPECT(!zoo::Windows::Create(16000, 1, 0, 4).ok() && !zoo::Windows::Create(16000, NAN, 1, 4).ok() && !zoo::Windows::Create(16000, 1, INFINITY, 4).ok() &&
             !zoo::Windows::Create(16000, 1e9, 1, 4).ok() && !zoo::Windows::Create(0, 1, 1, 4).ok(), "a bad window was taken");
  std::mt19937 rng(4);
  for (const int hop : {1, 3, 10, 25}) {
    std::vector<int32_t> signal(200);
    for (size_t i = 0; i < signal.size(); ++i) signal[i] = static_cast<int32_t>(i);
    zoo::Windows w = Take(zoo::Windows::Create(1, 10, hop, 4));
    int64_t expected = 0;
    for (size_t at = 0; at < signal.size();) {
      const int64_t taken = w.Take(&signal[at], std::min<int64_t>(static_cast<int64_t>(signal.size() - at), 1 + static_cast<int64_t>(rng() % 30)));
      at += static_cast<size_t>(taken);
      if (!w.ready()) continue;
      EXPECT(static_cast<const int32_t*>(w.data())[0] == expected && static_cast<const int32_t*>(w.data())[9] == expected + 9, "hop %d", hop);
      EXPECT(w.start() == static_cast<double>(expected) && w.end() == static_cast<double>(expected + 10), "hop %d: place", hop);
      w.Advance();
      expected += hop;
    }
    EXPECT(expected > 190 - hop, "hop %d: %d", hop, static_cast<int>(expected));
  }
}

// Files whose only fault is in the zip, or in the text of the manifest: each is whole or refused.
void TestHostile(const Files& files) {
  const std::string good = Zip(files), digest = Take(zoo::ParseManifest(files[0].second, "manifest")).digest;
  EXPECT(OpenBytes(good) == ZOO_PROVIDER_UNAVAILABLE, "%s", zoo_last_error());
  std::mt19937 rng(5);
  for (size_t cut = 0; cut < good.size(); cut += 1 + cut / 3) EXPECT(OpenBytes(good.substr(0, cut)) == ZOO_BUNDLE_ERROR, "cut at %d", static_cast<int>(cut));
  const size_t directory = good.find("PK\x01\x02");
  int refused = 0;
  for (int round = 0; round < 400; ++round) {
    std::string bytes = good;
    for (unsigned edits = 1 + rng() % 4; edits > 0; --edits) {
      const size_t at = rng() % 2 == 0 ? rng() % 64 : directory + rng() % (good.size() - directory);
      bytes[at] = static_cast<char>(rng() % 3 == 0 ? 0xff : rng());
    }
    const zoo_status status = OpenBytes(bytes);
    EXPECT(status == ZOO_BUNDLE_ERROR || status == ZOO_PROVIDER_UNAVAILABLE, "%s", zoo_last_error());
    refused += status == ZOO_BUNDLE_ERROR;
  }
  EXPECT(refused > 200, "only %d damaged zips were refused", refused);
  const std::vector<std::string> pieces = {"null", "-1", "1e999", "18446744073709551615", "[[[[", "\"\\ud800\"", "{}", "true", "\"../../x\"", "0.5", "\x01"};
  refused = 0;
  for (int round = 0; round < 400; ++round) {
    Files changed = files;
    std::string& text = changed[0].second;
    for (unsigned edits = 1 + rng() % 2; edits > 0; --edits) {
      const size_t at = rng() % text.size();
      if (rng() % 2 == 0) {
        text[at] = static_cast<char>(rng());
      } else {  // a whole value
        const size_t colon = text.find(':', at), end = colon == std::string::npos ? colon : text.find_first_of(",\n", colon);
        if (end != std::string::npos) text.replace(colon + 1, end - colon - 1, pieces[rng() % pieces.size()]);
      }
    }
    text = Sealed(text, digest);
    const zoo_status status = OpenBytes(Zip(changed));
    EXPECT(status == ZOO_BUNDLE_ERROR || status == ZOO_PROVIDER_UNAVAILABLE, "%s", zoo_last_error());
    refused += status == ZOO_BUNDLE_ERROR;
  }
  EXPECT(refused > 100, "only %d damaged manifests were refused", refused);
}

void TestWrongCalls() {
  zoo_model* model = nullptr;
  zoo_session* session = nullptr;
  zoo_stream* stream = nullptr;
  size_t n = 0;
  EXPECT(zoo_abi_version() == ZOO_ABI_VERSION, "abi");
  EXPECT(zoo_open(nullptr, nullptr, &model) == ZOO_USAGE_ERROR && zoo_open("x", nullptr, nullptr) == ZOO_USAGE_ERROR, "open");
  EXPECT(zoo_open("/nowhere", nullptr, &model) == ZOO_BUNDLE_ERROR && std::strstr(zoo_last_error(), "/nowhere") != nullptr, "%s", zoo_last_error());
  EXPECT(zoo_open_memory(nullptr, 5, nullptr, &model) == ZOO_USAGE_ERROR, "open memory");
  EXPECT(zoo_session_open(nullptr, &session) == ZOO_USAGE_ERROR && zoo_run(nullptr, nullptr, 0, nullptr) == ZOO_USAGE_ERROR, "session");
  EXPECT(zoo_describe(nullptr, nullptr, 0, nullptr) == ZOO_USAGE_ERROR && zoo_result_json(nullptr, 0, nullptr, 0, nullptr) == ZOO_USAGE_ERROR, "text");
  EXPECT(zoo_output(nullptr, 0, "x", nullptr, 0, nullptr) == ZOO_USAGE_ERROR && zoo_result_read(nullptr, 0, nullptr) == ZOO_USAGE_ERROR, "output");
  EXPECT(zoo_selftest(nullptr, nullptr, nullptr) == ZOO_USAGE_ERROR && zoo_head(nullptr, 0, nullptr, nullptr, nullptr) == ZOO_USAGE_ERROR, "selftest");
  EXPECT(zoo_stream_open(nullptr, nullptr, &stream) == ZOO_USAGE_ERROR && zoo_stream_push(nullptr, nullptr, 0, &n) == ZOO_USAGE_ERROR, "stream");
  EXPECT(zoo_stream_pop(nullptr, nullptr) == ZOO_USAGE_ERROR && zoo_stream_end(nullptr) == ZOO_USAGE_ERROR && zoo_stream_session(nullptr) == nullptr && zoo_stream_load(nullptr, nullptr) == ZOO_USAGE_ERROR, "stream");
  EXPECT(zoo_head_count(nullptr) == 0 && zoo_label(nullptr, 0, 0) == nullptr, "heads");
  EXPECT(std::string(zoo_status_name(ZOO_INPUT_ERROR)) == "input error" && std::string(zoo_status_name(99)) == "unknown", "names");
  zoo_close(nullptr), zoo_session_close(nullptr), zoo_stream_close(nullptr);
}

void TestEngine(const std::string& bytes, const char* folder) {
  zoo_options options;
  zoo_options_init(&options);
  options.engine_library = folder;
  zoo_model* model = nullptr;
  if (zoo_open_memory(bytes.data(), bytes.size(), &options, &model) != ZOO_OK) {
    EXPECT(false, "%s", zoo_last_error());
    return;
  }
  std::vector<std::thread> threads;
  std::vector<float> first(16, -1.0f);
  for (int k = 0; k < 3; ++k) {
    threads.emplace_back([&, k] {
      zoo_session* session = nullptr;
      EXPECT(zoo_session_open(model, &session) == ZOO_OK, "%s", zoo_last_error());
      EXPECT(zoo_selftest(session, nullptr, nullptr) == ZOO_OK, "%s", zoo_last_error());
      const std::vector<float> wave(16000, 0.25f);
      zoo_input in[2] = {};
      in[0].data = wave.data(), in[0].rank = 1, in[0].shape[0] = 16000, in[0].rate = 16000;
      in[1] = in[0], in[1].rank = 2, in[1].shape[0] = 4000, in[1].shape[1] = 4;
      float values[16];
      zoo_result results[2] = {};
      results[1].values = values, results[1].values_capacity = 16;
      for (int round = 0; round < 3; ++round) EXPECT(zoo_run(session, in, 2, results) == ZOO_OK, "%s", zoo_last_error());
      EXPECT(results[0].values_count > 0 && results[0].values_count <= 16, "values");
      if (k == 0) std::copy(values, values + results[1].values_count, first.begin());
      results[1].values_capacity = 1;
      EXPECT(zoo_run(session, in, 2, results) == ZOO_BUFFER_TOO_SMALL, "a buffer that is too small");
      in[1].rank = 7;
      EXPECT(zoo_run(session, in, 2, results) == ZOO_INPUT_ERROR && std::strstr(zoo_last_error(), "input 1") != nullptr, "%s", zoo_last_error());
      in[1].rank = 2, in[1].shape[0] = int64_t{1} << 62, in[1].shape[1] = 8;
      EXPECT(zoo_run(session, in, 2, results) == ZOO_INPUT_ERROR, "an array beyond memory");
      EXPECT(zoo_result_json(session, 0, nullptr, 0, nullptr) == ZOO_USAGE_ERROR, "results of a failed run");
      zoo_session_close(session);
    });
  }
  for (std::thread& t : threads) t.join();
  zoo_stream* stream = nullptr;
  zoo_stream_options set = {};
  EXPECT(zoo_stream_open(model, &set, &stream) == ZOO_USAGE_ERROR && stream == nullptr, "options of no version");
  zoo_stream_options_init(&set);
  set.smoothing = NAN;
  EXPECT(zoo_stream_open(model, &set, &stream) == ZOO_INPUT_ERROR && stream == nullptr, "no number of seconds");
  set.smoothing = 1;
  EXPECT(zoo_stream_open(model, &set, &stream) == ZOO_OK, "%s", zoo_last_error());
  zoo_close(model);  // the stream keeps it
  const std::vector<float> wave(100000, 0.25f);
  int results = 0;
  for (size_t at = 0; at < wave.size();) {
    size_t taken = 0;
    EXPECT(zoo_stream_push(stream, &wave[at], std::min<size_t>(700, wave.size() - at), &taken) == ZOO_OK, "%s", zoo_last_error());
    at += taken;
    while (zoo_stream_pop(stream, nullptr) == ZOO_OK) ++results;
  }
  EXPECT(results > 1, "%d windows", results);
  zoo_load load;
  EXPECT(zoo_stream_load(stream, &load) == ZOO_OK && static_cast<int>(load.windows) == results && load.signal > 0 && load.busy > 0, "load");
  zoo_stream_close(stream);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::printf("usage: runtime_test BUNDLE [ENGINE=FOLDER ...]\n");
    return 2;
  }
  const std::string folder = argv[1];
  const std::string text = Slurp(folder + "/manifest.json");
  const zoo::Manifest manifest = Take(zoo::ParseManifest(text, folder));
  Files files = {{"manifest.json", text}};
  for (const zoo::FileSpec& file : manifest.files) files.emplace_back(file.path, Slurp(folder + "/" + file.path));
  TestHashes();
  TestVersions();
  TestWindows();
  TestWrongCalls();
  // of an engine that libzoo never has: a bundle that is whole gets as far as that
  TestHostile(ForEngine(files, manifest.digest, "tensorrt"));
  for (int i = 2; i < argc; ++i) {
    const std::string engine = argv[i];
    const size_t at = engine.find('=');
    if (at != std::string::npos) TestEngine(Zip(ForEngine(files, manifest.digest, engine.substr(0, at))), engine.substr(at + 1).c_str());
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
