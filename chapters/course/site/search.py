"""What the search looks through: the texts of all pages, by section, in a plain script."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from chapters.course.catalog import ROOT
from chapters.course.site.names import FIGURES, MISTAKES, ORDERS, PROVEN
from chapters.utils.files import write_atomic

PLACE = re.compile(r'<section[^>]* id="([^"]+)"[^>]*>|<\w+ class="entry" id="([^"]+)"[^>]*>')
HEADING = re.compile(r"<h\d>(.*?)</h\d>", re.DOTALL)
HELP = re.compile(r"<details class=\"help\">.*?</details>", re.DOTALL)
"""Hints and solutions, which nobody should come upon by searching."""
LEFT_OUT = re.compile(
    r"<(style|script|svg|form|nav)\b.*?</\1>|<a class=\"headerlink\".*?</a>|<[^>]*>", re.DOTALL
)
CODE = re.compile(r"<pre\b.*?</pre>", re.DOTALL)
SUBJECTS = re.compile(r"^\| ([^|\n]+) \| \[[A-E]\d+\]\(([^()\s]+)\.\w+\) \|", re.MULTILINE)
"""A row of the front page's table that says where an algorithm is found."""
FIRST = {
    "index.html": "how do I start; where do I start; getting started; quick start",
    "chapters/A_foundations/A0_environment_setup.html": "installation; installing; how to install",
}
"""What a newcomer asks first, in words that these pages do not use."""


def write(out: Path) -> None:
    """Write the script of a site that was built.

    Pages of plain code are left out, and the headings of pages that gather what stands in the lessons.
    """
    found, known = [], subjects()
    for path in sorted(out.rglob("*.html")):
        name = path.relative_to(out).as_posix()
        if name.startswith("source/") or name == "search.html":
            continue
        for place, *texts in sections(path.read_text(encoding="utf-8")):
            if path.stem not in (PROVEN, MISTAKES, FIGURES, ORDERS) or "." in place or texts[0] == texts[1]:
                found.append((name, place, *texts, known.get(name, "") if texts[0] == texts[1] else ""))
    write_atomic(out / "_static" / "texts.js", f"const TEXTS = {json.dumps(found, ensure_ascii=False)};\n")


def subjects() -> dict[str, str]:
    """{page: what is found there by the front page's table, or asked first}; who searches for it means it."""
    found: dict[str, list[str]] = {page: [words] for page, words in FIRST.items()}
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    table = front.partition("## Find an algorithm\n")[2].partition("\n## ")[0]
    for words, page in SUBJECTS.findall(table):
        found.setdefault(f"{page}.html", []).append(words)
    return {page: "; ".join(words) for page, words in found.items()}


def sections(page: str) -> list[tuple[str, str, str, str, str]]:
    """(its place, the page's title, its own title, its text, its code) of each section, claim and mistake."""
    start = page.find('<article role="main"')
    article = page[start : page.find("</article>", start)]
    pieces = PLACE.split(HELP.sub(" ", article))
    found, title = [], ""
    for section, entry, text in zip(pieces[1::3], pieces[2::3], pieces[3::3]):
        heading = HEADING.search(text)
        own = plain(heading[1]) if heading else ""
        title = title or own
        said = re.split(r"</summary>|<svg", text)[0] if entry else text[heading.end() if heading else 0 :]
        code = " ".join(plain(block) for block in CODE.findall(said))
        found.append((section or entry, title, own or entry or "", plain(CODE.sub(" ", said)), code))
    return found


def plain(text: str) -> str:
    """The words of HTML."""
    inside_words = re.sub(r"</?(?:span|code)\b[^>]*>", "", text)  # colours of code cut no word in two
    return " ".join(html.unescape(LEFT_OUT.sub(" ", inside_words)).split())
