"""A cache of compiled specs on disk: an unchanged spec is not compiled again.

The name of an entry is a digest of all inputs of the compilation: the compiler itself, the options,
the name and text of the spec, and the texts that it uses. So an entry never gets stale. The cache
does not look at generated packages: `workspace` compares their files byte by byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import lark

from metanorm import user_cache
from metanorm.driver import BackEnds, Result, Unit, compile_in_turn, compile_specs
from metanorm.frontend import sources_read
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.resources import PACKAGE, resource
from metanorm.source import Source

FORMAT = "metanorm compiled 1\n"  # the version of the layout of an entry
MAX_ENTRIES = 1000  # the least recently used are removed
OTHER_FOLDERS = ("runtime", "specs", "grammar", "bench", "verify", "cli", "show", "small")


def compile_changed(
    sources: Mapping[str, Source],
    roots: Sequence[str],
    options: Options,
    other_exports: Mapping[str, Sequence[str]] | None = None,
    back_ends: BackEnds = compile_in_turn,
    recompile: bool = False,
) -> Result:
    """Compile as `compile_specs` does, but read units from the cache unless `recompile`.

    Without a usable cache folder everything is compiled.
    """
    folder = cache_folder()
    if folder is None:
        return compile_specs(sources, roots, options, other_exports, back_ends=back_ends)
    entries = {root: folder / entry_name(sources, root, options) for root in roots}
    cached = {} if recompile else _read_units(entries)
    result = compile_specs(sources, roots, options, other_exports, cached, back_ends)
    reported = {d.primary.span.source for d in result.diagnostics}
    fresh = [root for root in result.units if root not in cached]
    for root in fresh:
        if not reported.intersection(sources_read(root, sources)):
            user_cache.keep(entries[root], _entry_from_unit(result.units[root]))
    if fresh:
        _remove_oldest(folder)
    return result


def _read_units(entries: Mapping[str, Path]) -> dict[str, Unit]:
    """The units of the roots that have an entry; a spec with diagnostics never has one."""
    units = {}
    for root, path in entries.items():
        unit = _unit_from_entry(user_cache.content(path))
        if unit is not None:
            units[root] = unit
            with suppress(OSError):
                os.utime(path)  # the time of last use decides which entries are removed
    return units


def cache_folder() -> Path | None:
    """The folder of the entries; `None` if there is no safe one."""
    return user_cache.folder(user_cache.COMPILED)


def entry_name(sources: Mapping[str, Source], root: str, options: Options) -> str:
    """The file name of a spec's entry: a digest of all inputs of its compilation."""
    texts = [sources[name].text for name in sources_read(root, sources)]
    parts = [
        FORMAT,
        compiler_digest(),
        options.fingerprint(),
        module_name(root),
        Path(root).name,
        *texts,
    ]
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:40]


@lru_cache(maxsize=1)
def compiler_digest() -> str:
    """A digest of the compiler: its files, the grammar, and the version of lark."""
    digest = hashlib.sha256(lark.__version__.encode())
    for path in sorted(_compiler_files()):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _compiler_files() -> Iterator[Path]:
    yield from PACKAGE.glob("*.py")
    yield from resource("grammar").iterdir()
    for folder in PACKAGE.iterdir():
        if folder.is_dir() and folder.name not in OTHER_FOLDERS:
            yield from folder.rglob("*.py")


def _entry_from_unit(unit: Unit) -> bytes:
    data = zlib.compress(json.dumps([dict(unit.files), unit.norms]).encode(), 1)
    return f"{FORMAT}{hashlib.sha256(data).hexdigest()}\n".encode() + data


def _unit_from_entry(entry: bytes) -> Unit | None:
    """The unit of an entry; `None` if the entry is empty or damaged."""
    header_length = len(FORMAT) + 65
    data = entry[header_length:]
    if entry[:header_length] != f"{FORMAT}{hashlib.sha256(data).hexdigest()}\n".encode():
        return None
    files, norms = json.loads(zlib.decompress(data))
    return Unit(files, tuple((name, start, end) for name, start, end in norms))


def _remove_oldest(folder: Path) -> None:
    """Remove the least recently used entries beyond `MAX_ENTRIES`."""
    with suppress(OSError):
        entries = list(os.scandir(folder))
        if len(entries) > MAX_ENTRIES:
            entries.sort(key=lambda entry: entry.stat().st_mtime)
            for entry in entries[: len(entries) - MAX_ENTRIES]:
                with suppress(OSError):
                    os.unlink(entry.path)
