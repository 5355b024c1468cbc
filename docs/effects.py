"""Generates the page of effects from their table and from what runs have printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from docs.demo.effects import ENTRIES
from docs.pages import GENERATED_NOTICE

RESULTS = Path(__file__).parent / "demo" / "effects"
NOTICE = GENERATED_NOTICE.replace("the table it comes from", "docs/demo/effects.py")

ABOUT = """\
Papers say what a norm is good for. Here some of that is measured on data that everyone with
scikit-learn has, with seeds and error bars, in minutes: `python docs/demo/effects.py NAME`.
`--list` lists the names, `--quick --seeds 2` is a first look.

A claim counts as reproduced where the mean difference over the seeds is more than two standard
errors away from zero on the right side, as not reproduced where it is on the wrong one, and as
undecided in between. Where two numbers are claimed to be alike, the difference and two standard
errors more must be within the margin that stands beside it; it is not reproduced where the
difference is beyond that by two. Where steps are counted, all must be as claimed. Networks are
small, data sets are small, and nothing was tuned for one of the norms: what is not reproduced here
may well hold where its authors measured it.
"""


def page() -> str:
    """The page: what each run has printed and drawn."""
    text = f"# Effects\n\n{NOTICE}{ABOUT}"
    for name, entry in ENTRIES.items():
        norms = ", ".join(f"`{norm}`" for norm in entry.norms)
        result = (RESULTS / f"{name}.txt").read_text(encoding="utf-8")
        text += f"\n## {entry.title}\n\nOf {norms}; `effects.py {name}`.\n\n"
        text += f"```text from=docs/demo/effects/{name}.txt\n{result}```\n\n"
        text += f"![{entry.title}](demo/effects/{name}.png)\n"
    return text


def effects_by_norm() -> Mapping[str, tuple[str, ...]]:
    """Links to the sections of the page from the gallery, by norm."""
    links: dict[str, tuple[str, ...]] = {}
    for entry in ENTRIES.values():
        anchor = "".join(
            c for c in entry.title.lower().replace(" ", "-") if c.isalnum() or c in "-_"
        )
        for norm in entry.norms:
            links[norm] = (*links.get(norm, ()), f"[{entry.title}](../effects.md#{anchor})")
    return links
