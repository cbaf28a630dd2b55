// SPDX-License-Identifier: Apache-2.0
// What a pipeline is made of; shared by the executor and its streams.
#ifndef ZOO_PIPELINE_IMPL_H_
#define ZOO_PIPELINE_IMPL_H_

#include <memory>
#include <string>
#include <vector>

#include "pipeline/op.h"

namespace zoo {

// Ports whose number of values depends on the content of the input.
inline bool IsCounted(PortKind kind) { return kind == PortKind::kText || kind == PortKind::kTokens || kind == PortKind::kIds; }

struct Pipeline::Impl {
  std::string isa;
  std::vector<std::unique_ptr<Op>> ops;
  std::vector<std::string> names;
  std::vector<PortType> ports;
  size_t ranged = 0;  // leading ops that can work on a part of the input

  // What every input must have: rows, a rate where there is one, the port's shape.
  Status CheckInput(const Extent& in) const noexcept;
  // Extents of all ports and, for the leading ranged ops, the rows needed of them. rows: of the output; null: all.
  Status Plan(const Extent& in, const Range* rows, Extent* extents, Range* ranges) const noexcept;
};

}  // namespace zoo

#endif  // ZOO_PIPELINE_IMPL_H_
