// SPDX-License-Identifier: Apache-2.0
// Zips: as a bundle, entry by entry, and as arrays of NumPy.
#include "bundle/zip.h"

#include "bundle/bundle.h"
#include "bundle/npz.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  constexpr uint64_t kLimit = 1 << 20;
  const auto bundle = zoo::Bundle::OpenMemory(bytes);
  if (!bundle.ok()) Refused(bundle.status());
  for (const bool stored : {true, false}) {
    auto zip = zoo::ZipReader::Open(bytes, stored);
    if (!zip.ok()) {
      Refused(zip.status());
      continue;
    }
    for (const char* name : {"manifest.json", "a", "0/input.npy", "0/rate.npy", "0/outputs/probs.npy"}) {
      if (!zip.value().Has(name)) continue;
      const auto whole = zip.value().Extract(name, kLimit);
      REQUIRE(!whole.ok() || whole.value().size() == zip.value().Size(name), "%s", name);
      if (!stored) continue;
      const auto view = zip.value().View(name);
      if (!view.ok()) continue;
      REQUIRE(view.value().empty() || (view.value().data() >= bytes.data() && view.value().data() + view.value().size() <= bytes.data() + size), "%s lies outside", name);
      REQUIRE(!whole.ok() || whole.value() == view.value(), "%s has two contents", name);
    }
  }
  auto npz = zoo::Npz::Open(bytes);
  if (!npz.ok()) return 0;
  for (const char* name : {"0/input", "0/rate", "0/outputs/probs", "a"}) {
    const auto array = npz.value().Read(name);
    if (!array.ok()) Refused(array.status());
    else REQUIRE(array.value().count() == 0 || array.value().bytes.size() % static_cast<size_t>(array.value().count()) == 0, "%s: bytes of a part of a number", name);
  }
  return 0;
}
