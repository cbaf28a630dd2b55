// SPDX-License-Identifier: Apache-2.0
// zoo.h with any arguments that keep its rules: inputs of any kind, type, rank, shape and rate, streams, buffers of any size. The
// engine is one of this file, whose outputs have any shape.
#include <deque>
#include <memory>

#include "bundle/json_schema.h"
#include "fuzz.h"
#include "make_bundle.h"
#include "runtime/engine.h"
#include "zoo/zoo.h"

namespace {

Bytes* decisions = nullptr;  // of the input at hand

class AnySession final : public zoo::EngineSession {
 public:
  explicit AnySession(const zoo::EngineSpec& spec) : spec_(spec) {}
  zoo::Status Run(zoo::Span<const zoo::TensorView> inputs, std::vector<zoo::TensorView>* out) override {
    REQUIRE(inputs.size() == spec_.inputs.size(), "%zu inputs", inputs.size());
    const zoo::TensorView& in = inputs[0];
    uint32_t sum = 0;  // what an engine reads
    for (size_t k = 0; k < inputs.size(); ++k) {
      REQUIRE(inputs[k].data != nullptr && inputs[k].rank == static_cast<int32_t>(spec_.inputs[k].shape.size()), "rank %d", inputs[k].rank);
      const int64_t bytes = inputs[k].count() * static_cast<int64_t>(zoo::SizeOfDType(spec_.inputs[k].dtype));
      for (int64_t i = 0; i < bytes; ++i) sum += static_cast<const unsigned char*>(inputs[k].data)[i];
    }
    if (decisions->Chance(8)) return zoo::InvalidSignal("the engine refuses it");
    out->assign(spec_.outputs.size(), {});
    memory_.resize(spec_.outputs.size());
    for (size_t k = 0; k < out->size(); ++k) {
      zoo::TensorView& view = (*out)[k];
      const bool odd = decisions->Chance(40);
      view.rank = odd ? static_cast<int32_t>(decisions->Below(zoo::kMaxTensorRank + 1)) : static_cast<int32_t>(spec_.outputs[k].shape.size());
      for (int32_t i = 0; i < view.rank; ++i) {
        const int64_t declared = static_cast<size_t>(i) < spec_.outputs[k].shape.size() ? spec_.outputs[k].shape[static_cast<size_t>(i)] : 1;
        const bool follows = i == 0 || (i == 1 && !odd && spec_.outputs[k].shape.size() > 1 && spec_.outputs[k].dimensions[1] == "steps");
        view.shape[i] = follows && !decisions->Chance(8) ? in.shape[i] : odd || declared < 0 ? static_cast<int64_t>(decisions->Below(5)) : declared;
      }
      memory_[k].assign(static_cast<size_t>(view.count()) * zoo::SizeOfDType(spec_.outputs[k].dtype), static_cast<unsigned char>(sum));
      const uint8_t kind = decisions->Byte();
      for (size_t i = 0; i + 4 <= memory_[k].size(); i += 4) {
        const float value = kind > 250 ? static_cast<float>(decisions->Number()) : static_cast<float>((sum + i * kind) % 101) / 101;
        std::memcpy(&memory_[k][i], &value, 4);
      }
      view.data = memory_[k].data();
    }
    return zoo::Status::Ok();
  }

 private:
  const zoo::EngineSpec& spec_;
  std::vector<std::vector<unsigned char>> memory_;
};

class AnyEngine final : public zoo::Engine {
 public:
  explicit AnyEngine(const zoo::EngineSpec& spec) : spec_(spec) {}
  const std::string& version() const override { return version_; }
  zoo::Result<std::unique_ptr<zoo::EngineSession>> NewSession() override { return std::unique_ptr<zoo::EngineSession>(new AnySession(spec_)); }

 private:
  const zoo::EngineSpec& spec_;
  std::string version_ = "1.0";
};

}  // namespace

// In place of runtime/engine.cc.
namespace zoo {
Result<std::unique_ptr<Engine>> OpenEngine(const Bundle& bundle, const EngineOptions&) { return std::unique_ptr<Engine>(new AnyEngine(bundle.manifest().engine)); }
std::vector<EngineStatus> EngineStatuses(const EngineOptions&) { return {}; }
}  // namespace zoo

namespace {

using zoo::Json;

// A bundle of the shipped manifest with another input, pipeline, engine and answers.
std::string MakeBundle(const Json& changes, const Files& more) {
  std::FILE* f = std::fopen(ZOO_FUZZ_MANIFEST, "rb");
  REQUIRE(f != nullptr, "no manifest " ZOO_FUZZ_MANIFEST);
  std::string text(1 << 20, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), f));
  std::fclose(f);
  Json json = Json::parse(text);
  json["quality"] = Json::array();
  json.merge_patch(changes);
  json["tuning"] = nullptr;
  Files files = {{"manifest.json", ""}, {"engine.onnx", "x"}, {"golden.npz", "y"}};
  files.insert(files.end(), more.begin(), more.end());
  json["files"] = Json::array();
  for (size_t i = 1; i < files.size(); ++i) json["files"].push_back({{"path", files[i].first}, {"sha256", zoo::Sha256Hex(files[i].second)}, {"size", files[i].second.size()}});
  json["key"]["onnx_sha256"] = zoo::Sha256Hex("x");
  files[0].second = Sealed(json.dump(1), json["digest"]);
  return Zip(files);
}

Json Tensor(const char* name, const char* dtype, Json shape) { return {{"name", name}, {"dtype", dtype}, {"shape", std::move(shape)}}; }

// Braces around one object would copy it, not make a list.
Json List(std::vector<Json> items) { return Json(std::move(items)); }

Json Engine(Json engine, std::vector<Json> inputs, std::vector<Json> outputs) {
  engine["inputs"] = std::move(inputs), engine["outputs"] = std::move(outputs);
  return List({std::move(engine)});
}

struct Model {
  std::string bytes;
  struct Close {
    void operator()(zoo_model* m) const { zoo_close(m); }
  };
  std::unique_ptr<zoo_model, Close> model;  // goes before its bytes
};

const std::vector<Model>& Models() {
  static const std::vector<Model> all = [] {
    const Json base = {{"file", "engine.onnx"}, {"kind", "onnxruntime"}, {"opset", 20}, {"precision", "fp32"}};
    const Json audio_pipeline = {{{"op", "resample"}, {"rate", 1000}}, {{"op", "fit"}, {"length", 500}}, {{"op", "stft"}, {"n_fft", 64}, {"hop_length", 50}}};
    std::vector<std::string> bundles;
    bundles.push_back(MakeBundle({{"labels", {"a", "b"}}, {"pipeline", audio_pipeline},
                                  {"engines", Engine(base, {Tensor("x", "float32", {"batch", 11, 33})}, {Tensor("probs", "float32", {"batch", 2}), Tensor("more", "int64", {"batch", 3})})}}, {}));
    // samples of any length, several heads of all kinds
    const Json heads = {{{"name", "p"}, {"labels", {"a", "b", "c"}}, {"decode", {{"type", "softmax"}, {"output", "p"}}}},
                        {{"name", "s"}, {"labels", {"x", "y"}}, {"decode", {{"type", "sigmoid"}, {"output", "s"}, {"thresholds", {0.5, 0.25}}}}},
                        {{"name", "r"}, {"labels", {"v"}}, {"decode", {{"type", "regression"}, {"output", "r"}, {"range", {-1.0, 1.0}}}}},
                        {{"name", "e"}, {"decode", {{"type", "embedding"}, {"output", "e"}, {"normalize", true}}}}};
    bundles.push_back(MakeBundle({{"labels", {"p", "s", "r", "e"}}, {"decode", {{"type", "heads"}, {"output", nullptr}, {"heads", heads}}}, {"pipeline", List({{{"op", "wave_normalize"}}})},
                                  {"key", {{"profile", {{"batch", {1, 1, 3}}, {"time", {4, 100, 4000}}}}}},
                                  {"engines", Engine(base, {Tensor("x", "float32", {"batch", "time"})},
                                                     {Tensor("p", "float32", {"batch", 3}), Tensor("s", "float32", {"batch", 2}), Tensor("r", "float32", {"batch", 1}), Tensor("e", "float32", {"batch", "time"})})}}, {}));
    bundles.push_back(MakeBundle({{"labels", {"a", "b"}}, {"decode", {{"attention", "w"}}}, {"input", {{"modality", "text"}, {"rate", nullptr}, {"channels", nullptr}}},
                                  {"pipeline", List({{{"op", "social_tokenize"}}, {{"op", "vocab"}, {"file", "words.txt"}}})}, {"key", {{"profile", {{"batch", {1, 1, 4}}, {"tokens", {1, 8, 64}}}}}},
                                  {"engines", Engine(base, {Tensor("ids", "int64", {"batch", "tokens"})}, {Tensor("probs", "float32", {"batch", 2}), Tensor("w", "float32", {"batch", "tokens"})})}},
                                 {{"words.txt", "<unk>\nlove\nit\n"}}));
    bundles.push_back(MakeBundle({{"labels", {"a", "b"}}, {"input", {{"modality", "image"}, {"dtype", "uint8"}, {"range", {0.0, 255.0}}, {"rate", nullptr}, {"channels", nullptr}}},
                                  {"pipeline", List({{{"op", "resize_normalize"}, {"width", 8}, {"height", 6}}})},
                                  {"engines", Engine(base, {Tensor("x", "float32", {"batch", 3, 6, 8})}, {Tensor("probs", "float32", {"batch", 2})})}}, {}));
    const Json eeg_pipeline = {{{"op", "despike"}}, {{"op", "filter"}, {"kind", "bandpass"}, {"freqs", {2.0, 40.0}}},
                               {{"op", "bandpower"}, {"bands", {4.0, 8.0, 8.0, 14.0}}, {"window_length", 32}, {"hop_length", 8}}};
    bundles.push_back(MakeBundle({{"labels", {"a", "b"}}, {"input", {{"modality", "eeg"}, {"rate", 128}, {"channels", 2}, {"names", {"O1", "O2"}}}}, {"pipeline", eeg_pipeline},
                                  {"engines", Engine(base, {Tensor("x", "float32", {"batch", 2, 2})}, {Tensor("probs", "float32", {"batch", 2})})}}, {}));
    // curves along sound, scaled by its own bounds or by fixed ones, and along pictures and sound
    const auto curve = [](const char* output, int64_t context) {
      return Json{{"type", "curve"}, {"output", output}, {"attention", nullptr}, {"period", 0.05}, {"window", 0.064}, {"context", context}, {"smooth", {{"mean", 5}, {"median", 3}, {"cutoff", 0.2}}}};
    };
    const Json profile = {{"profile", {{"batch", {1, 1, 1}}, {"steps", {1, 2, 6}}}}};
    const Json stft = {{{"op", "resample"}, {"rate", 1000}}, {{"op", "stft"}, {"n_fft", 64}, {"hop_length", 50}}};
    const Json sound = Tensor("x", "float32", {"batch", "steps", 33});
    for (const bool own : {true, false}) {
      Json ops = stft;
      ops.push_back({{"op", "min_max"}});
      if (!own) ops.back()["low"] = std::vector<double>(33, -1.0), ops.back()["high"] = std::vector<double>(33, 9.0);
      bundles.push_back(MakeBundle({{"labels", Json::array()}, {"decode", curve("v", own ? 0 : 2)}, {"pipeline", ops}, {"key", profile},
                                    {"engines", Engine(base, {sound}, {Tensor("v", "float32", {"batch", "steps", 5})})}}, {}));
    }
    Json heads_of_film = {{{"name", "a"}, {"decode", curve("a", 1)}}, {{"name", "b"}, {"decode", curve("b", 0)}}};
    for (Json& head : heads_of_film) head["decode"].erase("attention");
    const Json shrink = {{{"op", "resize_normalize"}, {"width", 4}, {"height", 4}}};
    bundles.push_back(MakeBundle({{"labels", {"a", "b"}}, {"decode", {{"type", "heads"}, {"output", nullptr}, {"heads", heads_of_film}}}, {"key", profile},
                                  {"input", {{"modality", "video"}, {"dtype", "uint8"}, {"range", {0.0, 255.0}}, {"rate", 20}, {"channels", nullptr}}}, {"pipeline", shrink},
                                  {"branches", List({{{"source", "sound"}, {"pipeline", stft}}})},
                                  {"engines", Engine(base, {Tensor("p", "float32", {"batch", "steps", 3, 4, 4}), sound},
                                                     {Tensor("a", "float32", {"batch", "steps", 3}), Tensor("b", "float32", {"batch", "steps", 2})})}}, {}));
    std::vector<Model> models(bundles.size());
    for (size_t i = 0; i < bundles.size(); ++i) {
      models[i].bytes = std::move(bundles[i]);
      zoo_model* opened = nullptr;
      REQUIRE(zoo_open_memory(models[i].bytes.data(), models[i].bytes.size(), nullptr, &opened) == ZOO_OK, "model %zu: %s", i, zoo_last_error());
      models[i].model.reset(opened);
    }
    return models;
  }();
  return all;
}

size_t SizeOfNumber(int32_t dtype) { return dtype == ZOO_F64 || dtype == ZOO_I64 ? 8 : dtype == ZOO_I16 ? 2 : dtype == ZOO_U8 ? 1 : 4; }

void Failed(zoo_status status) {
  REQUIRE(status != ZOO_FAILED, "%s", zoo_last_error());
  if (status != ZOO_OK && status != ZOO_NO_RESULT) REQUIRE(zoo_last_error()[0] != '\0', "status %d without a reason", status);
}

// What inputs point to.
struct Memory {
  std::deque<std::vector<unsigned char>> bytes;
  std::deque<zoo_input> parts;
  std::deque<zoo_film> films;
};

// An input and the memory behind it, which holds exactly what its shape says, or nothing where that must be refused.
zoo_input Draw(Bytes& in, Memory* memory, int depth = 0) {
  zoo_input input = {};
  input.kind = in.Chance(250) ? static_cast<int32_t>(in.Below(5)) : static_cast<int32_t>(in.Integer());
  if (input.kind == ZOO_FILM && depth < 3) {
    zoo_film film = {};
    for (const zoo_input** part : {&film.pictures, &film.sound}) {
      if (in.Chance(20)) continue;
      memory->parts.push_back(Draw(in, memory, depth + 1));
      *part = &memory->parts.back();
    }
    memory->films.push_back(film);
    input.data = in.Chance(250) ? &memory->films.back() : nullptr;
    return input;
  }
  input.dtype = in.Chance(250) ? static_cast<int32_t>(in.Below(6)) : static_cast<int32_t>(in.Integer());
  input.rank = in.Chance(250) ? static_cast<int32_t>(1 + in.Below(4)) : static_cast<int32_t>(in.Integer());
  for (int64_t& d : input.shape) d = in.Chance(40) ? in.Integer() : in.Chance(30) ? static_cast<int64_t>(in.Below(3000)) : static_cast<int64_t>(in.Below(12));
  static constexpr double kRates[] = {16000, 1000, 44100, 0, 768000};
  input.rate = in.Chance(200) ? kRates[in.Below(std::size(kRates))] : in.Number();
  if (input.kind == ZOO_FILE) {
    memory->bytes.emplace_back(7);
    std::memcpy(memory->bytes.back().data(), "/dev/x", 7);
    input.data = memory->bytes.back().data();
    return input;
  }
  int64_t count = 1;
  bool valid = input.kind == ZOO_TEXT || (input.rank >= 1 && input.rank <= 4);
  for (int32_t i = 0; valid && i < (input.kind == ZOO_TEXT ? 1 : input.rank); ++i) valid = input.shape[i] >= 0 && !__builtin_mul_overflow(count, input.shape[i], &count);
  valid = valid && count <= (int64_t{1} << 40);
  if (valid && count > 4000) count = input.shape[0] = 40, input.rank = 1;  // refusals need no memory, the rest must have it
  memory->bytes.emplace_back(valid ? static_cast<size_t>(count) * (input.kind == ZOO_TEXT ? 1 : SizeOfNumber(input.dtype)) : 1);
  if (input.kind == ZOO_TEXT) {
    static constexpr char kText[] = "I love it!! #it so 123 :) \xf0\x9f\x98\x80 www.x.de \xff";
    for (size_t i = 0; i < memory->bytes.back().size(); ++i) memory->bytes.back()[i] = in.left() > 0 && i % 3 == 0 ? in.Byte() : static_cast<unsigned char>(kText[i % (sizeof(kText) - 1)]);
  } else {
    for (unsigned char& byte : memory->bytes.back()) byte = in.left() > 0 ? in.Byte() & 0xbf : 1;  // few exponents of infinity
  }
  input.data = in.Chance(250) ? memory->bytes.back().data() : nullptr;
  return input;
}

struct Room {
  std::vector<float> values, attention;
  std::vector<uint8_t> given;
  std::vector<int32_t> best;
};

void DrawResult(Bytes& in, Room* room, zoo_result* result) {
  *result = {};
  const auto make = [&](auto* buffer, auto** place, size_t* capacity) {
    buffer->resize(in.Below(16));
    if (in.Chance(200)) *place = buffer->data(), *capacity = buffer->size();
  };
  make(&room->values, &result->values, &result->values_capacity);
  make(&room->given, &result->given, &result->given_capacity);
  make(&room->best, &result->best, &result->best_capacity);
  make(&room->attention, &result->attention, &result->attention_capacity);
}

void Read(Bytes& in, const zoo_session* session, size_t item) {
  std::string text(in.Below(2) * 2048 + in.Below(8), '\0');
  size_t size = 0;
  Failed(zoo_result_json(session, item, text.data(), text.size(), &size));
  const char* names[] = {"probs", "more", "w", "e", "none"};
  std::vector<char> bytes(in.Below(64));
  zoo_tensor tensor;
  Failed(zoo_output(session, item, names[in.Below(5)], bytes.data(), bytes.size(), in.Chance(128) ? &tensor : nullptr));
}

void Run(Bytes& in, const zoo_model* model) {
  zoo_session* session = nullptr;
  REQUIRE(zoo_session_open(model, &session) == ZOO_OK, "%s", zoo_last_error());
  for (size_t calls = 1 + in.Below(4); calls > 0; --calls) {
    std::vector<zoo_input> inputs;
    Memory memory;
    const size_t count = in.Below(5);
    for (size_t i = 0; i < count; ++i) inputs.push_back(i > 0 && in.Chance(100) ? inputs[0] : Draw(in, &memory));
    std::vector<Room> rooms(count);
    std::vector<zoo_result> results(count);
    for (size_t i = 0; i < count; ++i) DrawResult(in, &rooms[i], &results[i]);
    const zoo_status status = zoo_run(session, inputs.data(), count, in.Chance(200) ? results.data() : nullptr);
    Failed(status);
    for (size_t i = 0; i <= count; ++i) Read(in, session, i);
    if (status != ZOO_OK && status != ZOO_BUFFER_TOO_SMALL) REQUIRE(zoo_result_json(session, 0, nullptr, 0, nullptr) == ZOO_USAGE_ERROR, "a failed run left results");
  }
  if (in.Chance(10)) REQUIRE(zoo_selftest(session, nullptr, nullptr) == ZOO_BUNDLE_ERROR, "golden inputs that are none");
  zoo_session_close(session);
}

void Stream(Bytes& in, const zoo_model* model) {
  zoo_stream_options options;
  zoo_stream_options_init(&options);
  options.dtype = in.Chance(240) ? static_cast<int32_t>(in.Below(4)) : static_cast<int32_t>(in.Integer());
  options.channels = in.Chance(240) ? static_cast<int32_t>(1 + in.Below(4)) : static_cast<int32_t>(in.Integer());
  options.rate = in.Chance(200) ? 1000 : in.Number();
  options.hop = in.Chance(200) ? 0.01 * static_cast<double>(in.Below(100)) : in.Number();
  if (zoo_channel(model, 0) != nullptr && in.Chance(230)) options.rate = options.hop = 0, options.channels = 2;
  options.smoothing = in.Chance(200) ? 0.1 * in.Byte() : in.Number();
  zoo_stream* stream = nullptr;
  Failed(zoo_stream_open(model, &options, &stream));
  if (stream == nullptr) return;
  for (size_t calls = in.Below(20); calls > 0; --calls) {
    const size_t count = in.Below(600);
    const std::vector<unsigned char> samples(count * static_cast<size_t>(options.channels) * SizeOfNumber(options.dtype), in.Byte());
    size_t taken = 0;
    Failed(zoo_stream_push(stream, samples.data(), count, &taken));
    REQUIRE(taken <= count, "took %zu of %zu", taken, count);
    Room room;
    zoo_result result;
    DrawResult(in, &room, &result);
    if (in.Chance(20)) Failed(zoo_stream_end(stream));
    for (int pops = 0; zoo_stream_pop(stream, in.Chance(128) ? &result : nullptr) == ZOO_OK && pops < 4; ++pops) Read(in, zoo_stream_session(stream), 0);
  }
  zoo_load load;
  REQUIRE(zoo_stream_load(stream, &load) == ZOO_OK && load.signal >= 0 && load.latency_max >= 0, "load");
  zoo_stream_close(stream);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes in(data, size);
  decisions = &in;
  const zoo_model* model = Models()[in.Below(Models().size())].model.get();
  if (in.Chance(80)) Stream(in, model);
  else Run(in, model);
  return 0;
}
