// SPDX-License-Identifier: Apache-2.0
// Counts what a stream of speech, pictures, EEG or curves along sound allocates once it runs: nothing is expected.
//   allocations BUNDLE [pictures|eeg|curves]
// The linker puts the functions below in place of malloc and its kin in everything that is linked into this program, which are libzoo and
// the C++ library (so also operator new); the engine, loaded at run time, keeps its own.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "check.h"
#include "zoo/zoo.h"

namespace {
thread_local long allocated = 0;
}  // namespace

extern "C" {
void* __real_malloc(size_t);
void* __real_calloc(size_t, size_t);
void* __real_realloc(void*, size_t);
void* __real_aligned_alloc(size_t, size_t);
int __real_posix_memalign(void**, size_t, size_t);
void* __wrap_malloc(size_t n) { return ++allocated, __real_malloc(n); }
void* __wrap_calloc(size_t n, size_t size) { return ++allocated, __real_calloc(n, size); }
void* __wrap_realloc(void* p, size_t n) { return ++allocated, __real_realloc(p, n); }
void* __wrap_aligned_alloc(size_t alignment, size_t n) { return ++allocated, __real_aligned_alloc(alignment, n); }
int __wrap_posix_memalign(void** p, size_t alignment, size_t n) { return ++allocated, __real_posix_memalign(p, alignment, n); }
}

int main(int argc, char** argv) {
  const bool pictures = argc == 3 && std::strcmp(argv[2], "pictures") == 0, eeg = argc == 3 && std::strcmp(argv[2], "eeg") == 0;
  const bool curves = argc == 3 && std::strcmp(argv[2], "curves") == 0;
  if (argc != 2 && !pictures && !eeg && !curves) {
    std::printf("usage: allocations BUNDLE [pictures|eeg|curves]\n");
    return 2;
  }
  zoo_model* model = nullptr;
  zoo_stream* stream = nullptr;
  zoo_stream_options options;
  zoo_stream_options_init(&options);
  options.hop = 0.1, options.smoothing = 1;
  if (pictures) options.dtype = ZOO_U8, options.channels = 3, options.height = 90, options.width = 120, options.rate = 20;
  else if (eeg) options.dtype = ZOO_F32, options.channels = 14, options.hop = 0;
  else options.dtype = ZOO_I16, options.channels = 2, options.rate = 44100;
  if (curves) options.hop = 0;
  if (zoo_open(argv[1], nullptr, &model) != ZOO_OK || zoo_stream_open(model, &options, &stream) != ZOO_OK) {
    std::printf("%s\n", zoo_last_error());
    return 1;
  }
  EXPECT(allocated > 100, "opening allocates %ld times: the counter does not count", allocated);
  // of one sample of all channels, or one picture
  const size_t unit = pictures ? 90 * 120 * 3 : eeg ? 14 * sizeof(float) : 2 * sizeof(int16_t);
  const size_t count = pictures ? 20 * 8 : eeg ? 128 * 20 : 44100 * 8, chunk = pictures ? 1 : eeg ? 10 : 441;
  std::vector<unsigned char> signal(unit * count);
  for (size_t i = 0; i < signal.size(); ++i) signal[i] = static_cast<unsigned char>(i * 2654435761u >> 7);
  for (size_t i = 0; eeg && i < count * 14; ++i) {
    const float value = 4000 + static_cast<float>(signal[i * 4]);
    std::memcpy(&signal[i * 4], &value, 4);
  }
  float values[64];
  uint8_t given[64];
  int32_t best[8];
  zoo_result result = {};
  result.values = values, result.values_capacity = 64, result.given = given, result.given_capacity = 64, result.best = best, result.best_capacity = 8;
  long before = 0;
  // steps of curves come every 40 ms, and what their pipelines look back on is some seconds long
  const int settled = curves ? 100 : 3;
  int windows = 0;
  for (size_t at = 0; at < count;) {
    size_t taken = 0;
    EXPECT(zoo_stream_push(stream, &signal[at * unit], std::min(chunk, count - at), &taken) == ZOO_OK, "%s", zoo_last_error());
    at += taken;
    while (zoo_stream_pop(stream, &result) == ZOO_OK) {
      if (++windows == settled) before = allocated;
    }
  }
  EXPECT(windows > 10, "%d windows", windows);
  EXPECT(allocated == before, "%ld allocations in %d windows", allocated - before, windows - settled);
  zoo_stream_close(stream);
  zoo_close(model);
  std::printf("%d windows, %d failures\n", windows, failures);
  return failures == 0 ? 0 : 1;
}
