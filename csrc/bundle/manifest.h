// SPDX-License-Identifier: Apache-2.0
// manifest.json: what the runtime needs of it, read only after the whole has been checked.
#ifndef ZOO_BUNDLE_MANIFEST_H_
#define ZOO_BUNDLE_MANIFEST_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bundle/json_schema.h"
#include "zoo/decode.h"
#include "zoo/pipeline.h"

namespace zoo {

struct TensorSpec {
  std::string name, dtype;
  std::vector<int64_t> shape;            // -1: dynamic
  std::vector<std::string> dimensions;   // names of dynamic ones; empty for others
};

struct EngineSpec {
  std::string kind, file, precision;
  std::vector<std::string> extra_files;
  std::vector<TensorSpec> inputs, outputs;
};

// What one engine input is made of: pictures or sound.
struct Branch {
  bool pictures = false;
  std::vector<OpDesc> ops;
  std::vector<std::string> op_files;
};

struct FileSpec {
  std::string path, sha256;
  uint64_t size = 0;
};

struct Manifest {
  std::string text;  // manifest.json as it is
  Json json;
  std::string digest, name, modality, rebuild;  // rebuild: the command that makes the bundle anew
  std::optional<int32_t> rate;                  // Hz, of the input that the model was made for
  std::vector<std::string> channels;            // of EEG: the electrodes in the order of the columns
  std::vector<OpDesc> ops;
  std::vector<std::string> op_files;  // that ops name
  std::vector<Branch> branches;       // of the engine inputs after the first
  EngineSpec engine;
  bool recipe = false;  // the engine is yet to be built
  std::string unsupported;  // why this runtime cannot run it, although it is whole; empty where it can
  std::vector<Head> heads;
  std::optional<std::string> attention;  // engine output
  std::string engine_version, compute_capability, driver;  // of the key; the latter two empty where it does not say
  std::vector<std::pair<std::string, std::string>> flags;
  std::vector<FileSpec> files;
  std::string golden_file;
  int64_t golden_count = 0;
  double golden_tolerance = 0;
  int32_t threads = 1;
  std::map<std::string, std::pair<int64_t, int64_t>> profile;  // least and greatest size of dynamic dimensions
  int64_t max_batch = 1;     // of the profile
  int64_t tuned_batch = 0;   // 0: not tuned

  const std::string* Flag(std::string_view flag) const;
  // Of what a pipeline starts with, as Pipeline::Create takes it; empty: that the first op says.
  std::vector<int64_t> InputShape(bool pictures) const;
  // Whether its answers are curves, along an input of any length; then all of them are.
  bool curves() const { return heads[0].kind == DecodeKind::kCurve; }
  // Seconds of signal that one output covers: length of the first `fit`, or of the windows of `bandpower`, over its rate; nothing
  // without one.
  std::optional<double> WindowSeconds(double input_rate) const;
  // Of `bandpower`, in samples: length of its windows, and from one to the next; nothing without that op.
  std::optional<int64_t> WindowSamples() const { return IntegerOf("bandpower", "window_length"); }
  std::optional<int64_t> HopSamples() const { return IntegerOf("bandpower", "hop_length"); }

 private:
  // Of the first op of that name.
  std::optional<int64_t> IntegerOf(std::string_view op, std::string_view parameter) const;
};

constexpr uint64_t kMaxManifestBytes = 4u << 20;

// Everything that can be checked without the other files. All errors are kInvalidBundle but those of this library itself.
Result<Manifest> ParseManifest(std::string_view text, const std::string& where);

// Whether the manifest was not changed since it was written.
Status CheckDigest(const Manifest& manifest, const std::string& where);

// Whether a dotted version meets every clause (>=, ==, <) of a requirement.
bool Meets(std::string_view version, std::string_view requirement);

}  // namespace zoo

#endif  // ZOO_BUNDLE_MANIFEST_H_
