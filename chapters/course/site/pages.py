"""What becomes a page of the site, and its text: Markdown as Sphinx reads it, from the repository's files.

A page stands where its file does (`README.md` of the root is `index`), so figures and links between pages
stay as they are. What a page links to and is no page itself, code mostly, gets a plain page under `source/`.
"""

from __future__ import annotations

import ast
import functools
import html
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from chapters.course import catalog
from chapters.course.catalog import ROOT
from chapters.course.site import diagrams, exercises, lists, mistakes, proven
from chapters.course.site.names import (
    BIBLIOGRAPHY,
    FIGURES,
    MISTAKES,
    ORDERS,
    PROVEN,
    anchor_to,
    name_of,
    page_files,
    relative,
)

TARGET = re.compile(r'(\]\(|<img src=")([^()\s"]+)(?=[)"])')
KEY = re.compile(r"`([a-z]{2,}(?:19|20)\d\d[a-z]*\d?)`")
ENTRY = re.compile(r"^@\w+\{([^,]+),\n(.*?)^\}", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"^ *(\w+) *= *\{(.*)\},?$", re.MULTILINE)
LANGUAGES = {".py": "python", ".sh": "bash", ".toml": "toml", ".json": "json", ".jsonl": "json"}
PICTURES = (".png", ".gif")
CHAPTER_NAMES = {
    "A": "Foundations",
    "B": "Values",
    "C": "Policies",
    "D": "Language models",
    "E": "Practice",
}

GATHERED = (
    f"What stands in all lessons, on pages of this site: [what is proven]({PROVEN}.md), [every mistake]"
    f"({MISTAKES}.md), [all figures]({FIGURES}.md), and [the orders of the study plans]({ORDERS}.md)."
)


@dataclass
class Site:
    """Every page: {name: Markdown}, and the figures that they show."""

    pages: dict[str, str] = field(default_factory=dict)
    pictures: set[Path] = field(default_factory=set)


def collect() -> Site:
    """The whole site, from the files as they are."""
    site = Site()
    waiting = [*page_files(), BIBLIOGRAPHY]
    for path in waiting:  # which grows: a page brings what it links to
        text, linked = page_text(path)
        site.pages[name_of(path)] = text
        site.pictures |= {other for other in linked if other.suffix in PICTURES}
        waiting += sorted({other for other in linked if other.suffix not in PICTURES} - {*waiting})
    site.pages[PROVEN], site.pages[MISTAKES], site.pages[ORDERS] = (
        proven.page(),
        mistakes.page(),
        lists.orders(),
    )
    site.pages[FIGURES], shown = lists.figures()
    site.pictures |= shown
    site.pages["index"] = site.pages["index"].replace("\n## ", f"\n{GATHERED}\n\n## ", 1) + contents()
    return site


def page_text(path: Path) -> tuple[str, set[Path]]:
    """(the Markdown of a file's page, the files that it links to or shows)."""
    if path == BIBLIOGRAPHY:
        return references(), set()
    if path not in page_files():
        return plain(path)
    text = exercises.with_help(body(path)) if path.suffix == ".py" else body(path)
    told, linked = linked_up(mistakes.linked_commands(proven.linked_values(text, path), path), path)
    item = next((item for item in catalog.items() if item.path == path), None)
    return told + (lists.in_plans(item) if item else ""), linked


def body(path: Path) -> str:
    """The text of what is read, as Markdown, before anything is added to it."""
    match path.suffix:
        case ".py":
            return lesson(path)
        case ".sh":
            item = next(item for item in catalog.items() if item.path == path)
            return f"# {item.id} · {item.title}\n\n**Question.** {item.question}\n\n{fenced(path)}"
        case _:
            return path.read_text(encoding="utf-8")


def plain(path: Path) -> tuple[str, set[Path]]:
    """A page for what is no page: a file as it stands, or what a folder holds."""
    title = f"---\norphan: true\n---\n\n# `{path.relative_to(ROOT).as_posix()}`\n\n"
    if path.is_file():
        return title + fenced(path), set()
    inside = [one for one in sorted(path.iterdir()) if not one.name.startswith((".", "__"))]
    here = f"source/{path.relative_to(ROOT).as_posix()}"
    lines = [
        f"- [{one.name}]({relative(name_of(one), here)}.md)" if one in page_files() else f"- `{one.name}`"
        for one in inside
    ]
    return title + "\n".join(lines) + "\n", set()


def fenced(path: Path) -> str:
    """A file as a block of code."""
    text = path.read_text(encoding="utf-8")
    return f"````{LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n````\n"


def lesson(path: Path) -> str:
    """A lesson's cells: its text, and its code, folded where it only draws."""
    import jupytext

    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    parts = [cell.source if cell.cell_type == "markdown" else code(cell.source) for cell in notebook.cells]
    return "\n\n".join(parts) + "\n"


def code(source: str) -> str:
    """The code of a cell; functions that draw a figure teach nothing else and are folded away."""
    lines, blocks, shown = source.splitlines(), [], 0
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and "plotting.new_figure" in ast.unparse(node):
            start = node.lineno - 1
            blocks += [lines[shown:start], lines[start : node.end_lineno]]
            shown = node.end_lineno
    blocks.append(lines[shown:])
    texts = ["\n".join(block).strip("\n") for block in blocks]
    marked = [f"```python\n{text}\n```" if text else "" for text in texts]
    for i in range(1, len(marked) - 1, 2):
        marked[i] = f"<details><summary>The code that draws the figure</summary>\n\n{marked[i]}\n\n</details>"
    return "\n\n".join(filter(None, marked))


def linked_up(text: str, path: Path) -> tuple[str, set[Path]]:
    """(Markdown with links to pages of the site and diagrams as pictures, the files that it leads to)."""
    pieces, linked, end = [], set(), 0
    for fence in diagrams.FENCE.finditer(text):
        pieces += [_prose(text[end : fence.start()], path, linked), _fence(fence)]
        end = fence.end()
    pieces.append(_prose(text[end:], path, linked))
    return "".join(pieces), linked


def _fence(fence: re.Match) -> str:
    """A block of code as it stands on the page: a diagram as its picture, a session as one."""
    if fence[2] == "mermaid":
        return f"\n{diagrams.embedded(fence[3])}\n"
    if fence[2] == "python" and fence[3].lstrip().startswith(">>>"):
        return fence[0].replace("```python", "```pycon", 1)
    return fence[0]


def _prose(text: str, path: Path, linked: set[Path]) -> str:
    here = name_of(path)

    def lead(match: re.Match) -> str:
        target, _, anchor = match[2].partition("#")
        if re.match(r"\w+:", match[2]) or not target:
            return match[0]
        other = Path(os.path.normpath(path.parent / target))
        if other.is_dir() and (other / "README.md") in page_files():
            other /= "README.md"
        if not other.exists() or not other.is_relative_to(ROOT):
            return match[0]
        linked.add(other)
        if other.suffix in PICTURES:
            return match[0]
        return f"{match[1]}{relative(name_of(other), here)}.md{f'#{anchor}' if anchor else ''}"

    def cite(match: re.Match) -> str:
        entry = bibliography().get(match[1])
        if entry is None or path.name == "CONTRIBUTING.md":
            return match[0]
        return anchor_to(here, name_of(BIBLIOGRAPHY), match[1], f"<code>{match[1]}</code>", cited(entry))

    return KEY.sub(cite, TARGET.sub(lead, text))


@functools.cache
def bibliography() -> dict[str, dict[str, str]]:
    """{key: {field: its text}} of the bibliography."""
    text = BIBLIOGRAPHY.read_text(encoding="utf-8")
    return {key: dict(FIELD.findall(fields)) for key, fields in ENTRY.findall(text)}


def cited(entry: dict[str, str]) -> str:
    """A reference in a line: who, when, what."""
    writers = [name.partition(",")[0].strip("{}") for name in entry.get("author", "").split(" and ")]
    who = writers[0] if len(writers) == 1 else f"{writers[0]} and {writers[1]}"
    who = f"{writers[0]} and others" if len(writers) > 2 else who
    return re.sub(r"[{}]", "", f"{who} ({entry.get('year', '')}). {entry.get('title', '')}")


def references() -> str:
    """The bibliography as a page."""
    rows = []
    for key, entry in bibliography().items():
        place = next(
            (entry[name] for name in ("journal", "booktitle", "publisher", "howpublished") if name in entry),
            "",
        )
        told = html.escape(". ".join(filter(None, [cited(entry), re.sub(r"[{}]", "", place)])))
        url = entry.get("url") or (f"https://arxiv.org/abs/{entry['eprint']}" if "eprint" in entry else "")
        where = f' <a href="{html.escape(url, quote=True)}">{html.escape(url)}</a>' if url else ""
        rows.append(f'<p id="{key}"><code>{key}</code> {told}.{where}</p>')
    return "# References\n\n" + "\n".join(rows) + "\n"


def contents() -> str:
    """The order of the pages: chapter after chapter, then plans, days and what is for those who write."""
    parts = {f"{letter} · {name}": [] for letter, name in CHAPTER_NAMES.items()}
    parts |= {
        "Look up": [PROVEN, MISTAKES, FIGURES, ORDERS],
        "Plans and reading": [],
        "Experiments": [],
        "About the course": [],
    }
    for path in page_files()[1:]:
        caption = next(
            (title for title in parts if path.parent.name.startswith(f"{title[0]}_")), "About the course"
        )
        folder = path.relative_to(ROOT).parts[0]
        caption = {"planning": "Plans and reading", "days": "Experiments"}.get(folder, caption)
        parts[caption].append(name_of(path))
    parts["About the course"].insert(1, name_of(BIBLIOGRAPHY))
    return "\n" + "\n".join(map(toctree, parts.items()))


def toctree(part: tuple[str, list[str]]) -> str:
    """A part of the contents, (its title, its pages), for Sphinx."""
    caption, names = part
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(names) + "\n```\n"
