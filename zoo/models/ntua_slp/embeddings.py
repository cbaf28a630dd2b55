# SPDX-License-Identifier: Apache-2.0
"""The 310-d word vectors and their vocabulary, made from public vectors and the tweets at hand.

The authors' vectors (word2vec on 550 M tweets, 300-d, and ten affective numbers; sheet 01, section 4) were never
in their repository. These take their place:

- 0..99: GloVe 6B, 100-d. For words that it lacks: a linear map of the tweets' own vector.
- 100..299: word2vec (skip-gram, window 6, 5 negatives) on the tweets. For words that they lack: the map back.
- 300, 301: log-odds of negative and of positive in SemEval-2017 4A.
- 302..309: which of the 20 emoji of SemEval-2018 Task 2 a word stands with, log-ratios reduced to eight by SVD.

``python -m zoo.models.ntua_slp.embeddings --data DIR --glove FILE --out FOLDER`` makes the files that are in this folder
(needs gensim): ``vocabulary/counts.tsv``, ``vocabulary/words.txt`` and ``weights/embedding.safetensors``.

No development or test tweet of Task 1 is used, and no label of Task 1.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from zoo.bundle import write_file
from zoo.data import semeval
from zoo.data.words import count_words
from zoo.errors import DataError, ZooError
from zoo.pipeline import Pipeline
from zoo.pipeline.text import SocialTokenize

F32 = NDArray[np.float32]
Tokens = Sequence[str]

PAD, UNKNOWN = "<pad>", "<unk>"
#: Where the folder of the model has the three files.
COUNTS, WORDS, TABLE = "vocabulary/counts.tsv", "vocabulary/words.txt", "weights/embedding.safetensors"
DIMENSIONS = 310
_GLOVE, _TWEETS, _POLARITY, _EMOJI = 100, 200, 2, 8
#: Words of the tweets are kept from this count on, and of GloVe's other words the most frequent.
_MIN_COUNT, _GLOVE_WORDS = 3, 40_000
#: Deviation of the numbers of each part: about that of common 300-d vectors, which the noise of the card is made for.
_DEVIATION = 0.3
#: Weight of the prior in the affective numbers, as a number of tweets.
_PRIOR = 5.0


def build(
    tweets: Sequence[Tokens],
    sentiment: Sequence[tuple[Tokens, int]],
    emoji: Sequence[tuple[Tokens, int]],
    glove: Path,
    *,
    seed: int = 1,
) -> tuple[tuple[str, ...], F32]:
    """Vocabulary and vectors.

    Parameters
    ----------
    tweets : sequence of token sequences
        What word2vec learns from.
    sentiment, emoji : sequences of (tokens, class)
        What the affective numbers come from.
    glove : Path
        npz with ``words`` (n,) and ``vectors`` (n, 100), most frequent first.

    Returns
    -------
    words : tuple of str
        Row names: pad, unknown, then the tweets' words by falling count, then other words of GloVe.
    table : float32 (rows, 310)
        Row 0 (pad) is zero; row 1 (unknown) is the mean of the rarest tenth of the tweets' words.
    """
    from gensim.models import Word2Vec

    try:
        with np.load(glove) as file:
            names, known = [str(word) for word in file["words"]], file["vectors"].astype(np.float32)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"ntua-slp: cannot read {glove}: {error}") from error
    learned = Word2Vec(
        [list(tokens) for tokens in tweets],
        vector_size=_TWEETS,
        window=6,
        negative=5,
        min_count=_MIN_COUNT,
        sg=1,
        epochs=10,
        sample=1e-3,
        seed=seed,
        workers=1,
        hashfxn=_stable_hash,
    ).wv
    frequent = list(learned.index_to_key)
    own = set(frequent)
    extra = [word for word in names[:_GLOVE_WORDS] if word not in own]
    words = (PAD, UNKNOWN, *frequent, *extra)
    row = {word: i for i, word in enumerate(words)}
    table = np.zeros((len(words), DIMENSIONS), np.float32)

    at = {word: i for i, word in enumerate(names)}
    in_glove = np.array([word in at for word in words])
    in_tweets = np.array([word in own for word in words])
    public = np.zeros((len(words), _GLOVE), np.float32)
    public[in_glove] = known[[at[word] for word in words if word in at]]
    tweeted = np.zeros((len(words), _TWEETS), np.float32)
    tweeted[in_tweets] = learned.vectors
    both = in_glove & in_tweets
    only_tweets, only_glove = in_tweets & ~in_glove, in_glove & ~in_tweets
    public[only_tweets] = tweeted[only_tweets] @ _ridge(tweeted[both], public[both])
    tweeted[only_glove] = public[only_glove] @ _ridge(public[both], tweeted[both])

    affect = np.concatenate([_polarity(sentiment, row), _emoji(emoji, row)], axis=1)
    content = np.concatenate([public, tweeted], axis=1)
    affect[only_glove] = content[only_glove] @ _ridge(content[both], affect[both])
    seen = in_tweets | in_glove
    start = 0
    for part in (public, tweeted, affect[:, :_POLARITY], affect[:, _POLARITY:]):
        table[seen, start : start + part.shape[1]] = part[seen] * (_DEVIATION / (part[seen].std() or 1.0))
        start += part.shape[1]
    rare = max(1, len(frequent) // 10)
    table[1] = table[2 + len(frequent) - rare : 2 + len(frequent)].mean(axis=0)
    return words, table


def quantize(table: F32) -> tuple[NDArray[np.int8], F32]:
    """Rows as int8 (n, d) and their scales (n, 1), above 0: ``row = int8 * scale``, error at most half a scale."""
    scale = np.abs(table).max(axis=1, keepdims=True) / 127
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.rint(table / scale).astype(np.int8), scale


@dataclass(frozen=True)
class Corpus:
    """Texts: every tweet once, and those with a sentiment or an emoji with their class."""

    tweets: tuple[str, ...]
    sentiment: tuple[tuple[str, int], ...]
    emoji: tuple[tuple[str, int], ...]


def read_corpus(root: Path) -> Corpus:
    """All tweets of the data folder but those of Task 1's development files.

    Raises
    ------
    DataError
        As the readers of ``zoo.data.semeval``.
    """
    held_out = {tweet.text for tweet in semeval.read_task1(root, "dev")}
    task1, labelled, emoji = (
        [tweet for tweet in tweets if tweet.text not in held_out]
        for tweets in (
            semeval.read_task1(root, "train"),
            semeval.read_sentiment(root),
            semeval.read_emoji(root),
        )
    )
    return Corpus(
        tuple(dict.fromkeys(tweet.text for tweet in (*task1, *labelled, *emoji))),
        tuple((tweet.text, _class(tweet)) for tweet in labelled),
        tuple((tweet.text, _class(tweet)) for tweet in emoji),
    )


def write(corpus: Corpus, glove: Path, out: Path, *, seed: int = 1) -> tuple[Path, Path, Path]:
    """Make the count file, the vocabulary and the int8 table of ``build`` in the folder ``out``; their paths.

    The same corpus, ``glove``, ``seed`` and version of gensim give the same words and counts, and the same table up to the
    rounding of NumPy's linear algebra.
    """
    counts, names, table = (out / name for name in (COUNTS, WORDS, TABLE))
    for path in (counts, table):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(counts, count_words(corpus.tweets))
    pipeline = Pipeline([SocialTokenize(counts=COUNTS)], files=out)
    known: dict[str, Tokens] = {text: pipeline.tokens(text) for text in corpus.tweets}
    words, vectors = build(
        list(known.values()),
        [(known[text], label) for text, label in corpus.sentiment],
        [(known[text], label) for text, label in corpus.emoji],
        glove,
        seed=seed,
    )
    rows, scale = quantize(vectors)
    stem = "feature_extractor.embedding.embedding"
    write_file(
        names, "".join(f"{word}\n" for word in words[1:]).encode()
    )  # pad is no line: numbers count from 1
    write_file(table, save({f"{stem}.weight": rows, f"{stem}.scale": scale}))
    return counts, names, table


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m zoo.models.ntua_slp.embeddings``."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.models.ntua_slp.embeddings",
        description="Make the word vectors, their vocabulary and the count file from GloVe and the tweets at hand.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that holds task1, task2, semeval_2017_4A"
    )
    parser.add_argument("--glove", type=Path, required=True, help="npz with words (n,) and vectors (n, 100)")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets vocabulary/ and weights/")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        for path in write(read_corpus(options.data), options.glove, options.out, seed=options.seed):
            sys.stdout.write(f"{path}\n")
    except ZooError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _class(tweet: semeval.Tweet) -> int:
    assert isinstance(tweet.label, int)
    return tweet.label


def _ridge(x: F32, y: F32) -> F32:
    """Linear map from x to y, least squares with a small penalty."""
    gram = x.T @ x
    penalty = 0.01 * np.trace(gram) / len(gram)
    return np.asarray(
        np.linalg.solve(gram + penalty * np.eye(len(gram), dtype=np.float32), x.T @ y), np.float32
    )


def _polarity(labelled: Sequence[tuple[Tokens, int]], row: Mapping[str, int]) -> F32:
    ratios = _log_ratios(labelled, row, len(semeval.SENTIMENTS))
    return ratios[:, [semeval.SENTIMENTS.index("negative"), semeval.SENTIMENTS.index("positive")]]


def _emoji(labelled: Sequence[tuple[Tokens, int]], row: Mapping[str, int]) -> F32:
    ratios = _log_ratios(labelled, row, semeval.EMOJI)
    _, _, axes = np.linalg.svd(ratios.T @ ratios)
    return np.asarray(ratios @ axes[:_EMOJI].T, np.float32)


def _log_ratios(labelled: Sequence[tuple[Tokens, int]], row: Mapping[str, int], classes: int) -> F32:
    """Log of P(class | word) / P(class), drawn to 0 for rare words; float32 (rows, classes)."""
    counts = np.zeros((len(row), classes))
    totals = np.zeros(classes)
    for tokens, label in labelled:
        totals[label] += 1
        for index in {row[token] for token in tokens if token in row}:
            counts[index, label] += 1
    share = totals / totals.sum()
    posterior = (counts + _PRIOR * share) / (counts.sum(axis=1, keepdims=True) + _PRIOR)
    ratio = np.divide(posterior, share, out=np.ones_like(posterior), where=share > 0)
    logs: F32 = np.log(ratio).astype(np.float32)
    return logs


def _stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


if __name__ == "__main__":
    sys.exit(main())
