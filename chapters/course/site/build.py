"""Sphinx makes the site of the pages; a server shows it to this machine."""

from __future__ import annotations

import contextlib
import functools
import gc
import html
import http.server
import importlib.util
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chapters.course.catalog import ROOT
from chapters.course.journal import JournalError, locked
from chapters.course.site import pages, search
from chapters.utils.files import write_atomic
from chapters.utils.lesson import UsageError

STATIC = Path(__file__).with_name("static")
CACHE = ROOT / ".cache" / "site"
"""Where pages are laid out for Sphinx, and what it keeps, so that the next build is of what changed."""
MARK = ".rl-site"
ICON = (
    "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 4 4'"
    "%3E%3Cpath fill='%232962ff' d='M0 0h2v2h2v2H0z'/%3E%3C/svg%3E\" />"
)
"""A browser asks a server for one, wherever none is named."""
EXTRA = "uv sync --inexact --compile-bytecode --extra docs"
SETTINGS = {
    "project": "Reinforcement learning, up to RLHF",
    "html_title": "Reinforcement learning, up to RLHF",
    "extensions": ["myst_parser", "chapters.course.site.build"],
    "html_theme": "furo",
    "html_theme_options": {"navigation_with_keys": True},
    "html_static_path": [str(STATIC)],
    "html_css_files": ["katex/katex.min.css", "site.css"],
    "html_js_files": [("katex/katex.min.js", {"defer": "defer"}), ("site.js", {"defer": "defer"})],
    "html_math_renderer": "katex",
    "html_additional_pages": {"search": "search.html"},
    "html_copy_source": False,
    "html_use_index": False,
    "html_show_copyright": False,
    "templates_path": [str(Path(__file__).with_name("templates"))],  # a search that fetches nothing
    "myst_enable_extensions": ["amsmath", "dollarmath", "html_image"],
    "myst_dmath_double_inline": True,
    "myst_heading_anchors": 4,
    "pygments_style": "a11y-high-contrast-light",
    "suppress_warnings": ["misc.highlighting_failure", "myst.header"],
}


def missing() -> str:
    """Why no site can be built here; "" if one can."""
    if not all(map(importlib.util.find_spec, ("sphinx", "myst_parser", "furo"))):
        return f"rl site needs the extra `docs` ({EXTRA})"
    return ""


def require() -> None:
    """Raises UsageError, in one line, where the extra is not installed."""
    if why := missing():
        raise UsageError(why)


def build(out: Path) -> list[str]:
    """Write the site to `out`; returns Sphinx's warnings.

    Raises UsageError where the extra is missing, and where `out` holds something else.
    """
    require()
    if out.exists() and not (out.is_dir() and ((out / MARK).exists() or not any(out.iterdir()))):
        raise UsageError(f"--out {out}: there is something else (allowed: a new folder, or a site)")
    try:
        with locked(CACHE), no_collections():
            lay_out(pages.collect(), CACHE / "pages")
            write_atomic(out / MARK, "")  # first: a build that is cut off can go on
            warnings = run_sphinx(CACHE / "pages", out, CACHE / "kept", "html", SETTINGS)
            search.write(out)
            return warnings
    except JournalError as error:
        raise UsageError(str(error)) from None


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """No looks for garbage: all lessons import millions of objects, and an eighth of a build was that."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run_sphinx(source: Path, out: Path, kept: Path, builder: str, settings: dict[str, Any]) -> list[str]:
    """What Sphinx makes of a folder of pages, in `out`; returns its warnings."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    told = io.StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(source, None, out, kept, builder, settings, status=None, warning=told)
        app.build()
    plain = re.sub(r"\x1b\[[\d;]*m", "", told.getvalue()).replace(f"{source}{os.sep}", "")
    return [line for line in plain.splitlines() if line.strip()]


def lay_out(site: pages.Site, folder: Path) -> None:
    """Write the pages where Sphinx looks for them; what did not change keeps its time of writing."""
    wanted = {folder / f"{name}.md": text for name, text in site.pages.items()}
    figures = {folder / path.relative_to(ROOT): path for path in site.pictures}
    for old in folder.rglob("*"):
        if not old.is_dir() and old not in wanted and old not in figures:
            old.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text)
    for path, original in figures.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink() or path.readlink() != original:  # the repository may have moved
            path.unlink(missing_ok=True)
            path.symlink_to(original)


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx is told about formulas, and what is done to each page at the end."""
    app.add_html_math_renderer("katex", (_inline_formula, None), (_formula, None))
    app.connect("html-page-context", _finish)
    app.connect("builder-inited", lambda app: setattr(app.builder, "search", False))  # `search` does it
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline_formula(writer: Any, node: Any) -> None:
    _write_formula(writer, node, "span")


def _formula(writer: Any, node: Any) -> None:
    _write_formula(writer, node, "div")


def _write_formula(writer: Any, node: Any, tag: str) -> None:
    """The formula as it was written: KaTeX sets it in the browser, and without scripts it can be read."""
    from docutils.nodes import SkipNode

    text = node.astext()
    number = re.search(r"\\tag\{([\w.']+)\}", text) if tag == "div" else None
    place = f' id="equation-{number[1]}"' if number else ""
    writer.body.append(f'<{tag} class="formula"{place}>{html.escape(text)}</{tag}>')
    raise SkipNode


def _finish(app: Any, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Figures get their size, so that nothing jumps while they load; each page brings its icon."""
    context["metatags"] = context.get("metatags", "") + ICON
    if "body" in context:
        sized = functools.partial(_sized, dict(_sizes(app)))
        context["body"] = re.sub(r"<img [^>]*>", sized, context["body"])


def _sizes(app: Any) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name in the site, (width, height)) of each figure."""
    for original, (_, name) in app.env.images.items():
        yield name, _size(Path(app.srcdir) / original)


@functools.cache
def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def _sized(sizes: dict[str, tuple[int, int]], tag: re.Match) -> str:
    source = re.search(r'src="[^"]*/([^"/]+)"', tag[0])
    if source is None or source[1] not in sizes:
        return tag[0]
    width, height = sizes[source[1]]
    given = re.search(r'(?:width="|width: )(\d+)', tag[0])
    shown = int(given[1]) if given else width
    bare = re.sub(r' (?:width|height|style|loading)="[^"]*"', "", tag[0]).removeprefix("<img ").rstrip(" />")
    return f'<img width="{shown}" height="{round(height * shown / width)}" loading="lazy" {bare} />'


def server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """A server of the site, for this machine only. Raises UsageError if the port cannot be had."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """A reader of the terminal wants none of it."""

    try:
        return http.server.ThreadingHTTPServer(
            ("127.0.0.1", port), functools.partial(Handler, directory=str(folder))
        )
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "allowed: 0 to 65535"
        raise UsageError(f"--port {port}: cannot listen there ({why}); 0 takes any free port") from None
