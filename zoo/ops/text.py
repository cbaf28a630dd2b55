# SPDX-License-Identifier: Apache-2.0
"""Text of social networks: tokens, and their numbers in a vocabulary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import _native
from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@lru_cache(maxsize=16)
def _plan(
    op: str, param: str, path: str, version: tuple[int, int] | None, params: tuple[tuple[str, Any], ...]
) -> _native.Pipeline:
    described = {"op": op, **dict(params)}
    if version is None:
        return _native.Pipeline([described])
    described[param] = path
    return _native.Pipeline([described], files={path: Path(path).read_bytes()})


def _run(op: str, data: Any, param: str, path: str | os.PathLike[str] | None, /, **params: Any) -> Any:
    """One op that reads a file; the plan is kept until the file changes."""
    version = None
    try:
        if path is not None:
            status = os.stat(path)
            version = status.st_mtime_ns, status.st_size
        plan = _plan(op, param, "" if path is None else os.fspath(path), version, tuple(params.items()))
    except OSError as error:
        raise InputError(f"{op}: {param} {str(path)!r} cannot be read: {error.strerror}") from error
    return plan.run(data)


def social_tokenize(text: str | bytes, *, counts: str | os.PathLike[str] | None = None) -> list[str]:
    """Tokens of a tweet, as ekphrasis has them with the settings of Baziotis et al. (2018).

    In this order: links, e-mail addresses, percentages, amounts of money, telephone numbers, @names, times, dates and
    numbers become ``<url> <email> <percent> <money> <phone> <user> <time> <date> <number>``; hashtags are divided and put
    between ``<hashtag>`` and ``</hashtag>``, words in capitals between ``<allcaps>`` and ``</allcaps>``; elongated words,
    repeated marks, ``*emphasis*`` and ``cens**ed`` words are followed by ``<elongated> <repeated> <emphasis>
    <censored>``; contractions are written out; HTML references are decoded; tokens are put into lower case; emoticons become
    ``<happy> <sad> <laugh> ...``.

    Parameters
    ----------
    text : str or bytes
        At most 256 MiB of UTF-8. Each ill-formed part of bytes counts as U+FFFD, as does each byte of a lone surrogate.
    counts : path or None
        Count file (:func:`zoo.data.words.count_words`). It divides hashtags in lower case (up to 280 characters) and finds
        the words behind elongated ones. Without it the former stay one word, and of the latter no letter stands more than
        twice in a row.

    Returns
    -------
    list of str
        No token is empty; an empty text has none.

    Raises
    ------
    InputError
        Not a text, too long, or a count file that is missing or damaged (the line is named).

    Notes
    -----
    Source: fact sheet 1, section 4; ekphrasis 0.5.4. What differs from it is listed in ``docs/text.md``. The time is linear in
    the length of the text.
    """
    tokens: list[str] = _run("social_tokenize", text, "counts", counts)
    return tokens


def vocab(
    tokens: Sequence[str],
    *,
    file: str | os.PathLike[str],
    unknown: str = "<unk>",
    min_length: int = 1,
    max_length: int | None = None,
) -> NDArray[np.int64]:
    """Number of each token in a vocabulary.

    Parameters
    ----------
    tokens : list of str
    file : path
        UTF-8, one token a line; the number of a line counts from 1. 0 is left to padding.
    unknown : str
        The token in the vocabulary that stands for all that are not.
    min_length : int
        Fewer numbers are filled up with 0 at the end, so that even an empty text has a row to compute on.
    max_length : int or None
        More tokens are left out.

    Returns
    -------
    int64, shape (n,)
        n = number of tokens, within `min_length` and `max_length`.

    Raises
    ------
    InputError
        Not a list of str, or a file that is missing, lists a token twice, or lacks `unknown`.
    """
    numbers: NDArray[np.int64] = _run(
        "vocab",
        tokens,
        "file",
        file,
        unknown=unknown,
        min_length=min_length,
        max_length=max_length,
    )
    return numbers
