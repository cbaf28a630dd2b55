// SPDX-License-Identifier: Apache-2.0
#include "bundle/bundle.h"

#include <utility>

#include "bundle/sha256.h"

namespace zoo {

Result<Bundle> Bundle::Open(const std::string& path) {
  auto source = OpenSource(path);
  if (!source.ok()) return source.status();
  return Verify(std::move(source.value()), path);
}

Result<Bundle> Bundle::OpenMemory(std::string_view bytes) {
  const std::string where = "the bundle in memory";
  auto source = OpenSource(bytes, where);
  if (!source.ok()) return source.status();
  return Verify(std::move(source.value()), where);
}

Result<Bundle> Bundle::Verify(std::unique_ptr<BundleSource> source, const std::string& where) {
  Bundle b;
  b.where_ = where;
  b.source_ = std::move(source);
  const auto read = [&](const std::string& name, uint64_t limit) -> Result<std::string_view> {
    auto content = b.source_->Read(name, limit);
    if (!content.ok()) return Status(content.status().code(), where + ": " + content.status().message());
    return content;
  };
  const auto text = read("manifest.json", kMaxManifestBytes);
  if (!text.ok()) return text.status();
  auto manifest = ParseManifest(text.value(), where);
  if (!manifest.ok()) return manifest.status();
  b.manifest_ = std::move(manifest.value());
  for (const FileSpec& file : b.manifest_.files) {
    const auto content = read(file.path, file.size);
    if (!content.ok()) return content.status();
    if (content.value().size() != file.size) {
      return InvalidBundle(where + ": " + file.path + " has " + std::to_string(content.value().size()) + " bytes, manifest.json says " + std::to_string(file.size) +
                           "; copy or export it again");
    }
    if (Sha256Hex(content.value()) != file.sha256) {
      return InvalidBundle(where + ": " + file.path + " is damaged: its SHA-256 is not the one in manifest.json; copy or export it again");
    }
    b.contents_.emplace(file.path, content.value());
  }
  // Last, so that a manifest edited by hand is first told what is wrong with it.
  ZOO_RETURN_IF_ERROR(CheckDigest(b.manifest_, where));
  return b;
}

Result<Pipeline> Bundle::MakePipeline(const std::string& isa) const {
  Branch whole{manifest_.modality == "video", manifest_.ops, manifest_.op_files};
  return MakePipeline(whole, isa);
}

Result<Pipeline> Bundle::MakePipeline(const Branch& branch, const std::string& isa) const {
  PipelineFiles files;
  for (const std::string& name : branch.op_files) files.emplace(name, Read(name));
  auto pipeline = Pipeline::Create(branch.ops, isa, manifest_.InputShape(branch.pictures), &files);
  if (!pipeline.ok() && static_cast<int32_t>(pipeline.status().code()) / 100 == 1) return InvalidBundle(where_ + ": pipeline: " + pipeline.status().message());
  return pipeline;
}

}  // namespace zoo
