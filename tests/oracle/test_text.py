# SPDX-License-Identifier: Apache-2.0
"""The social tokenizer beside ekphrasis 0.5.4, both with the same counts: every tweet must give the same tokens.

``ZOO_TWEET_STEP=1`` compares all tweets at hand (about 170 thousand, some minutes); the tests take every 60th.
"""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.data.words import count_words
from zoo.pipeline import Pipeline, SocialTokenize

Tokenize = Callable[[str], list[str]]

# What tweets hold, and what is nearly that.
_PARTS = (
    "http:// https:// www. a.b t.co/x a@b.com @user x.y+z@foo-bar.co.uk 5% 3.5% $5 £3.20 5€ $4million $3bn 555-1234567 "
    "1234567890 10:30 7pm .5PM 23:59:59pm 12/5/2016 5-6-99 '16 Dec sept 3.14 1,000 5th # #hashtag #CamelCase #NEWS2016now "
    "#snake_case-x- #covid19 #happyday WOW soooo HELLOOOO Noooo yeaaahhh AaaA !!! ?!?! ... ..! *very* f**k s*it* a* * ** "
    "don't can't won't y'all ya'll I'm let's they've shan't it's 'll &amp; &lt;3 &gt;:( &#39; &#x1F600; &nbsp; &notit; "
    "&copy &amp & &#0; &#128; &ngE; :) :-) :( (: :-( :'( =D xD XD :P D: <3 ^5 >:( 8) 8-) ;) :o) (; ^_^ (^_^) (>_<) o_O "
    "-_- >.< \\o/ *\\0/* v.v ^^ :* :x :-| |: 0:) }:) O:-) $_$ <_< m(_ _)m 😀 ☺️ ☺ ❤ ❤️ ™ 1️⃣ #️⃣ ⛹️\u200d♀️ ⛹ é ß İ Σ ΑΣ 日本 "
    "مرحبا שלום ٣ १२ \u200d \ufe0f _ - -- + . , ' \" / \\ | ( ) [ ] { } < > <user> <a/> </b> ~ ` = % $ £ °o° þ × ‑ ⅷ ² "
    "U.S.A U.S.A.. $ABC $abc mm oO 0o0 ǅ ﬁ 𝒜 🇺🇸 a B x X o O 0 3 8 T J"
)
PARTS = _PARTS.split(" ")
PARTS += [
    "(555) 123 4567",
    "+1 555 123 4567",
    "7.30 a.m.",
    "5 May",
    "May 5th, 2016",
    "Mar 3 - 05",
    "June '98, 2001 -2002",
]
PARTS += ["I AM HERE", "US A", " ", " ", " ", "  ", "\t", "\n", "\r", "\x00", "\x1c", "\u00a0", "\u2028"]
MARKS = "abcxXoODPB038 :;=|-^'\",.()<>[]{}/\\*#@$%&!?_+~mvTJ"


def tweets(root: Path) -> list[str]:
    """The text of every tweet at hand, each once."""
    found: list[str] = []
    for pattern, column in (("task1/**/*.txt", 1), ("semeval_2017_4A/**/*-A*", 2), ("task2/*.text", 0)):
        for file in sorted((root / "semeval2018").glob(pattern)):
            for line in file.read_text("utf-8").split("\n"):
                fields = line.split("\t")
                found += fields[column : column + 1]
    return list(dict.fromkeys(found))


def reference(counts: bytes) -> Tokenize:
    """Ekphrasis with the paper's settings, as the benchmarks' peers have it."""
    pytest.importorskip("ekphrasis", reason="ekphrasis is in the dev extra")
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "peers" / "_ekphrasis.py"
    spec = importlib.util.spec_from_file_location("peers_ekphrasis", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    process: Tokenize = module.tokenizer(counts)
    return process


def test_tweets_give_the_tokens_of_ekphrasis(data_root: Path) -> None:
    texts = tweets(data_root)
    assert len(texts) > 160_000
    chosen = texts[:: int(os.environ.get("ZOO_TWEET_STEP", "60"))]
    counts = count_words(texts[::5])
    theirs = reference(counts)
    ours = Pipeline([SocialTokenize(counts="counts.tsv")], files={"counts.tsv": counts})
    different = [text for text, got in zip(chosen, ours.batch(chosen), strict=True) if got != theirs(text)]
    assert different == []


@pytest.mark.parametrize("seed", range(2))
def test_made_up_texts_give_the_tokens_of_ekphrasis(seed: int) -> None:
    """Texts put together of what the expressions look for and of single marks: the corners that tweets do not reach."""
    rng = random.Random(seed)
    counts = b"happy\t20\nday\t15\na\t30\ncovid\t5\nso\t9\nnoo\t2\nno\t8\nhello\t4\nyeah\t6\nhashtag\t3\nhash\t1\nhappy\tday\t4\n"
    theirs = reference(counts)
    ours = Pipeline([SocialTokenize(counts="counts.tsv")], files={"counts.tsv": counts})
    for _ in range(2500):
        if rng.random() < 0.6:
            text = "".join(rng.choice(PARTS) for _ in range(rng.randint(1, 14)))
        else:
            text = "".join(rng.choice(MARKS) for _ in range(rng.randint(1, 30)))
        assert ours.run(text) == theirs(text), repr(text)
