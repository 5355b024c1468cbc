"""`python -m docs.site [FOLDER]`: build the site into `FOLDER/html`, by default `build/site/html`.

Needs the extra `site`, node and npm. Ends with 1 where Sphinx warns of anything, or where a link of
the built pages leads nowhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from docs.site.checks import problems
from docs.site.pages import ROOT
from docs.site.source import write_source

HERE = Path(__file__).parent
PLAYGROUND = ROOT / "build" / "playground"  # what `make playground` builds


def build(folder: Path) -> int:
    """Build everything; the exit code of the first step that fails."""
    node, static = folder / "node", folder / "static"
    node.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, node / name)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    if code := subprocess.run(npm, cwd=node).returncode:
        return code
    katex = node / "node_modules" / "katex" / "dist"
    shutil.copytree(katex / "fonts", static / "katex" / "fonts", dirs_exist_ok=True)
    shutil.copyfile(katex / "katex.min.css", static / "katex" / "katex.min.css")
    extra = folder / "extra"
    shutil.rmtree(extra, ignore_errors=True)
    extra.mkdir()
    if PLAYGROUND.is_dir():
        shutil.copytree(PLAYGROUND, extra / "playground")
    write_source(folder / "source", playground=PLAYGROUND.is_dir())
    settings = {
        "formulas_node_folder": node,
        "html_static_path": static,
        "html_extra_path": extra,
    }
    html = folder / "html"
    shutil.rmtree(html, ignore_errors=True)
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-c", str(HERE)]
    for name, value in settings.items():
        sphinx += ["-D", f"{name}={value}"]
    sphinx += ["-d", str(folder / "doctrees"), str(folder / "source"), str(html)]
    if code := subprocess.run(sphinx, cwd=ROOT).returncode:
        return code
    link_problems = problems(html)
    for problem in link_problems:
        print(problem)
    return bool(link_problems)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    sys.exit(build(target.resolve()))
