// SPDX-License-Identifier: Apache-2.0
#include "zoo/pipeline.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "bindings/common.h"
#include "core/buffer.h"
#include "core/parallel.h"
#include "pipeline/op.h"
#include "zoo/audio_io.h"
#include "zoo/isa.h"
#include "zoo/text.h"

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

double ToRate(double rate) {
  Check(CheckRate(rate));
  return rate;
}

Extent Format(const PipelineInput& input, const ArrayIn& array, double rate) {
  Extent e;
  Check(input.Format(array.view(), rate, &e));
  return e;
}

// Scratch of one run.
struct Workspace {
  std::unique_ptr<Pipeline::State> state;
  PipelineInput input;
  Buffer<float> mono;  // of files
};

// A text, or a list of tokens, as UTF-8. Lone surrogates become bytes that are no UTF-8, as the decoder takes them.
class TextIn {
 public:
  TextIn(nb::handle object, PortKind kind, const std::string& where) {
    PyObject* p = object.ptr();
    if (kind == PortKind::kTokens) {
      if (!PyList_Check(p) && !PyTuple_Check(p)) Refuse(object, where, "a list of str");
      for (nb::handle token : object) {
        if (!PyUnicode_Check(token.ptr())) Refuse(token, where + "a token: ", "a str");
        own_ += Utf8(token);
        own_.push_back(kTokenEnd);
      }
    } else if (PyUnicode_Check(p)) {
      Py_ssize_t size = 0;
      const char* data = PyUnicode_AsUTF8AndSize(p, &size);
      if (data != nullptr) {
        text_ = std::string_view(data, static_cast<size_t>(size));
        return;
      }
      PyErr_Clear();
      own_ = Utf8(object);
    } else if (PyBytes_Check(p)) {
      char* data = nullptr;
      Py_ssize_t size = 0;
      PyBytes_AsStringAndSize(p, &data, &size);
      text_ = std::string_view(data, static_cast<size_t>(size));
    } else {
      Refuse(object, where, "a str, or bytes of UTF-8");
    }
  }
  ConstView view() const {
    const std::string_view s = own_.empty() ? text_ : std::string_view(own_);
    ConstView v;
    v.data = s.data(), v.dtype = DType::kU8;
    v.extent.dim[0] = static_cast<int64_t>(s.size());
    v.range = {0, v.extent.dim[0]};
    return v;
  }

 private:
  [[noreturn]] static void Refuse(nb::handle object, const std::string& where, const char* wanted) {
    Check(InvalidArgument(where + "the input is a " + nb::type_name(object.type()).c_str() + "; it must be " + wanted));
    throw nb::python_error();  // not reached: Check throws
  }
  static std::string Utf8(nb::handle str) {
    const nb::object bytes = nb::steal(PyUnicode_AsEncodedString(str.ptr(), "utf-8", "surrogatepass"));
    if (!bytes.is_valid()) throw nb::python_error();
    char* data = nullptr;
    Py_ssize_t size = 0;
    PyBytes_AsStringAndSize(bytes.ptr(), &data, &size);
    return std::string(data, static_cast<size_t>(size));
  }

  std::string own_;
  std::string_view text_;  // into the caller's object, unless there is an own one
};

class PyPipeline {
 public:
  PyPipeline(nb::handle ops, const std::string& isa, nb::handle shape, nb::handle files)
      : pipeline_(Build(ops, isa, shape, files)), kernels_(Take(SelectKernels(pipeline_.isa()))) {}

  const Pipeline& pipeline() const { return pipeline_; }
  const Kernels* kernels() const { return kernels_; }

  nb::object Run(nb::handle samples, double rate, int64_t first, nb::handle total_or_none, int64_t threads) {
    if (pipeline_.counted()) {
      if (first != 0 || !total_or_none.is_none()) Check(InvalidArgument("a text is run as a whole; leave out start and total"));
      return RunText(samples, pipeline_.size());
    }
    const ArrayIn in(samples, What(), kMaxRank);
    const PipelineInput input(pipeline_.port(0), kernels_);
    Extent whole = Format(input, in, rate), extent;
    const int64_t held = whole.dim[0];
    whole.dim[0] = total_or_none.is_none() ? first + held : nb::cast<int64_t>(total_or_none);
    Range need;
    Check(pipeline_.InputRange(whole, &need));
    if (first < 0 || first + held > whole.dim[0]) {
      Check(InvalidSignal("start is " + std::to_string(first) + " and samples has " + std::to_string(held) +
                          " frames; the whole signal has " + std::to_string(whole.dim[0])));
    }
    if (need.size() > 0 && (need.begin < first || need.end > first + held)) {
      Check(InvalidSignal("samples " + std::to_string(need.begin) + " to " + std::to_string(need.end) + " of " +
                          std::to_string(whole.dim[0]) + " are needed, " + std::to_string(first) + " to " +
                          std::to_string(first + held) + " were given"));
    }
    Check(pipeline_.OutputExtent(whole, &extent));
    ArrayOut out = Output(extent);
    Status status;
    {
      const nb::gil_scoped_release release;
      status = Process(in, whole, need, first, extent, threads, out.data());
    }
    Check(status);
    return out.object();
  }

  // What the first `ops` ops give for a text: a list of tokens, or an array of their numbers.
  nb::object RunText(nb::handle text, size_t ops) {
    const TextIn in(text, pipeline_.port(0).kind, "");
    std::unique_ptr<Workspace> w;
    ConstView out;
    Status status;
    {
      const nb::gil_scoped_release release;
      status = Acquire(&w);
      if (status.ok()) status = pipeline_.RunCounted(in.view(), *w->state, &out, ops);
    }
    nb::object result;
    if (status.ok()) result = Rows(pipeline_.port(ops), out.data, out.extent);
    Release(std::move(w));
    Check(status);
    return result;
  }

  nb::object Tokens(nb::handle text) {
    for (size_t i = 0; i <= pipeline_.size(); ++i) {
      if (pipeline_.port(i).kind == PortKind::kTokens) return RunText(text, i);
    }
    Check(InvalidArgument(std::string("a pipeline that takes ") + PortKindName(pipeline_.port(0).kind) + " makes no tokens"));
    return nb::none();
  }

  nb::object TextBatch(nb::handle inputs, int64_t threads) {
    struct Held {
      std::vector<unsigned char> bytes;
      Extent extent;
    };
    std::vector<TextIn> in;
    for (nb::handle h : inputs) in.emplace_back(h, pipeline_.port(0).kind, "input " + std::to_string(in.size()) + ": ");
    std::vector<Held> out(in.size());
    const PortType& port = pipeline_.port(pipeline_.size());
    Status status;
    {
      const nb::gil_scoped_release release;
      status = ParallelFor(static_cast<int64_t>(in.size()), threads, [&](int64_t i) {
        std::unique_ptr<Workspace> w;
        ZOO_RETURN_IF_ERROR(Acquire(&w));
        ConstView view;
        Status s = pipeline_.RunCounted(in[static_cast<size_t>(i)].view(), *w->state, &view);
        if (s.ok()) {
          Held& held = out[static_cast<size_t>(i)];
          const unsigned char* data = static_cast<const unsigned char*>(view.data);
          const size_t size = static_cast<size_t>(view.extent.count()) * SizeOf(port.dtype);
          if (size > 0) held.bytes.assign(data, data + size);
          held.extent = view.extent;
        }
        Release(std::move(w));
        return Named("input " + std::to_string(i) + ": ", std::move(s));
      });
    }
    Check(status);
    nb::list results;
    for (const Held& held : out) results.append(Rows(port, held.bytes.data(), held.extent));
    return results;
  }

  nb::object Batch(nb::handle inputs, double rate, int64_t threads) {
    if (pipeline_.counted()) return TextBatch(inputs, threads);
    std::vector<ArrayIn> in;
    std::vector<ArrayOut> out;
    std::vector<Extent> whole;
    const PipelineInput input(pipeline_.port(0), kernels_);
    for (nb::handle h : inputs) {
      const std::string where = "input " + std::to_string(in.size()) + ": ";
      in.emplace_back(h, What(), kMaxRank);
      whole.push_back(Format(input, in.back(), rate));
      Extent extent;
      Check(Named(where, pipeline_.OutputExtent(whole.back(), &extent)));
      out.push_back(Output(extent));
    }
    Status status;
    {
      const nb::gil_scoped_release release;
      status = ParallelFor(static_cast<int64_t>(in.size()), threads, [&](int64_t i) {
        std::unique_ptr<Workspace> w;
        ZOO_RETURN_IF_ERROR(Acquire(&w));
        const size_t k = static_cast<size_t>(i);
        Status s;
        Range need;
        ConstView view;
        s = pipeline_.InputRange(whole[k], &need);
        if (s.ok()) s = w->input.View(in[k].view(), whole[k], need, 0, &view);
        if (s.ok()) s = pipeline_.Run(view, out[k].data(), *w->state);
        Release(std::move(w));
        return Named("input " + std::to_string(i) + ": ", std::move(s));
      });
    }
    Check(status);
    nb::list results;
    for (ArrayOut& o : out) results.append(o.object());
    return results;
  }

  nb::object RunFile(nb::handle path_like) {
    const std::string path = PathOf(path_like);
    if (pipeline_.port(0).kind != PortKind::kAudio) {
      Check(InvalidArgument(path + ": only pipelines that start from audio read files; this one takes " + PortKindName(pipeline_.port(0).kind)));
    }
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
    const Extent whole = AudioView({}, info.rate, 0, info.frames).extent;
    Check(Named(path + ": ", pipeline_.InputRange(whole, &need)));
    Check(Named(path + ": ", pipeline_.OutputExtent(whole, &extent)));
    ArrayOut out = Output(extent);
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
        status = Named(path + ": ", pipeline_.Run(AudioView({w->mono.data(), count}, info.rate, need.begin, info.frames), out.data(), *w->state));
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
    if (total.is_none()) {
      for (int64_t d : pipeline_.port(pipeline_.size()).shape) {
        if (d < 0) return nb::none();
        shape.append(d);
      }
    } else {
      Extent e;
      Check(pipeline_.OutputExtent(Whole(total, rate), &e));
      for (int32_t i = 0; i < e.rank; ++i) shape.append(e.dim[i]);
    }
    return nb::tuple(shape);
  }

  nb::object InputRange(nb::handle total, nb::handle rate) const {
    Range r;
    Check(pipeline_.InputRange(Whole(total, rate), &r));
    return nb::make_tuple(r.begin, r.end);
  }

 private:
  const char* What() const { return pipeline_.port(0).kind == PortKind::kAudio ? "samples" : "the input"; }
  static Status Named(const std::string& prefix, Status status) {
    return status.ok() ? status : Status(status.code(), prefix + status.message());
  }
  // Result of a counted pipeline.
  static nb::object Rows(const PortType& port, const void* data, const Extent& extent) {
    if (port.kind == PortKind::kTokens) {
      const char* at = static_cast<const char*>(data);
      const char* const end = at + extent.dim[0];
      nb::list tokens;
      while (at < end) {
        const char* stop = static_cast<const char*>(std::memchr(at, kTokenEnd, static_cast<size_t>(end - at)));
        tokens.append(nb::steal(PyUnicode_DecodeUTF8(at, stop - at, "replace")));
        at = stop + 1;
      }
      return tokens;
    }
    ArrayOut out(extent.dim, 1, port.dtype);
    if (extent.dim[0] > 0) std::memcpy(out.data(), data, static_cast<size_t>(extent.dim[0]) * SizeOf(port.dtype));
    return out.object();
  }
  static Pipeline Build(nb::handle ops, const std::string& isa, nb::handle shape, nb::handle files) {
    PipelineFiles contents;
    if (!files.is_none()) {
      for (auto [name, content] : nb::cast<nb::dict>(files)) {
        char* data = nullptr;
        Py_ssize_t size = 0;
        if (!PyUnicode_Check(name.ptr()) || !PyBytes_Check(content.ptr()) || PyBytes_AsStringAndSize(content.ptr(), &data, &size) != 0) {
          PyErr_Clear();
          Check(InvalidArgument("files must map names to bytes"));
        }
        contents.emplace(nb::cast<std::string>(name), std::string_view(data, static_cast<size_t>(size)));
      }
    }
    return Take(Pipeline::Create(ToOps(ops), isa, ToShape(shape), files.is_none() ? nullptr : &contents));
  }
  static std::vector<int64_t> ToShape(nb::handle shape) {
    std::vector<int64_t> out;
    if (!shape.is_none()) {
      for (nb::handle d : shape) out.push_back(nb::cast<int64_t>(d));
    }
    return out;
  }
  // total: rows, or all dimensions
  Extent Whole(nb::handle total, nb::handle rate) const {
    Extent e;
    const PortType& port = pipeline_.port(0);
    e.rate = rate.is_none() ? 0.0 : nb::cast<double>(rate);
    if (port.kind == PortKind::kAudio) e.rate = ToRate(e.rate);
    e.rank = static_cast<int32_t>(port.shape.size());
    if (PyLong_Check(total.ptr())) {
      e.dim[0] = nb::cast<int64_t>(total);
      for (int32_t i = 1; i < e.rank; ++i) e.dim[i] = port.shape[static_cast<size_t>(i)];
    } else {
      int32_t i = 0;
      for (nb::handle d : total) {
        if (i < kMaxRank) e.dim[i] = nb::cast<int64_t>(d);
        ++i;
      }
      e.rank = i;
    }
    return e;
  }
  ArrayOut Output(const Extent& e) const { return ArrayOut(e.dim, static_cast<size_t>(e.rank), pipeline_.port(pipeline_.size()).dtype); }

  Status Process(const ArrayIn& in, const Extent& whole, Range need, int64_t first, const Extent& extent, int64_t threads, void* out) {
    std::unique_ptr<Workspace> w;
    ZOO_RETURN_IF_ERROR(Acquire(&w));
    ConstView view;
    Status status = w->input.View(in.view(), whole, need, first, &view);
    // Rows are shared out only where they can be computed by themselves, in pieces large enough to pay for a thread.
    const int64_t rows = extent.dim[0], pieces = pipeline_.ranged() ? std::min(threads, rows) : 1;
    if (status.ok() && pieces > 1) {
      const size_t step = static_cast<size_t>(extent.row()) * SizeOf(pipeline_.port(pipeline_.size()).dtype);
      status = ParallelFor(pieces, pieces, [&](int64_t i) {
        std::unique_ptr<Workspace> mine;
        ZOO_RETURN_IF_ERROR(Acquire(&mine));
        const Range part{rows * i / pieces, rows * (i + 1) / pieces};
        Status s = pipeline_.RunRows(view, part, static_cast<unsigned char*>(out) + static_cast<size_t>(part.begin) * step, *mine->state);
        Release(std::move(mine));
        return s;
      });
    } else if (status.ok()) {
      status = pipeline_.Run(view, out, *w->state);
    }
    Release(std::move(w));
    return status;
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
    w->reset(new Workspace{std::move(state.value()), PipelineInput(pipeline_.port(0), kernels_), {}});
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

// A stream and the pipeline that it runs.
class PyStream {
 public:
  PyStream(nb::object owner, double rate, nb::handle shape)
      : owner_(std::move(owner)), pipeline_(nb::cast<const PyPipeline&>(owner_)), input_(pipeline_.pipeline().port(0), pipeline_.kernels()),
        rate_(rate), stream_(Take(PipelineStream::Create(pipeline_.pipeline(), Format(shape)))) {}

  nb::object Push(nb::handle chunk) {
    const ArrayIn in(chunk, "the chunk", kMaxRank);
    Extent e = python::Format(input_, in, rate_);
    for (int i = 1; i < kMaxRank; ++i) {
      if (e.dim[i] != format_.dim[i]) {
        Check(InvalidSignal("the chunk has " + std::to_string(e.dim[i]) + " values in dimension " + std::to_string(i) + "; the stream has " + std::to_string(format_.dim[i])));
      }
    }
    const int64_t rows = e.dim[0];
    Status status;
    {
      const nb::gil_scoped_release release;
      ConstView view;
      e.dim[0] = seen_ + rows;
      status = input_.View(in.view(), e, {seen_, seen_ + rows}, seen_, &view);
      if (status.ok()) status = stream_.Push(view.data, rows, false);
    }
    Check(status);
    seen_ += rows;
    return Output();
  }

  nb::object Finish() {
    Status status;
    {
      const nb::gil_scoped_release release;
      status = stream_.Push(nullptr, 0, true);
    }
    Check(status);
    return Output();
  }

 private:
  Extent Format(nb::handle shape) {
    const PortType& port = pipeline_.pipeline().port(0);
    format_.rate = rate_;
    format_.rank = static_cast<int32_t>(port.shape.size());
    for (int32_t i = 1; i < format_.rank; ++i) format_.dim[i] = port.shape[static_cast<size_t>(i)];
    if (!shape.is_none()) {
      int32_t i = 1;
      for (nb::handle d : shape) {
        if (i < kMaxRank) format_.dim[i] = nb::cast<int64_t>(d);
        ++i;
      }
      if (i != format_.rank) {
        Check(InvalidArgument("shape has " + std::to_string(i - 1) + " dimensions; one row of the input has " + std::to_string(format_.rank - 1)));
      }
    }
    return format_;
  }
  nb::object Output() const {
    const Extent& e = stream_.extent();
    const DType dtype = pipeline_.pipeline().port(pipeline_.pipeline().size()).dtype;
    ArrayOut out(e.dim, static_cast<size_t>(e.rank), dtype);
    if (e.count() > 0) std::memcpy(out.data(), stream_.data(), static_cast<size_t>(e.count()) * SizeOf(dtype));
    return out.object();
  }

  nb::object owner_;
  const PyPipeline& pipeline_;
  PipelineInput input_;
  double rate_;
  Extent format_;
  PipelineStream stream_;
  int64_t seen_ = 0;
};

const char* TypeName(ParamType t) {
  switch (t) {
    case ParamType::kBool: return "bool";
    case ParamType::kInt: return "int";
    case ParamType::kFloat: return "float";
    case ParamType::kChoice: return "choice";
    case ParamType::kFloatList: return "floats";
    case ParamType::kString: return "string";
    case ParamType::kFile: return "file";
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
      .def(nb::init<nb::handle, const std::string&, nb::handle, nb::handle>(), nb::arg("ops"), nb::arg("isa") = "", nb::arg("shape").none() = nb::none(),
           nb::arg("files").none() = nb::none(),
           nb::sig("def __init__(self, ops: collections.abc.Sequence[dict[str, typing.Any]], isa: str = '', "
                   "shape: collections.abc.Sequence[int] | None = None, files: dict[str, bytes] | None = None) -> None"))
      .def_prop_ro("isa", [](const PyPipeline& p) { return p.pipeline().isa(); }, "Instruction set of the kernels.")
      .def_prop_ro("input_kind", [](const PyPipeline& p) { return PortKindName(p.pipeline().port(0).kind); }, "audio, image, frames, eeg, tensor, text or tokens.")
      .def("run", &PyPipeline::Run, nb::arg("samples").none(), nb::arg("rate") = 0.0, nb::kw_only(), nb::arg("start") = 0,
           nb::arg("total").none() = nb::none(), nb::arg("threads") = 1,
           nb::sig("def run(self, samples: object, rate: float = 0.0, *, start: int = 0, total: int | None = None, threads: int = 1) -> "
                   "numpy.typing.NDArray[typing.Any]"),
           "Runs the pipeline on an input, or on the part of it from row `start` on.")
      .def("tokens", &PyPipeline::Tokens, nb::arg("text"), nb::sig("def tokens(self, text: str | bytes) -> list[str]"),
           "Tokens of a text, before they become numbers.")
      .def("batch", &PyPipeline::Batch, nb::arg("inputs"), nb::arg("rate") = 0.0, nb::kw_only(), nb::arg("threads") = 0,
           nb::sig("def batch(self, inputs: collections.abc.Iterable[object], rate: float = 0.0, *, threads: int = 0) -> "
                   "list[numpy.typing.NDArray[typing.Any]]"),
           "Runs the pipeline on each input, on `threads` threads (0: one a CPU).")
      .def("run_file", &PyPipeline::RunFile, nb::arg("path"),
           nb::sig("def run_file(self, path: str | os.PathLike[str]) -> "
                   "tuple[numpy.typing.NDArray[numpy.float32], dict[str, float]]"),
           "Decodes the part of a file that the pipeline needs and runs it; times in ms.")
      .def("output_shape", &PyPipeline::OutputShape, nb::arg("total").none() = nb::none(), nb::arg("rate").none() = nb::none(),
           nb::sig("def output_shape(self, total: int | collections.abc.Sequence[int] | None = None, rate: float | None = None) -> "
                   "tuple[int, ...] | None"),
           "Shape of the output for an input of so many rows, or of a shape, or for every input (None when it depends on the input).")
      .def("input_range", &PyPipeline::InputRange, nb::arg("total"), nb::arg("rate").none() = nb::none(),
           nb::sig("def input_range(self, total: int | collections.abc.Sequence[int], rate: float | None = None) -> tuple[int, int]"),
           "Rows [start, stop) of an input that the output depends on.");

  nb::class_<PyStream>(m, "PipelineStream", "A pipeline over an input that arrives in chunks.")
      .def(nb::init<nb::object, double, nb::handle>(), nb::arg("pipeline"), nb::arg("rate") = 0.0, nb::arg("shape").none() = nb::none(),
           nb::sig("def __init__(self, pipeline: Pipeline, rate: float = 0.0, shape: collections.abc.Sequence[int] | None = None) -> None"))
      .def("push", &PyStream::Push, nb::arg("chunk"), nb::sig("def push(self, chunk: object) -> numpy.typing.NDArray[typing.Any]"),
           "Takes the next rows; returns the output rows that they complete.")
      .def("finish", &PyStream::Finish, nb::sig("def finish(self) -> numpy.typing.NDArray[typing.Any]"),
           "Ends the input; returns the last output rows.");
}

}  // namespace zoo::python
