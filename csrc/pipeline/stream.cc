// SPDX-License-Identifier: Apache-2.0
// Pipelines over inputs that arrive in chunks. Ranged ops share one implementation: keep the input rows that later outputs
// can still depend on, and compute what has become determined.
#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "pipeline/impl.h"

namespace zoo {
namespace {

// Stands for a length that is not known yet when formats are inferred.
constexpr int64_t kAnyRows = int64_t{1} << 32;

class RangedStream final : public OpStream {
 public:
  RangedStream(const Op& op, const Extent& format, std::unique_ptr<OpState> state)
      : op_(op), format_(format), state_(std::move(state)) {}

  Status Push(const ConstView& in, bool last, RowSink* out) noexcept override try {
    const size_t row = static_cast<size_t>(format_.row()) * SizeOf(in.dtype);
    const int64_t total = in.range.end, fresh = in.range.size();
    const size_t used = static_cast<size_t>(total - fresh - first_) * row;
    if (!kept_.Extend(used, used + static_cast<size_t>(fresh) * row)) return OutOfMemory();
    if (fresh > 0) std::memcpy(kept_.data() + used, in.data, static_cast<size_t>(fresh) * row);
    Extent extent = format_;
    extent.dim[0] = total;
    int64_t ready = 0;
    if (last) {
      Extent whole;
      ZOO_RETURN_IF_ERROR(op_.Infer(extent, &whole));
      ready = whole.dim[0];
    } else if (total > 0) {
      ready = op_.Ready(format_, total);
    }
    if (ready > done_) {
      const Range rows{done_, ready};
      ZOO_RETURN_IF_ERROR(op_.Prepare(extent, rows, *state_));
      void* to = out->Append(rows.size());
      if (to == nullptr) return OutOfMemory();
      ZOO_RETURN_IF_ERROR(op_.Run({kept_.data(), in.dtype, extent, {first_, total}}, rows, to, *state_));
      done_ = ready;
    }
    const int64_t keep = last ? total : std::clamp<int64_t>(op_.Keep(extent, done_), first_, total);
    if (keep > first_) {
      std::memmove(kept_.data(), kept_.data() + static_cast<size_t>(keep - first_) * row, static_cast<size_t>(total - keep) * row);
      first_ = keep;
    }
    return Status::Ok();
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }

 private:
  const Op& op_;
  Extent format_;
  std::unique_ptr<OpState> state_;
  Buffer<unsigned char> kept_;  // input rows from first_ on
  int64_t first_ = 0, done_ = 0;
};

}  // namespace

Result<std::unique_ptr<OpStream>> Op::NewStream(const Extent& format) const {
  auto state = NewState();
  if (!state.ok()) return state.status();
  return std::unique_ptr<OpStream>(new RangedStream(*this, format, std::move(state.value())));
}

struct PipelineStream::Impl {
  const Pipeline::Impl* pipeline;
  Extent format;
  DType dtype;
  std::vector<std::unique_ptr<OpStream>> ops;
  std::vector<RowSink> sinks;
  std::vector<int64_t> passed;  // rows that each op has been given
  int64_t seen = 0;
  bool finished = false;
};

PipelineStream::PipelineStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PipelineStream::PipelineStream(PipelineStream&&) noexcept = default;
PipelineStream::~PipelineStream() = default;
const void* PipelineStream::data() const noexcept { return impl_->sinks.back().data(); }
const Extent& PipelineStream::extent() const noexcept { return impl_->sinks.back().extent(); }

Result<PipelineStream> PipelineStream::Create(const Pipeline& pipeline, const Extent& format) try {
  const Pipeline::Impl& p = *pipeline.impl_;
  std::unique_ptr<Impl> impl(new Impl);
  impl->pipeline = &p;
  impl->dtype = pipeline.port(0).dtype;
  Extent at = format;
  at.dim[0] = kAnyRows;
  if (!IsCounted(p.ports[0].kind)) ZOO_RETURN_IF_ERROR(p.CheckInput(at));  // those on texts: no op of theirs streams
  impl->format = at;
  impl->sinks.resize(p.ops.size());
  impl->passed.assign(p.ops.size(), 0);
  for (size_t i = 0; i < p.ops.size(); ++i) {
    if (!p.ops[i]->streams()) {
      const char* hint = p.ops[i]->stream_hint();
      return InvalidPipeline("op " + std::to_string(i) + " (" + p.names[i] + ") needs the whole input; it cannot work on a stream" +
                             (hint ? std::string(" (") + hint + ")" : std::string()));
    }
    auto stream = p.ops[i]->NewStream(at);
    if (!stream.ok()) return stream.status();
    impl->ops.push_back(std::move(stream.value()));
    Extent next;
    ZOO_RETURN_IF_ERROR(p.ops[i]->Infer(at, &next));
    next.dim[0] = kAnyRows;
    at = next;
    impl->sinks[i].Reset(at, p.ports[i + 1].dtype);
  }
  return PipelineStream(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

Status PipelineStream::Push(const void* data, int64_t rows, bool last) noexcept {
  Impl& s = *impl_;
  for (RowSink& sink : s.sinks) sink.Clear();
  if (s.finished) return InvalidSignal("the stream has ended; open a new one");
  s.seen += rows;
  if (last) {
    s.finished = true;
    Extent whole = s.format;
    whole.dim[0] = s.seen;
    ZOO_RETURN_IF_ERROR(s.pipeline->CheckInput(whole));
  }
  ConstView view{data, s.dtype, s.format, {s.seen - rows, s.seen}};
  view.extent.dim[0] = s.seen;
  for (size_t i = 0; i < s.ops.size(); ++i) {
    const Status status = s.ops[i]->Push(view, last, &s.sinks[i]);
    if (!status.ok()) {
      s.finished = true;
      return status;
    }
    const RowSink& sink = s.sinks[i];
    const int64_t fresh = sink.extent().dim[0], before = i + 1 < s.ops.size() ? s.passed[i + 1] : 0;
    view = {sink.data(), sink.dtype(), sink.extent(), {before, before + fresh}};
    view.extent.dim[0] = before + fresh;
    if (i + 1 < s.ops.size()) s.passed[i + 1] += fresh;
  }
  return Status::Ok();
}

}  // namespace zoo
