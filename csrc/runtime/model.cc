// SPDX-License-Identifier: Apache-2.0
#include "runtime/model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

#include "bundle/npz.h"
#include "runtime/tracks.h"
#include "zoo/audio_io.h"
#include "zoo/isa.h"
#include "zoo/text.h"

namespace zoo {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kAlignment = 64;

double Ms(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

const char* EngineName(DType type) {
  return type == DType::kF32 ? "float32" : type == DType::kI64 ? "int64" : type == DType::kU8 ? "uint8" : "float64";
}

std::string ShapeText(const Extent& e) {
  std::string text = "(";
  for (int32_t i = 0; i < e.rank; ++i) text += (i == 0 ? "" : ", ") + std::to_string(e.dim[i]);
  return text + ")";
}

Json HeadJson(const Head& head) {
  Json json{{"name", head.name}, {"decode", DecodeKindName(head.kind)}, {"labels", head.labels}, {"output", head.output}};
  if (head.kind == DecodeKind::kSigmoid) json["thresholds"] = head.thresholds;
  if (head.kind == DecodeKind::kRegression || head.kind == DecodeKind::kCurve) json["range"] = {head.low, head.high};
  if (head.kind == DecodeKind::kCurve) json["period"] = head.period, json["window"] = head.window;
  return json;
}

}  // namespace

Result<std::shared_ptr<const Model>> Model::Open(Result<Bundle> opened, const ModelOptions& options) {
  if (!opened.ok()) return opened.status();
  std::shared_ptr<Model> model(new Model);
  model->bundle_ = std::make_unique<Bundle>(std::move(opened.value()));
  const Manifest& m = model->manifest();
  const std::string& where = model->bundle_->where();
  if (!m.unsupported.empty()) return UnsupportedBundle(where + ": " + m.unsupported + "; run it with the Python runtime (zoo run)");
  if (options.threads < 0 || options.threads > 1024) return InvalidArgument(where + ": threads is " + std::to_string(options.threads) + "; give 1 to 1024");
  if (options.batch < 0 || options.batch > m.max_batch) {
    return InvalidArgument(where + ": batch is " + std::to_string(options.batch) + "; this bundle takes 1 to " + std::to_string(m.max_batch));
  }
  model->max_batch_ = options.batch > 0 ? options.batch : m.tuned_batch > 0 ? m.tuned_batch : m.max_batch;
  auto pipeline = model->bundle_->MakePipeline(options.isa);
  if (!pipeline.ok()) return pipeline.status();
  model->pipeline_.emplace(std::move(pipeline.value()));
  auto kernels = SelectKernels(model->pipeline_->isa());
  if (!kernels.ok()) return kernels.status();
  model->kernels_ = kernels.value();
  if (m.curves()) {
    auto film = FilmRunner::Create(*model->bundle_, options.isa);
    if (!film.ok()) return film.status();
    model->film_.emplace(std::move(film.value()));
  }
  for (size_t i = 0; i <= model->pipeline_->size(); ++i) {
    if (model->pipeline_->port(i).kind == PortKind::kTokens) model->tokens_port_ = i;
  }
  auto engine = OpenEngine(*model->bundle_, {options.threads > 0 ? options.threads : m.threads, options.library});
  if (!engine.ok()) return engine.status();
  model->engine_ = std::move(engine.value());
  ZOO_RETURN_IF_ERROR(model->Check());
  return std::shared_ptr<const Model>(std::move(model));
}

// What must hold so that pipeline, engine and decoding fit together.
Status Model::Check() const {
  const Manifest& m = manifest();
  const std::string& where = bundle_->where();
  const TensorSpec& input = m.engine.inputs[0];
  const PortType& features = pipeline_->port(pipeline_->size());
  if (!film_ && input.dtype != EngineName(features.dtype)) {
    return InvalidBundle(where + ": the pipeline gives " + EngineName(features.dtype) + ", the engine takes " + input.dtype);
  }
  // EEG is judged window by window: its pipeline's first dimension, which are windows, is the engine's batch
  if (!film_ && input.shape.size() != features.shape.size() + (windowed() ? 0 : 1)) {
    return InvalidBundle(where + ": the engine's input does not have the pipeline's dimensions and one for the batch");
  }
  for (const TensorSpec& tensor : m.engine.outputs) {
    if (SizeOfDType(tensor.dtype) == 0) return InvalidBundle(where + ": the engine's output " + tensor.name + " is of unknown type");
    const bool read = m.attention == tensor.name || std::any_of(m.heads.begin(), m.heads.end(), [&](const Head& h) { return h.output == tensor.name; });
    if (read && tensor.dtype != "float32") return InvalidBundle(where + ": the engine's output " + tensor.name + " is " + tensor.dtype + "; this runtime decodes float32");
  }
  if (m.attention && tokens_port_ == 0) return InvalidBundle(where + ": decode.attention needs a pipeline that makes tokens");
  return Status::Ok();
}

std::string Model::Describe() const {
  const Manifest& m = manifest();
  const PortType& port = pipeline_->port(0);
  Json heads = Json::array();
  for (const Head& head : m.heads) heads.push_back(HeadJson(head));
  Json json{{"name", m.name},
            {"input", {{"kind", PortKindName(port.kind)}, {"shape", port.shape}, {"rate", m.rate ? Json(*m.rate) : Json()}, {"names", m.channels}}},
            {"heads", std::move(heads)},
            {"outputs", m.json.at("engines")[0].at("outputs")},
            {"engine", {{"kind", m.engine.kind}, {"version", engine_->version()}, {"precision", m.engine.precision}}},
            {"isa", pipeline_->isa()},
            {"batch", max_batch_},
            {"manifest", m.json}};
  const auto window = m.WindowSeconds(m.rate.value_or(0));
  json["window_seconds"] = window ? Json(*window) : Json();
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Session::Session(std::shared_ptr<const Model> model) : model_(std::move(model)), input_(model_->pipeline().port(0), model_->kernels()) {}

Result<std::unique_ptr<Session>> Session::Create(std::shared_ptr<const Model> model) {
  std::unique_ptr<Session> s(new Session(std::move(model)));
  auto state = s->model_->pipeline().NewState();
  if (!state.ok()) return state.status();
  s->state_ = std::move(state.value());
  auto engine = s->model_->engine().NewSession();
  if (!engine.ok()) return engine.status();
  s->engine_ = std::move(engine.value());
  return s;
}

Status Session::Room(const Extent& extent, Features* out, unsigned char** place) {
  const TensorSpec& input = model_->manifest().engine.inputs[0];
  bool fits = static_cast<size_t>(extent.rank) + 1 == input.shape.size();
  for (int32_t i = 0; fits && i < extent.rank; ++i) {
    const int64_t want = input.shape[static_cast<size_t>(i) + 1];
    fits = want == -1 ? extent.dim[i] >= 0 : extent.dim[i] == want;
  }
  if (!fits) return InvalidSignal(model_->manifest().name + ": the input gives features of shape " + ShapeText(extent) + ", which the engine does not take");
  for (int32_t i = 0; i < extent.rank; ++i) {
    const std::string& name = input.dimensions[static_cast<size_t>(i) + 1];
    const auto range = model_->manifest().profile.find(name);
    if (name.empty() || range == model_->manifest().profile.end()) continue;
    const auto [low, high] = range->second;
    if (extent.dim[i] >= low && extent.dim[i] <= high) continue;
    return InvalidSignal(model_->manifest().name + ": the input is too " + (extent.dim[i] > high ? "long" : "short") + ": it gives " + std::to_string(extent.dim[i]) + " " + name +
                         ", the engine takes " + std::to_string(low) + " to " + std::to_string(high));
  }
  out->extent = extent;
  out->offset = (used_ + kAlignment - 1) / kAlignment * kAlignment;
  const size_t bytes = static_cast<size_t>(extent.count()) * SizeOfDType(input.dtype);
  if (!features_.Extend(used_, out->offset + bytes)) return OutOfMemory();
  used_ = out->offset + bytes;
  *place = features_.data() + out->offset;
  return Status::Ok();
}

Status Session::FromArray(const RawInput& input, Features* out) {
  const Pipeline& p = model_->pipeline();
  if (p.counted()) return InvalidArgument(model_->manifest().name + " takes text; give the text, not an array");
  Extent whole, extent;
  Range need;
  ConstView view;
  ZOO_RETURN_IF_ERROR(input_.Format(input.array, input.rate, &whole));
  const auto rate = model_->manifest().rate;
  if (model_->windowed() && rate && input.rate != *rate) {
    return InvalidSignal("recorded at " + std::to_string(input.rate) + " Hz, " + model_->manifest().name + " needs " + std::to_string(*rate) + " Hz; resample it first");
  }
  ZOO_RETURN_IF_ERROR(p.InputRange(whole, &need));
  ZOO_RETURN_IF_ERROR(p.OutputExtent(whole, &extent));
  unsigned char* to = nullptr;
  if (!model_->windowed()) ZOO_RETURN_IF_ERROR(Room(extent, out, &to));
  ZOO_RETURN_IF_ERROR(input_.View(input.array, whole, need, 0, &view));
  return model_->windowed() ? FromEeg(view, extent, out) : p.Run(view, to, *state_);
}

// A recording's features are those of its last window. Its filters look back over all of it, so that all is run.
Status Session::FromEeg(const ConstView& view, const Extent& windows, Features* out) {
  const size_t bytes = static_cast<size_t>(windows.row()) * SizeOfDType(model_->manifest().engine.inputs[0].dtype);
  if (!windows_.Reserve(bytes * static_cast<size_t>(windows.dim[0]))) return OutOfMemory();
  ZOO_RETURN_IF_ERROR(model_->pipeline().Run(view, windows_.data(), *state_));
  Extent last;
  last.rank = windows.rank - 1;
  std::copy(windows.dim + 1, windows.dim + windows.rank, last.dim);
  unsigned char* to = nullptr;
  ZOO_RETURN_IF_ERROR(Room(last, out, &to));
  std::memcpy(to, windows_.data() + bytes * static_cast<size_t>(windows.dim[0] - 1), bytes);
  return Status::Ok();
}

Status Session::FromFile(const RawInput& input, Features* out, Item* item) {
  const Pipeline& p = model_->pipeline();
  const std::string path(input.text);
  if (p.port(0).kind != PortKind::kAudio) return InvalidArgument(path + ": only models that take audio read files; this one takes " + PortKindName(p.port(0).kind));
  const Clock::time_point start = Clock::now();
  auto reader = AudioReader::Open(path);
  if (!reader.ok()) return reader.status();
  const AudioInfo& info = reader.value().info();
  const Extent whole = AudioView({}, info.rate, 0, info.frames).extent;
  Extent extent;
  Range need;
  const auto named = [&](const Status& s) { return s.ok() ? s : Status(s.code(), path + ": " + s.message()); };
  ZOO_RETURN_IF_ERROR(named(p.InputRange(whole, &need)));
  ZOO_RETURN_IF_ERROR(named(p.OutputExtent(whole, &extent)));
  unsigned char* to = nullptr;
  ZOO_RETURN_IF_ERROR(named(Room(extent, out, &to)));
  const size_t count = static_cast<size_t>(need.size());
  if (!mono_.Reserve(count)) return OutOfMemory();
  ZOO_RETURN_IF_ERROR(reader.value().Read(need.begin, {mono_.data(), count}));
  item->timing.decode_input = Ms(Clock::now() - start);
  return named(p.Run(AudioView({mono_.data(), count}, info.rate, need.begin, info.frames), to, *state_));
}

Status Session::FromText(const RawInput& input, Features* out, Item* item) {
  const Pipeline& p = model_->pipeline();
  if (p.port(0).kind != PortKind::kText) return InvalidArgument(model_->manifest().name + " takes " + PortKindName(p.port(0).kind) + ", not text");
  ConstView in, ids;
  in.data = input.text.data(), in.dtype = DType::kU8;
  in.extent.dim[0] = static_cast<int64_t>(input.text.size());
  in.range = {0, in.extent.dim[0]};
  if (model_->manifest().attention) {
    ConstView tokens;
    ZOO_RETURN_IF_ERROR(p.RunCounted(in, *state_, &tokens, model_->tokens_port()));
    const char* text = static_cast<const char*>(tokens.data);
    item->tokens.assign(text, text + tokens.extent.count());
  }
  ZOO_RETURN_IF_ERROR(p.RunCounted(in, *state_, &ids));
  // numbers of a vocabulary, of which 0 is padding
  if (model_->manifest().ops.back().op == "vocab" && (ids.extent.count() == 0 || ids.as<int64_t>()[0] == 0)) {
    return InvalidSignal(model_->manifest().name + ": the text has no token to judge by; give at least one word, mark or emoji");
  }
  unsigned char* to = nullptr;
  ZOO_RETURN_IF_ERROR(Room(ids.extent, out, &to));
  const size_t bytes = static_cast<size_t>(ids.extent.count()) * SizeOf(ids.dtype);
  if (bytes > 0) std::memcpy(to, ids.data, bytes);
  return Status::Ok();
}

Status Session::FromFeatures(const RawInput& input, Features* out) {
  Extent extent;
  extent.rank = input.features.rank;
  if (extent.rank < 1 || extent.rank > kMaxRank) return InvalidArgument("features have " + std::to_string(extent.rank) + " dimensions; give 1 to 4");
  int64_t count = 1;
  for (int32_t i = 0; i < extent.rank; ++i) {
    extent.dim[i] = input.features.shape[i];
    if (extent.dim[i] < 1 || __builtin_mul_overflow(count, extent.dim[i], &count) || count > (int64_t{1} << 40)) {
      return InvalidArgument("dimension " + std::to_string(i) + " of the features is " + std::to_string(extent.dim[i]));
    }
  }
  unsigned char* to = nullptr;
  ZOO_RETURN_IF_ERROR(Room(extent, out, &to));
  std::memcpy(to, input.features.data, static_cast<size_t>(count) * SizeOfDType(model_->manifest().engine.inputs[0].dtype));
  return Status::Ok();
}

Status Session::Preprocess(const RawInput& input, Features* out, Item* item) {
  item->tokens.clear();
  item->attention.clear();
  item->timing = {};
  item->start = item->end = 0;
  switch (input.kind) {
    case RawInput::Kind::kArray: return FromArray(input, out);
    case RawInput::Kind::kText: return FromText(input, out, item);
    case RawInput::Kind::kFile: return FromFile(input, out, item);
    case RawInput::Kind::kFeatures: return FromFeatures(input, out);
    case RawInput::Kind::kFilm:
    case RawInput::Kind::kStep: break;
  }
  return InvalidArgument(model_->manifest().name + " takes no films");
}

Status Session::Run(const RawInput* inputs, size_t count) {
  count_ = 0, used_ = 0;
  if (items_.size() < count) items_.resize(count);
  for (size_t i = 0; model_->film() != nullptr && i < count; ++i) {
    const Status status = RunFilm(inputs[i], &items_[i]);
    if (!status.ok()) return count == 1 ? status : Status(status.code(), "input " + std::to_string(i) + ": " + status.message());
  }
  if (model_->film() != nullptr) {
    count_ = count;
    return Status::Ok();
  }
  pending_.assign(count, {});
  for (size_t i = 0; i < count; ++i) {
    const Clock::time_point start = Clock::now();
    const Status status = Preprocess(inputs[i], &pending_[i], &items_[i]);
    if (!status.ok()) return count == 1 ? status : Status(status.code(), "input " + std::to_string(i) + ": " + status.message());
    Timing& t = items_[i].timing;
    t.total = Ms(Clock::now() - start);
    t.preprocess = t.total - t.decode_input;
  }
  for (size_t i = 0; i < count; ++i) {
    if (pending_[i].done) continue;
    group_.clear();
    for (size_t k = i; k < count && group_.size() < static_cast<size_t>(model_->max_batch()); ++k) {
      const Extent &a = pending_[i].extent, &b = pending_[k].extent;
      if (pending_[k].done || a.rank != b.rank || !std::equal(a.dim, a.dim + kMaxRank, b.dim)) continue;
      pending_[k].done = true;
      group_.push_back(k);
    }
    ZOO_RETURN_IF_ERROR(RunGroup(group_));
  }
  count_ = count;
  return Status::Ok();
}

Status Session::RunGroup(const std::vector<size_t>& group) {
  const Clock::time_point start = Clock::now();
  const Extent& extent = pending_[group[0]].extent;
  TensorView in;
  in.rank = extent.rank + 1;
  in.shape[0] = static_cast<int64_t>(group.size());
  std::copy(extent.dim, extent.dim + extent.rank, in.shape + 1);
  if (group.size() == 1) {
    in.data = features_.data() + pending_[group[0]].offset;
  } else {
    const size_t bytes = static_cast<size_t>(extent.count()) * SizeOfDType(model_->manifest().engine.inputs[0].dtype);
    if (!stack_.Reserve(bytes * group.size())) return OutOfMemory();
    for (size_t k = 0; k < group.size(); ++k) std::memcpy(stack_.data() + k * bytes, features_.data() + pending_[group[k]].offset, bytes);
    in.data = stack_.data();
  }
  ZOO_RETURN_IF_ERROR(engine_->Run({&in, 1}, &outputs_));
  for (const TensorView& output : outputs_) {
    if (output.rank < 1 || output.shape[0] != in.shape[0]) return InvalidBundle(model_->bundle().where() + ": an output of the engine has no row for each input");
  }
  const double share = Ms(Clock::now() - start) / static_cast<double>(group.size());
  for (size_t k = 0; k < group.size(); ++k) {
    const Clock::time_point began = Clock::now();
    Item& item = items_[group[k]];
    ZOO_RETURN_IF_ERROR(Finish(k, &item));
    item.timing.engine = share;
    item.timing.decode = Ms(Clock::now() - began);
    item.timing.total += share + item.timing.decode;
  }
  return Status::Ok();
}

// Pipelines and engine go along the whole input.
Status Session::Film(const RawInput& input, FilmOutputs* out, FilmTiming* timing) {
  const Manifest& m = model_->manifest();
  std::vector<std::unique_ptr<FilmTrack>> tracks;
  for (const FilmBranch& branch : model_->film()->branches()) {
    const RawInput* given = input.kind != RawInput::Kind::kFilm ? ((m.modality == "video") == branch.pictures ? &input : nullptr) : branch.pictures ? input.pictures : input.sound;
    if (given == nullptr) return InvalidArgument("the model needs " + std::string(branch.pictures ? "pictures" : "sound") + ", and none were given");
    auto track = OpenTrack(branch, *given, model_->kernels());
    if (!track.ok()) return track.status();
    tracks.push_back(std::move(track.value()));
  }
  return model_->film()->Run(tracks, engine_.get(), out, timing);
}

// Curves, of a whole input or of one step of a stream; the latter cannot be smoothed by what is yet to come.
Status Session::RunFilm(const RawInput& input, Item* item) {
  const Manifest& m = model_->manifest();
  const Clock::time_point start = Clock::now();
  const bool step = input.kind == RawInput::Kind::kStep;
  item->tokens.clear(), item->attention.clear();
  item->start = item->end = 0;
  FilmTiming spent;
  film_.steps = 0;
  for (auto& bytes : film_.bytes) bytes.clear();
  ZOO_RETURN_IF_ERROR(step ? model_->film()->Judge(*input.rows, input.count, input.count - 1, engine_.get(), &film_) : Film(input, &film_, &spent));
  const Clock::time_point ran = Clock::now();
  if (step) spent.engine = Ms(ran - start) * 1e-3;
  item->answers.Clear();
  for (const Head& head : m.heads) {
    size_t k = 0;
    while (m.engine.outputs[k].name != head.output) ++k;
    if (film_.shapes[k].size() != 1) return InvalidBundle(model_->bundle().where() + ": the engine's output " + head.output + " is not one of bins for each step");
    const Span<const float> values{reinterpret_cast<const float*>(film_.bytes[k].data()), film_.bytes[k].size() / sizeof(float)};
    const Status status = DecodeCurve(head, values, film_.steps, !step, &item->answers);
    if (!status.ok()) return Status(status.code(), model_->bundle().where() + ": " + status.message());
  }
  item->outputs.resize(film_.bytes.size());
  for (size_t k = 0; k < film_.bytes.size(); ++k) {
    OutputCopy& to = item->outputs[k];
    if (film_.shapes[k].size() + 1 > kMaxTensorRank) return InvalidBundle(model_->bundle().where() + ": an output of the engine has too many dimensions");
    to.rank = static_cast<int32_t>(film_.shapes[k].size()) + 1;
    to.shape[0] = film_.steps;
    std::copy(film_.shapes[k].begin(), film_.shapes[k].end(), to.shape + 1);
    to.bytes.assign(film_.bytes[k].begin(), film_.bytes[k].end());
  }
  Timing& t = item->timing;
  t.decode_input = spent.decode * 1e3, t.preprocess = spent.preprocess * 1e3, t.engine = spent.engine * 1e3;
  t.decode = Ms(Clock::now() - ran), t.total = Ms(Clock::now() - start);
  return Status::Ok();
}

// Row `row` of the engine's outputs becomes an item.
Status Session::Finish(size_t row, Item* item) {
  const Manifest& m = model_->manifest();
  item->outputs.resize(outputs_.size());
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const TensorView& from = outputs_[i];
    OutputCopy& to = item->outputs[i];
    to.rank = from.rank - 1;
    std::copy(from.shape + 1, from.shape + from.rank, to.shape);
    const size_t bytes = static_cast<size_t>(from.count() / from.shape[0]) * SizeOfDType(m.engine.outputs[i].dtype);
    const unsigned char* data = static_cast<const unsigned char*>(from.data) + row * bytes;
    to.bytes.assign(data, data + bytes);
  }
  const auto floats = [&](const std::string& name) -> Span<const float> {
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (m.engine.outputs[i].name != name) continue;
      const size_t count = static_cast<size_t>(outputs_[i].count() / outputs_[i].shape[0]);
      return {static_cast<const float*>(outputs_[i].data) + row * count, count};
    }
    return {};
  };
  item->answers.Clear();
  for (const Head& head : m.heads) {
    const Status status = Decode(head, floats(head.output), &item->answers);
    if (!status.ok()) return Status(status.code(), model_->bundle().where() + ": " + status.message());
  }
  if (m.attention) {
    const Span<const float> weights = floats(*m.attention);
    const size_t tokens = static_cast<size_t>(std::count(item->tokens.begin(), item->tokens.end(), static_cast<char>(kTokenEnd)));
    item->attention.assign(weights.begin(), weights.begin() + std::min(tokens, weights.size()));
  }
  return Status::Ok();
}

std::string Session::ToJson(size_t index) const {
  const Manifest& m = model_->manifest();
  const Item& item = items_[index];
  size_t at = 0;
  const auto answer = [&](size_t h) {
    const Head& head = m.heads[h];
    const size_t n = static_cast<size_t>(item.answers.sizes[h]);
    Json json{{"label", nullptr}, {"labels", Json::array()}, {"scores", Json::object()}, {"values", Json::object()}};
    if (head.kind == DecodeKind::kCurve) {
      Json seconds = Json::array();
      for (size_t i = 0; i < n; ++i) seconds.push_back(static_cast<double>(i) * head.period);
      const auto part = [&](const auto& all) { return Json(std::vector(all.begin() + static_cast<ptrdiff_t>(at), all.begin() + static_cast<ptrdiff_t>(at + n))); };
      json["series"] = {{"seconds", std::move(seconds)}, {"window", head.window}, {"bins", part(item.answers.bins)}, {"count", item.answers.counts[h]}, {"values", part(item.answers.values)}};
      at += n;
      return json;
    }
    if (item.answers.best[h] >= 0) json["label"] = head.labels[static_cast<size_t>(item.answers.best[h])];
    if (head.kind == DecodeKind::kEmbedding) json["values"] = Json::array();
    for (size_t i = 0; i < n; ++i) {
      const float value = item.answers.values[at + i];
      if (head.kind == DecodeKind::kEmbedding) json["values"].push_back(value);
      else json[head.kind == DecodeKind::kRegression ? "values" : "scores"][head.labels[i]] = value;
      if (item.answers.given[at + i]) json["labels"].push_back(head.labels[i]);
    }
    at += n;
    return json;
  };
  Json json;
  if (m.heads.size() == 1 && m.heads[0].name.empty()) {
    json = answer(0);
  } else {
    for (size_t h = 0; h < m.heads.size(); ++h) json["heads"][m.heads[h].name] = answer(h);
  }
  if (m.attention) {
    json["attention"] = Json::array();
    const char* token = item.tokens.data();
    for (const float weight : item.attention) {
      const char* end = static_cast<const char*>(std::memchr(token, kTokenEnd, static_cast<size_t>(item.tokens.data() + item.tokens.size() - token)));
      json["attention"].push_back({std::string(token, end), weight});
      token = end + 1;
    }
  }
  const Timing& t = item.timing;
  json["timing"] = {{"decode_input", t.decode_input}, {"preprocess", t.preprocess}, {"engine", t.engine}, {"decode", t.decode}, {"total", t.total}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

namespace {

// A case's array and its rate, which it points into.
Result<RawInput> GoldenInput(const Manifest& m, const NpyArray& array, const NpyArray& rate) {
  RawInput input;
  if (m.modality == "text") {
    input.kind = RawInput::Kind::kText;
    input.text = array.bytes;
    return input;
  }
  input.array.data = array.bytes.data();
  if (array.type == "<f4") input.array.type = SampleType::kF32;
  else if (array.type == "<f8") input.array.type = SampleType::kF64;
  else if (array.type == "<i2") input.array.type = SampleType::kI16;
  else if (array.type == "<i4") input.array.type = SampleType::kI32;
  else if (array.type == "|u1") input.array.type = SampleType::kU8;
  else return InvalidBundle("an input is of type " + array.type);
  input.array.rank = static_cast<int32_t>(array.shape.size());
  if (array.shape.empty() || array.shape.size() > kMaxRank) return InvalidBundle("an input has " + std::to_string(array.shape.size()) + " dimensions");
  std::copy(array.shape.begin(), array.shape.end(), input.array.dims);
  int64_t whole = 0;
  if (rate.count() != 1) return InvalidBundle("a rate is not one number");
  if (rate.type == "<i8") std::memcpy(&whole, rate.bytes.data(), 8), input.rate = static_cast<double>(whole);
  else if (rate.type == "<f8") std::memcpy(&input.rate, rate.bytes.data(), 8);
  else return InvalidBundle("a rate is of type " + rate.type);
  return input;
}

// Largest absolute difference; infinite where shapes differ or a number is not finite.
double Difference(const OutputCopy& found, const NpyArray& expected) {
  const bool same = static_cast<size_t>(found.rank) == expected.shape.size() && std::equal(expected.shape.begin(), expected.shape.end(), found.shape);
  if (!same || expected.type != "<f4" || found.bytes.size() != expected.bytes.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < found.bytes.size(); i += 4) {
    float a, b;
    std::memcpy(&a, found.bytes.data() + i, 4);
    std::memcpy(&b, expected.bytes.data() + i, 4);
    const double d = std::fabs(static_cast<double>(a) - static_cast<double>(b));
    if (!std::isfinite(d)) return INFINITY;
    worst = std::max(worst, d);
  }
  return worst;
}

}  // namespace

Status Selftest(Session* session, SelftestResult* result) {
  const Manifest& m = session->model().manifest();
  const std::string where = session->model().bundle().where() + ": " + m.golden_file + ": ";
  const auto named = [&](const Status& s) { return Status(s.code(), where + s.message()); };
  auto npz = Npz::Open(session->model().bundle().Read(m.golden_file));
  if (!npz.ok()) return named(npz.status());
  *result = {0, m.golden_tolerance, 0};
  for (int64_t i = 0; i < m.golden_count; ++i) {
    const std::string prefix = std::to_string(i) + "/";
    auto array = npz.value().Read(prefix + "input");
    if (!array.ok()) return named(array.status());
    auto rate = npz.value().Read(prefix + "rate");
    if (!rate.ok()) return named(rate.status());
    const auto input = GoldenInput(m, array.value(), rate.value());
    if (!input.ok()) return named(input.status());
    RawInput given = input.value(), sound;
    // of a film the input is its pictures
    const auto samples = npz.value().Read(prefix + "sound"), sound_rate = npz.value().Read(prefix + "sound_rate");
    if (samples.ok() && sound_rate.ok()) {
      const auto beside = GoldenInput(m, samples.value(), sound_rate.value());
      if (!beside.ok()) return named(beside.status());
      sound = beside.value();
      given = RawInput();
      given.kind = RawInput::Kind::kFilm, given.pictures = &input.value(), given.sound = &sound;
    }
    ZOO_RETURN_IF_ERROR(session->Run(&given, 1));
    for (size_t k = 0; k < m.engine.outputs.size(); ++k) {
      const auto expected = npz.value().Read(prefix + "outputs/" + m.engine.outputs[k].name);
      if (!expected.ok()) return named(expected.status());
      result->worst = std::max(result->worst, Difference(session->item(0).outputs[k], expected.value()));
    }
    ++result->cases;
  }
  if (result->worst <= result->tolerance) return Status::Ok();
  return Status(StatusCode::kCheckFailed, session->model().bundle().where() + ": selftest: an output differs by " + std::to_string(result->worst) +
                                              " from the reference, more than the tolerance of " + std::to_string(result->tolerance));
}

}  // namespace zoo
