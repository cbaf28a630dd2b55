// SPDX-License-Identifier: Apache-2.0
// An opened, verified bundle. Checks and their order are those of docs/bundle.md.
#ifndef ZOO_BUNDLE_BUNDLE_H_
#define ZOO_BUNDLE_BUNDLE_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "bundle/manifest.h"
#include "bundle/source.h"
#include "zoo/pipeline.h"

namespace zoo {

class Bundle {
 public:
  static Result<Bundle> Open(const std::string& path);
  // The bytes of a .zoo file; they must stay as they are as long as the bundle is used.
  static Result<Bundle> OpenMemory(std::string_view bytes);

  const std::string& where() const { return where_; }  // for messages
  const Manifest& manifest() const { return manifest_; }
  // Content of a listed file, whose hash was checked.
  std::string_view Read(const std::string& name) const { return contents_.at(name); }
  // The executor of its pipeline, with the files that the ops name.
  Result<Pipeline> MakePipeline(const std::string& isa) const;
  // The same for a branch, or a part of one.
  Result<Pipeline> MakePipeline(const Branch& branch, const std::string& isa) const;

 private:
  static Result<Bundle> Verify(std::unique_ptr<BundleSource> source, const std::string& where);

  std::string where_;
  std::unique_ptr<BundleSource> source_;
  Manifest manifest_;
  std::map<std::string, std::string_view> contents_;
};

}  // namespace zoo

#endif  // ZOO_BUNDLE_BUNDLE_H_
