// SPDX-License-Identifier: Apache-2.0
#include "bundle/json_schema.h"

#include <algorithm>
#include <regex>
#include <string>

namespace zoo {
namespace {

// std::regex recurses once a character.
constexpr size_t kMaxPatternLength = 1024;

std::string Shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return text;
}

bool HasType(const Json& v, const std::string& type) {
  if (type == "object") return v.is_object();
  if (type == "array") return v.is_array();
  if (type == "string") return v.is_string();
  if (type == "integer") return v.is_number_integer();
  if (type == "number") return v.is_number();
  if (type == "boolean") return v.is_boolean();
  return type == "null" && v.is_null();
}

class Checker {
 public:
  explicit Checker(const Json& root) : root_(root) {}

  Status Check(const Json& schema, const Json& v, const std::string& at) const {
    if (schema.is_boolean()) return schema.get<bool>() ? Status::Ok() : Wrong(at, "is not allowed");
    if (const auto ref = schema.find("$ref"); ref != schema.end()) {
      return Check(root_.at(Json::json_pointer(ref->get<std::string>().substr(1))), v, at);
    }
    if (schema.contains("anyOf")) return AnyOf(schema, v, at);
    for (const auto& [key, rule] : schema.items()) ZOO_RETURN_IF_ERROR(Rule(key, rule, schema, v, at));
    return Status::Ok();
  }

 private:
  static Status Wrong(const std::string& at, const std::string& what) {
    return Status(StatusCode::kInvalidBundle, (at.empty() ? "it" : at) + " " + what);
  }

  Status AnyOf(const Json& schema, const Json& v, const std::string& at) const {
    if (const auto tagged = schema.find("discriminator"); tagged != schema.end()) {
      const std::string tag = (*tagged)["propertyName"];
      if (!v.is_object() || !v.contains(tag) || !v[tag].is_string()) return Wrong(at, "must be an object with a string '" + tag + "'");
      const auto& mapping = (*tagged)["mapping"];
      const auto found = mapping.find(v[tag].get<std::string>());
      if (found == mapping.end()) return Wrong(at + "." + tag, "is " + Shown(v[tag]) + ", which is none that this library knows");
      return Check(Json{{"$ref", *found}}, v, at);
    }
    Status last;
    for (const Json& one : schema["anyOf"]) {
      Status status = Check(one, v, at);
      if (status.ok() || status.code() == StatusCode::kInternal) return status;
      last = std::move(status);
    }
    return schema["anyOf"].size() == 2 && !v.is_null() ? last : Wrong(at, "is " + Shown(v) + ", which has none of the types that it may have");
  }

  Status Rule(const std::string& key, const Json& rule, const Json& schema, const Json& v, const std::string& at) const {
    if (key == "type") {
      const std::string type = rule;
      return HasType(v, type) ? Status::Ok() : Wrong(at, "is " + Shown(v) + "; it must be of type " + type);
    }
    if (key == "enum") {
      const bool found = std::any_of(rule.begin(), rule.end(), [&](const Json& one) { return one == v && one.is_number_float() == v.is_number_float(); });
      return found ? Status::Ok() : Wrong(at, "is " + Shown(v) + "; it must be one of " + Shown(rule));
    }
    if (key == "properties" || key == "required" || key == "additionalProperties") return v.is_object() ? Object(key, rule, schema, v, at) : Status::Ok();
    if (key == "items" || key == "prefixItems" || key == "minItems" || key == "maxItems") return v.is_array() ? Array(key, rule, schema, v, at) : Status::Ok();
    if (key == "pattern" || key == "minLength" || key == "maxLength") return v.is_string() ? String(key, rule, schema, v, at) : Status::Ok();
    if (key == "minimum" || key == "maximum" || key == "exclusiveMinimum" || key == "exclusiveMaximum") {
      const bool fits = !v.is_number() || (key == "minimum" ? v >= rule : key == "maximum" ? v <= rule : key == "exclusiveMinimum" ? v > rule : v < rule);
      return fits ? Status::Ok() : Wrong(at, "is " + Shown(v) + ", beyond the " + key + " of " + Shown(rule));
    }
    if (key == "title" || key == "description" || key == "default" || key == "$schema" || key == "$defs") return Status::Ok();
    return Status(StatusCode::kInternal, "the manifest's schema has a keyword '" + key + "' that this library does not know");
  }

  Status Object(const std::string& key, const Json& rule, const Json& schema, const Json& v, const std::string& at) const {
    const std::string dot = at.empty() ? "" : at + ".";
    if (key == "required") {
      for (const Json& name : rule) {
        if (!v.contains(name.get<std::string>())) return Wrong(dot + name.get<std::string>(), "is missing");
      }
      return Status::Ok();
    }
    if (key == "properties") {
      for (const auto& [name, sub] : rule.items()) {
        if (const auto found = v.find(name); found != v.end()) ZOO_RETURN_IF_ERROR(Check(sub, *found, dot + name));
      }
      return Status::Ok();
    }
    const auto known = schema.find("properties");
    for (const auto& [name, value] : v.items()) {
      if (known != schema.end() && known->contains(name)) continue;
      if (rule.is_boolean() && !rule.get<bool>()) return Wrong(dot + Shown(Json(name)), "is no field of it");
      ZOO_RETURN_IF_ERROR(Check(rule, value, dot + name));
    }
    return Status::Ok();
  }

  Status Array(const std::string& key, const Json& rule, const Json& schema, const Json& v, const std::string& at) const {
    if (key == "minItems" && v.size() < rule.get<size_t>()) return Wrong(at, "has " + std::to_string(v.size()) + " items, fewer than " + Shown(rule));
    if (key == "maxItems" && v.size() > rule.get<size_t>()) return Wrong(at, "has " + std::to_string(v.size()) + " items, more than " + Shown(rule));
    const auto place = [&](size_t i) { return at + "[" + std::to_string(i) + "]"; };
    if (key == "prefixItems") {
      for (size_t i = 0; i < std::min(rule.size(), v.size()); ++i) ZOO_RETURN_IF_ERROR(Check(rule[i], v[i], place(i)));
    }
    if (key == "items") {
      const auto prefix = schema.find("prefixItems");
      for (size_t i = prefix == schema.end() ? 0 : prefix->size(); i < v.size(); ++i) ZOO_RETURN_IF_ERROR(Check(rule, v[i], place(i)));
    }
    return Status::Ok();
  }

  Status String(const std::string& key, const Json& rule, const Json& schema, const Json& v, const std::string& at) const {
    const std::string& s = v.get_ref<const std::string&>();
    if (key == "minLength" && s.size() < rule.get<size_t>()) return Wrong(at, "is shorter than " + Shown(rule));
    if (key == "maxLength" && s.size() > rule.get<size_t>()) return Wrong(at, "is longer than " + Shown(rule));
    if (key != "pattern") return Status::Ok();
    const size_t limit = schema.contains("maxLength") ? schema["maxLength"].get<size_t>() : kMaxPatternLength;
    const std::string& pattern = rule.get_ref<const std::string&>();
    if (s.size() > std::min(limit, kMaxPatternLength) || !std::regex_search(s, std::regex(pattern))) return Wrong(at, "is " + Shown(v) + "; it must match " + pattern);
    return Status::Ok();
  }

  const Json& root_;
};

}  // namespace

Status CheckSchema(const Json& schema, const Json& value) { return Checker(schema).Check(schema, value, ""); }

}  // namespace zoo
