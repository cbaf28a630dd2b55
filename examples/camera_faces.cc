// SPDX-License-Identifier: Apache-2.0
// A camera's faces to labels: raw RGB frames on standard input, one line of JSON for each judged frame on standard output.
//   ffmpeg -loglevel error -f v4l2 -i /dev/video0 -vf scale=640:480 -r 10 -f rawvideo -pix_fmt rgb24 - |
//     camera_faces BUNDLE 640 480 10 0.5 --face 200,120,240 --smoothing 2
// Arguments: bundle of a model that takes faces, width and height of the frames, frames a second, seconds between judged frames.
// --face X,Y,SIDE: the square, in pixels, where the face is; without it the largest square in the middle. libzoo finds no faces: put a
// detector before it, or let the person look into the frame. --smoothing SECONDS: of the labels. What it cost is said at the end.
// Build:  c++ -std=c++17 camera_faces.cc $(pkg-config --cflags --libs zoo) -o camera_faces
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#include <zoo/zoo.hpp>

namespace {

constexpr int kChannels = 3;  // rgb24

int Usage(const char* problem) {
  std::fprintf(stderr, "%s\nusage: camera_faces BUNDLE WIDTH HEIGHT FPS HOP [--face X,Y,SIDE] [--smoothing SECONDS] < RGB24\n", problem);
  return ZOO_USAGE_ERROR;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6 || argc % 2 != 0) return Usage("five arguments, and options with a value each");
  const int width = std::atoi(argv[2]), height = std::atoi(argv[3]);
  if (width < 1 || height < 1 || width > 16384 || height > 16384) return Usage("WIDTH and HEIGHT must be 1 to 16384");
  int side = std::min(width, height), left = (width - side) / 2, top = (height - side) / 2;
  double smoothing = 0;
  for (int i = 6; i < argc; i += 2) {
    if (std::strcmp(argv[i], "--smoothing") == 0) smoothing = std::atof(argv[i + 1]);
    else if (std::strcmp(argv[i], "--face") != 0) return Usage("unknown option");
    else if (std::sscanf(argv[i + 1], "%d,%d,%d", &left, &top, &side) != 3) return Usage("--face takes X,Y,SIDE");
  }
  if (left < 0 || top < 0 || side < 1 || left > width - side || top > height - side) return Usage("--face lies outside the frame");
  try {
    const zoo::Runtime model(argv[1]);
    zoo::Stream<uint8_t> stream(model, zoo::Picture{side, side, kChannels}, std::atof(argv[4]), std::atof(argv[5]), smoothing);
    const auto print = [&](const zoo::Prediction& face) {
      std::printf("{\"start\": %.4f, \"end\": %.4f, \"result\": %s}\n", face.start, face.end, stream.json().c_str());
      std::fflush(stdout);
    };
    const size_t row = static_cast<size_t>(width) * kChannels, cut = static_cast<size_t>(side) * kChannels;
    std::vector<uint8_t> frame(row * static_cast<size_t>(height)), face(cut * static_cast<size_t>(side));
    size_t read = 0;
    while ((read = std::fread(frame.data(), 1, frame.size(), stdin)) == frame.size()) {
      for (size_t y = 0; y < static_cast<size_t>(side); ++y) {
        std::memcpy(&face[y * cut], &frame[(y + static_cast<size_t>(top)) * row + static_cast<size_t>(left) * kChannels], cut);
      }
      stream.push(face.data(), 1, print);
    }
    stream.end(print);
    const zoo_load load = stream.load();
    std::fprintf(stderr, "%zu faces of %.1f s; latency %.1f ms (at most %.1f); %.1f %% of one core\n", load.windows, load.signal, load.latency_mean, load.latency_max,
                 load.cpu_share * 100);
    if (load.signal == 0 && read == 0) {
      std::fprintf(stderr, "input error: standard input ended before the first frame\n");
      return ZOO_INPUT_ERROR;
    }
    if (read > 0) {
      std::fprintf(stderr, "input error: the last frame has %zu of %zu bytes; are WIDTH, HEIGHT and rgb24 right?\n", read, frame.size());
      return ZOO_INPUT_ERROR;
    }
  } catch (const zoo::Error& error) {
    std::fprintf(stderr, "%s: %s\n", zoo_status_name(error.status()), error.what());
    return error.status();
  }
  return 0;
}
