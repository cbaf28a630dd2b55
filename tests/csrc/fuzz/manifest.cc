// SPDX-License-Identifier: Apache-2.0
// Manifests: read, or refused with a reason.
#include "bundle/manifest.h"

#include "fuzz.h"

namespace {

using zoo::Json;

// All places of a document.
void Collect(const Json& at, const Json::json_pointer& here, std::vector<Json::json_pointer>* out) {
  out->push_back(here);
  if (at.is_object()) {
    for (const auto& [name, value] : at.items()) Collect(value, here / name, out);
  } else if (at.is_array()) {
    for (size_t i = 0; i < at.size(); ++i) Collect(at[i], here / i, out);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto manifest = zoo::ParseManifest({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!manifest.ok()) {
    Refused(manifest.status());
    return 0;
  }
  const zoo::Manifest& m = manifest.value();
  const zoo::Status sealed = zoo::CheckDigest(m, "fuzz");
  if (!sealed.ok()) Refused(sealed);
  REQUIRE(!m.heads.empty() && !m.engine.inputs.empty() && m.max_batch >= 1 && m.threads >= 1, "a manifest that nothing can be done with");
  for (const double rate : {1.0, 16000.0, 768000.0}) {
    const auto window = m.WindowSeconds(rate);
    REQUIRE(!window || *window >= 0, "a window of %g s", *window);
  }
  (void)m.Flag("device");
  (void)zoo::Meets("2026.4.1", m.engine_version);
  return 0;
}

#ifdef ZOO_FUZZ
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

// Mostly changes a value, of a document that stays one; bytes at random hardly get past the JSON reader.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  Json json = Json::parse(data, data + size, nullptr, false);
  if (seed % 8 == 0 || json.is_discarded()) return LLVMFuzzerMutate(data, size, most);
  std::vector<Json::json_pointer> places;
  Collect(json, Json::json_pointer(), &places);
  Json& at = json[places[seed / 8 % places.size()]];
  const Json& other = json[places[seed / 64 % places.size()]];
  const unsigned how = seed / 7 % 8;
  if (at.is_string() && how < 5) {
    std::string text = at;
    text.resize(text.size() + 16);
    text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), text.size() - 16, text.size()));
    at = text;
  } else if (at.is_number_integer() && how < 5) {
    static constexpr int64_t kEdges[] = {-1, 0, 1, 2, INT32_MAX, int64_t{1} << 40, INT64_MAX};
    // one less, the same or one more, the largest number's next being the smallest
    at = how < 2 ? static_cast<int64_t>(at.get<uint64_t>() + seed % 3 - 1) : kEdges[seed / 11 % std::size(kEdges)];
  } else if (at.is_number() && how < 5) {
    static constexpr double kEdges[] = {0, -1, 1e-300, 1e308, 0.5};
    at = kEdges[seed / 11 % std::size(kEdges)];
  } else if (at.is_array() && !at.empty() && how < 3) {
    if (how == 0) at.erase(at.size() - 1);
    else at.push_back(at[seed / 11 % at.size()]);
  } else if (at.is_object() && !at.empty() && how < 3) {
    auto member = at.begin();
    std::advance(member, seed / 11 % at.size());
    at.erase(member);
  } else if (how < 7) {
    at = Json(other);
  } else {
    at = nullptr;
  }
  const std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > most) return LLVMFuzzerMutate(data, size, most);
  std::memcpy(data, text.data(), text.size());
  return text.size();
}
#endif
