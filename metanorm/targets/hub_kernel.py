"""A kernel for the `kernels` package of Hugging Face: where its files lie, and what it is.

The package of layers is `build/torch-universal`, the variant for every device, and beside its
modules stands `metadata.json`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metanorm.targets.header import digest

VARIANT = "build/torch-universal"
METADATA = "metadata.json"
KERNEL_NAME = re.compile(r"[a-z][-a-z0-9]*[a-z0-9]")


@dataclass(frozen=True)
class HubKernel:
    """The name, the version and the license of a kernel, as its metadata say them."""

    name: str
    version: int
    license: str


def metadata_text(kernel: HubKernel, files: Mapping[str, str]) -> str:
    """The metadata of a kernel with these files.

    Its `id`, under which `kernels` imports it, is a digest of all the rest, so that two builds can
    be in one process.
    """
    digests = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in sorted(files.items())
    }
    metadata: dict[str, Any] = {
        "name": kernel.name,
        "version": kernel.version,
        "license": kernel.license,
        "python-depends": [],
        # The format has no word for all devices, and `kernels` does not read this one.
        "backend": {"type": "cpu"},
        "digest": {"algorithm": "sha256", "files": digests},
    }
    return json.dumps({"id": _identifier(metadata), **metadata}, indent=2) + "\n"


def is_as_generated(text: str) -> bool:
    """Whether metadata are as they were generated. Raises `ValueError` for any other text."""
    metadata = json.loads(text)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise ValueError("these are no metadata")
    return bool(metadata.pop("id", None) == _identifier(metadata))


def _identifier(metadata: Mapping[str, Any]) -> str:
    name = str(metadata["name"]).replace("-", "_")
    return f"_{name}_{digest(json.dumps(metadata, sort_keys=True))}"
