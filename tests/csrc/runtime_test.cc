// SPDX-License-Identifier: Apache-2.0
// The runtime under sanitizers: hostile bundles, wrong calls, hashes, versions, windows.
// CMake names a bundle with an ONNX file (ZOO_TEST_BUNDLE) and the folders of the engines' libraries that it is run on.
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

#include <gtest/gtest.h>

#include "bundle/manifest.h"
#include "bundle/sha256.h"
#include "make_bundle.h"
#include "runtime/windows.h"
#include "testing.h"
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
  EXPECT_EQ(status == ZOO_OK, model != nullptr) << "status " << status;
  zoo_close(model);
  return status;
}

// The bundle's files, its manifest first.
struct Bundle {
  Bundle() {
    const std::string folder = ZOO_TEST_BUNDLE, text = Slurp(folder + "/manifest.json");
    const zoo::Manifest manifest = Take(zoo::ParseManifest(text, folder));
    digest = manifest.digest;
    files = {{"manifest.json", text}};
    for (const zoo::FileSpec& file : manifest.files) files.emplace_back(file.path, Slurp(folder + "/" + file.path));
  }
  std::string digest;
  Files files;
};

// The same bundle for another engine.
Files ForEngine(const std::string& kind) {
  Bundle bundle;
  std::string& text = bundle.files[0].second;
  for (size_t at = 0; (at = text.find("\"onnxruntime\"", at)) != std::string::npos; at += kind.size() + 2) text.replace(at, 13, "\"" + kind + "\"");
  text = Sealed(text, bundle.digest);
  return bundle.files;
}

TEST(Runtime, Hashes) {
  EXPECT_EQ(zoo::Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(zoo::Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(zoo::Sha256Hex(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  std::mt19937 rng(3);
  for (size_t n = 0; n < 200; ++n) {
    const std::string text(n, 'x');
    zoo::Sha256 parts;
    for (size_t at = 0; at < n;) {
      const size_t take = std::min<size_t>(n - at, 1 + rng() % 70);
      parts.Update(std::string_view(text).substr(at, take));
      at += take;
    }
    EXPECT_EQ(parts.HexDigest(), zoo::Sha256Hex(text)) << n << " bytes in parts";
  }
}

TEST(Runtime, Versions) {
  EXPECT_TRUE(zoo::Meets("2026.4.1", ">=2024.0"));
  EXPECT_TRUE(zoo::Meets("1.20", ">=1.20,<2"));
  EXPECT_TRUE(zoo::Meets("1.2.0.54", "==1.2.0.54"));
  EXPECT_FALSE(zoo::Meets("2.0", ">=1.20,<2"));
  EXPECT_FALSE(zoo::Meets("1.19.9", ">=1.20"));
  EXPECT_FALSE(zoo::Meets("1.2.0.5", "==1.2.0.54"));
  EXPECT_TRUE(zoo::Meets("99999999999999999999", ">=1"));
  EXPECT_TRUE(zoo::Meets("", "<1"));
  EXPECT_FALSE(zoo::Meets("x", ">=1"));
}

TEST(Runtime, Windows) {
  EXPECT_FALSE(zoo::Windows::Create(16000, 1, 0, 4).ok()) << "a bad window was taken";
  EXPECT_FALSE(zoo::Windows::Create(16000, NAN, 1, 4).ok()) << "a bad window was taken";
  EXPECT_FALSE(zoo::Windows::Create(16000, 1, INFINITY, 4).ok()) << "a bad window was taken";
  EXPECT_FALSE(zoo::Windows::Create(16000, 1e9, 1, 4).ok()) << "a bad window was taken";
  EXPECT_FALSE(zoo::Windows::Create(0, 1, 1, 4).ok()) << "a bad window was taken";
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
      EXPECT_EQ(static_cast<const int32_t*>(w.data())[0], expected) << "hop " << hop;
      EXPECT_EQ(static_cast<const int32_t*>(w.data())[9], expected + 9) << "hop " << hop;
      EXPECT_EQ(w.start(), static_cast<double>(expected)) << "hop " << hop << ": place";
      EXPECT_EQ(w.end(), static_cast<double>(expected + 10)) << "hop " << hop << ": place";
      w.Advance();
      expected += hop;
    }
    EXPECT_GT(expected, 190 - hop) << "hop " << hop;
  }
}

// Files whose only fault is in the zip, or in the text of the manifest: each is whole or refused.
TEST(Runtime, HostileBundles) {
  // of an engine that libzoo never has: a bundle that is whole gets as far as that
  const Files files = ForEngine("tensorrt");
  const std::string good = Zip(files), digest = Take(zoo::ParseManifest(files[0].second, "manifest")).digest;
  EXPECT_EQ(OpenBytes(good), ZOO_PROVIDER_UNAVAILABLE) << zoo_last_error();
  std::mt19937 rng(5);
  for (size_t cut = 0; cut < good.size(); cut += 1 + cut / 3) EXPECT_EQ(OpenBytes(good.substr(0, cut)), ZOO_BUNDLE_ERROR) << "cut at " << cut;
  const size_t directory = good.find("PK\x01\x02");
  int refused = 0;
  for (int round = 0; round < 400; ++round) {
    std::string bytes = good;
    for (unsigned edits = 1 + rng() % 4; edits > 0; --edits) {
      const size_t at = rng() % 2 == 0 ? rng() % 64 : directory + rng() % (good.size() - directory);
      bytes[at] = static_cast<char>(rng() % 3 == 0 ? 0xff : rng());
    }
    const zoo_status status = OpenBytes(bytes);
    EXPECT_TRUE(status == ZOO_BUNDLE_ERROR || status == ZOO_PROVIDER_UNAVAILABLE) << zoo_last_error();
    refused += status == ZOO_BUNDLE_ERROR;
  }
  EXPECT_GT(refused, 200) << "damaged zips refused";
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
    EXPECT_TRUE(status == ZOO_BUNDLE_ERROR || status == ZOO_PROVIDER_UNAVAILABLE) << zoo_last_error();
    refused += status == ZOO_BUNDLE_ERROR;
  }
  EXPECT_GT(refused, 100) << "damaged manifests refused";
}

TEST(Runtime, WrongCalls) {
  zoo_model* model = nullptr;
  zoo_session* session = nullptr;
  zoo_stream* stream = nullptr;
  size_t n = 0;
  EXPECT_EQ(static_cast<int>(zoo_abi_version()), ZOO_ABI_VERSION);
  EXPECT_EQ(zoo_open(nullptr, nullptr, &model), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_open("x", nullptr, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_open("/nowhere", nullptr, &model), ZOO_BUNDLE_ERROR);
  EXPECT_NE(std::strstr(zoo_last_error(), "/nowhere"), nullptr) << zoo_last_error();
  EXPECT_EQ(zoo_open_memory(nullptr, 5, nullptr, &model), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_session_open(nullptr, &session), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_run(nullptr, nullptr, 0, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_describe(nullptr, nullptr, 0, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_result_json(nullptr, 0, nullptr, 0, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_output(nullptr, 0, "x", nullptr, 0, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_result_read(nullptr, 0, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_selftest(nullptr, nullptr, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_head(nullptr, 0, nullptr, nullptr, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_stream_open(nullptr, nullptr, &stream), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_stream_push(nullptr, nullptr, 0, &n), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_stream_pop(nullptr, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_stream_end(nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_stream_session(nullptr), nullptr);
  EXPECT_EQ(zoo_stream_load(nullptr, nullptr), ZOO_USAGE_ERROR);
  EXPECT_EQ(zoo_head_count(nullptr), 0u);
  EXPECT_EQ(zoo_label(nullptr, 0, 0), nullptr);
  EXPECT_EQ(std::string(zoo_status_name(ZOO_INPUT_ERROR)), "input error");
  EXPECT_EQ(std::string(zoo_status_name(99)), "unknown");
  zoo_close(nullptr), zoo_session_close(nullptr), zoo_stream_close(nullptr);
}

// Each thread reads the message of its own last failure.
TEST(Runtime, ErrorsOfThreads) {
  std::vector<std::thread> threads;
  for (int k = 0; k < 4; ++k) {
    threads.emplace_back([k] {
      for (int i = 0; i < 200; ++i) {
        const std::string path = "/nowhere/" + std::to_string(k) + "/" + std::to_string(i);
        zoo_model* model = nullptr;
        EXPECT_EQ(zoo_open(path.c_str(), nullptr, &model), ZOO_BUNDLE_ERROR);
        EXPECT_NE(std::strstr(zoo_last_error(), path.c_str()), nullptr) << zoo_last_error();
      }
    });
  }
  for (std::thread& t : threads) t.join();
}

struct Engine {
  const char *kind, *folder;
};
void PrintTo(const Engine& e, std::ostream* out) { *out << e.kind; }

class RuntimeEngine : public testing::TestWithParam<Engine> {};
const std::vector<Engine> kEngines = {
#ifdef ZOO_TEST_OPENVINO_FOLDER
    {"openvino", ZOO_TEST_OPENVINO_FOLDER},
#endif
#ifdef ZOO_TEST_ONNXRUNTIME_FOLDER
    {"onnxruntime", ZOO_TEST_ONNXRUNTIME_FOLDER},
#endif
};
INSTANTIATE_TEST_SUITE_P(Engines, RuntimeEngine, testing::ValuesIn(kEngines), [](const auto& info) { return info.param.kind; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RuntimeEngine);

TEST_P(RuntimeEngine, ThreadsAndAStream) {
  const std::string bytes = Zip(ForEngine(GetParam().kind));
  zoo_options options;
  zoo_options_init(&options);
  options.engine_library = GetParam().folder;
  zoo_model* model = nullptr;
  ASSERT_EQ(zoo_open_memory(bytes.data(), bytes.size(), &options, &model), ZOO_OK) << zoo_last_error();
  std::vector<std::thread> threads;
  std::vector<float> first(16, -1.0f);
  for (int k = 0; k < 3; ++k) {
    threads.emplace_back([&, k] {
      zoo_session* session = nullptr;
      EXPECT_EQ(zoo_session_open(model, &session), ZOO_OK) << zoo_last_error();
      EXPECT_EQ(zoo_selftest(session, nullptr, nullptr), ZOO_OK) << zoo_last_error();
      const std::vector<float> wave(16000, 0.25f);
      zoo_input in[2] = {};
      in[0].data = wave.data(), in[0].rank = 1, in[0].shape[0] = 16000, in[0].rate = 16000;
      in[1] = in[0], in[1].rank = 2, in[1].shape[0] = 4000, in[1].shape[1] = 4;
      float values[16];
      zoo_result results[2] = {};
      results[1].values = values, results[1].values_capacity = 16;
      for (int round = 0; round < 3; ++round) EXPECT_EQ(zoo_run(session, in, 2, results), ZOO_OK) << zoo_last_error();
      EXPECT_GT(results[0].values_count, 0u);
      EXPECT_LE(results[0].values_count, 16u);
      if (k == 0) std::copy(values, values + results[1].values_count, first.begin());
      results[1].values_capacity = 1;
      EXPECT_EQ(zoo_run(session, in, 2, results), ZOO_BUFFER_TOO_SMALL) << "a buffer that is too small";
      in[1].rank = 7;
      EXPECT_EQ(zoo_run(session, in, 2, results), ZOO_INPUT_ERROR);
      EXPECT_NE(std::strstr(zoo_last_error(), "input 1"), nullptr) << zoo_last_error();
      in[1].rank = 2, in[1].shape[0] = int64_t{1} << 62, in[1].shape[1] = 8;
      EXPECT_EQ(zoo_run(session, in, 2, results), ZOO_INPUT_ERROR) << "an array beyond memory";
      EXPECT_EQ(zoo_result_json(session, 0, nullptr, 0, nullptr), ZOO_USAGE_ERROR) << "results of a failed run";
      zoo_session_close(session);
    });
  }
  for (std::thread& t : threads) t.join();
  zoo_stream* stream = nullptr;
  zoo_stream_options set = {};
  EXPECT_EQ(zoo_stream_open(model, &set, &stream), ZOO_USAGE_ERROR) << "options of no version";
  EXPECT_EQ(stream, nullptr) << "options of no version";
  zoo_stream_options_init(&set);
  set.smoothing = NAN;
  EXPECT_EQ(zoo_stream_open(model, &set, &stream), ZOO_INPUT_ERROR) << "no number of seconds";
  EXPECT_EQ(stream, nullptr) << "no number of seconds";
  set.smoothing = 1;
  EXPECT_EQ(zoo_stream_open(model, &set, &stream), ZOO_OK) << zoo_last_error();
  zoo_close(model);  // the stream keeps it
  const std::vector<float> wave(100000, 0.25f);
  int results = 0;
  for (size_t at = 0; at < wave.size();) {
    size_t taken = 0;
    EXPECT_EQ(zoo_stream_push(stream, &wave[at], std::min<size_t>(700, wave.size() - at), &taken), ZOO_OK) << zoo_last_error();
    at += taken;
    while (zoo_stream_pop(stream, nullptr) == ZOO_OK) ++results;
  }
  EXPECT_GT(results, 1) << "windows";
  zoo_load load;
  EXPECT_EQ(zoo_stream_load(stream, &load), ZOO_OK);
  EXPECT_EQ(static_cast<int>(load.windows), results);
  EXPECT_GT(load.signal, 0);
  EXPECT_GT(load.busy, 0);
  zoo_stream_close(stream);
}

}  // namespace
