"""`make dist`: build what goes to the package index, and run every checker on it.

Ends with 1 where one of them finds something. The built files are left in `dist/`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
BIN = Path(sys.executable).parent
CFFCONVERT = "cffconvert==2.0.0"
WITHOUT_TORCH = "norm A(eps = 1e-5) {\n  input  x[N, C]\n  reduce C\n}\n"


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """What a command prints; ends this one where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{Path(command[0]).name} failed")
    return done.stdout


def citation_is_valid() -> None:
    """`CITATION.cff` is valid by cffconvert, which gets an environment of its own: it needs a
    jsonschema that is years older than the one of the tests."""
    with tempfile.TemporaryDirectory() as name:
        run(sys.executable, "-m", "venv", name)
        tools = Path(name) / "bin"
        run(tools / "python", "-m", "pip", "install", "--quiet", CFFCONVERT)
        run(tools / "cffconvert", "--validate", "-i", ROOT / "CITATION.cff")


def built() -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST)
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    return sdist, wheel


def readme_links_live_there(wheel: Path) -> None:
    """No link of the description is relative: the package index has none of our files."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        text = BytesParser().parsebytes(archive.read(name)).get_payload()
    links = re.findall(r"\]\(([^)]+)\)", str(text))
    relative = [link for link in links if not link.startswith(("https://", "#"))]
    if relative or not links:
        sys.exit(f"relative links in the README of the index: {relative[:5]}")


def pyroma_is_content() -> None:
    """Pyroma rates the package ten of ten."""
    report = run(BIN / "pyroma", "--min", "10", ROOT)
    if "10/10" not in report:
        sys.exit(report)


def installs_without_torch(wheel: Path) -> None:
    """A new environment gets the compiler, which checks and compiles, and no torch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "venv", folder / "venv")
        python = folder / "venv" / "bin" / "python"
        pinned = ROOT / ".ci" / "constraints.txt"
        run(python, "-m", "pip", "install", "--quiet", "-c", pinned, wheel)
        (folder / "a.norm").write_text(WITHOUT_TORCH)
        for command in (["check", "a.norm"], ["compile", "a.norm"], ["list", "specs"]):
            run(python, "-m", "metanorm", *command, folder=folder)
        packages = run(python, "-m", "pip", "list")
        if re.search(r"^torch ", packages, re.MULTILINE):
            sys.exit("the wheel brings torch")


def demo_is_all_there(sdist: Path) -> None:
    """What `make demo` needs is in the sdist."""
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(sdist) as archive:
            archive.extractall(name, filter="data")
        (folder,) = Path(name).iterdir()
        run("make", "--dry-run", "demo", folder=folder)
        for path in ("docs/demo/train.py", "docs/demo/specs", "specs", ".ci/constraints.txt"):
            if not (folder / path).exists():
                sys.exit(f"the sdist lacks {path}")


def main() -> None:
    """Build and check."""
    run(BIN / "validate-pyproject", ROOT / "pyproject.toml")
    citation_is_valid()
    run(BIN / "pre-commit", "validate-manifest", ROOT / ".pre-commit-hooks.yaml")
    sdist, wheel = built()
    run(BIN / "twine", "check", "--strict", sdist, wheel)
    run(BIN / "check-wheel-contents", wheel)
    pyroma_is_content()
    readme_links_live_there(wheel)
    installs_without_torch(wheel)
    demo_is_all_there(sdist)
    for path in (sdist, wheel):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB, nothing found")


if __name__ == "__main__":
    main()
