// SPDX-License-Identifier: Apache-2.0
// Pipelines of any ops and parameters: refused, or built; and what is built and small enough is run. A run gives the same numbers
// each time, in parts, and as a stream.
#include "zoo/pipeline.h"

#include <algorithm>

#include "fuzz.h"
#include "pipeline/op.h"

namespace {

constexpr int64_t kMaxValues = 1 << 16;

// Loops that may rightly take minutes: their counts stay small here.
bool Repeats(std::string_view name) {
  return name == "iterations" || name == "warps" || name == "inner_iterations" || name == "outer_iterations" || name == "scales" || name == "levels";
}

zoo::ParamValue Draw(const zoo::ParamSpec& spec, Bytes& in) {
  if (in.Chance(6)) return std::monostate{};
  switch (in.Chance(6) ? static_cast<zoo::ParamType>(in.Below(7)) : spec.type) {
    case zoo::ParamType::kBool: return in.Chance(128);
    case zoo::ParamType::kInt: {
      if (Repeats(spec.name)) return static_cast<int64_t>(1 + in.Below(3));
      const uint8_t kind = in.Byte();
      if (spec.min == spec.max || kind < 200) return in.Integer();
      const double value = kind < 210 ? spec.min : kind < 216 ? spec.max : spec.min + (spec.max - spec.min) * in.Byte() / 255.0;
      return static_cast<int64_t>(std::clamp(value, -9e18, 9e18));
    }
    case zoo::ParamType::kFloat: {
      const uint8_t kind = in.Byte();
      if (spec.min == spec.max || kind < 160) return in.Number();
      return kind < 180 ? spec.min : kind < 200 ? spec.max : spec.min + (spec.max - spec.min) * in.Byte() / 255.0;
    }
    case zoo::ParamType::kChoice: return std::string(spec.choices.empty() ? "x" : spec.choices[in.Below(spec.choices.size())]);
    case zoo::ParamType::kFloatList: {
      std::vector<double> list(in.Chance(20) ? in.Below(300) : in.Below(20));
      for (double& v : list) v = in.Number();
      return list;
    }
    case zoo::ParamType::kString: return std::string(in.Text(in.Below(12)));
    case zoo::ParamType::kFile: return std::string(in.Chance(200) ? "file" : "none");
  }
  return std::monostate{};
}

std::vector<zoo::OpDesc> DrawOps(Bytes& in) {
  static const std::vector<const zoo::OpSpec*> all = zoo::OpSpecs();
  std::vector<zoo::OpDesc> ops;
  const zoo::OpSpec* before = nullptr;
  for (size_t n = 1 + in.Below(5); n > 0; --n) {
    const zoo::OpSpec* spec = all[in.Below(all.size())];
    for (size_t turns = all.size(); before != nullptr && spec->in != before->out && turns > 0 && !in.Chance(3); --turns) {
      spec = all[(static_cast<size_t>(std::find(all.begin(), all.end(), spec) - all.begin()) + 1) % all.size()];
    }
    zoo::OpDesc op{spec->name, {}};
    for (const zoo::ParamSpec& param : spec->params) {
      const bool needed = std::holds_alternative<std::monostate>(param.fallback) && !param.nullable;
      if (needed ? !in.Chance(4) : in.Chance(100)) op.params.emplace_back(param.name, Draw(param, in));
    }
    ops.push_back(std::move(op));
    before = spec;
  }
  return ops;
}

// Finite numbers of the port's type.
std::vector<unsigned char> DrawInput(const zoo::PortType& port, int64_t count, Bytes& in) {
  std::vector<unsigned char> data(static_cast<size_t>(count) * SizeOf(port.dtype));
  const uint8_t kind = in.Byte();
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t byte = kind < 64 ? 0 : kind < 128 ? static_cast<uint8_t>(kind * (i % 7)) : in.left() > 0 ? in.Byte() : static_cast<uint8_t>(i * 37);
    const double value = kind % 8 == 7 ? (byte - 128.0) * 1e30 : (byte - 128.0) / 128.0;
    const float single = static_cast<float>(value);
    if (port.dtype == zoo::DType::kU8) data[static_cast<size_t>(i)] = byte;
    else if (port.dtype == zoo::DType::kF32) std::memcpy(&data[static_cast<size_t>(i) * 4], &single, 4);
    else std::memcpy(&data[static_cast<size_t>(i) * 8], &value, 8);
  }
  return data;
}

void RunText(const zoo::Pipeline& p, Bytes& in) {
  const std::vector<char> text = [&] {
    const std::string_view rest = in.Rest();
    return std::vector<char>(rest.begin(), rest.end());
  }();
  zoo::ConstView view;
  view.data = text.data(), view.dtype = zoo::DType::kU8;
  view.extent.dim[0] = static_cast<int64_t>(text.size());
  view.range = {0, view.extent.dim[0]};
  auto state = p.NewState();
  REQUIRE(state.ok(), "no state");
  zoo::ConstView out;
  const zoo::Status status = p.RunCounted(view, *state.value(), &out);
  if (!status.ok()) Refused(status);
  zoo::Extent extent;
  REQUIRE(!p.OutputExtent(view.extent, &extent).ok(), "a text's output has a length before it runs");
}

void RunArray(const zoo::Pipeline& p, const std::vector<zoo::OpDesc>& ops, const zoo::PipelineFiles& files, const std::vector<int64_t>& shape, Bytes& in) {
  const zoo::PortType& port = p.port(0);
  zoo::Extent whole;
  static constexpr double kRates[] = {16000, 22050, 128, 1, 768000, 25, 0, 8000.5, -1};
  whole.rate = kRates[in.Below(std::size(kRates))];
  whole.rank = static_cast<int32_t>(port.shape.size());
  for (int32_t i = 0; i < whole.rank; ++i) whole.dim[i] = port.shape[static_cast<size_t>(i)] > 0 ? port.shape[static_cast<size_t>(i)] : static_cast<int64_t>(in.Below(i == 0 ? 300 : 40));
  if (port.kind == zoo::PortKind::kAudio || port.kind == zoo::PortKind::kEeg) whole.dim[0] = static_cast<int64_t>(in.Below(8000));
  zoo::Extent extent, step;
  const zoo::Status plan = p.OutputExtent(whole, &extent);
  if (!plan.ok()) return Refused(plan);
  if (whole.count() > kMaxValues || extent.count() > kMaxValues) return;
  for (size_t n = 1; n < ops.size(); ++n) {  // what the executor holds between ops
    const auto part = zoo::Pipeline::Create({ops.begin(), ops.begin() + static_cast<std::ptrdiff_t>(n)}, "", shape, &files);
    REQUIRE(part.ok() && part.value().OutputExtent(whole, &step).ok(), "a part of a pipeline that runs does not");
    if (step.count() > kMaxValues) return;
  }
  const std::vector<unsigned char> data = DrawInput(port, whole.count(), in);
  const zoo::ConstView view{data.data(), port.dtype, whole, {0, whole.dim[0]}};
  const zoo::PortType& to = p.port(p.size());
  const size_t row = static_cast<size_t>(extent.row()) * SizeOf(to.dtype);
  auto state = p.NewState();
  REQUIRE(state.ok(), "no state");
  std::vector<unsigned char> out(static_cast<size_t>(extent.dim[0]) * row), again(out.size());
  const zoo::Status first = p.Run(view, out.data(), *state.value());
  if (!first.ok()) return Refused(first);
  const zoo::Status second = p.Run(view, again.data(), *state.value());
  REQUIRE(second.ok() && out == again, "another result of the same input: %s", second.message().c_str());
  if (p.ranged() && extent.dim[0] > 1) {
    const int64_t begin = static_cast<int64_t>(in.Below(static_cast<size_t>(extent.dim[0]))), end = begin + 1 + static_cast<int64_t>(in.Below(static_cast<size_t>(extent.dim[0] - begin)));
    std::vector<unsigned char> part(static_cast<size_t>(end - begin) * row);
    REQUIRE(p.RunRows(view, {begin, end}, part.data(), *state.value()).ok(), "rows of a ranged pipeline");
    REQUIRE(std::equal(part.begin(), part.end(), out.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(begin) * row)), "rows %d to %d differ from the whole's", static_cast<int>(begin), static_cast<int>(end));
  }
  auto stream = zoo::PipelineStream::Create(p, whole);
  if (!stream.ok()) return Refused(stream.status());
  std::vector<unsigned char> streamed;
  const size_t in_row = static_cast<size_t>(whole.row()) * SizeOf(port.dtype);
  for (int64_t at = 0; at < whole.dim[0];) {
    const int64_t rows = std::min<int64_t>(whole.dim[0] - at, 1 + static_cast<int64_t>(in.Below(1000)));
    const zoo::Status pushed = stream.value().Push(data.data() + static_cast<size_t>(at) * in_row, rows, at + rows == whole.dim[0]);
    REQUIRE(pushed.ok(), "the stream refuses what the pipeline takes: %s", pushed.message().c_str());
    at += rows;
    const unsigned char* got = static_cast<const unsigned char*>(stream.value().data());
    const size_t bytes = static_cast<size_t>(stream.value().extent().count()) * SizeOf(to.dtype);
    if (bytes > 0) streamed.insert(streamed.end(), got, got + bytes);
  }
  const size_t same = static_cast<size_t>(std::mismatch(out.begin(), out.end(), streamed.begin(), streamed.end()).first - out.begin());
  REQUIRE(streamed == out, "a stream of %zu bytes at %g Hz differs from the whole of %zu from byte %zu on; op 0 is %s", streamed.size(), whole.rate, out.size(), same, ops[0].op.c_str());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes in(data, size);
  std::vector<int64_t> shape(in.Chance(80) ? 1 + in.Below(5) : 0);
  for (int64_t& d : shape) d = in.Chance(128) ? -1 : in.Integer();
  const std::vector<zoo::OpDesc> ops = DrawOps(in);
  const std::string file(in.Text(in.Below(64)));
  const zoo::PipelineFiles files = {{"file", file}};
  const auto pipeline = zoo::Pipeline::Create(ops, "", shape, &files);
  if (!pipeline.ok()) {
    Refused(pipeline.status());
    return 0;
  }
  if (pipeline.value().counted()) RunText(pipeline.value(), in);
  else RunArray(pipeline.value(), ops, files, shape, in);
  return 0;
}
