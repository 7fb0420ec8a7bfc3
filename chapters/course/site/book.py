"""The notes and lessons as an EPUB, by Sphinx, from the texts that are the site's pages too.

Formulas become MathML, diagrams stay drawn, figures are inside, and nothing is loaded from elsewhere. Hints
and solutions, and pages that gather what stands in the lessons, are left to the site. Two things are done
beside Sphinx: what Markdown took over as HTML becomes XHTML, and the list of files says which of them hold
MathML or SVG.
"""

from __future__ import annotations

import html
import io
import os
import re
import shutil
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from chapters.course import catalog
from chapters.course.catalog import CHAPTERS, ROOT
from chapters.course.journal import JournalError, locked
from chapters.course.site import build, diagrams, pages
from chapters.course.site.names import BIBLIOGRAPHY, name_of
from chapters.utils.files import write_atomic
from chapters.utils.lesson import UsageError

AUTHORS = "The RL curriculum authors"
TITLE = build.SETTINGS["project"]
FIRST_PAGE = f"""# {TITLE}

The notes and lessons of the course, with the figures and results that were recorded. A lesson is a program
that runs in seconds: `rl run B1`. Its exercises begin with `rl exercise B1`, and `rl grade B1` grades them;
hints and solutions are in the course's folder and on its site (`rl site serve`).
"""
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
ANCHOR = re.compile(r'<a class="to" href="([^"#]*)\.html(#[^"]*)"([^>]*)>(.*?)</a>', re.DOTALL)
XML = re.compile(r"<(svg|math)\b.*?</\1>", re.DOTALL)
ITEM = re.compile(r'<item id="[^"]+" href="([^"]+\.xhtml)" media-type="application/xhtml\+xml" />')
FRACTIONS = {"½": "12", "⅓": "13", "¼": "14", "⅜": "38", "⅝": "58"}
LEFT_OUT = re.compile(r"\\tag\{[^}]*\}|\\textstyle\s*|\\(?:big|Big|bigg|Bigg)(?![A-Za-z])")
BRACES = r"\{(?:[^{}]|\{[^{}]*\})*\}"
ENTITY = re.compile(r"&(?!lt;|gt;|amp;|quot;|#)\w+;")
IN_ITS_WORDS = (
    (r"\\dots(?![A-Za-z])", r"\\ldots"),
    (r"\\lt(?![A-Za-z])", "<"),
    (r"\\[td]frac(?![A-Za-z])", r"\\frac"),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (rf"\\(hat|bar|tilde|widehat|overline)\s*(\\[A-Za-z]+|{BRACES}|[A-Za-z])", r"{\\\1{\2}{}}"),  # \hat A_t
    (r"^(?=[\^_])", "{}"),
)
"""What docutils reads otherwise than LaTeX does."""
STYLE = re.compile(r"(<(?:mfrac|mtable)\b[^>]*?) (?:scriptlevel|displaystyle)=\"[^\"]*\"")
"""What MathML allows elsewhere, but not in these elements."""
SETTINGS = {
    **{name: build.SETTINGS[name] for name in build.SETTINGS if name.startswith("myst_")},
    "project": TITLE,
    "author": AUTHORS,
    "language": "en",
    "extensions": ["myst_parser", "chapters.course.site.book"],
    "html_math_renderer": "as_mathml",
    "html_static_path": [str(Path(__file__).with_name("static_book"))],
    "suppress_warnings": [*build.SETTINGS["suppress_warnings"], "epub.unknown_project_files"],
    "epub_css_files": ["book.css"],
    "epub_contributor": AUTHORS,
    "epub_copyright": "MIT License",
    "epub_description": "Reinforcement learning up to RLHF: short lessons that prove what they teach.",
    "epub_identifier": "rl-curriculum",
    "epub_uid": "rl-curriculum",  # Sphinx names the book by this in one place, by the other in another
    "epub_show_urls": "no",
    "epub_tocdepth": 2,
    "epub_tocdup": False,
    "epub_tocscope": "includehidden",
    "epub_use_index": False,
}


def make(out: Path) -> list[str]:
    """Write the EPUB to `out`; returns Sphinx's warnings. Raises UsageError where it cannot be made."""
    build.require()
    folder = build.CACHE / "book"
    try:
        with locked(build.CACHE), build.no_collections():
            build.lay_out(collect(), folder / "pages")
            shutil.rmtree(folder / "made", ignore_errors=True)
            version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
                "version"
            ]
            told = build.run_sphinx(
                folder / "pages", folder / "made", folder / "kept", "epub", {**SETTINGS, "version": version}
            )
            write_atomic(out, packed(folder / "made"))
            return told
    except JournalError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"--out {out}: cannot write there ({error.strerror})") from None


def collect() -> pages.Site:
    """The pages of the book: notes, lessons, symbols, references; links to anything else are only words."""
    files = [*(item.path for item in catalog.items()), CHAPTERS / "NOTATION.md", BIBLIOGRAPHY]
    kept = {"index", *map(name_of, files)}
    site = pages.Site({"index": FIRST_PAGE + contents()})
    for path in files:
        text, linked = (
            (pages.references(), set()) if path == BIBLIOGRAPHY else pages.linked_up(pages.body(path), path)
        )
        site.pages[name_of(path)] = within(text, name_of(path), kept)
        site.pictures |= {other for other in linked if other.suffix in pages.PICTURES}
    return site


def contents() -> str:
    """The order of the chapters."""
    parts: dict[str, list[str]] = {}
    for item in catalog.items():
        parts.setdefault(f"{item.chapter} · {pages.CHAPTER_NAMES[item.chapter]}", []).append(
            name_of(item.path)
        )
    parts["Look up"] = [name_of(CHAPTERS / "NOTATION.md"), name_of(BIBLIOGRAPHY)]
    return "".join(map(pages.toctree, parts.items()))


def within(text: str, here: str, kept: set[str]) -> str:
    """Markdown whose links lead to pages of the book, or to the web; of others the words remain."""

    def page(target: str) -> str:
        return os.path.normpath(os.path.join(os.path.dirname(here), target)).replace(os.sep, "/")

    def markdown(found: re.Match) -> str:
        label, target = found.groups()
        outside = re.match(r"\w+:|#", target)
        inside = page(target.partition("#")[0].removesuffix(".md")) in kept and ".md" in target
        return found[0] if outside or inside else label

    def anchor(found: re.Match) -> str:
        target, place, more, label = found.groups()
        return f'<a href="{target}.xhtml{place}"{more}>{label}</a>' if page(target) in kept else label

    pieces, end = [], 0
    for fence in diagrams.FENCE.finditer(text):
        pieces += [ANCHOR.sub(anchor, LINK.sub(markdown, text[end : fence.start()])), fence[0]]
        end = fence.end()
    return "".join([*pieces, ANCHOR.sub(anchor, LINK.sub(markdown, text[end:]))])


# ---------------------------------------------------------------------------------------------------------
# What Sphinx is told


def setup(app: Any) -> dict[str, bool]:
    """Formulas as MathML, and XHTML on each page."""
    app.add_html_math_renderer("as_mathml", (_inline_formula, None), (_formula, None))
    app.connect("html-page-context", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline_formula(writer: Any, node: Any) -> None:
    _write_formula(writer, node, block=False)


def _formula(writer: Any, node: Any) -> None:
    _write_formula(writer, node, block=True)


def _write_formula(writer: Any, node: Any, block: bool) -> None:
    from docutils.nodes import SkipNode, TextElement
    from sphinx.util import logging

    try:
        told = mathml(node.astext(), block)
    except Exception as error:  # of docutils' reader of formulas: it has many kinds
        logging.getLogger(__name__).warning("%s: %s", node.astext(), error, location=node)
        told = f"<code>{html.escape(node.astext())}</code>"
    number = re.search(r"\\tag\{([\w.']+)\}", node.astext()) if block else None
    place = f' id="equation-{number[1]}"' if number else ""
    beside = f'<span class="number">({number[1]})</span>' if number else ""
    tag = "span" if isinstance(node.parent, TextElement) else "div"  # a formula in the midst of a sentence
    writer.body.append(f'<{tag} class="formula"{place}>{beside}{told}</{tag}>' if block else told)
    raise SkipNode


def mathml(formula: str, block: bool) -> str:
    """A formula as MathML, by docutils, in words that it knows. Raises errors of its own for others."""
    from docutils.utils.math.latex2mathml import tex2mathml

    text = LEFT_OUT.sub("", formula).strip()
    for pattern, replacement in IN_ITS_WORDS:
        text = re.sub(pattern, replacement, text)
    for sign, (above, below) in FRACTIONS.items():
        text = text.replace(sign, rf"\frac{{{above}}}{{{below}}}")
    found = STYLE.sub(r"\1", STYLE.sub(r"\1", tex2mathml(text, as_block=block)))
    found = ENTITY.sub(lambda name: html.unescape(name[0]), found)
    return found.replace("<math", f'<math alttext="{html.escape(formula.strip(), quote=True)}"', 1)


def _finish(app: Any, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if "body" in context:
        context["body"] = xhtml(context["body"])


def xhtml(body: str) -> str:
    """HTML as XML: every element closed, every attribute with a value. SVG and MathML are XML already."""
    from bs4 import BeautifulSoup  # furo needs it too

    kept: list[str] = []

    def away(found: re.Match) -> str:
        kept.append(found[0])
        return f"<i data-kept='{len(kept) - 1}'></i>"

    text = BeautifulSoup(XML.sub(away, body), "html.parser").decode(formatter="minimal")
    return re.sub(r'<i data-kept="(\d+)"></i>', lambda found: kept[int(found[1])], text)


# ---------------------------------------------------------------------------------------------------------
# The file


def packed(folder: Path) -> bytes:
    """The EPUB's bytes, of what Sphinx made: its type first and as it is, then what its list names."""
    package = (folder / "content.opf").read_text(encoding="utf-8")
    package = ITEM.sub(lambda found: with_properties(found, folder / found[1]), package)
    names = re.findall(r'<item [^>]*href="([^"]+)"', package)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.write(folder / "META-INF" / "container.xml", "META-INF/container.xml")
        book.writestr("content.opf", package)
        for name in names:
            book.write(folder / html.unescape(name), html.unescape(name))
    return made.getvalue()


def with_properties(item: re.Match, page: Path) -> str:
    """An entry of the list of files that says what is special in a page."""
    text = page.read_text(encoding="utf-8")
    found = [name for name, tag in (("mathml", "<math"), ("svg", "<svg")) if tag in text]
    return item[0].replace(" />", f' properties="{" ".join(found)}" />') if found else item[0]
