"""`metanorm clean`: removes the caches."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Annotated

import typer

from metanorm import user_cache
from metanorm.cli.console import print_error, print_result
from metanorm.cli.exit_codes import FINDINGS, OK

MEGABYTE = 1e6


def command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing; say what there is.")
    ] = False,
) -> None:
    """Remove what metanorm keeps for itself: built kernels, compiled specs, loaded modules.

    All of it is made again where it is needed. Compiled packages are not touched.
    """
    root = user_cache.root()
    cache_folders = [] if root is None else [root / name for name in user_cache.CACHES]
    failed = False
    for path in (path for path in cache_folders if os.path.lexists(path)):
        if not user_cache.is_only_ours(path.lstat(), stat.S_IFDIR):
            print_error(f"{path} is no folder of this user alone, and was left as it is")
            failed = True
            continue
        count, size = _contents(path)
        content = f"{count} file{'s' if count != 1 else ''}, {size / MEGABYTE:.1f} MB"
        if not dry_run and (reason := remove_folder(path)):
            print_error(f"{path} could not be removed: {reason}")
            failed = True
            continue
        print_result(f"{path}: {content}{'' if dry_run else ' removed'}\n")
    if not any(os.path.lexists(path) for path in cache_folders) and root is None:
        print_result("there is no folder of caches\n")
    raise typer.Exit(FINDINGS if failed else OK)


def remove_folder(folder: Path) -> str:
    """Remove a folder, or what can be removed of it. Returns why something is left; else empty."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        shutil.rmtree(folder)  # what another process has written meanwhile
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{error.strerror}: {error.filename}"
    return ""


def _contents(folder: Path) -> tuple[int, int]:
    """The number of files in a folder, and their size in bytes."""
    sizes = []
    for above, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.lstat(os.path.join(above, name)).st_size)
            except OSError:  # another process has removed it
                continue
    return len(sizes), sum(sizes)
