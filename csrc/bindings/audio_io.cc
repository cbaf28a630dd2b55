// SPDX-License-Identifier: Apache-2.0
#include "zoo/audio_io.h"

#include <nanobind/nanobind.h>

#include <optional>

#include "bindings/common.h"

namespace zoo::python {
namespace {

AudioReader OpenReader(const std::string& path) {
  std::optional<Result<AudioReader>> reader;
  {
    const nb::gil_scoped_release release;
    reader.emplace(AudioReader::Open(path));
  }
  return Take(std::move(*reader));
}

}  // namespace

void BindAudioIo(nb::module_& m) {
  m.def("audio_info", [](nb::handle path) {
    const AudioReader reader = OpenReader(PathOf(path));
    const AudioInfo& i = reader.info();
    nb::dict d;
    d["rate"] = i.rate;
    d["channels"] = i.channels;
    d["frames"] = i.frames;
    d["bits"] = i.bits;
    d["format"] = i.format;
    return d;
  }, nb::arg("path"), nb::sig("def audio_info(path: str | os.PathLike[str]) -> dict[str, object]"),
     "Rate (Hz), channels, frames, bits and format of a WAV or FLAC file.");

  m.def("read_audio", [](nb::handle path, int64_t start, int64_t frames) {
    AudioReader reader = OpenReader(PathOf(path));
    const AudioInfo info = reader.info();
    if (start < 0 || start > info.frames || frames < -1 || (frames >= 0 && frames > info.frames - start)) {
      Check(InvalidArgument("start is " + std::to_string(start) + " and frames " + std::to_string(frames) + "; the file holds " +
                            std::to_string(info.frames) + " frames"));
    }
    const int64_t count = frames < 0 ? info.frames - start : frames;
    ArrayOut out(&count, 1, DType::kF32);
    Status status;
    {
      const nb::gil_scoped_release release;
      status = reader.Read(start, {static_cast<float*>(out.data()), static_cast<size_t>(count)});
    }
    Check(status);
    return nb::make_tuple(out.object(), info.rate);
  }, nb::arg("path"), nb::arg("start") = 0, nb::arg("frames") = -1,
     nb::sig("def read_audio(path: str | os.PathLike[str], start: int = 0, frames: int = -1) -> "
             "tuple[numpy.typing.NDArray[numpy.float32], int]"),
     "Mono float32 samples of a WAV or FLAC file, and the rate in Hz.");
}

}  // namespace zoo::python
