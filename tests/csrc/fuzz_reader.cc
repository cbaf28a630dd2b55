// SPDX-License-Identifier: Apache-2.0
// Mutates WAV and FLAC files for a number of seconds and reads them: each must give samples or a status.
//   fuzz_reader SECONDS [SEED_FILE...]
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "zoo/audio_io.h"

namespace {

using Bytes = std::vector<unsigned char>;

Bytes Wav(int tag, int channels, int bits, int frames, std::mt19937& rng) {
  const int align = channels * bits / 8, data = frames * align;
  Bytes b(44 + static_cast<size_t>(data));
  const auto put = [&](size_t at, uint32_t v, int n) {
    for (int i = 0; i < n; ++i) b[at + static_cast<size_t>(i)] = static_cast<unsigned char>(v >> (8 * i));
  };
  std::memcpy(&b[0], "RIFF", 4);
  put(4, static_cast<uint32_t>(36 + data), 4);
  std::memcpy(&b[8], "WAVEfmt ", 8);
  put(16, 16, 4);
  put(20, static_cast<uint32_t>(tag), 2);
  put(22, static_cast<uint32_t>(channels), 2);
  put(24, 16000, 4);
  put(28, static_cast<uint32_t>(16000 * align), 4);
  put(32, static_cast<uint32_t>(align), 2);
  put(34, static_cast<uint32_t>(bits), 2);
  std::memcpy(&b[36], "data", 4);
  put(40, static_cast<uint32_t>(data), 4);
  for (size_t i = 44; i < b.size(); ++i) b[i] = static_cast<unsigned char>(rng());
  return b;
}

Bytes Mutate(Bytes b, std::mt19937& rng) {
  const int edits = static_cast<int>(rng() % 6);
  for (int e = 0; e < edits && !b.empty(); ++e) {
    const size_t span = rng() % 2 == 0 ? std::min<size_t>(b.size(), 80) : b.size();
    const size_t at = rng() % span;
    switch (rng() % 4) {
      case 0: b[at] ^= static_cast<unsigned char>(1u << (rng() % 8)); break;
      case 1: b[at] = static_cast<unsigned char>(rng()); break;
      case 2:
        for (size_t i = at; i < std::min(at + 4, b.size()); ++i) b[i] = rng() % 2 == 0 ? 0xff : 0;
        break;
      default: b.erase(b.begin() + static_cast<std::ptrdiff_t>(at)); break;
    }
  }
  if (rng() % 4 == 0 && !b.empty()) b.resize(rng() % b.size());
  return b;
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 5;
  std::mt19937 rng(static_cast<unsigned>(argc) * 1000u + 1u);
  std::vector<Bytes> seeds = {Wav(1, 1, 16, 600, rng), Wav(1, 2, 24, 300, rng), Wav(3, 1, 32, 300, rng),
                              Wav(1, 3, 8, 300, rng), Wav(3, 2, 64, 100, rng), Wav(1, 1, 32, 100, rng)};
  for (int i = 2; i < argc; ++i) {
    Bytes b;
    if (std::FILE* f = std::fopen(argv[i], "rb")) {
      for (int c; (c = std::fgetc(f)) != EOF;) b.push_back(static_cast<unsigned char>(c));
      std::fclose(f);
    }
    seeds.push_back(b);
  }
  char path[] = "/tmp/fuzz_reader_XXXXXX";
  const int fd = mkstemp(path);
  if (fd < 0) return 1;
  long runs = 0, read = 0;
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds) {
    const Bytes b = Mutate(seeds[rng() % seeds.size()], rng);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, b.data(), b.size(), 0) != static_cast<ssize_t>(b.size())) return 1;
    ++runs;
    auto reader = zoo::AudioReader::Open(path);
    if (!reader.ok()) continue;
    const int64_t frames = reader.value().info().frames;
    if (frames > (int64_t{1} << 24)) continue;
    const int64_t from = static_cast<int64_t>(rng() % static_cast<uint64_t>(frames));
    for (const int64_t at : {int64_t{0}, from}) {
      std::vector<float> out(static_cast<size_t>(frames - at));
      if (!reader.value().Read(at, {out.data(), out.size()}).ok()) continue;
      ++read;
      for (const float v : out) {
        if (!std::isfinite(v)) return 2;
      }
    }
  }
  close(fd);
  unlink(path);
  std::printf("%ld files, %ld reads succeeded\n", runs, read);
  return 0;
}
