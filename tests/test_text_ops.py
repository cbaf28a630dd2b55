# SPDX-License-Identifier: Apache-2.0
"""What the text ops promise for any input: tokens, numbers, files, errors. The expressions themselves: oracle/test_text.py."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zoo import ops
from zoo.bundle import MANIFEST, open_bundle, write_bundle
from zoo.data.words import count_words
from zoo.errors import BundleError, DataError, InputError
from zoo.pipeline import Mfcc, Op, Pipeline, SocialTokenize, Vocab, op_files

COUNTS = b"i\t40\nam\t30\nhappy\t20\nday\t15\nhappyday\t1\nso\t12\nsoo\t2\nhello\t6\nhappy\tday\t9\n"
VOCAB = b"<unk>\n<hashtag>\n</hashtag>\nhappy\nday\n!\n<repeated>\ni\n"
FILES = {"counts.tsv": COUNTS, "lists/vocab.txt": VOCAB}
CHAIN: tuple[Op, ...] = (SocialTokenize(counts="counts.tsv"), Vocab(file="lists/vocab.txt"))
TEXTS = st.text(max_size=80) | st.text("#@:;()-=<>&*'.!?/\\ aAbB123%$_\u0130\u03a3\u00e9\ufe0f", max_size=60)


def divide(text: str) -> list[str]:
    """The most probable words by trying all divisions: the definition, for short texts."""
    counts = {k: int(v) for k, v in (line.split("\t") for line in COUNTS.decode().split("\n")[:-2])}
    pairs = {("happy", "day"): 9}
    total = sum(counts.values())

    def log_p(word: str, before: str) -> float:
        if (before, word) in pairs:
            return math.log10(pairs[before, word] / counts[before])
        return math.log10(counts[word] / total if word in counts else 10 / (total * 10 ** len(word)))

    def best(rest: str, before: str) -> tuple[float, list[str]]:
        if not rest:
            return 0.0, []
        found = []
        for n in range(1, min(len(rest), 20) + 1):
            p, words = best(rest[n:], rest[:n])
            found.append((log_p(rest[:n], before) + p, [rest[:n], *words]))
        return max(found)

    return best(text, "<S>")[1]


# -------------------------------------------------------------------------------------------------------- tokens


def test_the_paper_s_example() -> None:
    text = "I can't believe it!!! #HappyDay #ihappyday soooo GOOD NEWS :-)) @me http://t.co/x 5% *very* f**k"
    assert " ".join(Pipeline(CHAIN, files=FILES).tokens(text)) == (
        "i can not believe it ! <repeated> <hashtag> happy day </hashtag> <hashtag> i happy day </hashtag> "
        "so <elongated> <allcaps> good news </allcaps> <happy> <user> <url> <percent> very <emphasis> f**k <censored>"
    )


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(["i", "am", "happy", "day", "so", "w", "q", "\u00e9"]), min_size=1, max_size=4)
)
def test_hashtags_are_divided_into_the_most_probable_words(parts: list[str]) -> None:
    tag = "".join(parts)
    assume(not re.search(r"(.)\1\1", tag))  # elongated words are another step
    tokens = Pipeline(CHAIN[:1], files=FILES).run("#" + tag)
    assert tokens == ["<hashtag>", *divide(tag), "</hashtag>"]


def test_without_counts_hashtags_stay_whole_and_words_are_only_shortened() -> None:
    tokens = ops.social_tokenize("#happyday #HappyDay hellooooo HeLLLo")
    assert " ".join(tokens) == (
        "<hashtag> happyday </hashtag> <hashtag> happy day </hashtag> helloo <elongated> hello <elongated>"
    )
    longest = "#" + "happyday" * 35  # 280 letters: a tweet
    assert len(Pipeline(CHAIN[:1], files=FILES).run(longest)) == 72
    assert len(Pipeline(CHAIN[:1], files=FILES).run(longest + "i")) == 3


@settings(max_examples=300)
@given(TEXTS)
def test_any_text_gives_tokens_and_their_numbers(text: str) -> None:
    pipeline = Pipeline(CHAIN, files=FILES)
    tokens, ids = pipeline.tokens(text), pipeline.run(text)
    assert all(tokens)
    assert all(token == token.lower() for token in tokens)
    lines = VOCAB.decode().split("\n")[:-1]
    assert ids.dtype == np.int64
    expected = [lines.index(token) + 1 if token in lines else 1 for token in tokens]
    assert ids.tolist() == (expected or [0])
    # The same text as bytes, a second time (the state is used again), and beside others on several threads.
    assert pipeline.tokens(text.encode()) == tokens
    for got in pipeline.batch(["", text, "#happyday " * 30, text], threads=3)[1::2]:
        np.testing.assert_array_equal(got, ids)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_broken_utf8_reads_as_python_replaces_it(data: bytes) -> None:
    assert ops.social_tokenize(data) == ops.social_tokenize(data.decode("utf-8", "replace"))


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=("Cs", "Z", "Cc")), min_size=1, max_size=20))
def test_lower_case_is_python_s(text: str) -> None:
    words = re.findall(r"\w+", text)
    # one word a text: what is no word is left to the oracle
    for word in words:
        if not re.search(r"[0-9A-Za-z_]|(.)\1\1", word):
            assert ops.social_tokenize(word) == [word.lower()]


def test_texts_that_are_none() -> None:
    for text in ("", " ", "\t\n\u2028", b""):
        assert ops.social_tokenize(text) == []
    assert ops.social_tokenize("a\x00b\x00") == ["a", "\x00", "b", "\x00"]
    assert ops.social_tokenize("x \ud83d y") == ["x", "\ufffd", "\ufffd", "\ufffd", "y"]
    assert ops.social_tokenize("\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627") == [
        "\u05e9\u05dc\u05d5\u05dd",
        "\u0645\u0631\u062d\u0628\u0627",
    ]
    for value, name in ((3, "int"), (None, "NoneType"), (["a"], "list"), (np.zeros(3), "ndarray")):
        with pytest.raises(InputError, match=rf"the input is a .*{name}; it must be a str"):
            ops.social_tokenize(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "part",
    [
        "http://",
        "www.a",
        "a-",
        "+a@b.",
        "1",
        "1.",
        "12:34",
        "#a",
        "#aaaa",
        "A ",
        "AB",
        "aaa",
        "a*",
        "*",
        "(",
        "|",
        "'",
        "&",
        "&#",
        "&amp",
        "\u03a3\u0301",
        "<a",
        "x'",
        "!?",
        "Jan 1",
        "@",
        "-",
        "\u00e9",
        "\U0001f600",
        "\x00",
        "#",
        "~(^",
    ],
)
def test_time_is_linear_in_the_length(part: str) -> None:
    """A million characters that expressions with backtracking would choke on: the time a character must not grow with them."""
    pipeline = Pipeline(CHAIN, files=FILES)

    def seconds(size: int) -> float:
        text = part * (size // len(part))
        begin = time.process_time()
        pipeline.run(text)
        return time.process_time() - begin

    short = min(seconds(50_000) for _ in range(3))
    assert min(seconds(1_000_000) for _ in range(2)) < 20 * 4 * short + 0.02


# ---------------------------------------------------------------------------------------------------- vocabulary


def test_vocab(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_bytes(VOCAB)
    assert ops.vocab(["happy", "no", "!"], file=file).tolist() == [4, 1, 6]
    assert ops.vocab([], file=file).tolist() == [0]
    assert ops.vocab([], file=file, min_length=0).shape == (0,)
    assert ops.vocab(["i", "i", "i"], file=file, max_length=2).tolist() == [8, 8]
    assert ops.vocab(["i"], file=file, min_length=3, max_length=3).tolist() == [8, 0, 0]
    assert ops.vocab(["x"], file=file, unknown="day").tolist() == [5]
    file.write_bytes(b"x\n<unk>\n")  # a changed file is read again
    assert ops.vocab(["x"], file=file).tolist() == [1]
    with pytest.raises(InputError, match="the input is a str; it must be a list of str"):
        ops.vocab("x", file=file)
    with pytest.raises(InputError, match="a token: the input is a int"):
        ops.vocab(["x", 3], file=file)  # type: ignore[list-item]


# --------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (b"", "counts.tsv: it is empty"),
        (b"word\n", "counts.tsv: line 1: must be a word"),
        (b"a\t1\nb\tx\n", "line 2: must be a word"),
        (b"a\t0\n", "line 1: must be a word"),
        (b"a\t1\nb\t1\t1\t1\n", "line 2: must be a word"),
        (b"\t1\n", "line 1: a word must have 1 to 255 bytes"),
        (b"a\t1\na\t2\n", "line 2: the word 'a' is counted twice"),
        (b"a\t1\na\tb\t2\n", "line 2: the word 'b' of a pair has no count of its own"),
        (b"a\t1\na\ta\t2\na\ta\t3\n", "the pair 'a a' is counted twice"),
        (
            b"a\t999999999999999\n"
            + b"b\t999999999999999\n" * 1
            + b"c\t999999999999999\nd\t999999999999999\ne\t999999999999999\n",
            "add up to more than",
        ),
    ],
)
def test_bad_count_files_name_the_line(counts: bytes, message: str) -> None:
    with pytest.raises(InputError, match=r"op 0 \(social_tokenize\): .*" + message):
        Pipeline(CHAIN[:1], files={"counts.tsv": counts})


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (b"", "lists/vocab.txt: the token '<unk>' for unknown ones is not among the 0 listed"),
        (b"a\n\n<unk>\n", "line 2: is empty"),
        (b"a\na\n<unk>\n", "line 2: the token 'a' is listed twice"),
        (b"a\nb\n", "'<unk>' for unknown ones is not among the 2 listed"),
    ],
)
def test_bad_vocabularies_name_the_line(vocabulary: bytes, message: str) -> None:
    with pytest.raises(InputError, match=r"op 1 \(vocab\): .*" + message):
        Pipeline(CHAIN, files={**FILES, "lists/vocab.txt": vocabulary})


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text("ab\t\n12", max_size=30).map(str.encode))
def test_any_file_is_taken_or_refused(data: bytes) -> None:
    for chain, name in ((CHAIN[:1], "counts.tsv"), (CHAIN, "lists/vocab.txt")):
        try:
            pipeline = Pipeline(chain, files={**FILES, name: data})
        except InputError:
            continue
        pipeline.run("#happyday ab soooo")


def test_files_come_from_a_folder_or_a_mapping(tmp_path: Path) -> None:
    assert op_files(CHAIN) == ("counts.tsv", "lists/vocab.txt")
    assert op_files([*map(msgspec.to_builtins, CHAIN), Mfcc(rate=8000), SocialTokenize()]) == op_files(CHAIN)
    with pytest.raises(InputError, match=r"counts.tsv cannot be read"):
        Pipeline(CHAIN, files=tmp_path)
    (tmp_path / "lists").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    text = "#happyday!!"
    assert Pipeline(CHAIN, files=tmp_path).run(text).tolist() == [2, 4, 5, 3, 6, 7]
    with pytest.raises(InputError, match=r"the file 'lists/vocab.txt' is not among those given"):
        Pipeline(CHAIN, files={"counts.tsv": COUNTS})
    with pytest.raises(InputError, match="files must map names to bytes"):
        Pipeline(CHAIN, files={**FILES, "x": "y"})  # type: ignore[dict-item]
    looked_at = Pipeline(CHAIN)  # as a manifest is checked before its files are read
    assert Pipeline(looked_at.describe(), files=FILES).run(text).tolist() == [2, 4, 5, 3, 6, 7]
    with pytest.raises(InputError, match=r"op 0 \(social_tokenize\): the file 'counts.tsv' was not given"):
        looked_at.run(text)
    with pytest.raises(InputError, match="counts '/none' cannot be read"):
        ops.social_tokenize("x", counts="/none")


def test_ops_that_do_not_fit_text() -> None:
    with pytest.raises(InputError, match=r"op 1 \(vocab\) takes tokens, but op 0 \(mfcc\) gives tensor"):
        Pipeline([Mfcc(rate=8000), Vocab(file="x")])
    with pytest.raises(InputError, match="max_length is 2, less than min_length, 3"):
        Pipeline([Vocab(file="x", min_length=3, max_length=2)])
    with pytest.raises(InputError, match="the name of a file is empty"):
        Pipeline([Vocab(file="")])
    with pytest.raises(InputError, match=r"op 0 \(social_tokenize\): counts is 3; it must be a string"):
        Pipeline([{"op": "social_tokenize", "counts": 3}])
    pipeline = Pipeline(CHAIN, files=FILES)
    assert pipeline.output_shape() is None
    with pytest.raises(InputError, match="depends on its content"):
        pipeline.output_shape(10)
    with pytest.raises(InputError, match="a text is run as a whole"):
        pipeline.run("x", start=1)
    with pytest.raises(InputError, match=r"op 0 \(social_tokenize\) needs the whole input"):
        pipeline.stream()
    with pytest.raises(InputError, match="only pipelines that start from audio read files"):
        pipeline.run_file("x.wav")
    with pytest.raises(InputError, match="a pipeline that takes audio makes no tokens"):
        Pipeline([Mfcc(rate=8000)]).tokens("x")
    with pytest.raises(InputError, match="input 1: the input is a int"):
        pipeline.batch(["x", 3])  # type: ignore[list-item]


def test_a_bundle_holds_the_files_of_its_ops(ready_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(ready_bundle)
    held = {file.path: bundle.read(file.path) for file in bundle.manifest.files}
    manifest = msgspec.structs.replace(bundle.manifest, pipeline=CHAIN)
    with pytest.raises(BundleError, match=r"pipeline names 'counts.tsv', which is not in files"):
        write_bundle(tmp_path / "without", manifest, held)
    write_bundle(tmp_path / "with", manifest, {**held, **FILES})
    again = open_bundle(tmp_path / "with")
    assert again.pipeline().run("happy day").tolist() == [4, 5]
    listed = {f["path"]: f for f in json.loads((tmp_path / "with" / MANIFEST).read_text())["files"]}
    assert set(FILES) < set(listed)
    (tmp_path / "with" / "lists" / "vocab.txt").write_bytes(VOCAB.replace(b"happy", b"hippy"))
    with pytest.raises(BundleError, match=r"lists/vocab\.txt is damaged"):
        open_bundle(tmp_path / "with")


# -------------------------------------------------------------------------------------------------------- counts


def test_count_words() -> None:
    texts = [
        "Don\u2019t worry, be happy! #behappy @happy http://happy.com",
        "don't worry be happy &amp; be 4ever happy-happy",
        "be happy",
    ]
    counts = count_words(texts, min_count=2, min_pair_count=2)
    assert counts == (b"happy\t5\nbe\t4\ndont\t2\nworry\t2\nbe\thappy\t3\ndont\tworry\t2\n")
    assert count_words(reversed(texts), min_count=2, min_pair_count=2) == counts
    assert Pipeline(CHAIN[:1], files={"counts.tsv": counts}).run("#dontworrybehappy")[1:-1] == [
        "dont",
        "worry",
        "be",
        "happy",
    ]
    with pytest.raises(DataError, match="no word stands 3 times"):
        count_words(["a b c"])
