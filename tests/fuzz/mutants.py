"""Damaged specs: a spec of the corpus of which a few words were taken out, doubled or replaced.

Deterministic: a number is a mutant. Needs neither torch nor a package of tests.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("specs", "tests/good/features", "tests/good/language", "tests/good/specs", "tests/bad")
TOKEN = re.compile(r"#[^\n]*|\"[^\"\n]*\"|->|[<>=!]=|[\d.]+(?:[eE][+-]?\d+)?|\w+|\s+|.")
LONGEST = 20_000  # characters; files that test limits would only be slow


def corpus() -> list[str]:
    """The texts that are damaged, in an order that does not depend on the machine."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.norm"))]
    texts = [path.read_bytes().decode("utf-8", "replace") for path in paths]
    return [text for text in texts if len(text) < LONGEST]


CORPUS = corpus()
VOCABULARY = sorted(
    {
        token
        for text in CORPUS
        for token in TOKEN.findall(text)
        if not token.isspace() and not token.startswith("#") and len(token) < 24
    }
)
# What a spec is made of, more often than the names of one file.
COMMON = """
x N C D K T V S * , : = ( ) [ ] { } + - * / ^ < <= == . -> 0 1 2 3 0.5 1e-5 true false eps init
input axis reduce shift scale stat mix track affine param let buffer update repeat output use norm
over per where weight of by for in off with ddof
mean var std rms l1 l2 sum max min moments normalize count mode stop size position softmax
sparsestmax sqrt rsqrt exp log abs clamp relu tanh blocks chunks interleave window causal edge
mask index edges matrix int float bool normal uniform train eval m.mean m.var
""".split()


def mutant(number: int) -> str:
    """The text of a mutant: one norm of the corpus, or a whole file, with one to four changes."""
    rng = random.Random(number)
    text = rng.choice(CORPUS)
    norms = re.split(r"(?m)^(?=norm )", text)
    if len(norms) > 2 and rng.random() < 0.7:
        text = rng.choice(norms[1:])
    tokens = TOKEN.findall(text) or [" "]
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        rng.choice(CHANGES)(rng, tokens)
    return "".join(tokens)


def _place(rng: random.Random, tokens: list[str]) -> int:
    """The place of a word; white space and comments are seldom of interest."""
    for _ in range(20):
        place = rng.randrange(len(tokens))
        if not tokens[place].isspace() and not tokens[place].startswith("#"):
            break
    return place


def _word(rng: random.Random, tokens: list[str]) -> str:
    where = rng.random()
    if where < 0.5:
        return tokens[_place(rng, tokens)]
    return rng.choice(COMMON if where < 0.8 else VOCABULARY)


def _delete(rng: random.Random, tokens: list[str]) -> None:
    if len(tokens) > 1:
        del tokens[_place(rng, tokens)]


def _double(rng: random.Random, tokens: list[str]) -> None:
    place = _place(rng, tokens)
    tokens[place:place] = [tokens[place], " "]


def _swap(rng: random.Random, tokens: list[str]) -> None:
    first, second = _place(rng, tokens), _place(rng, tokens)
    tokens[first], tokens[second] = tokens[second], tokens[first]


def _replace(rng: random.Random, tokens: list[str]) -> None:
    tokens[_place(rng, tokens)] = _word(rng, tokens)


def _insert(rng: random.Random, tokens: list[str]) -> None:
    place = _place(rng, tokens)
    tokens[place:place] = [_word(rng, tokens), " "]


def _lines(tokens: list[str]) -> list[str]:
    return "".join(tokens).splitlines(keepends=True) or [""]


def _move_line(rng: random.Random, tokens: list[str]) -> None:
    lines = _lines(tokens)
    lines.insert(rng.randrange(len(lines)), lines.pop(rng.randrange(len(lines))))
    tokens[:] = TOKEN.findall("".join(lines)) or [" "]


def _double_line(rng: random.Random, tokens: list[str]) -> None:
    lines = _lines(tokens)
    place = rng.randrange(len(lines))
    lines.insert(place, lines[place])
    tokens[:] = TOKEN.findall("".join(lines)) or [" "]


def _delete_line(rng: random.Random, tokens: list[str]) -> None:
    lines = _lines(tokens)
    if len(lines) > 1:
        del lines[rng.randrange(len(lines))]
    tokens[:] = TOKEN.findall("".join(lines))


def _borrow_line(rng: random.Random, tokens: list[str]) -> None:
    """A statement of another spec: what it names may be there by chance."""
    lines = _lines(tokens)
    lines.insert(rng.randrange(len(lines)), rng.choice(_lines([rng.choice(CORPUS)])))
    tokens[:] = TOKEN.findall("".join(lines)) or [" "]


# A replaced word is what a person who errs writes most often.
CHANGES = (
    *(_replace,) * 4,
    *(_delete, _double, _swap, _insert, _insert),
    *(_move_line, _double_line, _delete_line, _borrow_line),
)
