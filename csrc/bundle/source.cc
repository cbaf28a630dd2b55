// SPDX-License-Identifier: Apache-2.0
#include "bundle/source.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

#include "bundle/zip.h"

namespace zoo {
namespace {

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(File&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  File& operator=(File&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

Status Unreadable(const std::string& name, int error) {
  if (error == ENOENT) return InvalidBundle(name + " is missing; this is not a whole bundle");
  if (error == ELOOP) return InvalidBundle(name + " is a symbolic link, which a bundle must not hold");
  return InvalidBundle(name + " cannot be read: " + std::strerror(error));
}

class DirectorySource final : public BundleSource {
 public:
  explicit DirectorySource(File folder) : folder_(std::move(folder)) {}

  Result<std::string_view> Read(const std::string& name, uint64_t limit) override {
    File at(-1);
    int folder = folder_.get();
    for (size_t begin = 0;;) {
      const size_t end = std::min(name.find('/', begin), name.size());
      const bool last = end == name.size();
      // not blocking: a pipe in place of a file must not hang
      const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (last ? O_NONBLOCK : O_DIRECTORY);
      File next(openat(folder, name.substr(begin, end - begin).c_str(), flags));
      // an intermediate link gives ENOTDIR with O_DIRECTORY
      if (!next) return Unreadable(name, !last && errno == ENOTDIR ? ELOOP : errno);
      at = std::move(next);
      folder = at.get();
      if (last) break;
      begin = end + 1;
    }
    struct stat status;
    if (fstat(at.get(), &status) != 0) return Unreadable(name, errno);
    if (!S_ISREG(status.st_mode)) return InvalidBundle(name + " is not a regular file");
    uint64_t size = static_cast<uint64_t>(status.st_size);
    if (size > limit) return InvalidBundle(name + " has " + std::to_string(size) + " bytes, at most " + std::to_string(limit) + " were expected; copy or export it again");
    std::string& content = contents_[name];
    content.resize(size);
    for (uint64_t done = 0; done < size;) {
      const ssize_t got = read(at.get(), &content[done], size - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Unreadable(name, errno);
      if (got == 0) content.resize(size = done);
      done += static_cast<uint64_t>(got);
    }
    return std::string_view(content);
  }

 private:
  File folder_;
  std::map<std::string, std::string> contents_;
};

class ZipSource final : public BundleSource {
 public:
  ZipSource(ZipReader reader, void* mapped, size_t size) : reader_(std::move(reader)), mapped_(mapped), size_(size) {}
  ~ZipSource() override {
    if (mapped_ != nullptr) munmap(mapped_, size_);
  }
  Result<std::string_view> Read(const std::string& name, uint64_t limit) override {
    if (reader_.Size(name) > limit) return InvalidBundle(name + " has " + std::to_string(reader_.Size(name)) + " bytes, at most " + std::to_string(limit) + " were expected; copy or export it again");
    return reader_.View(name);
  }

 private:
  ZipReader reader_;
  void* mapped_;
  size_t size_;
};

Result<std::unique_ptr<BundleSource>> OpenZip(std::string_view bytes, void* mapped, const std::string& where) {
  auto reader = ZipReader::Open(bytes, true);
  if (!reader.ok()) {
    if (mapped != nullptr) munmap(mapped, bytes.size());
    return Status(reader.status().code(), where + ": not a readable .zoo file: " + reader.status().message());
  }
  return std::unique_ptr<BundleSource>(new ZipSource(std::move(reader.value()), mapped, bytes.size()));
}

}  // namespace

Result<std::unique_ptr<BundleSource>> OpenSource(const std::string& path) {
  File file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status;
  if (!file || fstat(file.get(), &status) != 0) return InvalidBundle(path + ": no such bundle: " + std::strerror(errno));
  if (S_ISDIR(status.st_mode)) return std::unique_ptr<BundleSource>(new DirectorySource(std::move(file)));
  if (!S_ISREG(status.st_mode)) return InvalidBundle(path + ": no such bundle: it is neither a directory nor a file");
  const size_t size = static_cast<size_t>(status.st_size);
  if (size == 0) return InvalidBundle(path + ": not a readable .zoo file: it is empty");
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (mapped == MAP_FAILED) return InvalidBundle(path + ": cannot be mapped into memory: " + std::strerror(errno));
  return OpenZip({static_cast<const char*>(mapped), size}, mapped, path);
}

Result<std::unique_ptr<BundleSource>> OpenSource(std::string_view bytes, const std::string& where) { return OpenZip(bytes, nullptr, where); }

}  // namespace zoo
