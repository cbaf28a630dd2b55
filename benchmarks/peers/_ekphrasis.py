# SPDX-License-Identifier: Apache-2.0
"""Tweets to tokens and their numbers as a user would write it today: ekphrasis and a dictionary."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.bundle import Bundle
from zoo.errors import ZooError
from zoo.pipeline import SocialTokenize, Vocab

Tokenize = Callable[[str], list[str]]


def tokenizer(counts: bytes) -> Tokenize:
    """Tokens as ekphrasis makes them with the settings of Baziotis et al. (2018) and the counts of ``social_tokenize``."""
    lines = counts.decode().splitlines()
    before = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings():
        # It reads its counts from below the home folder when it is made.
        folder = Path(home) / ".ekphrasis" / "stats" / "twitter"
        folder.mkdir(parents=True)
        for n in (1, 2):
            chosen = [line for line in lines if line.count("\t") == n]
            (folder / f"counts_{n}grams.txt").write_text("\n".join(chosen) + "\n", "utf-8")
        warnings.simplefilter("ignore")
        os.environ["HOME"] = home
        try:
            from ekphrasis.classes.preprocessor import TextPreProcessor
            from ekphrasis.classes.tokenizer import SocialTokenizer
            from ekphrasis.dicts.emoticons import emoticons

            made = TextPreProcessor(
                normalize=["url", "email", "percent", "money", "phone", "user", "time", "date", "number"],
                annotate={"hashtag", "elongated", "allcaps", "repeated", "emphasis", "censored"},
                all_caps_tag="wrap",
                fix_text=True,
                segmenter="twitter",
                corrector="twitter",
                unpack_hashtags=True,
                unpack_contractions=True,
                spell_correct_elong=False,
                tokenizer=SocialTokenizer(lowercase=True).tokenize,
                dicts=[emoticons],
            )
        finally:
            if before is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = before
    process: Tokenize = made.pre_process_doc
    return process


def front_end(bundle: Bundle) -> Callable[[str], NDArray[np.int64]]:
    """Text to numbers of tokens with a batch dimension.

    Raises
    ------
    ZooError
        The pipeline is not ``social_tokenize`` with counts, then ``vocab``: a peer that leaves an op out would do less work.
    """
    ops = bundle.manifest.pipeline
    if [type(op) for op in ops] != [SocialTokenize, Vocab]:
        raise ZooError(f"{bundle.path}: the ekphrasis peers know social_tokenize and vocab only")
    first, second = ops
    assert isinstance(first, SocialTokenize)
    assert isinstance(second, Vocab)
    if first.counts is None:
        raise ZooError(f"{bundle.path}: the ekphrasis peers need a file of counts")
    tokenize = tokenizer(bundle.read(first.counts))
    words = bundle.read(second.file).decode().split("\n")[:-1]
    numbers = {word: number for number, word in enumerate(words, 1)}
    unknown, least, most = numbers[second.unknown], second.min_length, second.max_length

    def features(text: str) -> NDArray[np.int64]:
        ids = [numbers.get(token, unknown) for token in tokenize(text)[:most]]
        ids += [0] * (least - len(ids))
        return np.array([ids], np.int64)

    return features
