// SPDX-License-Identifier: Apache-2.0
// Sound and pictures of a film as a caller hands them in.
#ifndef ZOO_RUNTIME_TRACKS_H_
#define ZOO_RUNTIME_TRACKS_H_

#include <memory>

#include "runtime/model.h"

namespace zoo {

// The track that a branch looks at. Branch, input and what that points to must outlive it.
Result<std::unique_ptr<FilmTrack>> OpenTrack(const FilmBranch& branch, const RawInput& input, const Kernels* kernels);

}  // namespace zoo

#endif  // ZOO_RUNTIME_TRACKS_H_
