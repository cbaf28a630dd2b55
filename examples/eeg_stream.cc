// SPDX-License-Identifier: Apache-2.0
// A headset's EEG to labels: CSV rows on standard input, one line of JSON for each window on standard output.
//   headset | eeg_stream BUNDLE [SMOOTHING]
// The first line names the columns; those that the model takes may stand in any order, and others between them. Then a line for each sample,
// in microvolts, at the model's rate, numbers between commas, semicolons or tabs; lines that start with # are passed over. SMOOTHING: seconds over
// which labels are smoothed (0: not at all). What it cost is said on standard error at the end.
// Build:  c++ -std=c++17 eeg_stream.cc $(pkg-config --cflags --libs zoo) -o eeg_stream
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>
#include <zoo/zoo.hpp>

namespace {

std::vector<std::string> Cells(const std::string& line) {
  std::vector<std::string> cells(1);
  for (const char c : line) {
    if (c == ',' || c == ';' || c == '\t') cells.emplace_back();
    else if (c != ' ' && c != '\r') cells.back() += c;
  }
  return cells;
}

bool SameName(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Where the model's channels stand among the columns.
std::vector<size_t> Columns(const std::vector<std::string_view>& channels, const std::vector<std::string>& header) {
  std::vector<size_t> columns;
  for (const std::string_view channel : channels) {
    const auto found = std::find_if(header.begin(), header.end(), [&](const std::string& name) { return SameName(name, channel); });
    if (found == header.end()) throw std::runtime_error("the first line names no column " + std::string(channel) + ", which the model needs");
    columns.push_back(static_cast<size_t>(found - header.begin()));
  }
  return columns;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: eeg_stream BUNDLE [SMOOTHING] < CSV\n");
    return ZOO_USAGE_ERROR;
  }
  size_t number = 0;  // of the line
  try {
    const zoo::Runtime model(argv[1]);
    const std::vector<std::string_view> channels = model.channels();
    if (channels.empty()) throw std::runtime_error(std::string(argv[1]) + " takes no EEG");
    // rate and hop are the model's own
    zoo::Stream<double> stream(model, 0, static_cast<int32_t>(channels.size()), 0, argc == 3 ? std::atof(argv[2]) : 0);
    const auto print = [&](const zoo::Prediction& window) {
      std::printf("{\"start\": %.4f, \"end\": %.4f, \"result\": %s}\n", window.start, window.end, stream.json().c_str());
      std::fflush(stdout);
    };
    std::vector<size_t> columns;
    std::vector<double> sample(channels.size());
    size_t width = 0;
    for (std::string line; std::getline(std::cin, line);) {
      ++number;
      if (line.empty() || line[0] == '#' || line == "\r") continue;
      const std::vector<std::string> cells = Cells(line);
      if (columns.empty()) {
        columns = Columns(channels, cells), width = cells.size();
        continue;
      }
      if (cells.size() != width) throw std::runtime_error(std::to_string(cells.size()) + " columns, the first line has " + std::to_string(width));
      for (size_t i = 0; i < columns.size(); ++i) {
        const std::string& cell = cells[columns[i]];
        char* end = nullptr;
        sample[i] = std::strtod(cell.c_str(), &end);
        if (cell.empty() || *end != '\0') throw std::runtime_error("'" + cell + "' is no number");
      }
      stream.push(sample.data(), 1, print);
    }
    number = 0;  // what follows is about the whole
    if (columns.empty()) throw std::runtime_error("standard input has no line of column names");
    stream.end(print);
    const zoo_load load = stream.load();
    std::fprintf(stderr, "%zu windows of %.1f s; latency %.1f ms (at most %.1f); %.1f %% of one core\n", load.windows, load.signal, load.latency_mean, load.latency_max,
                 load.cpu_share * 100);
  } catch (const std::exception& error) {
    const auto* failed = dynamic_cast<const zoo::Error*>(&error);
    const int status = failed != nullptr ? failed->status() : ZOO_INPUT_ERROR;
    const std::string where = number > 0 ? "line " + std::to_string(number) + ": " : "";
    std::fprintf(stderr, "%s: %s%s\n", zoo_status_name(status), where.c_str(), error.what());
    return status;
  }
  return 0;
}
