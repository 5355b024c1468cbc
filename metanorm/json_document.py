"""JSON as every command prints it: one document, which carries the version of its schema."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from metanorm.version import __version__
from metanorm.visible import encodable

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Document:
    """The fields of every document. `error` says why a command failed, if it did."""

    schema_version: int = SCHEMA_VERSION
    tool: str = "metanorm"
    version: str = __version__
    error: str | None = None


def json_text(value: object) -> str:
    """The value as JSON in ASCII, so that no control character reaches a terminal."""
    return json.dumps(jsonable(value), indent=2, allow_nan=False) + "\n"


def jsonable(value: object) -> Any:
    """The value in types of JSON: fields by name, and `None` for NaN and infinity."""
    if isinstance(value, Enum):
        return jsonable(value.value)
    if is_dataclass(value):
        return {f.name: jsonable(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {encodable(str(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
