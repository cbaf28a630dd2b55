// SPDX-License-Identifier: Apache-2.0
#include <new>

#include "text/byte_table.h"
#include "text/lines.h"
#include "zoo/text.h"

namespace zoo {

struct Vocabulary::Impl {
  text::ByteTable table;
  int64_t unknown = 0;
};

Status VocabularyOptions::Validate() const {
  if (unknown.empty()) return InvalidArgument("unknown is empty; it must be a token of the vocabulary");
  return Status::Ok();
}

Vocabulary::Vocabulary(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Vocabulary::Vocabulary(Vocabulary&&) noexcept = default;
Vocabulary::~Vocabulary() = default;

Result<Vocabulary> Vocabulary::Create(const VocabularyOptions& options, std::string_view content) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  auto impl = std::make_unique<Impl>();
  ZOO_RETURN_IF_ERROR(text::EachLine(content, [&](std::string_view line, int64_t number) -> Status {
    if (line.empty()) return text::BadLine(number, "is empty; every line must hold a token");
    if (!impl->table.Insert(line).second) return text::BadLine(number, "the token '" + std::string(line) + "' is listed twice");
    return Status::Ok();
  }));
  impl->unknown = impl->table.Find(options.unknown) + 1;
  if (impl->unknown == 0) {
    return InvalidFile("the token '" + options.unknown + "' for unknown ones is not among the " + std::to_string(impl->table.size()) + " listed");
  }
  return Vocabulary(std::move(impl));
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

int64_t Vocabulary::size() const noexcept { return impl_->table.size(); }

int64_t Vocabulary::operator[](std::string_view token) const noexcept {
  const int64_t number = int64_t{impl_->table.Find(token)} + 1;
  return number > 0 ? number : impl_->unknown;
}

}  // namespace zoo
