# SPDX-License-Identifier: Apache-2.0
"""The social tokenizer beside ekphrasis, on tweets, both with the same counts.

ekphrasis remembers hashtags that it has divided; its time here is that with 2,000 tweets in turn, hence with all of them
remembered after the first round.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from run import ORACLES, Row, load

from zoo.data.words import count_words
from zoo.pipeline import Pipeline, SocialTokenize

INPUTS = 2000


def rows() -> Iterator[Row]:
    """Tweets, and one tweet that is 300 of them."""
    test = load(ORACLES / "test_text.py")
    folder = Path(os.environ.get("ZOO_DATA", ""))
    if (folder / "semeval2018").is_dir():
        texts = test.tweets(folder)
        chosen, counts = random.Random(0).sample(texts, INPUTS), count_words(texts)
    else:
        rng = random.Random(0)
        chosen = [" ".join(rng.choice(test.PARTS) for _ in range(18)) for _ in range(INPUTS)]
        counts = count_words(chosen, min_count=1, min_pair_count=1)
    pipeline = Pipeline([SocialTokenize(counts="counts.tsv")], files={"counts.tsv": counts})
    with redirect_stdout(sys.stderr):
        theirs = test.reference(counts)

    def agrees() -> str | None:
        different = sum(pipeline.run(text) != theirs(text) for text in chosen)
        return None if different == 0 else f"{different} of {INPUTS} tweets differ"

    yield Row(
        op="social_tokenize, one tweet",
        peer="ekphrasis",
        ours=lambda i: pipeline.run(chosen[i]),
        theirs=lambda i: theirs(chosen[i]),
        inputs=INPUTS,
        check=agrees,
        goal=50,
    )
