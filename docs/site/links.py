"""Has links and pictures lead where they lead on a code host, although pages have moved.

A link to a page becomes one to its place on the site, a link to any other file of the repository
one to the code host. What is left is for Sphinx to resolve, or to report.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from docs.site.pages import DOCS, ROOT, origins

REPOSITORY = "https://github.com/metanorm/metanorm"


class MovedLinks(SphinxTransform):
    """Rewrites the links and the pictures of a page that is made of a file of the repository."""

    default_priority = 5  # before anything looks at them

    def apply(self, **kwargs: object) -> None:
        """Rewrite what this page has."""
        files = origins()
        if self.env.docname not in files:
            return
        folder = files[self.env.docname].parent
        pages = {path: name for name, path in files.items()}
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link.get("reftype") == "myst" and not link.get("refdomain"):
                _rewrite(link, folder, pages)
        for picture in self.document.findall(nodes.image):
            path = (folder / picture["uri"]).resolve()
            if path.is_relative_to(DOCS):
                picture["uri"] = f"/{path.relative_to(DOCS).as_posix()}"
        for block in self.document.findall(nodes.literal_block):
            if block.get("language") == "norm":
                block["force"] = True  # specs with mistakes are shown, too


def _rewrite(link: addnodes.pending_xref, folder: Path, pages: dict[Path, str]) -> None:
    name, _, anchor = link["reftarget"].partition("#")
    path = (folder / name).resolve()
    if not name:
        return
    if path in pages:
        link["refdomain"], link["reftarget"] = "doc", pages[path]
        link["reftargetid"] = anchor or None
    elif path.exists() and path.is_relative_to(ROOT):
        link.replace_self(nodes.reference("", "", *link.children, refuri=_on_code_host(path)))


def _on_code_host(path: Path) -> str:
    kind = "tree" if path.is_dir() else "blob"
    return f"{REPOSITORY}/{kind}/main/{path.relative_to(ROOT).as_posix()}"


def setup(app: Sphinx) -> dict[str, object]:
    """What Sphinx calls."""
    app.add_transform(MovedLinks)
    return {"parallel_read_safe": True}
