// SPDX-License-Identifier: Apache-2.0
// Checks JSON against a JSON Schema: the keywords that zoo/manifest.schema.json uses.
#ifndef ZOO_BUNDLE_JSON_SCHEMA_H_
#define ZOO_BUNDLE_JSON_SCHEMA_H_

#include <nlohmann/json.hpp>
#include <string>

#include "zoo/status.h"

namespace zoo {

using Json = nlohmann::json;

// kInvalidBundle with the place and what is wrong there; kInternal where the schema itself says something unknown.
Status CheckSchema(const Json& schema, const Json& value);

}  // namespace zoo

#endif  // ZOO_BUNDLE_JSON_SCHEMA_H_
