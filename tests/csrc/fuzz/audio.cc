// SPDX-License-Identifier: Apache-2.0
// WAV and FLAC files: samples that are finite, of WAV the same whatever the range, or a refusal. (A damaged FLAC file's frames may
// contradict each other about their place.)
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "zoo/audio_io.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int fd = memfd_create("audio", 0);  // a file without a disk
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  REQUIRE(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == static_cast<ssize_t>(size), "no memory file");
  auto reader = zoo::AudioReader::Open(path);
  if (!reader.ok()) {
    Refused(reader.status());
    return 0;
  }
  const zoo::AudioInfo& info = reader.value().info();
  REQUIRE(info.frames >= 1 && info.rate >= 1 && info.rate <= 768000 && info.channels >= 1 && info.channels <= 64, "%ld frames", static_cast<long>(info.frames));
  const int64_t count = std::min<int64_t>(info.frames, 1 << 14), middle = count / 2;
  std::vector<float> all(static_cast<size_t>(count)), part(static_cast<size_t>(count - middle));
  const zoo::Status read = reader.value().Read(0, {all.data(), all.size()});
  if (!read.ok()) {
    Refused(read);
  } else {
    for (const float v : all) REQUIRE(std::isfinite(v), "a sample is not finite");
  }
  if (reader.value().Read(middle, {part.data(), part.size()}).ok() && read.ok() && std::string_view(info.format) != "flac") {
    REQUIRE(std::equal(part.begin(), part.end(), all.begin() + middle), "a part differs from the whole");
  }
  std::vector<float> last(1);
  const zoo::Status end = reader.value().Read(info.frames - 1, {last.data(), 1});
  if (!end.ok()) Refused(end);
  return 0;
}
