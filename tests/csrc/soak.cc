// SPDX-License-Identifier: Apache-2.0
// Threads that open, run and close models, sessions and streams for a while: memory must not grow after the start.
//   soak BUNDLE SECONDS [THREADS [MIB [ENGINE_FOLDER]]]
// Fails where a call does, or where the resident set grows by MIB (1) or more after the first minute (of a short run, its first half).
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "check.h"
#include "zoo/zoo.h"

namespace {

std::atomic<bool> stop{false};
std::atomic<long> runs{0}, opens{0};

long ResidentBytes() {
  long pages = 0, resident = 0;
  if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%ld %ld", &pages, &resident) != 2) resident = 0;
    std::fclose(f);
  }
  return resident * sysconf(_SC_PAGESIZE);
}

void Must(zoo_status status) {
  if (status == ZOO_OK) return;
  std::printf("status %d: %s\n", status, zoo_last_error());
  std::exit(1);
}

void Use(const zoo_model* model, const std::vector<float>& wave) {
  zoo_session* session = nullptr;
  Must(zoo_session_open(model, &session));
  zoo_input input = {};
  input.rank = 1, input.shape[0] = static_cast<int64_t>(wave.size()), input.rate = 16000, input.data = wave.data();
  float values[64];
  zoo_result result = {};
  result.values = values, result.values_capacity = 64;
  for (int i = 0; i < 4 && !stop; ++i, ++runs) Must(zoo_run(session, &input, 1, &result));
  input.rank = 9;  // refused; the session goes on
  if (zoo_run(session, &input, 1, &result) != ZOO_INPUT_ERROR) std::exit(1);
  zoo_session_close(session);
}

void Listen(const zoo_model* model, const std::vector<float>& wave) {
  zoo_stream* stream = nullptr;
  zoo_stream_options options;
  zoo_stream_options_init(&options);
  options.rate = 16000;
  Must(zoo_stream_open(model, &options, &stream));
  for (size_t at = 0, taken = 0; at < wave.size() && !stop; at += taken) {
    Must(zoo_stream_push(stream, &wave[at], std::min<size_t>(1600, wave.size() - at), &taken));
    for (zoo_status status; (status = zoo_stream_pop(stream, nullptr)) != ZOO_NO_RESULT; ++runs) Must(status);
  }
  zoo_stream_close(stream);
}

void Work(unsigned seed, const char* bundle, const zoo_options* options, const zoo_model* shared) {
  std::mt19937 rng(seed);
  std::vector<float> wave(48000);
  for (float& v : wave) v = static_cast<float>(rng() % 2001) / 1000 - 1;
  while (!stop) {
    switch (rng() % 4) {
      case 0: {  // a model of its own
        zoo_model* own = nullptr;
        Must(zoo_open(bundle, options, &own));
        ++opens;
        Use(own, wave);
        zoo_close(own);
        break;
      }
      case 1: Listen(shared, wave); break;
      default: Use(shared, wave);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::printf("usage: soak BUNDLE SECONDS [THREADS [MIB [ENGINE_FOLDER]]]\n");
    return 2;
  }
  const double seconds = std::atof(argv[2]);
  const int count = argc > 3 ? std::atoi(argv[3]) : 8;
  const double limit = argc > 4 ? std::atof(argv[4]) : 1;
  zoo_options options;
  zoo_options_init(&options);
  if (argc > 5) options.engine_library = argv[5];
  zoo_model* shared = nullptr;
  Must(zoo_open(argv[1], &options, &shared));
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(Work, static_cast<unsigned>(i), argv[1], &options, shared);
  // the peak of the settled part's first half against that of its second: single readings swing with what is in flight
  const auto peak = [](double time) {
    long most = 0;
    for (const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(time); std::chrono::steady_clock::now() < end;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      most = std::max(most, ResidentBytes());
    }
    return most;
  };
  const double start = std::min(60.0, seconds / 2);
  peak(start);
  const long before = peak((seconds - start) / 2), after = peak((seconds - start) / 2);
  stop = true;
  for (std::thread& t : threads) t.join();
  zoo_close(shared);
  std::printf("%d threads, %.0f s: %ld runs, %ld opens, peak %.2f MiB, then %.2f MiB\n", count, seconds, runs.load(), opens.load(), static_cast<double>(before) / 1048576,
              static_cast<double>(after) / 1048576);
  EXPECT(runs > 0 && opens > 0, "nothing was done");
  EXPECT(static_cast<double>(after - before) < limit * 1048576, "memory grew by %ld bytes", after - before);
  return failures == 0 ? 0 : 1;
}
