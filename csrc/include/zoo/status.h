// SPDX-License-Identifier: Apache-2.0
// Status and Result: how every function of the library reports failure. Nothing throws across this API.
#ifndef ZOO_STATUS_H_
#define ZOO_STATUS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace zoo {

// Fixed numbers, grouped by hundreds; the Python binding maps groups to the error tree in one table.
enum class StatusCode : int32_t {
  kOk = 0,
  // 1xx: what the caller gave us (InputError)
  kInvalidArgument = 100,  // an option or parameter outside its range
  kInvalidSignal = 101,    // samples that cannot be processed: none, NaN, Inf, overflow
  kInvalidFile = 102,      // a file that is missing, damaged or of another kind
  kInvalidPipeline = 103,  // a pipeline description that does not hold together
  // 2xx: this machine (ProviderUnavailable)
  kUnsupportedIsa = 200,       // the CPU or the build lacks the instruction set that was asked for
  kProviderUnavailable = 201,  // an engine or device that is not built in, not installed or not there
  // 3xx: the bundle (BundleError)
  kInvalidBundle = 300,  // damaged, unsafe, of another schema, or built for something else
  kUnsupportedBundle = 301,  // whole, but of a kind that this runtime does not run
  // 4xx: a check that did not pass (CheckFailed)
  kCheckFailed = 400,
  // 9xx: us (ZooError)
  kOutOfMemory = 900,
  kInternal = 901,
};

const char* StatusCodeName(StatusCode code) noexcept;

class [[nodiscard]] Status {
 public:
  Status() noexcept = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}
  static Status Ok() noexcept { return Status(); }

  bool ok() const noexcept { return code_ == StatusCode::kOk; }
  StatusCode code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status InvalidArgument(std::string m) { return Status(StatusCode::kInvalidArgument, std::move(m)); }
inline Status InvalidSignal(std::string m) { return Status(StatusCode::kInvalidSignal, std::move(m)); }
inline Status InvalidFile(std::string m) { return Status(StatusCode::kInvalidFile, std::move(m)); }
inline Status InvalidPipeline(std::string m) { return Status(StatusCode::kInvalidPipeline, std::move(m)); }
inline Status InvalidBundle(std::string m) { return Status(StatusCode::kInvalidBundle, std::move(m)); }
inline Status UnsupportedBundle(std::string m) { return Status(StatusCode::kUnsupportedBundle, std::move(m)); }
inline Status ProviderUnavailable(std::string m) { return Status(StatusCode::kProviderUnavailable, std::move(m)); }
inline Status OutOfMemory() { return Status(StatusCode::kOutOfMemory, "out of memory"); }

template <class T>
class [[nodiscard]] Result {
 public:
  Result(Status status) : status_(std::move(status)) {}                              // NOLINT: implicit
  Result(T value) : value_(std::make_unique<T>(std::move(value))) {}                 // NOLINT: implicit
  bool ok() const noexcept { return status_.ok(); }
  const Status& status() const noexcept { return status_; }
  T& value() noexcept { return *value_; }
  const T& value() const noexcept { return *value_; }

 private:
  Status status_;
  std::unique_ptr<T> value_;
};

#define ZOO_RETURN_IF_ERROR(expr)           \
  do {                                      \
    ::zoo::Status zoo_status_ = (expr);     \
    if (!zoo_status_.ok()) return zoo_status_; \
  } while (0)

}  // namespace zoo

#endif  // ZOO_STATUS_H_
