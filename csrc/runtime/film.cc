// SPDX-License-Identifier: Apache-2.0
#include "runtime/film.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

namespace zoo {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Bytes of rows that are remembered; a pipeline that scales by the input's own bounds computes longer inputs twice.
constexpr size_t kRemembered = size_t{64} << 20;
// Steps of an engine call where the engine's profile sets no limit.
constexpr int64_t kSteps = 256;

// min_max without bounds, which takes them from all rows.
bool HasOwnBounds(const std::vector<OpDesc>& ops) {
  if (ops.empty() || ops.back().op != "min_max") return false;
  return std::none_of(ops.back().params.begin(), ops.back().params.end(), [](const auto& param) {
    const auto* list = std::get_if<std::vector<double>>(&param.second);
    return list != nullptr && !list->empty();
  });
}

// The rows that a pipeline makes of a track, block by block: the same bits as of the whole at once.
class RowReader {
 public:
  RowReader(const FilmBranch& branch, FilmTrack* track, std::string isa) : branch_(branch), track_(*track), isa_(std::move(isa)) {}

  // The next rows, [n, ...]; none at the end. Valid until the next call.
  Status Next(const float** rows, Extent* extent, FilmTiming* timing) {
    if (branch_.own_bounds && !scale_) ZOO_RETURN_IF_ERROR(FindBounds(timing));
    if (!branch_.own_bounds) return Push(rows, extent, timing);
    if (remembers_) {
      *extent = row_;
      *rows = kept_.data();
      extent->dim[0] = std::exchange(kept_rows_, 0);
    } else {
      ZOO_RETURN_IF_ERROR(Push(rows, extent, timing));
    }
    if (extent->dim[0] == 0) return Status::Ok();
    const Clock::time_point start = Clock::now();
    scaled_.resize(static_cast<size_t>(extent->count()));
    ConstView view;
    view.data = *rows, view.extent = *extent, view.range = {0, extent->dim[0]};
    ZOO_RETURN_IF_ERROR(scale_->Run(view, scaled_.data(), *scale_state_));
    timing->preprocess += Since(start);
    *rows = scaled_.data();
    return Status::Ok();
  }

 private:
  // Rows as the pipeline's stream gives them.
  Status Push(const float** rows, Extent* extent, FilmTiming* timing) {
    if (!stream_) {
      auto stream = PipelineStream::Create(branch_.pipeline, track_.format());
      if (!stream.ok()) return stream.status();
      stream_ = std::make_unique<PipelineStream>(std::move(stream.value()));
      given_ = 0, ended_ = false, made_ = false;
    }
    for (;;) {
      if (ended_) {
        *extent = row_, extent->dim[0] = 0;
        return Status::Ok();
      }
      const Clock::time_point start = Clock::now();
      ConstView block;
      ZOO_RETURN_IF_ERROR(track_.Next(&block));
      const Clock::time_point decoded = Clock::now();
      timing->decode += std::chrono::duration<double>(decoded - start).count();
      ended_ = block.range.size() == 0;
      given_ += block.range.size();
      int64_t count = 0;
      if (!ended_ || given_ > 0) {
        ZOO_RETURN_IF_ERROR(stream_->Push(block.data, block.range.size(), ended_));
        *extent = stream_->extent(), count = extent->dim[0];
      }
      timing->preprocess += Since(decoded);
      made_ = made_ || count > 0;
      if (ended_ && !made_) {
        char text[96];
        std::snprintf(text, sizeof(text), "the input has %.3f s of %s, too little for one step", static_cast<double>(given_) / track_.format().rate,
                      branch_.pictures ? "pictures" : "sound");
        return InvalidSignal(text);
      }
      if (count == 0) continue;
      row_ = *extent;
      *rows = static_cast<const float*>(stream_->data());
      return Status::Ok();
    }
  }

  // Goes through all once for the extremes, and remembers the rows where they are few enough.
  Status FindBounds(FilmTiming* timing) {
    std::vector<float> low, high;
    remembers_ = true;
    for (;;) {
      const float* rows = nullptr;
      Extent extent;
      ZOO_RETURN_IF_ERROR(Push(&rows, &extent, timing));
      if (extent.dim[0] == 0) break;
      const size_t width = static_cast<size_t>(extent.row()), count = static_cast<size_t>(extent.count());
      if (low.empty()) low.assign(rows, rows + width), high = low;
      for (size_t i = 0; i < count; ++i) low[i % width] = std::min(low[i % width], rows[i]), high[i % width] = std::max(high[i % width], rows[i]);
      if (remembers_ && (kept_.size() + count) * sizeof(float) > kRemembered) remembers_ = false, kept_ = {};
      if (remembers_) kept_.insert(kept_.end(), rows, rows + count), kept_rows_ += extent.dim[0];
    }
    stream_.reset();
    track_.Rewind();
    const OpDesc op{"min_max", {{"low", std::vector<double>(low.begin(), low.end())}, {"high", std::vector<double>(high.begin(), high.end())}}};
    std::vector<int64_t> shape(row_.dim, row_.dim + row_.rank);
    shape[0] = -1;
    auto scale = Pipeline::Create({op}, isa_, shape);
    if (!scale.ok()) return scale.status();
    auto state = scale.value().NewState();
    if (!state.ok()) return state.status();
    scale_ = std::make_unique<Pipeline>(std::move(scale.value()));
    scale_state_ = std::move(state.value());
    return Status::Ok();
  }

  const FilmBranch& branch_;
  FilmTrack& track_;
  std::string isa_;
  std::unique_ptr<PipelineStream> stream_;
  Extent row_;  // of the last rows
  int64_t given_ = 0;
  bool ended_ = false, made_ = false;
  std::unique_ptr<Pipeline> scale_;
  std::unique_ptr<Pipeline::State> scale_state_;
  std::vector<float> kept_, scaled_;
  int64_t kept_rows_ = 0;
  bool remembers_ = false;
};

}  // namespace

Result<FilmRunner> FilmRunner::Create(const Bundle& bundle, const std::string& isa) {
  FilmRunner runner;
  const Manifest& m = bundle.manifest();
  runner.manifest_ = &m, runner.where_ = bundle.where(), runner.isa_ = isa;
  std::vector<Branch> all = {{m.modality == "video", m.ops, m.op_files}};
  all.insert(all.end(), m.branches.begin(), m.branches.end());
  for (size_t i = 0; i < all.size(); ++i) {
    Branch& branch = all[i];
    const bool own_bounds = HasOwnBounds(branch.ops);
    if (own_bounds) branch.ops.pop_back();
    auto pipeline = bundle.MakePipeline(branch, isa);
    if (!pipeline.ok()) return pipeline.status();
    const PortType &in = pipeline.value().port(0), &rows = pipeline.value().port(pipeline.value().size());
    const TensorSpec& tensor = m.engine.inputs[i];
    const std::string what = runner.where_ + ": engine input " + tensor.name + ": ";
    if (in.kind != (branch.pictures ? PortKind::kFrames : PortKind::kAudio)) return InvalidBundle(what + "its pipeline does not take " + (branch.pictures ? "pictures" : "sound"));
    if (rows.dtype != DType::kF32 || tensor.dtype != "float32") return InvalidBundle(what + "pipeline and engine must both have float32");
    // [rows, ...] becomes [batch, rows, ...]
    bool fits = tensor.shape.size() == rows.shape.size() + 1;
    for (size_t k = 1; fits && k < rows.shape.size(); ++k) fits = rows.shape[k] < 0 || tensor.shape[k + 1] < 0 || rows.shape[k] == tensor.shape[k + 1];
    if (!fits) return InvalidBundle(what + "it does not have the pipeline's dimensions and one for the batch");
    runner.branches_.push_back({std::move(pipeline.value()), branch.pictures, own_bounds});
  }
  for (const Head& head : m.heads) runner.context_ = std::max(runner.context_, head.context);
  const TensorSpec& first = m.engine.inputs[0];
  int64_t most = first.shape[1];
  if (most < 0) {
    const auto range = m.profile.find(first.dimensions[1]);
    most = range == m.profile.end() ? kSteps : range->second.second;
  }
  runner.steps_ = std::max<int64_t>(most - runner.context_, 1);
  return runner;
}

void FilmRows::Append(const float* rows, Extent more) {
  values.insert(values.end(), rows, rows + more.count());
  more.dim[0] += extent.dim[0];
  extent = more;
}

void FilmRows::Drop(int64_t rows) {
  values.erase(values.begin(), values.begin() + rows * extent.row());
  extent.dim[0] -= rows;
}

Status FilmRunner::Judge(const std::vector<FilmRows>& rows, int64_t count, int64_t lead, EngineSession* engine, FilmOutputs* out) const {
  const EngineSpec& spec = manifest_->engine;
  out->in.resize(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const Extent& extent = rows[i].extent;
    TensorView& view = out->in[i];
    view.data = rows[i].values.data(), view.rank = extent.rank + 1;
    view.shape[0] = 1, view.shape[1] = count;
    std::copy(extent.dim + 1, extent.dim + extent.rank, view.shape + 2);
    for (int32_t k = 2; k < view.rank; ++k) {
      const int64_t want = spec.inputs[i].shape[static_cast<size_t>(k)];
      if (want >= 0 && want != view.shape[k]) return InvalidSignal(manifest_->name + ": the input gives rows for " + spec.inputs[i].name + " that the engine does not take");
    }
  }
  ZOO_RETURN_IF_ERROR(engine->Run({out->in.data(), out->in.size()}, &out->found));
  out->shapes.resize(out->found.size()), out->bytes.resize(out->found.size());
  for (size_t k = 0; k < out->found.size(); ++k) {
    const TensorView& view = out->found[k];
    if (view.rank < 2 || view.shape[0] != 1 || view.shape[1] != count) return InvalidBundle(where_ + ": an output of the engine has no row for each step");
    std::vector<int64_t>& shape = out->shapes[k];
    if (out->steps > 0 && !std::equal(shape.begin(), shape.end(), view.shape + 2, view.shape + view.rank)) {
      return InvalidBundle(where_ + ": an output of the engine changes its shape");
    }
    shape.assign(view.shape + 2, view.shape + view.rank);
    const size_t row = static_cast<size_t>(view.count() / count) * SizeOfDType(spec.outputs[k].dtype);
    const unsigned char* bytes = static_cast<const unsigned char*>(view.data);
    out->bytes[k].insert(out->bytes[k].end(), bytes + static_cast<size_t>(lead) * row, bytes + static_cast<size_t>(count) * row);
  }
  out->steps += count - lead;
  return Status::Ok();
}

Status FilmRunner::Run(const std::vector<std::unique_ptr<FilmTrack>>& tracks, EngineSession* engine, FilmOutputs* out, FilmTiming* timing) const {
  std::vector<RowReader> readers;
  for (size_t i = 0; i < branches_.size(); ++i) readers.emplace_back(branches_[i], tracks[i].get(), isa_);
  std::vector<FilmRows> held(readers.size());
  *out = {};
  int64_t lead = 0;
  for (bool last = false; !last;) {
    // as many rows of each as there are of all, up to a full block
    int64_t rows = lead + steps_;
    for (size_t i = 0; i < readers.size(); ++i) {
      FilmRows& h = held[i];
      while (!h.ended && h.extent.dim[0] < lead + steps_) {
        const float* fresh = nullptr;
        Extent extent;
        ZOO_RETURN_IF_ERROR(readers[i].Next(&fresh, &extent, timing));
        h.ended = extent.dim[0] == 0;
        if (!h.ended) h.Append(fresh, extent);
      }
      rows = std::min(rows, h.extent.dim[0]);
      last = last || h.extent.dim[0] < lead + steps_;
    }
    if (rows <= lead) break;
    const Clock::time_point start = Clock::now();
    ZOO_RETURN_IF_ERROR(Judge(held, rows, lead, engine, out));
    timing->engine += Since(start);
    const int64_t from = std::max<int64_t>(rows - context_, 0);
    for (FilmRows& h : held) h.Drop(from);
    lead = rows - from;
  }
  return Status::Ok();
}

}  // namespace zoo
