"""Networks as text, `.prototxt`.

    name: "net"  layer { name: "conv1" type: "Convolution" convolution_param { num_output: 64 kernel_size: 3 } }

A field that is unknown is an error with its line. The one exception: messages of a layer; whether they matter is seen
once the layer's type is known. Nothing here calls itself, however deep the brackets of a file are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple

from fewbit.errors import ModelFormatError
from fewbit.frontends.caffe.message import Message
from fewbit.frontends.caffe.schema import IGNORED, LARGEST_INT, PLAIN, Field, fields

LARGEST = 16 << 20
"""Bytes of a file that are read as text; the largest networks have 1 MB."""

TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*) | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*') | (?P<word>[\w.+-]+)
    | (?P<mark>[{}<>:;,\[\]])""",
    re.X,
)
CLOSES = {"{": "}", "<": ">"}
BOOLS = {"true": True, "t": True, "1": True, "True": True, "false": False, "f": False, "0": False, "False": False}
LABELS = {"Net": "the network", "Layer": "a layer", "V1Layer": "a layer", "V0Layer": "a layer"}

SOLVER = frozenset({"net", "train_net", "test_net", "base_lr", "lr_policy", "max_iter", "snapshot", "solver_mode"})
"""Fields of the file that tells how to train a network."""


class Token(NamedTuple):
    """One word, text in quotes, or mark."""

    kind: str
    text: str
    line: int


def parse(data: bytes, what: str, root: str = "Net") -> Message:
    """Read a message.

    Raises:
        ModelFormatError: it is no text, or not that of such a message; with the line.
    """
    return _Parser(_tokens(_decoded(data, what), what), what).message(Message(root, 1))


def _decoded(data: bytes, what: str) -> str:
    if len(data) > LARGEST:
        raise ModelFormatError(f"{what} has {len(data):,} bytes; a network as text has at most {LARGEST:,}")
    if b"\0" in data:
        raise ModelFormatError(f"{what} is no text; if it holds weights, it should be called .caffemodel")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise ModelFormatError(f"{what}, line {line}: a byte that is no UTF-8; save the file as UTF-8") from None


def _tokens(text: str, what: str) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise ModelFormatError(f"{what}, line {line}: {text[at : at + 20]!r} cannot be read")
        if match.lastgroup != "space":
            yield Token(str(match.lastgroup), match[0], line)
        line += match[0].count("\n")
        at = match.end()
    yield Token("end", "", line)


class _Parser:
    def __init__(self, tokens: Iterator[Token], what: str) -> None:
        self._rest, self._what = tokens, what
        self._now = next(tokens)

    def message(self, root: Message) -> Message:
        """Everything up to the end of the text; open brackets are kept on a stack."""
        stack: list[tuple[Message, str]] = [(root, "")]
        while stack:
            inside, close = stack[-1]
            token = self._next()
            if token.text == close and token.kind in ("mark", "end"):
                stack.pop()
            elif token.kind == "word":
                opened = self._field(inside, token)
                if opened is not None:
                    stack.append(opened)
            elif token.kind == "end":
                raise self._error(token, f"the text ends inside of a {inside.kind} that line {inside.line} opens")
            elif token.text not in (";", ","):
                raise self._error(token, f"{token.text!r} where a field should stand")
        return root

    def _field(self, inside: Message, token: Token) -> tuple[Message, str] | None:
        """One field; a message is returned with the bracket that closes it."""
        field = fields(inside.kind).get(token.text)
        colon = self._took(":")
        opens = self._now.text in CLOSES and self._now.kind == "mark"
        if field is None and opens and inside.kind in ("Layer", "V1Layer"):
            inside.odd.append(f"line {token.line}: {token.text}")
        elif field is None:
            raise self._unknown(inside, token)
        if field is None or field.kind == IGNORED:
            self._skip(token)
            return None
        if field.words or field.kind in PLAIN:
            if not colon:
                raise self._error(self._now, f"{token.text} needs a colon and a value")
            self._values(inside, field)
            return None
        if not opens:
            raise self._error(self._now, f"{token.text} must be in brackets: {token.text} {{ … }}")
        made = Message(field.kind, token.line)
        inside.add(field.name, made)
        return made, CLOSES[self._next().text]

    def _values(self, inside: Message, field: Field) -> None:
        if not self._took("["):
            inside.add(field.name, self._value(field))
            return
        while not self._took("]"):
            inside.add(field.name, self._value(field))
            self._took(",")

    def _value(self, field: Field) -> Any:
        token = self._next()
        if field.kind == "text" and token.kind == "text":
            parts = [token.text]
            while self._now.kind == "text":
                parts.append(self._next().text)
            return "".join(self._unquoted(token, p) for p in parts)
        try:
            if token.kind != "word":
                raise ValueError
            if field.kind == "int":
                return self._whole(token)
            if field.kind == "float" or field.kind in ("floats", "doubles"):
                return float(token.text.removesuffix("f") if token.text.lower() != "inf" else "inf")
            if field.kind == "bool":
                return BOOLS[token.text]
            if field.kind == "word":
                return field.words[int(token.text)] if token.text.isdigit() else self._word(field, token.text)
        except (ValueError, KeyError):
            pass
        wanted = "one of " + ", ".join(field.words.values()) if field.words else _said(field.kind)
        raise self._error(token, f"{field.name} is {token.text or 'missing'}; it must be {wanted}")

    def _whole(self, token: Token) -> int:
        found = int(token.text, 0) if token.text.startswith("0x") else int(token.text)
        if abs(found) > LARGEST_INT:
            raise ValueError
        return found

    @staticmethod
    def _word(field: Field, word: str) -> str:
        if word not in field.words.values() and field.name != "type":  # types of old layers: forks have more of them
            raise ValueError
        return word

    def _unquoted(self, token: Token, text: str) -> str:
        try:
            return str(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            raise self._error(token, f"the text {text} cannot be read") from None

    def _skip(self, token: Token) -> None:
        """Leave out a value, whatever it is."""
        depth = 0
        while True:
            now = self._next()
            if now.kind == "end":
                raise self._error(now, f"the text ends inside of {token.text}, which line {token.line} opens")
            if now.kind == "mark":
                depth += (now.text in "{<[") - (now.text in "}>]")
                if depth < 0:
                    raise self._error(now, f"{token.text} has no value")
            if depth == 0:
                return

    def _next(self) -> Token:
        now = self._now
        self._now = next(self._rest, now)
        return now

    def _took(self, mark: str) -> bool:
        if self._now.kind == "mark" and self._now.text == mark:
            self._next()
            return True
        return False

    def _unknown(self, inside: Message, token: Token) -> ModelFormatError:
        if inside.kind == "Net" and token.text in SOLVER:
            return ModelFormatError(
                f"{self._what} tells how a network is trained (it has {token.text!r}); load the network that it names"
            )
        where = LABELS.get(inside.kind, f"the {inside.kind} that line {inside.line} opens")
        return self._error(token, f"{where} has no field {token.text!r}{near(token.text, inside.kind)}")

    def _error(self, token: Token, why: str) -> ModelFormatError:
        return ModelFormatError(f"{self._what}, line {token.line}: {why}")


def near(name: str, message: str) -> str:
    """The fields that a name may have meant, for messages."""
    found = get_close_matches(name, fields(message), n=2, cutoff=0.6)
    return "; did you mean " + " or ".join(repr(n) for n in found) + "?" if found else ""


def _said(kind: str) -> str:
    return {
        "int": f"a whole number up to {LARGEST_INT}",
        "float": "a number",
        "bool": "true or false",
        "text": "text in quotes",
    }.get(kind, "numbers")
