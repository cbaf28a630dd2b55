// SPDX-License-Identifier: Apache-2.0
// zoo/manifest.schema.json, which CMake puts into the library.
#ifndef ZOO_BUNDLE_SCHEMA_H_
#define ZOO_BUNDLE_SCHEMA_H_

namespace zoo {

extern const char* const kManifestSchema;

}  // namespace zoo

#endif  // ZOO_BUNDLE_SCHEMA_H_
