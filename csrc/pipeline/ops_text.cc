// SPDX-License-Identifier: Apache-2.0
// Ops on text. They need the whole input, and how much they give depends on it.
#include <algorithm>
#include <cstring>
#include <new>
#include <optional>

#include "pipeline/op.h"
#include "zoo/text.h"

namespace zoo {
namespace {

// The content of the file that a parameter names; null while the pipeline is only looked at.
Status Content(const OpContext& c, const std::string& name, std::optional<std::string_view>* out) {
  if (name.empty()) return InvalidPipeline("the name of a file is empty");
  if (c.files == nullptr) return Status::Ok();
  const auto found = c.files->find(name);
  if (found == c.files->end()) return InvalidPipeline("the file '" + name + "' is not among those given with the pipeline");
  *out = found->second;
  return Status::Ok();
}

Status InFile(const std::string& name, const Status& status) {
  return status.code() == StatusCode::kInvalidFile ? Status(status.code(), name + ": " + status.message()) : status;
}

class CountedOp : public Op {
 public:
  bool counted() const override { return true; }
  Status Infer(const Extent& in, Extent* out) const override {
    *out = in;
    out->dim[0] = -1;
    return Status::Ok();
  }
  Status Run(const ConstView&, Range, void*, OpState&) const noexcept override {
    return Status(StatusCode::kInternal, "a counted op appends its rows");
  }
};

class SocialTokenizeOp final : public CountedOp {
 public:
  static Result<std::unique_ptr<Op>> Create(const Params& p, const OpContext& c) {
    auto op = std::make_unique<SocialTokenizeOp>();
    std::optional<std::string_view> counts = std::string_view();
    if (p.Has("counts")) {
      op->file_ = p.String("counts");
      counts.reset();
      ZOO_RETURN_IF_ERROR(Content(c, op->file_, &counts));
      if (counts && counts->empty()) return InvalidFile(op->file_ + ": it is empty; make one with zoo.data.words.count_words");
    }
    if (counts) {
      auto made = SocialTokenizer::Create(*counts);
      if (!made.ok()) return InFile(op->file_, made.status());
      op->core_.emplace(std::move(made.value()));
    }
    return std::unique_ptr<Op>(std::move(op));
  }
  PortType output() const override { return {PortKind::kTokens, 0, {-1}, DType::kU8}; }
  Result<std::unique_ptr<OpState>> NewState() const override {
    return core_ ? NewCoreState(*core_) : std::make_unique<OpState>();
  }
  Status Append(const ConstView& in, RowSink* out, OpState& state) const noexcept override {
    if (!core_) return InvalidArgument("the file '" + file_ + "' was not given with the pipeline");
    std::string_view tokens;
    ZOO_RETURN_IF_ERROR(core_->Compute({static_cast<const char*>(in.data), static_cast<size_t>(in.range.size())},
                                       *static_cast<CoreState<SocialTokenizer>&>(state).state, &tokens));
    void* to = out->Append(static_cast<int64_t>(tokens.size()));
    if (to == nullptr && !tokens.empty()) return OutOfMemory();
    if (!tokens.empty()) std::memcpy(to, tokens.data(), tokens.size());
    return Status::Ok();
  }

 private:
  std::string file_;
  std::optional<SocialTokenizer> core_;
};

class VocabOp final : public CountedOp {
 public:
  static Result<std::unique_ptr<Op>> Create(const Params& p, const OpContext& c) {
    auto op = std::make_unique<VocabOp>();
    op->file_ = p.String("file");
    op->shortest_ = p.Int("min_length");
    op->longest_ = p.Has("max_length") ? p.Int("max_length") : kMaxTextBytes;
    if (op->longest_ < op->shortest_) {
      return InvalidArgument("max_length is " + std::to_string(op->longest_) + ", less than min_length, " + std::to_string(op->shortest_));
    }
    VocabularyOptions options;
    options.unknown = p.String("unknown");
    ZOO_RETURN_IF_ERROR(options.Validate());
    std::optional<std::string_view> content;
    ZOO_RETURN_IF_ERROR(Content(c, op->file_, &content));
    if (content) {
      auto made = Vocabulary::Create(options, *content);
      if (!made.ok()) return InFile(op->file_, made.status());
      op->core_.emplace(std::move(made.value()));
    }
    return std::unique_ptr<Op>(std::move(op));
  }
  PortType output() const override { return {PortKind::kIds, 0, {-1}, DType::kI64}; }
  Status Append(const ConstView& in, RowSink* out, OpState&) const noexcept override {
    if (!core_) return InvalidArgument("the file '" + file_ + "' was not given with the pipeline");
    std::string_view rest(static_cast<const char*>(in.data), static_cast<size_t>(in.range.size()));
    if (!rest.empty() && rest.back() != kTokenEnd) return InvalidSignal("the last token has no end");
    const int64_t count = std::min<int64_t>(std::count(rest.begin(), rest.end(), kTokenEnd), longest_);
    const int64_t rows = std::max(count, shortest_);
    int64_t* to = static_cast<int64_t*>(out->Append(rows));
    if (to == nullptr && rows > 0) return OutOfMemory();
    for (int64_t i = 0; i < count; ++i) {
      const size_t end = rest.find(kTokenEnd);
      to[i] = (*core_)[rest.substr(0, end)];
      rest.remove_prefix(end + 1);
    }
    std::fill(to + count, to + rows, int64_t{0});
    return Status::Ok();
  }

 private:
  std::string file_;
  int64_t shortest_ = 0, longest_ = 0;
  std::optional<Vocabulary> core_;
};

}  // namespace

const std::vector<OpSpec>& TextOpSpecs() {
  static const std::vector<OpSpec> specs = {
      {"social_tokenize", PortKind::kText, PortKind::kTokens, "tokens of a tweet, as ekphrasis has them with the settings of Baziotis et al.",
       {{"counts", ParamType::kFile, kRequired, true, 0, 0, {}, "file of counts of words and pairs of words (null: hashtags in lower case stay one word, elongated words are only shortened)"}},
       SocialTokenizeOp::Create},
      {"vocab", PortKind::kTokens, PortKind::kIds, "number of each token in a vocabulary, from 1",
       {{"file", ParamType::kFile, kRequired, false, 0, 0, {}, "vocabulary: one token a line"},
        {"unknown", ParamType::kString, S("<unk>"), false, 0, 0, {}, "the token of the vocabulary that stands for all others"},
        {"min_length", ParamType::kInt, I(1), false, 0, kIntMax, {}, "fewer numbers are filled up with 0 at the end"},
        {"max_length", ParamType::kInt, kRequired, true, 1, kIntMax, {}, "more tokens than so many are left out (null: none)"}},
       VocabOp::Create},
  };
  return specs;
}

}  // namespace zoo
