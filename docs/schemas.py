"""JSON schemas of what the commands print for machines, and of the configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from metanorm.bench.calls.report import CallReport
from metanorm.bench.networks.report import NetworkReport
from metanorm.bench.report import Report
from metanorm.cli.breaking import Changes
from metanorm.cli.explain import Explanation
from metanorm.cli.inspect import Inspection
from metanorm.cli.list import Listing
from metanorm.cli.test import Tests
from metanorm.cli.verify import Verifications
from metanorm.cli.version import Versions
from metanorm.config import Config
from metanorm.diagnostics.render.json import CheckReport
from metanorm.json_document import Document

# The types with a schema, by the name of its page.
MODELS: Mapping[str, Any] = {
    "bench": Report,  # of the file that `metanorm bench --json` writes
    "bench-calls": CallReport,  # of that with `--calls`
    "bench-networks": NetworkReport,  # of that with `--networks`
    "breaking": Changes,
    "check": CheckReport,  # of `metanorm check --format json`
    "config": Config,  # of the table `[tool.metanorm]`
    "error": Document,  # of whatever was asked for JSON and could not even begin
    "explain": Explanation,
    "inspect": Inspection,
    "list": Listing,
    "test": Tests,
    "verify": Verifications,
    "version": Versions,
}


def pages() -> Mapping[str, Callable[[], str]]:
    """A function for the text of each page, by file."""
    return {f"docs/schemas/{name}.json": partial(schema_text, name) for name in MODELS}


def schema_text(name: str) -> str:
    """The text of a schema."""
    return json.dumps(TypeAdapter(MODELS[name]).json_schema(), indent=2, ensure_ascii=False) + "\n"
