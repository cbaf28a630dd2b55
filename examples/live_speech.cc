// SPDX-License-Identifier: Apache-2.0
// Live speech to labels: 16-bit mono PCM on standard input, one line of JSON for each window on standard output.
//   arecord -q -t raw -f S16_LE -c 1 -r 16000 | live_speech BUNDLE 16000 0.5 [SMOOTHING]
// Arguments: bundle, rate of the samples in Hz, seconds between windows, seconds over which labels are smoothed (0: not at all).
// What it cost is said on standard error at the end.
// Build:  c++ -std=c++17 live_speech.cc $(pkg-config --cflags --libs zoo) -o live_speech
#include <cstdio>
#include <cstdlib>
#include <zoo/zoo.hpp>

static bool number(const char* text, double* value) {
  char* end = nullptr;
  *value = std::strtod(text, &end);
  return end != text && *end == 0;
}

int main(int argc, char** argv) {
  double rate = 0, hop = 0, smoothing = 0;
  if ((argc != 4 && argc != 5) || !number(argv[2], &rate) || !number(argv[3], &hop) || (argc == 5 && !number(argv[4], &smoothing))) {
    std::fprintf(stderr, "usage: live_speech BUNDLE RATE HOP [SMOOTHING] < PCM\n");
    return ZOO_USAGE_ERROR;
  }
  try {
    const zoo::Runtime model(argv[1]);
    zoo::Stream<int16_t> stream(model, rate, 1, hop, smoothing);
    const auto print = [&](const zoo::Prediction& window) {
      std::printf("{\"start\": %.4f, \"end\": %.4f, \"result\": %s}\n", window.start, window.end, stream.json().c_str());
      std::fflush(stdout);
    };
    int16_t samples[1024];
    while (const size_t n = std::fread(samples, sizeof samples[0], 1024, stdin)) stream.push(samples, n, print);
    stream.end(print);
    const zoo_load load = stream.load();
    std::fprintf(stderr, "%zu windows of %.1f s; latency %.1f ms (at most %.1f); %.1f %% of one core\n", load.windows, load.signal, load.latency_mean, load.latency_max,
                 load.cpu_share * 100);
  } catch (const zoo::Error& error) {
    std::fprintf(stderr, "%s: %s\n", zoo_status_name(error.status()), error.what());
    return error.status();
  }
  return 0;
}
