// SPDX-License-Identifier: Apache-2.0
// Facts about characters, HTML references and emoticons; tables.cc is written by make_tables.py.
#ifndef ZOO_TEXT_TABLES_H_
#define ZOO_TEXT_TABLES_H_

#include <cstddef>
#include <cstdint>

namespace zoo::text {

// Wherever the flags of characters change: (flags << 21) | first code point. Flags: chars.h.
extern const uint32_t kBoundaries[];
extern const size_t kBoundaryCount;

// Code points first, first + step, ... last, whose lower case is the one at + delta; ASCII is left out.
struct LowerRun {
  uint32_t first, last;
  int32_t step, delta;
};
extern const LowerRun kLowerRuns[];
extern const size_t kLowerRunCount;

// Names and what they stand for, UTF-8, each text with its '\0', sorted by name; an empty name ends them. In a shared library a table of
// pointers would be five times as large, for its relocations.
extern const char kEntities[];  // without '&'; some with and without ';'
extern const char kEmoticons[];

}  // namespace zoo::text

#endif  // ZOO_TEXT_TABLES_H_
