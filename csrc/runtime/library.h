// SPDX-License-Identifier: Apache-2.0
// A shared library that is loaded at run time and stays loaded: engines leave threads behind.
#ifndef ZOO_RUNTIME_LIBRARY_H_
#define ZOO_RUNTIME_LIBRARY_H_

#include <string>
#include <vector>

#include "zoo/status.h"

namespace zoo {

class Library {
 public:
  // name: "libx.so"; also tried are "libx.so.*". where: a file, a folder, or empty for ZOO_ENGINE_PATH (folders, separated by
  // colons) and then the system's search path, there with `also` too.
  static Result<Library> Load(const std::string& name, const std::string& where, const std::vector<std::string>& also);

  // Sets a pointer to a function; false where the library has none of that name.
  template <class F>
  bool Find(const char* symbol, F** function) const {
    *function = reinterpret_cast<F*>(Symbol(symbol));
    return *function != nullptr;
  }

 private:
  explicit Library(void* handle) : handle_(handle) {}
  void* Symbol(const char* name) const;
  void* handle_;
};

}  // namespace zoo

#endif  // ZOO_RUNTIME_LIBRARY_H_
