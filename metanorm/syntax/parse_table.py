"""The precomputed parse table of the grammar: a start takes 10 ms instead of 100 ms.

It is a file of data that ships with the grammar. There is no cache in a folder of the user, where
somebody else might write, and no code in the file that reading it would execute. A table for
another grammar or another version of Lark is ignored.
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
    """The text that `parser_from_text` reads, with one state of the table per line."""
    data, memo = parser.memo_serialize([Rule, TerminalDef])
    states = data["parser"]["parser"].pop("states")
    head = _json_text({"made_for": _table_key(grammar), "data": data, "memo": memo})
    lines = ",\n".join(f'"{number}":{_json_text(state)}' for number, state in states.items())
    return f'{head[:-1]},\n"states":{{\n{lines}\n}}}}\n'


def parser_from_text(text: str, grammar: str) -> lark.Lark | None:
    """The parser of this grammar from a table; `None` if the table is for another one."""
    try:
        table = json.loads(text)
    except ValueError:
        return None
    if not isinstance(table, dict) or table.get("made_for") != _table_key(grammar):
        return None
    data = table["data"]
    data["parser"]["parser"]["states"] = _with_int_keys(table["states"])
    load: Callable[..., lark.Lark] = lark.Lark._load_from_dict  # Lark's standalone parsers use it
    return load(data, _with_int_keys(table["memo"]))


def _table_key(grammar: str) -> str:
    digest = hashlib.sha256(grammar.encode()).hexdigest()[:16]
    return f"lark {lark.__version__}, grammar {digest}"


def _with_int_keys(table: dict[str, Any]) -> dict[int, Any]:
    """The table with integers as keys, which JSON does not have."""
    return {int(number): value for number, value in table.items()}


def _json_text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=sorted)
