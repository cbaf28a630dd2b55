# SPDX-License-Identifier: Apache-2.0
"""Counts of words and of pairs of words, which divide hashtags: the count file of ``social_tokenize``."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from zoo.errors import DataError

_ASIDE = re.compile(r"https?://\S+|www\.\S+|[@#]\w+|[^\s\w']+|\w*[0-9_]\w*")
_PHRASE = re.compile(r"(?:[a-z']+\s*)+")


def count_words(
    texts: Iterable[str], *, min_count: int = 3, min_pair_count: int = 5, max_length: int = 20
) -> bytes:
    """Make a count file from texts.

    A word is a run of the letters a to z in lower case; apostrophes are dropped, since hashtags have none (``don't`` counts
    as ``dont``). Links, @names, hashtags and what holds digits are left out. Two words are a pair when only white space
    stands between them.

    Parameters
    ----------
    texts : iterable of str
        Raw tweets.
    min_count, min_pair_count : int
        Rarer words and pairs are left out, as are pairs of a word that is.
    max_length : int
        Letters of the longest word; the division of hashtags looks at no longer ones.

    Returns
    -------
    bytes
        Lines ``word TAB count``, then ``word TAB next TAB count``, each by falling count, then by the alphabet. The same texts
        give the same bytes.

    Raises
    ------
    DataError
        No word is frequent enough.
    """
    words: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for text in texts:
        plain = _ASIDE.sub("|", html.unescape(text).lower().replace("\u2019", "'"))
        for phrase in _PHRASE.findall(plain):
            parts = [word for word in phrase.replace("'", "").split() if len(word) <= max_length]
            words.update(parts)
            pairs.update(pairwise(parts))
    kept = {word: count for word, count in words.items() if count >= min_count}
    if not kept:
        raise DataError(
            f"no word stands {min_count} times in the texts; give more of them, or a lower min_count"
        )
    lines = [f"{word}\t{count}" for word, count in sorted(kept.items(), key=lambda item: (-item[1], item[0]))]
    frequent = [
        (pair, count)
        for pair, count in pairs.items()
        if count >= min_pair_count and pair[0] in kept and pair[1] in kept
    ]
    lines += [
        f"{a}\t{b}\t{count}" for (a, b), count in sorted(frequent, key=lambda item: (-item[1], item[0]))
    ]
    return ("\n".join(lines) + "\n").encode()
