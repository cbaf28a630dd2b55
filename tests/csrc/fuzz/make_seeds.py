# SPDX-License-Identifier: Apache-2.0
"""Writes the fuzz targets' seeds beside this file, from the package's own code and synthetic sounds.

Seeds that the fuzzers found (named crash-*) stay as they are.  Usage: python make_seeds.py
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[3]
OUT = Path(__file__).parent / "corpus"
MANIFEST = ROOT / "zoo/models/tim_net/bundles/tim-net-emodb/manifest.json"


def write(target: str, name: str, content: bytes) -> None:
    """One seed."""
    (OUT / target).mkdir(parents=True, exist_ok=True)
    (OUT / target / name).write_bytes(content)


def manifests() -> None:
    """The shipped manifest without its measurements, and variants with other answers and ways in."""
    base = json.loads(MANIFEST.read_text()) | {"quality": [], "parity": None, "labels": ["a", "b"]}
    base["parity"] = {"inputs": 1, "input_source": "x", "max_error": 0, "tolerance": 1, "verified_on": "y"}
    output = base["engines"][0]["outputs"][1]["name"]
    curve = {
        "type": "curve",
        "output": output,
        "period": 0.5,
        "window": 1.0,
        "smooth": {"mean": 3, "cutoff": 0.1},
    }
    heads = [
        {
            "name": "a",
            "labels": ["x", "y"],
            "decode": {"type": "sigmoid", "output": output, "thresholds": [0.5, 0.5]},
        },
        {
            "name": "b",
            "labels": ["v"],
            "decode": {"type": "regression", "output": output, "range": [-1.0, 1.0]},
        },
    ]
    tokens = [{"op": "social_tokenize"}, {"op": "vocab", "file": "golden.npz"}]
    variants = {
        "speech": {},
        "curve": {"decode": curve, "labels": []},
        "heads": {"decode": {"type": "heads", "heads": heads}},
        "text": {
            "pipeline": tokens,
            "input": base["input"] | {"modality": "text", "rate": None, "channels": None},
        },
        "tuned": {"branches": [{"source": "sound", "pipeline": base["pipeline"]}], "threads": 2},
    }
    for name, changes in variants.items():
        write("manifest", name, json.dumps(base | changes, indent=1).encode())


def zips() -> None:
    """Stored and compressed entries, arrays, a comment, none at all."""
    import zipfile

    for name, compression in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as archive:
            for entry, content in (("manifest.json", b"{}"), ("a", b"aaaaaaaaaaaaaaaa"), ("0/empty", b"")):
                archive.writestr(zipfile.ZipInfo(entry), content, compression)
            archive.comment = b"c" if name == "deflated" else b""
        write("zip", name, out.getvalue())
    for name, save in (("arrays", np.savez), ("arrays-deflated", np.savez_compressed)):
        out = io.BytesIO()
        save(
            out,
            **{
                "0/input": np.arange(6, dtype=np.int16).reshape(2, 3),
                "0/rate": np.float64(16000),
                "a": np.zeros(0),
            },
        )
        write("zip", name, out.getvalue())
    write("zip", "none", b"PK\x05\x06" + bytes(18))


def sounds() -> None:
    """A short tone in every kind that the reader takes."""
    tone = (0.5 * np.sin(np.arange(120) * 0.2)).astype(np.float32)
    kinds = [("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")]
    for container, kind in (
        *kinds,
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("W64", "PCM_16"),
        ("RF64", "PCM_16"),
    ):
        out = io.BytesIO()
        soundfile.write(
            out, np.stack([tone, -tone], axis=1) if kind == "PCM_16" else tone, 16000, kind, format=container
        )
        write("audio", f"{container}-{kind}".lower(), out.getvalue())


def texts() -> None:
    """Count file, vocabulary and texts, a zero byte between them."""
    counts, words = b"i\t10\nlove\t5\nit\t7\ni\tlove\t3\n", b"<unk>\ni\nlove\n<hashtag>\n"
    lines = (
        b"I loooove it!!! :) #ilove #LoveIt @you http://x.de/y?z=1 it's 10:30 on 12/31/2020, 5% or $3.50",
        "\U0001f600 Ünïcode \u2764\ufe0f ¡olé! <3 :-( *wow* s***t e-mail@x.org +49 30 123 HELLO".encode(),
        b"\xff\xc3\xed\xa0\x80 broken",
    )
    write("tokenizer", "plain", b"\0" + words + b"\0" + b"\0".join(lines))
    write("tokenizer", "counts", counts + b"\0" + words + b"\0" + lines[0])


def decisions() -> None:
    """The other targets turn bytes into calls: any will do to start from."""
    rng = random.Random(8)
    for target, count, size in (("pipeline", 24, 60), ("run", 12, 120)):
        for i in range(count):
            write(target, f"random-{i}", rng.randbytes(size))


if __name__ == "__main__":
    manifests(), zips(), sounds(), texts(), decisions()
