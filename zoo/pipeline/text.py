# SPDX-License-Identifier: Apache-2.0
"""Ops on text: parameter names, defaults and ranges of the C++ table. A file is named by its path in the bundle."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from zoo.pipeline.op import BaseOp, Count


class SocialTokenize(BaseOp, frozen=True, kw_only=True, tag="social_tokenize"):
    """Tokens of a tweet; see :func:`zoo.ops.social_tokenize`."""

    counts: str | None = None


class Vocab(BaseOp, frozen=True, kw_only=True, tag="vocab"):
    """Numbers of tokens, int64 [tokens]; see :func:`zoo.ops.vocab`."""

    file: str
    unknown: str = "<unk>"
    min_length: Annotated[int, Meta(ge=0, le=2147483647)] = 1
    max_length: Count | None = None


TextOp: TypeAlias = SocialTokenize | Vocab
