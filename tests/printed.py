"""What the compiler prints for the library, the demo and the corpus, as digests for every target.

A step that is to change no generated code is proven by running this before and after it:

    python -m tests.printed write build/before.json
    python -m tests.printed compare build/before.json

`compare` names each file that is new, gone or other, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from metanorm.driver import compile_specs
from metanorm.options import Options, Target
from metanorm.workspace import load

ROOT = Path(__file__).parent.parent
FOLDERS = ("specs", "docs/demo/specs", "tests/good")


def spec_files(root: Path = ROOT) -> list[Path]:
    """All specs whose generated code is compared."""
    return sorted(file for folder in FOLDERS for file in (root / folder).rglob("*.norm"))


def printed(file: Path, target: Target) -> dict[str, str]:
    """The generated files of one spec, or its diagnostics where it has errors."""
    specs = load([str(file)])
    result = compile_specs(specs.sources, specs.roots, Options(target=target))
    return result.files or {"diagnostics": "\n".join(d.message for d in result.diagnostics)}


def digests(files: list[Path], root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """The digest of each generated file, by target and the path that it would have."""
    for file in files:
        for target in get_args(Target):
            for name, text in printed(file, target).items():
                entry = f"{target}: {file.relative_to(root).as_posix()}: {name}"
                if name != "__init__.py":
                    yield entry, hashlib.sha256(text.encode()).hexdigest()


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What is new, gone or other, one line each."""
    lines = [f"gone   {entry}" for entry in before if entry not in after]
    lines += [f"new    {entry}" for entry in after if entry not in before]
    changed = (p for p in after if p in before and before[p] != after[p])
    return [*lines, *(f"other  {entry}" for entry in changed)]


def main() -> int:
    """Write digests, or compare with written ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("digests", type=Path)
    options = parser.parse_args()
    now = dict(digests(spec_files()))
    if options.action == "write":
        options.digests.parent.mkdir(parents=True, exist_ok=True)
        options.digests.write_text(json.dumps(now, indent=1), encoding="utf-8")
        return 0
    changed = differences(json.loads(options.digests.read_text(encoding="utf-8")), now)
    sys.stdout.write("".join(f"{line}\n" for line in changed) or "all the same\n")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
