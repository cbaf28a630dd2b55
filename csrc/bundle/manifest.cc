// SPDX-License-Identifier: Apache-2.0
#include "bundle/manifest.h"

#include <algorithm>
#include <initializer_list>
#include <set>

#include "bundle/schema.h"
#include "bundle/sha256.h"
#include "pipeline/op.h"

namespace zoo {
namespace {

constexpr int kMaxDepth = 64;

// Text to JSON, no deeper than kMaxDepth.
Status ParseJson(std::string_view text, Json* out) {
  bool deep = false;
  const auto guard = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) deep = true;
    return !deep;
  };
  try {
    *out = Json::parse(text.begin(), text.end(), guard);
  } catch (const Json::parse_error& error) {
    return InvalidBundle("it is not JSON at byte " + std::to_string(error.byte));  // its own words quote bytes that may be no UTF-8
  } catch (const Json::exception& error) {
    return InvalidBundle(error.what());
  }
  if (deep) return InvalidBundle("it is nested more than " + std::to_string(kMaxDepth) + " deep");
  return Status::Ok();
}

ParamValue ToParam(const Json& v) {
  if (v.is_boolean()) return v.get<bool>();
  if (v.is_number_integer()) return v.get<int64_t>();
  if (v.is_number()) return v.get<double>();
  if (v.is_string()) return v.get<std::string>();
  if (v.is_array()) return v.get<std::vector<double>>();
  return std::monostate{};
}

std::vector<OpDesc> ToOps(const Json& ops) {
  std::vector<OpDesc> out;
  for (const Json& op : ops) {
    OpDesc desc{op.at("op"), {}};
    for (const auto& [name, value] : op.items()) {
      if (name != "op") desc.params.emplace_back(name, ToParam(value));
    }
    out.push_back(std::move(desc));
  }
  return out;
}

// Files that ops name, without repetition, in order.
std::vector<std::string> OpFiles(const std::vector<OpDesc>& ops) {
  std::vector<std::string> names;
  for (const OpDesc& op : ops) {
    for (const OpSpec* spec : OpSpecs()) {
      if (op.op != spec->name) continue;
      for (const ParamSpec& param : spec->params) {
        if (param.type != ParamType::kFile) continue;
        for (const auto& [name, value] : op.params) {
          const std::string* file = std::get_if<std::string>(&value);
          if (name == param.name && file != nullptr && std::find(names.begin(), names.end(), *file) == names.end()) names.push_back(*file);
        }
      }
    }
  }
  return names;
}

std::vector<TensorSpec> ToTensors(const Json& list) {
  std::vector<TensorSpec> out;
  for (const Json& one : list) {
    TensorSpec tensor{one.at("name"), one.at("dtype"), {}, {}};
    for (const Json& dim : one.at("shape")) {
      tensor.shape.push_back(dim.is_string() ? -1 : dim.get<int64_t>());
      tensor.dimensions.push_back(dim.is_string() ? dim.get<std::string>() : "");
    }
    out.push_back(std::move(tensor));
  }
  return out;
}

EngineSpec ToEngine(const Json& e) {
  return {e.at("kind"), e.at("file"), e.at("precision"), e.value("extra_files", std::vector<std::string>()), ToTensors(e.at("inputs")), ToTensors(e.at("outputs"))};
}

Head ToHead(const Json& decode, std::vector<std::string> labels, std::string name) {
  Head head;
  head.name = std::move(name), head.labels = std::move(labels), head.output = decode.at("output");
  const std::string type = decode.at("type");
  if (type == "sigmoid") {
    head.kind = DecodeKind::kSigmoid;
    head.thresholds = decode.at("thresholds").get<std::vector<double>>();
  } else if (type == "regression") {
    head.kind = DecodeKind::kRegression;
    head.low = decode.at("range")[0], head.high = decode.at("range")[1];
  } else if (type == "embedding") {
    head.kind = DecodeKind::kEmbedding;
    head.normalize = decode.value("normalize", false);
  } else if (type == "curve") {
    head.kind = DecodeKind::kCurve;
    const auto range = decode.find("range");
    head.low = range == decode.end() ? -1.0 : (*range)[0].get<double>(), head.high = range == decode.end() ? 1.0 : (*range)[1].get<double>();
    head.period = decode.at("period"), head.window = decode.at("window"), head.context = decode.value("context", int64_t{0});
    if (const auto smooth = decode.find("smooth"); smooth != decode.end() && smooth->is_object()) {
      const auto cutoff = smooth->find("cutoff");
      if (cutoff != smooth->end() && cutoff->is_number()) head.smooth.cutoff = *cutoff;
      head.smooth.rate = smooth->value("rate", 1.0), head.smooth.order = static_cast<int32_t>(smooth->value("order", int64_t{6}));
      head.smooth.mean = smooth->value("mean", int64_t{1}), head.smooth.median = smooth->value("median", int64_t{1});
    }
  }
  return head;
}

// The text of an optional field, or none where it is absent or null.
std::optional<std::string> Text(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return std::nullopt;
  return found->get<std::string>();
}

Status CheckHead(const Head& head) {
  const std::string where = head.name.empty() ? "decode: " : "decode: head " + head.name + ": ";
  if (std::set<std::string>(head.labels.begin(), head.labels.end()).size() != head.labels.size()) return InvalidBundle(where + "a label twice");
  if (head.kind == DecodeKind::kSigmoid && head.thresholds.size() != head.labels.size()) {
    return InvalidBundle(where + std::to_string(head.thresholds.size()) + " thresholds for " + std::to_string(head.labels.size()) + " labels");
  }
  if ((head.kind == DecodeKind::kRegression || head.kind == DecodeKind::kCurve) && !(head.low < head.high)) return InvalidBundle(where + "its range is empty");
  return Status::Ok();
}

// How the curve of one head is smoothed: what its numbers must be beyond what the schema says.
Status CheckSmooth(const Json& decode) {
  const auto smooth = decode.find("smooth");
  if (smooth == decode.end() || !smooth->is_object()) return Status::Ok();
  if (smooth->value("mean", int64_t{1}) % 2 == 0 || smooth->value("median", int64_t{1}) % 2 == 0) return InvalidBundle("decode: smooth: mean and median must be odd");
  const auto cutoff = smooth->find("cutoff");
  const bool low_pass = cutoff != smooth->end() && cutoff->is_number();
  if (low_pass && !(cutoff->get<double>() < smooth->value("rate", 1.0) / 2)) return InvalidBundle("decode: smooth: cutoff is not below half of the rate");
  return Status::Ok();
}

// Curves of several heads: no other answers beside them, and the same steps.
Status CheckCurves(const Json& heads) {
  std::set<std::pair<double, double>> steps;
  size_t curves = 0;
  for (const Json& one : heads) {
    const Json& decode = one.at("decode");
    if (decode.at("type") != "curve") continue;
    ++curves;
    steps.emplace(decode.at("period").get<double>(), decode.at("window").get<double>());
  }
  if (curves > 0 && curves < heads.size()) return InvalidBundle("decode: curves beside other answers");
  if (steps.size() > 1) return InvalidBundle("decode: curves with steps of their own");
  return Status::Ok();
}

// Heads, and which output holds attention.
Status ToHeads(const Json& json, Manifest* m) {
  const Json& decode = json.at("decode");
  const auto labels = json.at("labels").get<std::vector<std::string>>();
  m->attention = Text(decode, "attention");
  if (decode.at("type") != "heads") {
    m->heads.push_back(ToHead(decode, labels, ""));
    ZOO_RETURN_IF_ERROR(CheckHead(m->heads[0]));
    return CheckSmooth(decode);
  }
  std::vector<std::string> names;
  for (const Json& one : decode.at("heads")) {
    m->heads.push_back(ToHead(one.at("decode"), one.value("labels", std::vector<std::string>()), one.at("name")));
    names.push_back(m->heads.back().name);
    ZOO_RETURN_IF_ERROR(CheckHead(m->heads.back()));
    ZOO_RETURN_IF_ERROR(CheckSmooth(one.at("decode")));
    if (Text(one.at("decode"), "attention")) return InvalidBundle("decode: head " + names.back() + ": attention belongs to all heads; give it beside them");
  }
  if (std::set<std::string>(names.begin(), names.end()).size() != names.size()) return InvalidBundle("decode: heads of one name twice");
  if (names != labels) return InvalidBundle("decode: the labels of a model with heads are the heads' names");
  return CheckCurves(decode.at("heads"));
}

Status CheckOutputs(const Manifest& m, const Json& engines) {
  std::set<std::string> outputs;
  for (const Json& one : engines.back().at("outputs")) outputs.insert(one.at("name"));
  if (m.attention && outputs.count(*m.attention) == 0) return InvalidBundle("decode.attention '" + *m.attention + "' is not an engine output");
  for (const Head& head : m.heads) {
    if (outputs.count(head.output) == 0) return InvalidBundle("decode.output '" + head.output + "' is not an engine output");
  }
  return Status::Ok();
}

// Every file that the manifest names is listed, once.
Status CheckFiles(const Json& json, const Manifest& m) {
  std::set<std::string> listed;
  for (const FileSpec& file : m.files) {
    if (!listed.insert(file.path).second) return InvalidBundle("manifest.json lists a file twice");
  }
  std::vector<std::pair<std::string, std::string>> made, wanted;
  const Json& engines = json.at("engines");
  for (size_t i = 0; i < engines.size(); ++i) made.emplace_back("engines[" + std::to_string(i) + "].file", engines[i].at("file"));
  for (size_t i = 0; i < engines.size(); ++i) {
    for (const std::string& file : engines[i].value("extra_files", std::vector<std::string>())) made.emplace_back("engines[" + std::to_string(i) + "].extra_files", file);
  }
  if (m.recipe) {
    for (const auto& [field, path] : made) {
      if (listed.count(path) != 0) return InvalidBundle(field + " is there already, but recipe says that it is yet to be built");
    }
    wanted.emplace_back("recipe.graph", json.at("recipe").at("graph"));
  } else {
    wanted = made;
  }
  wanted.emplace_back("golden.file", m.golden_file);
  for (const std::string& file : m.op_files) wanted.emplace_back("pipeline", file);
  for (const Json& branch : json.value("branches", Json::array())) {
    for (std::string& file : OpFiles(ToOps(branch.at("pipeline")))) wanted.emplace_back("branches", std::move(file));
  }
  const auto build = json.find("build");
  if (build != json.end() && build->is_object()) {
    if (const auto layers = Text(*build, "layers")) wanted.emplace_back("build.layers", *layers);
  }
  for (const auto& [field, path] : wanted) {
    if (listed.count(path) == 0) return InvalidBundle(field + " names '" + path + "', which is not in files");
  }
  return Status::Ok();
}

// A key that contradicts the rest of its own manifest was edited by hand.
Status CheckKey(const Json& json, const Manifest& m) {
  const Json& key = json.at("key");
  const auto differs = [&](const char* field, const std::string& found, const std::string& expected) {
    return InvalidBundle(std::string("key.") + field + " is '" + found + "', the bundle itself says '" + expected + "'; rebuild it: " + m.rebuild);
  };
  if (key.at("engine") != m.engine.kind) return differs("engine", key.at("engine"), m.engine.kind);
  if (key.at("target") != json.at("target")) return differs("target", key.at("target"), json.at("target"));
  const auto calibration = json.find("calibration");
  const bool calibrated = calibration != json.end() && calibration->is_object();
  const std::string hash = calibrated ? calibration->at("sha256").get<std::string>() : "none", stated = Text(key, "calibration_sha256").value_or("none");
  if (hash != stated) return differs("calibration_sha256", stated, hash);
  const std::string graph = m.recipe ? json.at("recipe").at("graph").get<std::string>() : m.engine.file;
  if (graph.size() >= 5 && graph.compare(graph.size() - 5, 5, ".onnx") == 0) {
    for (const FileSpec& file : m.files) {
      if (file.path == graph && key.at("onnx_sha256") != file.sha256) return differs("onnx_sha256", key.at("onnx_sha256"), file.sha256);
    }
  }
  return Status::Ok();
}

std::string RebuildCommand(const Json& json) {
  std::string command = "zoo export " + json.at("name").get<std::string>() + " --target " + json.at("target").get<std::string>() + " --precision " + json.at("precision").get<std::string>();
  std::string options;
  for (const std::string& option : json.at("provenance").value("quantize", std::vector<std::string>())) options += (options.empty() ? "" : ",") + option;
  if (!options.empty()) command += " --quantize " + options;
  if (const auto gpu = Text(json.at("key"), "compute_capability")) command += " --compute-capability " + *gpu;
  return command + " --out DIR";
}

Status CheckPipeline(const Manifest& m, const std::vector<OpDesc>& ops, bool pictures) {
  const auto pipeline = Pipeline::Create(ops, "", m.InputShape(pictures));
  if (pipeline.ok()) return Status::Ok();
  const bool mine = pipeline.status().code() == StatusCode::kUnsupportedIsa || pipeline.status().code() == StatusCode::kOutOfMemory;
  return mine ? pipeline.status() : InvalidBundle("pipeline: " + pipeline.status().message());
}

// The first field of an object that this runtime neither heeds nor may pass over; empty where there is none. The schema may know
// more: who wrote such a field into a bundle means something that is not done here, so it is refused rather than run wrongly. A field
// that holds nothing asks for nothing.
std::string UnknownField(const Json& object, const std::string& name, std::initializer_list<std::string_view> known) {
  for (const auto& [field, value] : object.items()) {
    const bool empty = value.is_null() || ((value.is_array() || value.is_object()) && value.empty());
    if (!empty && std::find(known.begin(), known.end(), field) == known.end()) return name + field;
  }
  return "";
}

std::string UnknownField(const Json& json) {
  std::string found = UnknownField(json, "", {"schema", "digest", "name", "model", "title", "task", "version", "target", "precision", "labels", "input", "pipeline", "engines",
                                              "decode", "key", "files", "golden", "provenance", "license", "parity", "quality", "threads", "calibration", "gate", "recipe",
                                              "pareto", "build", "tuning", "notes", "branches"});
  if (found.empty()) found = UnknownField(json.at("input"), "input.", {"modality", "name", "rate", "channels", "shape", "dtype", "range", "names"});
  if (found.empty()) {
    found = UnknownField(json.at("engines")[0], "engines[0].", {"kind", "file", "precision", "inputs", "outputs", "opset", "extra_files", "kept", "placement"});
  }
  const auto decode = [&](const Json& one) {
    if (found.empty()) found = UnknownField(one, "decode.", {"type", "output", "attention", "thresholds", "range", "normalize", "heads", "period", "window", "context", "smooth"});
    if (found.empty() && one.contains("smooth") && one.at("smooth").is_object()) found = UnknownField(one.at("smooth"), "decode.smooth.", {"cutoff", "rate", "order", "mean", "median"});
  };
  for (const Json& branch : json.value("branches", Json::array())) {
    if (found.empty()) found = UnknownField(branch, "branches.", {"source", "pipeline"});
  }
  decode(json.at("decode"));
  for (const Json& head : json.at("decode").value("heads", Json::array())) {
    if (found.empty()) found = UnknownField(head, "decode.heads.", {"name", "decode", "labels", "metric"});
    decode(head.at("decode"));
  }
  return found;
}

// Why a bundle that is whole cannot be run here.
std::string Unsupported(const Json& json, const Manifest& m) {
  if (!m.curves() && !m.branches.empty()) return "it looks at its input in several ways (branches), which libzoo does for curves over time alone";
  if (!m.curves() && m.modality == "video") return "its input is video, which libzoo takes for curves over time alone";
  if (!m.curves() && m.engine.inputs.size() != 1) return "its engine has " + std::to_string(m.engine.inputs.size()) + " inputs, libzoo fills one";
  const std::string field = UnknownField(json);
  return field.empty() ? "" : "its manifest has the field " + field + ", which this libzoo does not heed";
}

Status Fill(const Json& json, Manifest* m) {
  m->digest = json.at("digest");
  m->name = json.at("name");
  m->modality = json.at("input").at("modality");
  const auto rate = json.at("input").find("rate");
  if (rate != json.at("input").end() && rate->is_number()) m->rate = static_cast<int32_t>(std::min<int64_t>(rate->get<int64_t>(), INT32_MAX));
  if (const auto names = json.at("input").find("names"); names != json.at("input").end()) m->channels = names->get<std::vector<std::string>>();
  m->rebuild = RebuildCommand(json);
  m->recipe = json.contains("recipe") && json.at("recipe").is_object();
  m->engine = ToEngine(json.at("engines")[0]);
  m->ops = ToOps(json.at("pipeline"));
  m->op_files = OpFiles(m->ops);
  const Json& key = json.at("key");
  m->engine_version = key.at("engine_version");
  m->compute_capability = Text(key, "compute_capability").value_or("");
  m->driver = Text(key, "driver").value_or("");
  for (const auto& [name, value] : key.at("flags").items()) m->flags.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
  for (const Json& file : json.at("files")) m->files.push_back({file.at("path"), file.at("sha256"), file.at("size").get<uint64_t>()});
  const Json& golden = json.at("golden");
  m->golden_file = golden.at("file"), m->golden_count = golden.at("count"), m->golden_tolerance = golden.at("tolerance");
  m->threads = json.value("threads", 1);
  for (const auto& [name, range] : key.at("profile").items()) m->profile[name] = {range[0].get<int64_t>(), range[2].get<int64_t>()};
  if (const auto batch = m->profile.find("batch"); batch != m->profile.end()) m->max_batch = batch->second.second;
  const auto tuning = json.find("tuning");
  if (tuning != json.end() && tuning->is_object()) m->tuned_batch = tuning->at("batch");
  ZOO_RETURN_IF_ERROR(CheckFiles(json, *m));
  ZOO_RETURN_IF_ERROR(CheckPipeline(*m, m->ops, m->modality == "video"));
  for (const Json& one : json.value("branches", Json::array())) {
    Branch branch{one.at("source") == "pictures", ToOps(one.at("pipeline")), {}};
    ZOO_RETURN_IF_ERROR(CheckPipeline(*m, branch.ops, branch.pictures));
    branch.op_files = OpFiles(branch.ops);
    m->branches.push_back(std::move(branch));
  }
  ZOO_RETURN_IF_ERROR(ToHeads(json, m));
  ZOO_RETURN_IF_ERROR(CheckOutputs(*m, json.at("engines")));
  if ((m->curves() || !m->branches.empty()) && m->engine.inputs.size() != m->branches.size() + 1) {
    return InvalidBundle("the engine has " + std::to_string(m->engine.inputs.size()) + " inputs, pipeline and branches fill " + std::to_string(m->branches.size() + 1));
  }
  ZOO_RETURN_IF_ERROR(CheckKey(json, *m));
  m->unsupported = Unsupported(json, *m);
  return Status::Ok();
}

std::vector<int64_t> Numbers(std::string_view version) {
  std::vector<int64_t> numbers;
  for (size_t at = 0; at <= version.size();) {
    const size_t end = std::min(version.find('.', at), version.size());
    int64_t number = 0;
    size_t i = at;
    for (; i < end && version[i] >= '0' && version[i] <= '9'; ++i) number = std::min<int64_t>(number * 10 + (version[i] - '0'), INT32_MAX);
    if (i == at) break;
    numbers.push_back(number);
    at = end + 1;
  }
  return numbers;
}

}  // namespace

std::vector<int64_t> Manifest::InputShape(bool pictures) const {
  if (pictures) return {-1, -1, -1, 3};
  if (modality == "eeg" && !channels.empty()) return {-1, static_cast<int64_t>(channels.size())};
  return {};
}

const std::string* Manifest::Flag(std::string_view flag) const {
  for (const auto& [name, value] : flags) {
    if (name == flag) return &value;
  }
  return nullptr;
}

std::optional<double> Manifest::WindowSeconds(double input_rate) const {
  double at = input_rate;
  for (const OpDesc& op : ops) {
    for (const auto& [name, value] : op.params) {
      const int64_t* number = std::get_if<int64_t>(&value);
      if (number == nullptr) continue;
      if (op.op == "resample" && name == "rate") at = static_cast<double>(*number);
      if ((op.op == "fit" && name == "length") || (op.op == "bandpower" && name == "window_length")) {
        return at > 0 ? std::optional<double>(static_cast<double>(*number) / at) : std::nullopt;
      }
    }
  }
  return std::nullopt;
}

std::optional<int64_t> Manifest::IntegerOf(std::string_view name, std::string_view parameter) const {
  for (const OpDesc& op : ops) {
    if (op.op != name) continue;
    for (const auto& [key, value] : op.params) {
      if (const int64_t* number = std::get_if<int64_t>(&value); number != nullptr && key == parameter) return *number;
    }
    break;
  }
  return std::nullopt;
}

Result<Manifest> ParseManifest(std::string_view text, const std::string& where) {
  if (text.size() > kMaxManifestBytes) {
    return InvalidBundle(where + ": manifest has " + std::to_string(text.size()) + " bytes, more than the limit of " + std::to_string(kMaxManifestBytes));
  }
  Manifest m;
  m.text = std::string(text);
  Status status = ParseJson(text, &m.json);
  if (status.ok()) status = CheckSchema(Json::parse(kManifestSchema), m.json);
  if (!status.ok()) return Status(status.code(), where + ": manifest.json is not valid: " + status.message());
  status = Fill(m.json, &m);
  if (!status.ok()) return Status(status.code(), where + ": manifest.json: " + status.message());
  return m;
}

Status CheckDigest(const Manifest& manifest, const std::string& where) {
  std::string blank = manifest.text;
  const size_t at = blank.find(manifest.digest);
  bool same = at != std::string::npos && blank.find("\"digest\": \"" + manifest.digest + "\"") != std::string::npos;
  if (same) {
    blank.replace(at, manifest.digest.size(), std::string(manifest.digest.size(), '0'));
    same = Sha256Hex(blank) == manifest.digest;
  }
  if (same) return Status::Ok();
  return InvalidBundle(where + ": manifest.json was changed after it was written: its digest does not match; copy or export it again");
}

bool Meets(std::string_view version, std::string_view requirement) {
  std::vector<int64_t> have = Numbers(version);
  for (size_t at = 0; at < requirement.size();) {
    const size_t end = std::min(requirement.find(',', at), requirement.size());
    const std::string_view clause = requirement.substr(at, end - at);
    const size_t sign = clause.size() > 1 && clause[1] == '=' ? 2 : 1;
    std::vector<int64_t> want = Numbers(clause.substr(sign)), here = have;
    const size_t width = std::max(want.size(), here.size());
    want.resize(width), here.resize(width);
    const std::string_view op = clause.substr(0, sign);
    if (!(op == ">=" ? here >= want : op == "==" ? here == want : here < want)) return false;
    at = end + 1;
  }
  return true;
}

}  // namespace zoo
