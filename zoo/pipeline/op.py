# SPDX-License-Identifier: Apache-2.0
"""What all ops of a pipeline share: their base and the ranges that several of them use."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

Rate: TypeAlias = Annotated[int, Meta(ge=1, le=768000)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=2147483647)]


class BaseOp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """Base of all ops; the tag in the field ``op`` tells them apart."""
