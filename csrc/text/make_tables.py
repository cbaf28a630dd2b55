# SPDX-License-Identifier: Apache-2.0
"""Writes ``tables.cc``: properties of characters, HTML's named references, emoji and emoticons.

The character properties are those that Python's ``re`` and ``str`` go by (``sys.version_info`` decides the version of
Unicode; the file names it), the references are ``html.entities.html5``; emoji and emoticons are asked of ekphrasis,
whose licence is in ``csrc/third_party/ekphrasis``. Run it from anywhere: ``python csrc/text/make_tables.py``.
"""

from __future__ import annotations

import html.entities
import re
import sys
import unicodedata
from pathlib import Path

from ekphrasis.classes.exmanager import ExManager
from ekphrasis.dicts.emoticons import emoticons

WORD, DIGIT, SPACE, LOWER, UPPER, IGNORABLE, EMOJI, EMOJI_VARIANT = (1 << i for i in range(8))
FLAGS_SHIFT = 21  # a code point has 21 bits
EMOJI_PATTERN = re.compile(ExManager.expressions["EMOJI"])


def flags(point: int) -> int:
    char = chr(point)
    out = WORD if char.isalnum() or char == "_" else 0
    out |= DIGIT if char.isdecimal() else 0
    out |= SPACE if char.isspace() else 0
    out |= LOWER if char.islower() else 0
    out |= UPPER if char.isupper() or char.istitle() else 0
    # Whether str.lower() looks past a character for the letter that decides how a sigma is written.
    looked_past = ("a" + char + "\u03a3").lower()[-1] == "\u03c2" and ("1" + char + "\u03a3").lower()[
        -1
    ] == "\u03c3"
    out |= IGNORABLE if looked_past else 0
    if point < 0x10000 and EMOJI_PATTERN.fullmatch(char):
        match = EMOJI_PATTERN.match(char + "\ufe0f")
        out |= EMOJI_VARIANT if match is not None and match.end() == 2 else EMOJI
    return out


def boundaries() -> list[int]:
    """(flags << 21) | first code point, wherever the flags change."""
    out, last = [], -1
    for point in range(sys.maxunicode + 1):
        now = 0 if 0xD800 <= point < 0xE000 else flags(point)
        if now != last:
            out.append(now << FLAGS_SHIFT | point)
            last = now
    return out


def lower_runs() -> list[tuple[int, int, int, int]]:
    """(first, last, step, delta) of code points beyond ASCII whose lower case is one other code point."""
    runs: list[list[int]] = []
    for point in range(128, sys.maxunicode + 1):
        low = chr(point).lower()
        if len(low) != 1 or low == chr(point):
            continue
        delta = ord(low) - point
        if runs and runs[-1][3] == delta:
            run, step = runs[-1], point - runs[-1][1]
            if step in (1, 2) and (run[0] == run[1] or run[2] == step):
                run[1:3] = [point, step]
                continue
        runs.append([point, point, 1, delta])
    return [(a, b, step, delta) for a, b, step, delta in runs]


def literal(text: str) -> str:
    out = ""
    for byte in text.encode():
        char = chr(byte)
        out += (
            f"\\{byte:03o}"
            if byte < 32 or byte > 126
            else {'"': '\\"', "\\": "\\\\", "?": "\\?"}.get(char, char)
        )
    return f'"{out}"'


def wrapped(items: list[str], end: str = ",") -> str:
    lines, line = [], " "
    for item in items:
        if len(line) + len(item) + 2 > 120:
            lines.append(line)
            line = " "
        line += f" {item}{end}"
    return "\n".join([*lines, line])


def pairs(table: dict[str, str]) -> str:
    """A string literal for each pair, which the compiler makes one."""
    items = sorted(table.items(), key=lambda p: p[0].encode())
    return wrapped([literal(f"{k}\0{v}\0") for k, v in items], end="")


def main() -> None:
    lowered = {k: v for k, v in emoticons.items() if k == k.lower()}
    text = f"""// SPDX-License-Identifier: Apache-2.0
// Written by make_tables.py with Unicode {unicodedata.unidata_version}; do not edit. Emoji and emoticons are those of ekphrasis
// (third_party/ekphrasis/LICENSE).
#include "text/tables.h"

namespace zoo::text {{

const uint32_t kBoundaries[] = {{
{wrapped([f"0x{b:x}" for b in boundaries()])}
}};
const size_t kBoundaryCount = sizeof(kBoundaries) / sizeof(*kBoundaries);

const LowerRun kLowerRuns[] = {{
{wrapped([f"{{0x{a:x}, 0x{b:x}, {step}, {delta}}}" for a, b, step, delta in lower_runs()])}
}};
const size_t kLowerRunCount = sizeof(kLowerRuns) / sizeof(*kLowerRuns);

const char kEntities[] =
{pairs(html.entities.html5)};

const char kEmoticons[] =
{pairs(lowered)};

}}  // namespace zoo::text
"""
    Path(__file__).with_name("tables.cc").write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
