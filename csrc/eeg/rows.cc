// SPDX-License-Identifier: Apache-2.0
#include "zoo/rows.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <new>

namespace zoo {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

void Trim(const char** begin, const char** end) {
  while (*begin < *end && IsBlank(**begin)) ++*begin;
  while (*begin < *end && IsBlank((*end)[-1])) --*end;
}

std::string Quoted(const char* begin, const char* end) {
  std::string text(begin, std::min(end, begin + 40));
  for (char& c : text) c = c >= ' ' && c <= '~' ? c : '?';  // messages are ASCII, whatever the file
  return "'" + text + (end - begin > 40 ? "...'" : "'");
}

}  // namespace

Status RowsOptions::Validate() const {
  if (columns < 1) return InvalidArgument("rows: columns is " + std::to_string(columns) + "; it must be at least 1");
  for (const int64_t column : wanted) {
    if (column < 0 || column >= columns) {
      return InvalidArgument("rows: column " + std::to_string(column) + " is wanted of " + std::to_string(columns));
    }
  }
  return Status::Ok();
}

Result<std::vector<double>> ParseRows(const char* text, size_t size, const RowsOptions& o) try {
  ZOO_RETURN_IF_ERROR(o.Validate());
  std::vector<double> values;
  std::vector<const char*> edges(static_cast<size_t>(o.columns) + 1);
  const char* const stop = text + size;
  int64_t line = o.first_line;
  for (const char* at = text; at < stop; ++line) {
    const char* const newline = std::find(at, stop, '\n');
    const char *begin = at, *end = newline;
    at = newline < stop ? newline + 1 : stop;
    Trim(&begin, &end);
    if (begin == end || *begin == '#' || *begin == '%') continue;
    int64_t count = 0;
    edges[0] = begin;
    for (const char* c = begin;; ++c) {
      if (c != end && *c != o.separator) continue;
      if (++count <= o.columns) edges[static_cast<size_t>(count)] = c + 1;
      if (c == end) break;
    }
    if (count != o.columns) {
      return InvalidFile("line " + std::to_string(line) + ": " + std::to_string(count) + " columns, the header has " + std::to_string(o.columns));
    }
    for (const int64_t column : o.wanted) {
      const char* first = edges[static_cast<size_t>(column)];
      const char* last = edges[static_cast<size_t>(column) + 1] - 1;
      Trim(&first, &last);
      if (last - first > 1 && *first == '+' && first[1] != '-') ++first;  // from_chars takes no plus sign
      double value = 0;
      const auto [rest, error] = std::from_chars(first, last, value);
      if (error != std::errc() || rest != last || !std::isfinite(value)) {
        return InvalidFile("line " + std::to_string(line) + ", column " + std::to_string(column + 1) + ": " + Quoted(first, last) +
                           " is no finite number");
      }
      values.push_back(value);
    }
  }
  return values;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

}  // namespace zoo
