// SPDX-License-Identifier: Apache-2.0
#ifndef ZOO_TEXT_LINES_H_
#define ZOO_TEXT_LINES_H_

#include <string>
#include <string_view>

#include "zoo/status.h"

namespace zoo::text {

// Calls line(content, number) for each line of a file; the last one may lack its LF.
template <class Line>
Status EachLine(std::string_view content, Line line) {
  for (int64_t number = 1; !content.empty(); ++number) {
    const size_t end = content.find('\n');
    ZOO_RETURN_IF_ERROR(line(content.substr(0, end), number));
    content.remove_prefix(end == std::string_view::npos ? content.size() : end + 1);
  }
  return Status::Ok();
}

inline Status BadLine(int64_t number, const std::string& problem) {
  return InvalidFile("line " + std::to_string(number) + ": " + problem);
}

}  // namespace zoo::text

#endif  // ZOO_TEXT_LINES_H_
