"""A hook of MkDocs: links out of ``docs`` lead to the repository, where those files are.

In the repository a page links to ``../CONTRIBUTING.md`` or ``../deploy``; the site has no such page.
"""

import re
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """The page with every link that leaves ``docs`` made absolute."""
    folder = PurePosixPath("docs") / PurePosixPath(page.file.src_uri).parent

    def absolute(match: re.Match[str]) -> str:
        target = normpath(str(folder / match[1]))
        if target.startswith("docs/") and not target.endswith(".py"):
            return match[0]
        return f"]({config.repo_url}/blob/main/{target}{match[2] or ''})"

    return _LINK.sub(absolute, markdown)
