"""The parse table of the grammar, made ahead: a start takes 10 ms instead of 100.

It is a file of data that ships with the grammar. Nothing is cached in the folder of a user, where
somebody else might write, and nothing that is read is executed. A table of another grammar or
another version of Lark is not used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

TABLE = "metanorm.table.json"


def text_from_parser(parser: lark.Lark, grammar: str) -> str:
    """The file that `parser_from_text` reads, with one state of the table to a line."""
    data, memo = parser.memo_serialize([Rule, TerminalDef])
    states = data["parser"]["parser"].pop("states")
    head = _json({"made_for": _made_for(grammar), "data": data, "memo": memo})
    lines = ",\n".join(f'"{number}":{_json(state)}' for number, state in states.items())
    return f'{head[:-1]},\n"states":{{\n{lines}\n}}}}\n'


def parser_from_text(text: str, grammar: str) -> lark.Lark | None:
    """The parser of this grammar; `None` where the table was made for another one."""
    try:
        table = json.loads(text)
    except ValueError:
        return None
    if not isinstance(table, dict) or table.get("made_for") != _made_for(grammar):
        return None
    data = table["data"]
    data["parser"]["parser"]["states"] = _by_number(table["states"])
    load: Callable[..., lark.Lark] = lark.Lark._load_from_dict  # what Lark's own parsers use
    return load(data, _by_number(table["memo"]))


def _made_for(grammar: str) -> str:
    digest = hashlib.sha256(grammar.encode()).hexdigest()[:16]
    return f"lark {lark.__version__}, grammar {digest}"


def _by_number(table: dict[str, Any]) -> dict[int, Any]:
    """JSON has no numbers as keys."""
    return {int(number): value for number, value in table.items()}


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=sorted)
