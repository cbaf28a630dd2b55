// SPDX-License-Identifier: Apache-2.0
#include "zoo/zoo.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "runtime/load.h"
#include "runtime/model.h"
#include "runtime/stream_input.h"

struct zoo_model {
  std::shared_ptr<const zoo::Model> model;
};

struct zoo_session {
  std::unique_ptr<zoo::Session> session;
};

struct zoo_stream {
  zoo_session session;
  std::unique_ptr<zoo::StreamInput> input;
  zoo::Smoother smoother;
  double judged = 0;  // where the window of the last result began
  zoo::LoadMeter load{};
};

namespace {

using zoo::Status;
using zoo::StatusCode;

// The only state that outlives a call: a message, one a thread.
thread_local std::string last_error;

zoo_status Record(zoo_status status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {  // no memory for the message
    last_error.clear();
  }
  return status;
}

zoo_status Report(const Status& status) noexcept {
  if (status.ok()) return ZOO_OK;
  zoo_status code = ZOO_FAILED;
  if (status.code() == StatusCode::kOutOfMemory) code = ZOO_OUT_OF_MEMORY;
  else if (status.code() == StatusCode::kUnsupportedBundle) code = ZOO_UNSUPPORTED;
  else if (static_cast<int32_t>(status.code()) / 100 == 1) code = ZOO_INPUT_ERROR;
  else if (static_cast<int32_t>(status.code()) / 100 == 2) code = ZOO_PROVIDER_UNAVAILABLE;
  else if (static_cast<int32_t>(status.code()) / 100 == 3) code = ZOO_BUNDLE_ERROR;
  else if (static_cast<int32_t>(status.code()) / 100 == 4) code = ZOO_CHECK_FAILED;
  return Record(code, status.message().c_str());
}

zoo_status Usage(const char* message) noexcept { return Record(ZOO_USAGE_ERROR, message); }

// Runs the body of a function; no exception leaves it.
template <class F>
zoo_status Guarded(F body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Record(ZOO_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return Record(ZOO_FAILED, error.what());
  } catch (...) {
    return Record(ZOO_FAILED, "an unknown exception");
  }
}

zoo_status WriteText(const std::string& text, char* buffer, size_t capacity, size_t* size) noexcept {
  if (size != nullptr) *size = text.size() + 1;
  if (buffer == nullptr || capacity <= text.size()) return Record(ZOO_BUFFER_TOO_SMALL, "the buffer is too small for the text and its end");
  std::memcpy(buffer, text.c_str(), text.size() + 1);
  return ZOO_OK;
}

zoo_status CheckOptions(const zoo_options* options) noexcept {
  if (options == nullptr || options->abi_version == ZOO_ABI_VERSION) return ZOO_OK;
  return Usage("options: abi_version is not that of this library; fill them with zoo_options_init, and build against its own zoo.h");
}

zoo::ModelOptions ToOptions(const zoo_options* options) {
  zoo::ModelOptions out;
  if (options == nullptr) return out;
  out.threads = options->threads;
  out.batch = options->batch;
  if (options->engine_library != nullptr) out.library = options->engine_library;
  if (options->isa != nullptr) out.isa = options->isa;
  return out;
}

zoo_status OpenModel(zoo::Result<zoo::Bundle> bundle, const zoo_options* options, zoo_model** out) {
  auto model = zoo::Model::Open(std::move(bundle), ToOptions(options));
  if (!model.ok()) return Report(model.status());
  *out = new zoo_model{std::move(model.value())};
  return ZOO_OK;
}

bool ToSampleType(int32_t dtype, zoo::SampleType* type) noexcept {
  switch (dtype) {
    case ZOO_F32: *type = zoo::SampleType::kF32; return true;
    case ZOO_F64: *type = zoo::SampleType::kF64; return true;
    case ZOO_I16: *type = zoo::SampleType::kI16; return true;
    case ZOO_I32: *type = zoo::SampleType::kI32; return true;
    case ZOO_U8: *type = zoo::SampleType::kU8; return true;
    default: return false;
  }
}

// parts: pictures and sound of a film, which it points to.
Status ToInput(const zoo_input& in, const zoo::Model& model, zoo::RawInput* out, zoo::RawInput* parts) {
  if (in.kind == ZOO_FILM) {
    if (in.data == nullptr) return zoo::InvalidArgument("data is NULL");
    if (parts == nullptr) return zoo::InvalidArgument("a film within a film");
    const zoo_film& film = *static_cast<const zoo_film*>(in.data);
    out->kind = zoo::RawInput::Kind::kFilm;
    if (film.pictures != nullptr) ZOO_RETURN_IF_ERROR(ToInput(*film.pictures, model, &parts[0], nullptr));
    if (film.sound != nullptr) ZOO_RETURN_IF_ERROR(ToInput(*film.sound, model, &parts[1], nullptr));
    out->pictures = film.pictures == nullptr ? nullptr : &parts[0];
    out->sound = film.sound == nullptr ? nullptr : &parts[1];
    return Status::Ok();
  }
  if (in.kind == ZOO_FILE || in.kind == ZOO_TEXT) {
    if (in.data == nullptr && (in.kind == ZOO_FILE || in.shape[0] != 0)) return zoo::InvalidArgument("data is NULL");
    if (in.kind == ZOO_TEXT && (in.shape[0] < 0 || in.shape[0] > (int64_t{1} << 40))) return zoo::InvalidArgument("shape[0], the bytes of a text, is " + std::to_string(in.shape[0]));
    const char* text = static_cast<const char*>(in.data);
    out->kind = in.kind == ZOO_FILE ? zoo::RawInput::Kind::kFile : zoo::RawInput::Kind::kText;
    out->text = in.kind == ZOO_FILE ? std::string_view(text) : std::string_view(text, static_cast<size_t>(in.shape[0]));
    return Status::Ok();
  }
  if (in.kind != ZOO_ARRAY && in.kind != ZOO_FEATURES) return zoo::InvalidArgument("kind is " + std::to_string(in.kind) + ", which is none of zoo_input_kind");
  if (in.rank < 1 || in.rank > zoo::kMaxRank) return zoo::InvalidArgument("rank is " + std::to_string(in.rank) + "; it must be 1 to 4");
  int64_t count = 1;
  for (int32_t i = 0; i < in.rank; ++i) {
    if (in.shape[i] < 0 || __builtin_mul_overflow(count, in.shape[i], &count) || count > (int64_t{1} << 40)) {
      return zoo::InvalidArgument("shape[" + std::to_string(i) + "] is " + std::to_string(in.shape[i]) + "; the array would be too large");
    }
  }
  if (in.data == nullptr && count > 0) return zoo::InvalidArgument("data is NULL");
  if (in.kind == ZOO_FEATURES) {
    const std::string& wanted = model.manifest().engine.inputs[0].dtype;
    if (wanted != (in.dtype == ZOO_F32 ? "float32" : in.dtype == ZOO_I64 ? "int64" : "")) return zoo::InvalidArgument("features must be " + wanted);
    out->kind = zoo::RawInput::Kind::kFeatures;
    out->features.data = in.data, out->features.rank = in.rank;
    std::copy(in.shape, in.shape + in.rank, out->features.shape);
    return Status::Ok();
  }
  if (!ToSampleType(in.dtype, &out->array.type)) return zoo::InvalidArgument("arrays may be float32, float64, int16, int32 or uint8");
  out->kind = zoo::RawInput::Kind::kArray;
  out->array.data = in.data, out->array.rank = in.rank, out->rate = in.rate;
  std::fill(out->array.dims, out->array.dims + zoo::kMaxRank, 1);
  std::copy(in.shape, in.shape + in.rank, out->array.dims);
  return Status::Ok();
}

template <class T>
bool Copy(const std::vector<T>& from, T* to, size_t capacity) noexcept {
  if (to == nullptr) return true;
  if (capacity < from.size()) return false;
  std::copy(from.begin(), from.end(), to);
  return true;
}

zoo_status FillResult(const zoo::Item& item, zoo_result* r) noexcept {
  r->values_count = item.answers.values.size();
  r->best_count = item.answers.best.size();
  r->attention_count = item.attention.size();
  r->start = item.start, r->end = item.end;
  r->timing = {item.timing.decode_input, item.timing.preprocess, item.timing.engine, item.timing.decode, item.timing.total};
  const bool fits = Copy(item.answers.values, r->values, r->values_capacity) && Copy(item.answers.given, r->given, r->given_capacity) &&
                    Copy(item.answers.best, r->best, r->best_capacity) && Copy(item.attention, r->attention, r->attention_capacity);
  return fits ? ZOO_OK : Record(ZOO_BUFFER_TOO_SMALL, "a buffer of the result is too small; values_count, best_count and attention_count say how many there are");
}

}  // namespace

extern "C" {

uint32_t zoo_abi_version(void) { return ZOO_ABI_VERSION; }

const char* zoo_last_error(void) { return last_error.c_str(); }

const char* zoo_status_name(int32_t status) {
  switch (status) {
    case ZOO_OK: return "ok";
    case ZOO_FAILED: return "failed";
    case ZOO_USAGE_ERROR: return "usage error";
    case ZOO_INPUT_ERROR: return "input error";
    case ZOO_BUNDLE_ERROR: return "bundle error";
    case ZOO_PROVIDER_UNAVAILABLE: return "provider unavailable";
    case ZOO_CHECK_FAILED: return "check failed";
    case ZOO_NO_RESULT: return "no result";
    case ZOO_OUT_OF_MEMORY: return "out of memory";
    case ZOO_BUFFER_TOO_SMALL: return "buffer too small";
    case ZOO_UNSUPPORTED: return "unsupported bundle";
  }
  return "unknown";
}

void zoo_options_init(zoo_options* options) {
  if (options == nullptr) return;
  *options = zoo_options{};
  options->abi_version = ZOO_ABI_VERSION;
}

zoo_status zoo_open(const char* path, const zoo_options* options, zoo_model** model) {
  return Guarded([&] {
    if (model == nullptr || path == nullptr) return Usage("zoo_open: path and model must not be NULL");
    *model = nullptr;
    if (CheckOptions(options) != ZOO_OK) return ZOO_USAGE_ERROR;
    return OpenModel(zoo::Bundle::Open(path), options, model);
  });
}

zoo_status zoo_open_memory(const void* bytes, size_t size, const zoo_options* options, zoo_model** model) {
  return Guarded([&] {
    if (model == nullptr || bytes == nullptr) return Usage("zoo_open_memory: bytes and model must not be NULL");
    *model = nullptr;
    if (CheckOptions(options) != ZOO_OK) return ZOO_USAGE_ERROR;
    return OpenModel(zoo::Bundle::OpenMemory(std::string_view(static_cast<const char*>(bytes), size)), options, model);
  });
}

void zoo_close(zoo_model* model) { delete model; }

zoo_status zoo_describe(const zoo_model* model, char* buffer, size_t capacity, size_t* size) {
  return Guarded([&] {
    if (model == nullptr) return Usage("zoo_describe: model must not be NULL");
    return WriteText(model->model->Describe(), buffer, capacity, size);
  });
}

zoo_status zoo_engines(const zoo_options* options, char* buffer, size_t capacity, size_t* size) {
  return Guarded([&] {
    if (CheckOptions(options) != ZOO_OK) return ZOO_USAGE_ERROR;
    zoo::Json list = zoo::Json::array();
    for (const zoo::EngineStatus& e : zoo::EngineStatuses({1, ToOptions(options).library})) {
      const auto text = [](const std::string& s) { return s.empty() ? zoo::Json() : zoo::Json(s); };
      list.push_back({{"kind", e.kind}, {"built", e.built}, {"version", text(e.version)}, {"devices", e.devices}, {"problem", text(e.problem)}});
    }
    return WriteText(list.dump(-1, ' ', false, zoo::Json::error_handler_t::replace), buffer, capacity, size);
  });
}

size_t zoo_head_count(const zoo_model* model) { return model == nullptr ? 0 : model->model->manifest().heads.size(); }

zoo_status zoo_head(const zoo_model* model, size_t head, const char** name, int32_t* decode, size_t* labels) {
  if (head >= zoo_head_count(model)) return Usage("zoo_head: there is no such head");
  const zoo::Head& h = model->model->manifest().heads[head];
  if (name != nullptr) *name = h.name.c_str();
  if (decode != nullptr) *decode = static_cast<int32_t>(h.kind);
  if (labels != nullptr) *labels = h.labels.size();
  return ZOO_OK;
}

const char* zoo_label(const zoo_model* model, size_t head, size_t label) {
  if (head >= zoo_head_count(model)) return nullptr;
  const auto& labels = model->model->manifest().heads[head].labels;
  return label < labels.size() ? labels[label].c_str() : nullptr;
}

const char* zoo_channel(const zoo_model* model, size_t column) {
  if (model == nullptr || column >= model->model->manifest().channels.size()) return nullptr;
  return model->model->manifest().channels[column].c_str();
}

zoo_status zoo_session_open(const zoo_model* model, zoo_session** session) {
  return Guarded([&] {
    if (model == nullptr || session == nullptr) return Usage("zoo_session_open: model and session must not be NULL");
    *session = nullptr;
    auto made = zoo::Session::Create(model->model);
    if (!made.ok()) return Report(made.status());
    *session = new zoo_session{std::move(made.value())};
    return ZOO_OK;
  });
}

void zoo_session_close(zoo_session* session) { delete session; }

zoo_status zoo_run(zoo_session* session, const zoo_input* inputs, size_t count, zoo_result* results) {
  return Guarded([&] {
    if (session == nullptr || (inputs == nullptr && count > 0)) return Usage("zoo_run: session and inputs must not be NULL");
    session->session->Clear();
    zoo::RawInput one[3];  // one input and its parts
    std::vector<zoo::RawInput> many(count == 1 ? 0 : 3 * count);
    zoo::RawInput* raw = count == 1 ? one : many.data();
    for (size_t i = 0; i < count; ++i) {
      const Status status = ToInput(inputs[i], session->session->model(), &raw[i], &raw[count + 2 * i]);
      if (!status.ok()) return Report(Status(status.code(), "input " + std::to_string(i) + ": " + status.message()));
    }
    const Status status = session->session->Run(raw, count);
    if (!status.ok()) return Report(status);
    zoo_status worst = ZOO_OK;
    for (size_t i = 0; results != nullptr && i < count; ++i) {
      const zoo_status filled = FillResult(session->session->item(i), &results[i]);
      if (filled != ZOO_OK) worst = filled;
    }
    return worst;
  });
}

zoo_status zoo_result_read(const zoo_session* session, size_t item, zoo_result* result) {
  if (session == nullptr || result == nullptr || item >= session->session->size()) return Usage("zoo_result_read: the last run has no such item");
  return FillResult(session->session->item(item), result);
}

zoo_status zoo_result_json(const zoo_session* session, size_t item, char* buffer, size_t capacity, size_t* size) {
  return Guarded([&] {
    if (session == nullptr || item >= session->session->size()) return Usage("zoo_result_json: the last run has no such item");
    return WriteText(session->session->ToJson(item), buffer, capacity, size);
  });
}

zoo_status zoo_output(const zoo_session* session, size_t item, const char* name, void* buffer, size_t capacity, zoo_tensor* tensor) {
  return Guarded([&] {
    if (session == nullptr || name == nullptr || item >= session->session->size()) return Usage("zoo_output: the last run has no such item");
    const auto& specs = session->session->model().manifest().engine.outputs;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].name != name) continue;
      const zoo::OutputCopy& output = session->session->item(item).outputs[i];
      if (tensor != nullptr) {
        *tensor = zoo_tensor{};
        tensor->dtype = specs[i].dtype == "int64" ? ZOO_I64 : specs[i].dtype == "int32" ? ZOO_I32 : ZOO_F32;
        tensor->rank = output.rank;
        std::copy(output.shape, output.shape + output.rank, tensor->shape);
        tensor->bytes = output.bytes.size();
      }
      if (buffer == nullptr && tensor != nullptr) return ZOO_OK;
      if (buffer == nullptr || capacity < output.bytes.size()) return Record(ZOO_BUFFER_TOO_SMALL, "the buffer is too small for the output");
      if (!output.bytes.empty()) std::memcpy(buffer, output.bytes.data(), output.bytes.size());
      return ZOO_OK;
    }
    return Usage("zoo_output: the engine has no output of that name");
  });
}

zoo_status zoo_selftest(zoo_session* session, double* worst, double* tolerance) {
  return Guarded([&] {
    if (session == nullptr) return Usage("zoo_selftest: session must not be NULL");
    zoo::SelftestResult result;
    const Status status = zoo::Selftest(session->session.get(), &result);
    if (worst != nullptr) *worst = result.worst;
    if (tolerance != nullptr) *tolerance = result.tolerance;
    return Report(status);
  });
}

void zoo_stream_options_init(zoo_stream_options* options) {
  if (options == nullptr) return;
  *options = zoo_stream_options{};
  options->abi_version = ZOO_ABI_VERSION;
  options->channels = 1, options->hop = 0.5;
}

zoo_status zoo_stream_open(const zoo_model* model, const zoo_stream_options* options, zoo_stream** stream) {
  return Guarded([&] {
    if (model == nullptr || stream == nullptr) return Usage("zoo_stream_open: model and stream must not be NULL");
    *stream = nullptr;
    zoo_stream_options set;
    zoo_stream_options_init(&set);
    if (options != nullptr && options->abi_version != ZOO_ABI_VERSION) {
      return Usage("zoo_stream_open: abi_version is not that of this library; fill the options with zoo_stream_options_init, and build against its own zoo.h");
    }
    if (options != nullptr) set = *options;
    const zoo::Model& m = *model->model;
    zoo::StreamFormat format;
    if (!ToSampleType(set.dtype, &format.type)) return Report(zoo::InvalidArgument("stream: samples may be float32, float64, int16 or int32, pictures are uint8"));
    format.channels = set.channels, format.rate = set.rate, format.hop = set.hop, format.height = set.height, format.width = set.width;
    if (!(set.smoothing >= 0 && set.smoothing <= 3.2e7)) return Report(zoo::InvalidArgument("stream: smoothing is " + std::to_string(set.smoothing) + " s; it must be 0 to a year"));
    auto input = zoo::StreamInput::Create(m, format);
    if (!input.ok()) return Report(input.status());
    auto session = zoo::Session::Create(model->model);
    if (!session.ok()) return Report(session.status());
    *stream = new zoo_stream{{std::move(session.value())}, std::move(input.value()), zoo::Smoother(m.manifest().heads, set.smoothing)};
    return ZOO_OK;
  });
}

zoo_status zoo_stream_push(zoo_stream* stream, const void* samples, size_t count, size_t* taken) {
  return Guarded([&] {
    if (stream == nullptr || taken == nullptr || (samples == nullptr && count > 0)) return Usage("zoo_stream_push: stream, samples and taken must not be NULL");
    *taken = 0;
    zoo::StreamInput& input = *stream->input;
    if (input.ended()) return Report(zoo::InvalidSignal("the stream has ended; open a new one"));
    const auto work = stream->load.Start();
    const bool waiting = input.ready();
    int64_t took = 0;
    const Status status = input.Take(samples, static_cast<int64_t>(std::min<size_t>(count, size_t{1} << 40)), &took);
    if (!status.ok()) return Report(status);
    *taken = static_cast<size_t>(took);
    stream->load.Took(static_cast<double>(took) / input.rate());
    if (!waiting && input.ready()) stream->load.Full();
    return ZOO_OK;
  });
}

zoo_status zoo_stream_end(zoo_stream* stream) {
  return Guarded([&] {
    if (stream == nullptr) return Usage("zoo_stream_end: stream must not be NULL");
    const auto work = stream->load.Start();
    const bool waiting = stream->input->ready();
    const Status status = stream->input->End();
    if (!waiting && stream->input->ready()) stream->load.Full();
    return Report(status);
  });
}

zoo_status zoo_stream_pop(zoo_stream* stream, zoo_result* result) {
  return Guarded([&] {
    if (stream == nullptr) return Usage("zoo_stream_pop: stream must not be NULL");
    if (!stream->input->ready()) return ZOO_NO_RESULT;
    const auto work = stream->load.Start();
    zoo::Session& session = *stream->session.session;
    const zoo::StreamWindow window = stream->input->window();
    const Status status = session.Run(&window.input, 1);
    stream->input->Advance();
    if (!status.ok()) return Report(status);
    zoo::Item& item = *session.mutable_item(0);
    item.start = window.start, item.end = window.end;
    item.timing.preprocess += window.preprocess, item.timing.total += window.preprocess;
    stream->smoother.Apply(window.start - stream->judged, &item.answers);
    stream->judged = window.start;
    stream->load.Given();
    return result == nullptr ? ZOO_OK : FillResult(item, result);
  });
}

zoo_status zoo_stream_load(const zoo_stream* stream, zoo_load* load) {
  if (stream == nullptr || load == nullptr) return Usage("zoo_stream_load: stream and load must not be NULL");
  const zoo::LoadMeter& m = stream->load;
  const double windows = static_cast<double>(m.windows());
  *load = {m.windows(), m.latency_last() * 1e3, windows > 0 ? m.latency_sum() * 1e3 / windows : 0, m.latency_max() * 1e3, m.signal(), m.busy(), m.cpu(), m.signal() > 0 ? m.cpu() / m.signal() : 0};
  return ZOO_OK;
}

const zoo_session* zoo_stream_session(const zoo_stream* stream) { return stream == nullptr ? nullptr : &stream->session; }

void zoo_stream_close(zoo_stream* stream) { delete stream; }

}  // extern "C"
