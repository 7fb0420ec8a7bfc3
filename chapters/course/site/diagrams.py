"""Pictures of the mermaid diagrams, drawn once and committed, so that no build needs a browser.

A picture is named by a hash of its diagram's text, so one that is out of date is missing, and a test sees it.
It has no colours and no fonts of its own: those stand in `static/site.css`, for light and for dark.

To draw what is missing and drop what nobody uses, with mermaid from npm (`npm pack mermaid@12.3.0`; its
`dist/mermaid.min.js`), playwright and a Chromium: `python -m chapters.course.site.diagrams mermaid.min.js`
"""

from __future__ import annotations

import hashlib
import html
import re
import shutil
import sys
from pathlib import Path

from chapters.course.site.names import page_files
from chapters.utils.files import write_atomic

PLACE = Path(__file__).with_name("diagrams")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
"""A block of code in Markdown: its indent, its language, its text."""
STYLED = re.compile(r"</?[a-z]+>(?<!br>)")
"""HTML in a label, but for a new line: a picture's text has none."""
LABEL = re.compile(r'"([^"]+)"')
SETTINGS = "{startOnLoad: false, htmlLabels: false, flowchart: {htmlLabels: false, padding: 14}}"


def texts() -> list[str]:
    """Every diagram of the course."""
    pages = [path.read_text(encoding="utf-8") for path in page_files()]
    return [fence[3] for page in pages for fence in FENCE.finditer(page) if fence[2] == "mermaid"]


def path_of(text: str) -> Path:
    """Where the picture of a diagram stands."""
    return PLACE / f"{hashlib.sha256(text.strip().encode()).hexdigest()[:12]}.svg"


def described(text: str) -> str:
    """A diagram in words, for those who hear the page: its labels, in their order."""
    labels = dict.fromkeys(re.sub(r"<br/?>", ", ", label) for label in LABEL.findall(STYLED.sub("", text)))
    return f"Diagram: {'; '.join(labels)}"


def embedded(text: str) -> str:
    """The picture as HTML of one line, a word in its place if it was not drawn yet."""
    path = path_of(text)
    if not path.exists():
        return f"<pre>{html.escape(text)}</pre>"
    svg = path.read_text(encoding="utf-8")
    label = html.escape(described(text), quote=True)
    return f'<div class="diagram" role="img" aria-label="{label}">{svg}</div>'


def bare(svg: str) -> str:
    """A picture as mermaid drew it, on one line, without its own style and without what it does not use."""
    svg = re.sub(r"<style>.*?</style>|<defs>\s*<filter.*?</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' style="(?!max-width)[^"]*"| (?:data-[\w-]+|role|aria-\w+|font-\w+)="[^"]*"', "", svg)
    svg = re.sub(r' (?:fill|stroke)="#[^"]*"', "", svg)
    used = set(re.findall(r"url\(#([^)]+)\)", svg))
    marker = re.compile(r'<marker id="([^"]+)".*?</marker>', re.DOTALL)
    svg = marker.sub(lambda found: found[0] if found[1] in used else "", svg)
    return re.sub(r"\s*\n\s*", " ", svg).strip()


def draw(wanted_texts: list[str], mermaid: Path) -> list[Path]:
    """Draw the diagrams whose pictures are missing, and drop pictures of none; returns what changed."""
    from playwright.sync_api import sync_playwright

    wanted = {path_of(text): text for text in wanted_texts}
    changed = [path for path in PLACE.glob("*.svg") if path not in wanted]
    for path in changed:
        path.unlink()
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(
            "<meta charset='utf-8'><style>body {font: 16px Arial, Helvetica, sans-serif}</style>"
        )
        page.add_script_tag(path=str(mermaid))
        page.evaluate(f"mermaid.initialize({SETTINGS})")
        for path, text in wanted.items():
            if not path.exists():
                ask = "async ([name, text]) => (await mermaid.render(name, text)).svg"
                write_atomic(path, bare(page.evaluate(ask, [f"d{path.stem}", STYLED.sub("", text)])) + "\n")
                changed.append(path)
        browser.close()
    return changed


if __name__ == "__main__":
    for done in draw(texts(), Path(sys.argv[1])):
        print(f"{'drawn' if done.exists() else 'dropped'}: {done.name}")
