"""What the site needs beyond MkDocs: pages from files outside of docs/, and cross references in docstrings."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# file of the repository -> page of the site
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "repository/changes.md",
    "CONTRIBUTING.md": "repository/contributing.md",
}
LINK = re.compile(r"(?P<open>!?\[(?P<text>[^\]]*)\]\()(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([^`]+)`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of files outside of ``docs/``."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages. Without a page, their text stays."""
    names = {page: source for source, page in PAGES.items()}
    here = page.file.src_uri
    source = names.get(here, f"docs/{here}")

    def replaced(match: re.Match) -> str:
        if re.match(r"\w+:", match["path"]):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["path"]))
        target_page = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if target_page is None:
            return match["text"]
        path = posixpath.relpath(target_page, posixpath.dirname(here) or ".")
        return f"{match['open']}{path}{match['anchor'] or ''})"

    return LINK.sub(replaced, markdown)


class SphinxRoles(griffe.Extension):
    """Docstrings name other objects as ``:func:`mmseg.apis.train```: make links of them where they have a place."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(_reference, obj.docstring.value)


def _reference(match: re.Match) -> str:
    shown = match[2].rsplit(".", 1)[-1] if match[1] else match[2]
    return f'<autoref optional identifier="{match[2]}"><code>{shown}</code></autoref>'
