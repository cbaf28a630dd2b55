// SPDX-License-Identifier: Apache-2.0
// zoo.h for C++17: handles that close themselves, views, exceptions. Header only.
//
//   zoo::Runtime model("tim-net.zoo");
//   zoo::Session session(model);
//   const zoo::Prediction p = session.run(zoo::samples(wave.data(), wave.size(), 16000));
//   std::cout << p.label(model);
#ifndef ZOO_ZOO_HPP_
#define ZOO_ZOO_HPP_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "zoo/zoo.h"

namespace zoo {

class Error : public std::runtime_error {
 public:
  Error(zoo_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  zoo_status status() const noexcept { return status_; }

 private:
  zoo_status status_;
};

inline void check(zoo_status status) {
  if (status != ZOO_OK) throw Error(status, zoo_last_error());
}

namespace detail {
// Text of a function that writes into a buffer.
template <class F>
std::string text(F write) {
  size_t size = 0;
  const zoo_status status = write(nullptr, 0, &size);
  if (status != ZOO_BUFFER_TOO_SMALL) check(status);
  std::string out(size, '\0');
  check(write(&out[0], size, &size));
  out.resize(size - 1);
  return out;
}
}  // namespace detail

inline zoo_options default_options() {
  zoo_options options;
  zoo_options_init(&options);
  return options;
}

// Engines that the library knows, as JSON.
inline std::string engines() {
  return detail::text([](char* buffer, size_t capacity, size_t* size) { return zoo_engines(nullptr, buffer, capacity, size); });
}

// An opened bundle. Any number of threads may use it.
class Runtime {
 public:
  explicit Runtime(const std::string& path, const zoo_options& options = default_options()) {
    zoo_model* model = nullptr;
    check(zoo_open(path.c_str(), &options, &model));
    model_.reset(model);
  }
  // The bytes of a .zoo file, which must stay as they are.
  Runtime(const void* bytes, size_t size, const zoo_options& options = default_options()) {
    zoo_model* model = nullptr;
    check(zoo_open_memory(bytes, size, &options, &model));
    model_.reset(model);
  }
  const zoo_model* get() const noexcept { return model_.get(); }
  std::string describe() const {
    return detail::text([&](char* buffer, size_t capacity, size_t* size) { return zoo_describe(get(), buffer, capacity, size); });
  }
  size_t heads() const noexcept { return zoo_head_count(get()); }
  std::vector<std::string_view> labels(size_t head = 0) const {
    std::vector<std::string_view> out;
    while (const char* label = zoo_label(get(), head, out.size())) out.emplace_back(label);
    return out;
  }
  // Of models that take EEG: the electrodes in the order of the columns.
  std::vector<std::string_view> channels() const {
    std::vector<std::string_view> out;
    while (const char* name = zoo_channel(get(), out.size())) out.emplace_back(name);
    return out;
  }

 private:
  struct Close {
    void operator()(zoo_model* m) const noexcept { zoo_close(m); }
  };
  std::unique_ptr<zoo_model, Close> model_;
};

namespace detail {
inline zoo_input array(int32_t dtype, const void* data, size_t frames, double rate, int32_t channels) {
  zoo_input in{};
  in.kind = ZOO_ARRAY, in.dtype = dtype, in.data = data, in.rate = rate;
  in.rank = 2, in.shape[0] = static_cast<int64_t>(frames), in.shape[1] = channels;
  return in;
}
}  // namespace detail

// Inputs are views of the caller's memory. frames: samples of each channel.
inline zoo_input samples(const float* data, size_t frames, double rate, int32_t channels = 1) { return detail::array(ZOO_F32, data, frames, rate, channels); }
inline zoo_input samples(const int16_t* data, size_t frames, double rate, int32_t channels = 1) { return detail::array(ZOO_I16, data, frames, rate, channels); }
inline zoo_input text(std::string_view utf8) {
  zoo_input in{};
  in.kind = ZOO_TEXT, in.data = utf8.data(), in.shape[0] = static_cast<int64_t>(utf8.size());
  return in;
}
inline zoo_input file(const char* path) {
  zoo_input in{};
  in.kind = ZOO_FILE, in.data = path;
  return in;
}

// frames: RGB, at the model's rate.
inline zoo_input frames(const uint8_t* data, size_t count, int32_t height, int32_t width, double rate) {
  zoo_input in{};
  in.kind = ZOO_ARRAY, in.dtype = ZOO_U8, in.data = data, in.rate = rate;
  in.rank = 4, in.shape[0] = static_cast<int64_t>(count), in.shape[1] = height, in.shape[2] = width, in.shape[3] = 3;
  return in;
}
// parts must live as long as what is given.
inline zoo_input film(const zoo_film& parts) {
  zoo_input in{};
  in.kind = ZOO_FILM, in.data = &parts;
  return in;
}

// One result; buffers are its own. See zoo_result.
struct Prediction {
  std::vector<float> values;
  std::vector<uint8_t> given;
  std::vector<int32_t> best;
  std::vector<float> attention;
  double start = 0, end = 0;
  zoo_timing timing{};

  // The best label of a softmax; empty for other heads.
  std::string_view label(const Runtime& model, size_t head = 0) const {
    const char* text = head < best.size() && best[head] >= 0 ? zoo_label(model.get(), head, static_cast<size_t>(best[head])) : nullptr;
    return text == nullptr ? std::string_view() : text;
  }
};

// One thread's scratch memory and results. It keeps the model alive.
class Session {
 public:
  explicit Session(const Runtime& model) {
    zoo_session* session = nullptr;
    check(zoo_session_open(model.get(), &session));
    session_.reset(session);
  }
  const zoo_session* get() const noexcept { return session_.get(); }
  Prediction run(const zoo_input& input) {
    check(zoo_run(session_.get(), &input, 1, nullptr));
    return read(get(), 0);
  }
  std::vector<Prediction> run(const std::vector<zoo_input>& inputs) {
    check(zoo_run(session_.get(), inputs.data(), inputs.size(), nullptr));
    std::vector<Prediction> out;
    for (size_t i = 0; i < inputs.size(); ++i) out.push_back(read(get(), i));
    return out;
  }
  // Largest difference from the reference over the bundle's golden inputs; throws where it is more than allowed.
  double selftest() {
    double worst = 0;
    check(zoo_selftest(session_.get(), &worst, nullptr));
    return worst;
  }
  // Result of the last run as JSON.
  std::string json(size_t item = 0) const { return json(get(), item); }

 private:
  template <class T>
  friend class Stream;
  static Prediction read(const zoo_session* session, size_t item) {
    zoo_result r{};
    check(zoo_result_read(session, item, &r));
    Prediction p;
    p.values.resize(r.values_count), p.given.resize(r.values_count), p.best.resize(r.best_count), p.attention.resize(r.attention_count);
    r.values = p.values.data(), r.values_capacity = p.values.size();
    r.given = p.given.data(), r.given_capacity = p.given.size();
    r.best = p.best.data(), r.best_capacity = p.best.size();
    r.attention = p.attention.data(), r.attention_capacity = p.attention.size();
    check(zoo_result_read(session, item, &r));
    p.start = r.start, p.end = r.end, p.timing = r.timing;
    return p;
  }
  static std::string json(const zoo_session* session, size_t item) {
    return detail::text([&](char* buffer, size_t capacity, size_t* size) { return zoo_result_json(session, item, buffer, capacity, size); });
  }
  struct Close {
    void operator()(zoo_session* s) const noexcept { zoo_session_close(s); }
  };
  std::unique_ptr<zoo_session, Close> session_;
};

// Size of the pictures of a stream. channels: 1 (grey) or 3 (RGB).
struct Picture {
  int32_t height, width, channels;
};

// Overlapping windows of a live signal of T: float, double, int16_t or int32_t; or pictures of uint8_t.
template <class T>
class Stream {
 public:
  // rate: Hz; hop, smoothing: seconds, see zoo_stream_options.
  Stream(const Runtime& model, double rate, int32_t channels, double hop, double smoothing = 0) : Stream(model, Picture{0, 0, channels}, rate, hop, smoothing) {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, int16_t> || std::is_same_v<T, int32_t>);
  }
  // rate: pictures a second.
  Stream(const Runtime& model, Picture picture, double rate, double hop, double smoothing = 0) : unit_(static_cast<size_t>(picture.channels)) {
    zoo_stream_options options;
    zoo_stream_options_init(&options);
    options.dtype = std::is_same_v<T, uint8_t> ? ZOO_U8 : std::is_same_v<T, float> ? ZOO_F32 : std::is_same_v<T, double> ? ZOO_F64 : std::is_same_v<T, int16_t> ? ZOO_I16 : ZOO_I32;
    options.channels = picture.channels, options.height = picture.height, options.width = picture.width;
    options.rate = rate, options.hop = hop, options.smoothing = smoothing;
    zoo_stream* stream = nullptr;
    check(zoo_stream_open(model.get(), &options, &stream));
    stream_.reset(stream);
    if (picture.height > 0) unit_ *= static_cast<size_t>(picture.height) * static_cast<size_t>(picture.width);
  }
  // Takes frames samples of each channel, or pictures; result(const Prediction&) is called for each window that they complete.
  template <class F>
  void push(const T* data, size_t frames, F result) {
    while (frames > 0) {
      size_t taken = 0;
      check(zoo_stream_push(stream_.get(), data, frames, &taken));
      data += taken * unit_, frames -= taken;
      while (pop(result)) {
      }
    }
  }
  // Ends the signal.
  template <class F>
  void end(F result) {
    check(zoo_stream_end(stream_.get()));
    while (pop(result)) {
    }
  }
  // What the stream has cost so far.
  zoo_load load() const {
    zoo_load load{};
    check(zoo_stream_load(stream_.get(), &load));
    return load;
  }
  // Result of the last window as JSON.
  std::string json() const { return Session::json(zoo_stream_session(stream_.get()), 0); }

 private:
  template <class F>
  bool pop(F& result) {
    const zoo_status status = zoo_stream_pop(stream_.get(), nullptr);
    if (status == ZOO_NO_RESULT) return false;
    check(status);
    result(Session::read(zoo_stream_session(stream_.get()), 0));
    return true;
  }
  struct Close {
    void operator()(zoo_stream* s) const noexcept { zoo_stream_close(s); }
  };
  std::unique_ptr<zoo_stream, Close> stream_;
  size_t unit_;  // values of one sample or picture
};

}  // namespace zoo

#endif  // ZOO_ZOO_HPP_
