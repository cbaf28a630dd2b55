// SPDX-License-Identifier: Apache-2.0
#include "zoo/pipeline.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "bindings/common.h"
#include "core/buffer.h"
#include "core/kernels.h"
#include "pipeline/op.h"
#include "zoo/audio_io.h"
#include "zoo/isa.h"

namespace zoo::python {
namespace {

using Clock = std::chrono::steady_clock;

ParamValue ToParam(nb::handle v, const std::string& where) {
  PyObject* p = v.ptr();
  if (p == Py_None) return std::monostate{};
  if (PyBool_Check(p)) return p == Py_True;
  if (PyLong_Check(p)) {
    int overflow = 0;
    const long long n = PyLong_AsLongLongAndOverflow(p, &overflow);
    if (overflow != 0) Check(InvalidPipeline(where + " is an integer beyond 64 bits"));
    return static_cast<int64_t>(n);
  }
  if (PyFloat_Check(p)) return PyFloat_AsDouble(p);
  if (PyUnicode_Check(p)) return nb::cast<std::string>(v);
  if (PyList_Check(p) || PyTuple_Check(p)) {
    std::vector<double> list;
    for (nb::handle e : v) {
      if (PyBool_Check(e.ptr()) || !(PyFloat_Check(e.ptr()) || PyLong_Check(e.ptr()))) {
        Check(InvalidPipeline(where + " holds a " + nb::type_name(e.type()).c_str() + "; it must be a list of numbers"));
      }
      const double x = PyFloat_AsDouble(e.ptr());
      if (x == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        Check(InvalidPipeline(where + " holds a number beyond double precision"));
      }
      list.push_back(x);
    }
    return list;
  }
  Check(InvalidPipeline(where + " is a " + nb::type_name(v.type()).c_str() + "; it must be a number, string, boolean, null or a list of numbers"));
  return {};
}

std::vector<OpDesc> ToOps(nb::handle ops) {
  std::vector<OpDesc> out;
  for (nb::handle item : ops) {
    const std::string where = "op " + std::to_string(out.size());
    if (!PyDict_Check(item.ptr())) Check(InvalidPipeline(where + " is a " + nb::type_name(item.type()).c_str() + "; it must be a dict"));
    const nb::dict d = nb::borrow<nb::dict>(item);
    OpDesc desc;
    for (auto [key, value] : d) {
      if (!PyUnicode_Check(key.ptr())) Check(InvalidPipeline(where + ": a parameter's name is not a string"));
      const std::string name = nb::cast<std::string>(key);
      if (name == "op") {
        if (!PyUnicode_Check(value.ptr())) Check(InvalidPipeline(where + ": 'op' must be a string"));
        desc.op = nb::cast<std::string>(value);
      } else {
        desc.params.emplace_back(name, ToParam(value, where + ": " + name));
      }
    }
    if (desc.op.empty()) Check(InvalidPipeline(where + ": 'op' is missing"));
    out.push_back(std::move(desc));
  }
  return out;
}

nb::object FromParam(const ParamValue& v) {
  if (const bool* b = std::get_if<bool>(&v)) return nb::cast(*b);
  if (const int64_t* i = std::get_if<int64_t>(&v)) return nb::cast(*i);
  if (const double* d = std::get_if<double>(&v)) return nb::cast(*d);
  if (const std::string* s = std::get_if<std::string>(&v)) return nb::cast(*s);
  if (const std::vector<double>* l = std::get_if<std::vector<double>>(&v)) {
    nb::list out;
    for (double d : *l) out.append(d);
    return out;
  }
  return nb::none();
}

// Scratch of one run: the pipeline's state and the input as mono float32.
struct Workspace {
  std::unique_ptr<Pipeline::State> state;
  Buffer<float> mono;
};

class PyPipeline {
 public:
  PyPipeline(nb::handle ops, const std::string& isa)
      : pipeline_(Take(Pipeline::Create(ToOps(ops), isa))), kernels_(Take(SelectKernels(pipeline_.isa()))) {}

  const Pipeline& pipeline() const { return pipeline_; }

  nb::object Run(nb::handle samples, int64_t rate, int64_t first, nb::handle total_or_none) {
    const ArrayIn in(samples, "samples", 2);
    const int64_t frames = in.rows(), channels = in.columns();
    if (channels < 1 || channels > 64) Check(InvalidSignal("samples has " + std::to_string(channels) + " channels; it must have 1 to 64, as (n, channels)"));
    const int64_t total = total_or_none.is_none() ? first + frames : nb::cast<int64_t>(total_or_none);
    Range need;
    const int32_t hz = ToRate(rate);
    Check(pipeline_.InputRange(total, hz, &need));
    if (first < 0 || first + frames > total) {
      Check(InvalidSignal("start is " + std::to_string(first) + " and samples has " + std::to_string(frames) +
                          " frames; the whole signal has " + std::to_string(total)));
    }
    if (need.size() > 0 && (need.begin < first || need.end > first + frames)) {
      Check(InvalidSignal("samples " + std::to_string(need.begin) + " to " + std::to_string(need.end) + " of " +
                          std::to_string(total) + " are needed, " + std::to_string(first) + " to " +
                          std::to_string(first + frames) + " were given"));
    }
    Extent extent;
    Check(pipeline_.OutputExtent(total, hz, &extent));
    ArrayOut out(extent.dim, static_cast<size_t>(extent.rank));
    Status status;
    {
      const nb::gil_scoped_release release;
      status = Process(in, need, first, total, hz, out.span());
    }
    Check(status);
    return out.object();
  }

  nb::object RunFile(nb::handle file) {
    const std::string path = PathOf(file);
    const Clock::time_point t0 = Clock::now();
    std::optional<Result<AudioReader>> opened;
    {
      const nb::gil_scoped_release release;
      opened.emplace(AudioReader::Open(path));
    }
    AudioReader reader = Take(std::move(*opened));
    const AudioInfo& info = reader.info();
    Range need;
    Extent extent;
    Check(Named(path, pipeline_.InputRange(info.frames, info.rate, &need)));
    Check(Named(path, pipeline_.OutputExtent(info.frames, info.rate, &extent)));
    ArrayOut out(extent.dim, static_cast<size_t>(extent.rank));
    Clock::time_point t1;
    Status status;
    {
      const nb::gil_scoped_release release;
      std::unique_ptr<Workspace> w;
      status = Acquire(&w);
      const size_t count = static_cast<size_t>(need.size());
      if (status.ok() && !w->mono.Reserve(count)) status = OutOfMemory();
      if (status.ok()) status = reader.Read(need.begin, {w->mono.data(), count});
      t1 = Clock::now();
      if (status.ok()) {
        status = Named(path, pipeline_.Run({{w->mono.data(), count}, need.begin, info.frames, info.rate}, out.span(), *w->state));
      }
      Release(std::move(w));
    }
    Check(status);
    const Clock::time_point t2 = Clock::now();
    const auto ms = [](Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); };
    nb::dict timing;
    timing["decode"] = ms(t1 - t0);
    timing["preprocess"] = ms(t2 - t1);
    return nb::make_tuple(out.object(), timing);
  }

  nb::object OutputShape(nb::handle total, nb::handle rate) const {
    nb::list shape;
    if (total.is_none() || rate.is_none()) {
      for (int64_t d : pipeline_.port(pipeline_.size()).shape) {
        if (d < 0) return nb::none();
        shape.append(d);
      }
    } else {
      Extent e;
      Check(pipeline_.OutputExtent(nb::cast<int64_t>(total), ToRate(nb::cast<int64_t>(rate)), &e));
      for (int32_t i = 0; i < e.rank; ++i) shape.append(e.dim[i]);
    }
    return nb::tuple(shape);
  }

  nb::object InputRange(int64_t total, int64_t rate) const {
    Range r;
    Check(pipeline_.InputRange(total, ToRate(rate), &r));
    return nb::make_tuple(r.begin, r.end);
  }

 private:
  static int32_t ToRate(int64_t rate) {
    if (rate < 1 || rate > 768000) Check(InvalidSignal("the rate is " + std::to_string(rate) + " Hz; it must lie between 1 and 768000"));
    return static_cast<int32_t>(rate);
  }
  static Status Named(const std::string& path, Status status) {
    return status.ok() ? status : Status(status.code(), path + ": " + status.message());
  }

  Status Process(const ArrayIn& in, Range need, int64_t first, int64_t total, int32_t rate, Span<float> out) {
    std::unique_ptr<Workspace> w;
    ZOO_RETURN_IF_ERROR(Acquire(&w));
    Status status = Convert(in, need, first, total, rate, out, w.get());
    Release(std::move(w));
    return status;
  }

  Status Convert(const ArrayIn& in, Range need, int64_t first, int64_t total, int32_t rate, Span<float> out, Workspace* w) {
    const int64_t count = need.size(), skip = need.begin - first;
    const int32_t channels = static_cast<int32_t>(in.columns());
    const float* mono = nullptr;
    if (count > 0 && in.type() == ArrayIn::Type::kF32 && channels == 1) {
      mono = static_cast<const float*>(in.data()) + skip;
    } else {
      if (!w->mono.Reserve(static_cast<size_t>(count))) return OutOfMemory();
      float* to = w->mono.data();
      mono = to;
      const int64_t at = skip * channels;
      if (count > 0) {
        switch (in.type()) {
          case ArrayIn::Type::kF32: kernels_->mix_f32(static_cast<const float*>(in.data()) + at, count, channels, 1.0f, to); break;
          case ArrayIn::Type::kF64: kernels_->mix_f64(static_cast<const double*>(in.data()) + at, count, channels, 1.0, to); break;
          case ArrayIn::Type::kI16: kernels_->mix_i16(static_cast<const int16_t*>(in.data()) + at, count, channels, 1.0f / 32768, to); break;
          case ArrayIn::Type::kI32: kernels_->mix_i32(static_cast<const int32_t*>(in.data()) + at, count, channels, 1.0 / 2147483648.0, to); break;
        }
      }
    }
    const int64_t bad = kernels_->find_nonfinite(mono, count);
    if (bad >= 0) return InvalidSignal("sample " + std::to_string(need.begin + bad) + " is not finite (NaN, Inf or beyond float32)");
    return pipeline_.Run({{mono, static_cast<size_t>(count)}, need.begin, total, rate}, out, *w->state);
  }

  Status Acquire(std::unique_ptr<Workspace>* w) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) {
        *w = std::move(free_.back());
        free_.pop_back();
        return Status::Ok();
      }
    }
    auto state = pipeline_.NewState();
    if (!state.ok()) return state.status();
    *w = std::make_unique<Workspace>();
    (*w)->state = std::move(state.value());
    return Status::Ok();
  }
  void Release(std::unique_ptr<Workspace> w) {
    if (!w) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(w));
  }

  Pipeline pipeline_;
  const Kernels* kernels_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;  // one for each thread that ran at the same time
};

const char* TypeName(ParamType t) {
  switch (t) {
    case ParamType::kBool: return "bool";
    case ParamType::kInt: return "int";
    case ParamType::kFloat: return "float";
    case ParamType::kChoice: return "choice";
    case ParamType::kFloatList: return "floats";
  }
  return "";
}

}  // namespace

void BindPipeline(nb::module_& m) {
  m.def("op_specs", [] {
    nb::list ops;
    for (const OpSpec* s : OpSpecs()) {
      nb::list params;
      for (const ParamSpec& p : s->params) {
        nb::dict d;
        d["name"] = p.name;
        d["type"] = TypeName(p.type);
        d["required"] = std::holds_alternative<std::monostate>(p.fallback) && !p.nullable;
        d["nullable"] = p.nullable;
        d["default"] = FromParam(p.fallback);
        if (p.min != p.max) {
          d["min"] = p.min;
          d["max"] = p.max;
        }
        nb::list choices;
        for (const char* c : p.choices) choices.append(c);
        if (!p.choices.empty()) d["choices"] = choices;
        d["doc"] = p.doc;
        params.append(d);
      }
      nb::dict d;
      d["op"] = s->name;
      d["in"] = PortKindName(s->in);
      d["out"] = PortKindName(s->out);
      d["doc"] = s->doc;
      d["params"] = params;
      ops.append(d);
    }
    return ops;
  }, nb::sig("def op_specs() -> list[dict[str, typing.Any]]"), "The table of ops that pipelines are validated with.");

  nb::class_<PyPipeline>(m, "Pipeline", "Executor of a list of ops, each a dict with 'op' and its parameters.")
      .def(nb::init<nb::handle, const std::string&>(), nb::arg("ops"), nb::arg("isa") = "",
           nb::sig("def __init__(self, ops: collections.abc.Sequence[dict[str, typing.Any]], isa: str = '') -> None"))
      .def_prop_ro("isa", [](const PyPipeline& p) { return p.pipeline().isa(); }, "Instruction set of the kernels.")
      .def("run", &PyPipeline::Run, nb::arg("samples"), nb::arg("rate"), nb::kw_only(), nb::arg("start") = 0,
           nb::arg("total").none() = nb::none(),
           nb::sig("def run(self, samples: object, rate: int, *, start: int = 0, total: int | None = None) -> "
                   "numpy.typing.NDArray[numpy.float32]"),
           "Runs the pipeline on a signal, or on the part of it from sample `start` on.")
      .def("run_file", &PyPipeline::RunFile, nb::arg("path"),
           nb::sig("def run_file(self, path: str | os.PathLike[str]) -> "
                   "tuple[numpy.typing.NDArray[numpy.float32], dict[str, float]]"),
           "Decodes the part of a file that the pipeline needs and runs it; times in ms.")
      .def("output_shape", &PyPipeline::OutputShape, nb::arg("total").none() = nb::none(), nb::arg("rate").none() = nb::none(),
           nb::sig("def output_shape(self, total: int | None = None, rate: int | None = None) -> tuple[int, ...] | None"),
           "Shape of the output for a signal, or for every signal (None when it depends on the signal).")
      .def("input_range", &PyPipeline::InputRange, nb::arg("total"), nb::arg("rate"),
           nb::sig("def input_range(self, total: int, rate: int) -> tuple[int, int]"),
           "Samples [start, stop) of a signal that the output depends on.");
}

}  // namespace zoo::python
