// SPDX-License-Identifier: Apache-2.0
#include "runtime/library.h"

#include <dlfcn.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>

namespace zoo {
namespace {

// Files in a folder that may be the library, the plain name first.
std::vector<std::string> Candidates(const std::string& folder, const std::string& name) {
  std::string pattern;
  for (const char c : folder) {  // a folder's name is no pattern
    if (c == '*' || c == '?' || c == '[' || c == '\\') pattern.push_back('\\');
    pattern.push_back(c);
  }
  glob_t found{};
  std::vector<std::string> files;
  if (glob((pattern + "/" + name + "*").c_str(), 0, nullptr, &found) == 0) files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return files;
}

}  // namespace

Result<Library> Library::Load(const std::string& name, const std::string& where, const std::vector<std::string>& also) {
  std::vector<std::string> files;
  struct stat status;
  const char* set = std::getenv("ZOO_ENGINE_PATH");
  std::string folders = !where.empty() ? where : set != nullptr ? set : "";
  if (!where.empty() && stat(where.c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
    files.push_back(where);
    folders.clear();
  }
  for (size_t at = 0; at < folders.size();) {
    const size_t end = !where.empty() ? folders.size() : std::min(folders.find(':', at), folders.size());
    for (std::string& file : Candidates(folders.substr(at, end - at), name)) files.push_back(std::move(file));
    at = end + 1;
  }
  const size_t there = files.size();
  if (where.empty()) {
    files.push_back(name);
    files.insert(files.end(), also.begin(), also.end());
  }
  std::string problem = name + ": not found in " + where;
  for (size_t i = 0; i < files.size(); ++i) {
    if (void* handle = dlopen(files[i].c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) return Library(handle);
    const char* error = dlerror();
    if (there > 0 && i > 0) continue;  // why the file that is there does not load, not that the system has no other
    if (error != nullptr) problem = error;
    // of another processor's library the loader says that there is no such file
    if (there > 0) problem = files[i] + " is there, but does not load: is it whole, and for this processor? " + problem;
  }
  return ProviderUnavailable(problem);
}

void* Library::Symbol(const char* name) const { return dlsym(handle_, name); }

}  // namespace zoo
