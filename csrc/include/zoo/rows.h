// SPDX-License-Identifier: Apache-2.0
// Rows of numbers in text: the data part of CSV and ARFF files.
#ifndef ZOO_ROWS_H_
#define ZOO_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "zoo/status.h"

namespace zoo {

struct RowsOptions {
  int64_t columns = 1;          // of every row
  std::vector<int64_t> wanted;  // indices of the columns to read, in the order of the result; the others may hold anything
  char separator = ',';
  int64_t first_line = 1;       // number of the text's first line, for messages
  Status Validate() const;
};

// Row-major values [rows, wanted.size()]. Numbers as in C, whatever the locale; blanks around them are skipped, and so are empty
// lines and those that begin with # or %. An error names line and column: another number of columns, no finite number.
Result<std::vector<double>> ParseRows(const char* text, size_t size, const RowsOptions& options);

}  // namespace zoo

#endif  // ZOO_ROWS_H_
