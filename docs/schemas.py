"""JSON schemas of what the commands print for machines, and of the configuration."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from metanorm.config import Config
from metanorm.diagnostics.render.json import CheckReport
from metanorm.explain.facts import Facts
from metanorm.ir.nodes import Program
from metanorm.syntax.ast import File
from metanorm.verify.compare import Verification


def check() -> str:
    """Of `metanorm check --format json`."""
    return _text(CheckReport)


def explain() -> str:
    """Of `metanorm explain SPEC --json`, one object for each norm."""
    return _text(Facts)


def verify() -> str:
    """Of `metanorm verify --json`, one object on each line."""
    return _text(Verification)


def config() -> str:
    """Of the table `[tool.metanorm]`."""
    return _text(Config)


def ast() -> str:
    """Of `metanorm inspect --stage ast --json`."""
    return _text(File)


def ir() -> str:
    """Of `metanorm inspect --stage ir --json`, and of every pass."""
    return _text(Program)


def _text(model: Any) -> str:
    return json.dumps(TypeAdapter(model).json_schema(), indent=2, ensure_ascii=False) + "\n"
