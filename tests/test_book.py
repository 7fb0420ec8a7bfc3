"""The course as an EPUB: what a valid one needs, checked with Python alone, and that the check sees faults.

Checked: the archive's order and its first entry; that its list of files is complete and true; that every page
is XML, names a place once, and leads to places that are there; that nothing is loaded from elsewhere;
alternative texts; that what holds formulas or drawings says so. Not checked: the grammar of XHTML, which
EPUBCheck knows, a program in Java that is no part of the tests.
"""

import io
import posixpath
import re
import zipfile
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from chapters.course.catalog import ROOT, find, items, lessons
from chapters.course.site import book, build
from chapters.course.site.names import name_of

# The book is made with Sphinx, which comes with the extra `docs`; `build.missing` says how to get it.
with_extra = pytest.mark.skipif(bool(build.missing()), reason=build.missing())
OPF, DC = "{http://www.idpf.org/2007/opf}", "{http://purl.org/dc/elements/1.1/}"
XHTML, MATH, SVG = (
    f"{{http://www.w3.org/{name}}}" for name in ("1999/xhtml", "1998/Math/MathML", "2000/svg")
)
TYPES = {
    ".xhtml": "application/xhtml+xml", ".css": "text/css", ".png": "image/png", ".gif": "image/gif",
    ".svg": "image/svg+xml", ".ncx": "application/x-dtbncx+xml",
}  # fmt: skip
LOADS = {"src", "poster", "data"}


BLOCKS = {"div", "p", "pre", "table", "ul", "ol", "dl", "section", "details", "h1", "h2", "h3", "h4"}
"""What may not stand inside a paragraph, a heading or a span."""


def unpacked(epub: bytes) -> dict[str, bytes]:
    """The files of an EPUB. The first must be its type, as it is, and none may be there twice."""
    archive = zipfile.ZipFile(io.BytesIO(epub))
    first = archive.infolist()[0]
    assert (first.filename, first.compress_type, first.extra) == ("mimetype", zipfile.ZIP_STORED, b"")
    assert len({*archive.namelist()}) == len(archive.namelist())
    assert archive.testzip() is None
    return {name: archive.read(name) for name in archive.namelist()}


def amiss(files: dict[str, bytes]) -> list[str]:
    """What an EPUB with these files would be refused for."""
    found = [] if files.get("mimetype") == b"application/epub+zip" else ["the type is another"]
    container = ElementTree.fromstring(files["META-INF/container.xml"])
    package = ElementTree.fromstring(files[container.find(".//{*}rootfile").get("full-path")])
    for name in ("identifier", "title", "language"):
        if not package.findtext(f".//{DC}{name}"):
            found.append(f"no {name}")
    if not re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
        package.findtext(f".//{OPF}meta[@property='dcterms:modified']") or "",
    ):
        found.append("no time of change")
    listed = {unquote(item.get("href")): item for item in package.iter(f"{OPF}item")}
    ids = [item.get("id") for item in package.iter(f"{OPF}item")]
    beside = {"mimetype", "META-INF/container.xml", container.find(".//{*}rootfile").get("full-path")}
    if {*listed} != files.keys() - beside or len({*ids}) != len(ids) or len(ids) != len(listed):
        found.append(f"the list of files: {sorted({*listed} ^ (files.keys() - beside))}")
    found += [
        f"{name}: its type"
        for name, item in listed.items()
        if item.get("media-type") != TYPES.get(posixpath.splitext(name)[1])
    ]
    if [item.get("properties") for item in listed.values()].count("nav") != 1:
        found.append("not one table of contents")
    spine = [entry.get("idref") for entry in package.iter(f"{OPF}itemref")]
    read = {name for name, item in listed.items() if item.get("id") in spine}
    if not {*spine} <= {*ids} or len({*spine}) != len(spine):
        found.append("the order of reading")
    pages = {}
    for name in sorted(name for name in files if name.endswith((".xhtml", ".ncx"))):
        try:
            pages[name] = ElementTree.fromstring(files[name])
        except ElementTree.ParseError as error:
            found.append(f"{name}: {error}")
    places = {
        name: [part.get("id") for part in page.iter() if part.get("id")] for name, page in pages.items()
    }
    for name, page in pages.items():
        found += [f"{name}: {problem}" for problem in _page(name, page, places, files, listed[name], read)]
    for name in (name for name in files if name.endswith(".css")):
        if re.search(rb"@import|url\(\s*['\"]?(https?:)?//", files[name]):
            found.append(f"{name}: loads from elsewhere")
    return found


def _page(name, page, places, files, item, read):
    """What is amiss in a page, or in a table of contents."""
    if len({*places[name]}) != len(places[name]):
        yield "a place is there twice"
    if page.tag == f"{XHTML}html":
        if not page.findtext(f".//{XHTML}title"):
            yield "no title"
        for tag, word in ((f"{MATH}math", "mathml"), (f"{SVG}svg", "svg")):
            if (page.find(f".//{tag}") is not None) != (word in (item.get("properties") or "").split()):
                yield f"{word}: what it holds is not what is said of it"
    for part in page.iter():
        if part.tag.rpartition("}")[2] in ("script", "iframe", "form", "button", "input"):
            yield f"{part.tag} does nothing in a book"
        if part.tag in {f"{XHTML}{tag}" for tag in ("p", "h1", "h2", "h3", "h4", "span", "code", "summary")}:
            inside = {one.tag.removeprefix(XHTML) for one in part.iter() if one is not part}
            if inside & BLOCKS:
                yield f"{inside & BLOCKS} in a {part.tag.removeprefix(XHTML)}"
        if part.tag == f"{XHTML}img" and not part.get("alt"):
            yield "an image without words"
        for key, target in part.items():
            web = part.tag == f"{XHTML}a" and re.match(r"mailto:|https?:", target)
            if key not in {*LOADS, "href"} or web:
                continue
            path, _, anchor = unquote(target).partition("#")
            other = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            if other not in files:
                yield f"{target}: is not in the book"
            elif anchor and anchor not in places.get(other, []):
                yield f"{target}: no such place"
            elif part.tag == f"{XHTML}a" and name != "nav.xhtml" and other not in read:
                yield f"{target}: is not read"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of the book, made once."""
    path = tmp_path_factory.mktemp("book") / "course.epub"
    assert book.make(path) == []
    assert path.stat().st_size < 30e6
    return unpacked(path.read_bytes())


@with_extra
def test_the_book_is_valid(files):
    assert amiss(files) == []


@with_extra
def test_every_note_and_lesson_is_in_it_with_its_figure_and_formulas(files):
    for item in items():
        page = files[f"{name_of(item.path)}.xhtml"].decode()
        assert f"<h1>{item.id} · " in page
        assert 'class="help"' not in page
    names = {posixpath.basename(name) for name in files}
    assert {f"{item.id}.png" for item in lessons()} <= names
    page = files[f"{name_of(find('C1').path)}.xhtml"].decode()
    assert '<div class="formula" id="equation-3"><span class="number">(3)</span><math' in page
    order = re.findall(r"<navPoint .*?<text>([A-E]\d+) · ", files["toc.ncx"].decode(), re.DOTALL)
    assert order == [item.id for item in items()]


@with_extra
def test_the_check_sees_what_is_amiss(files):
    """In a book of one lesson, whose links to the others are amiss already."""
    lesson = f"{name_of(find('B1').path)}.xhtml"
    small = {name: text for name, text in files.items() if not name.startswith("chapters/") or name == lesson}
    known = {*amiss(small)}
    for name, old, new, said in (
        ("mimetype", b"epub", b"zip", "the type"),
        (lesson, b"", None, "the list of files"),
        ("content.opf", b'href="_images/B1.png"', b'href="_images/B01.png"', "the list of files"),
        ("content.opf", b' properties="mathml"', b"", "mathml"),
        ("content.opf", b"dcterms:modified", b"dcterms:changed", "time of change"),
        (lesson, b"</p>", b"", lesson),
        (lesson, b"&lt;", b"&nbsp;", lesson),
        (lesson, b'src="../../_images/B1.png"', b'src="https://example.org/B1.png"', "not in the book"),
        (lesson, b' alt="', b' longdesc="', "without words"),
        (lesson, b'id="equation-2"', b'id="equation-3"', "twice"),
        (lesson, b"<p>", b"<p><span><div></div></span>", "{'div'} in a span"),
        ("nav.xhtml", b"B1_tabular_q_learning.xhtml", b"B1.xhtml", "B1.xhtml: is not in the book"),
        ("_static/book.css", b"body", b"@import url(https://example.org/x);body", "loads from elsewhere"),
    ):  # fmt: skip
        assert old in small[name], (name, old)
        other = {**small, name: small[name] if new is None else small[name].replace(old, new)}
        if new is None:
            del other[name]
        found = {*amiss(other)} - known
        assert any(said in problem for problem in found), (name, old, sorted(found)[:3])


def test_links_out_of_the_book_are_words():
    here, kept = "chapters/B_core_algorithms/B1_x", {"chapters/A_foundations/A3_y", "chapters/references"}
    text = (
        "[a](../A_foundations/A3_y.md#place) [`b`](../../source/chapters/x.py.md) [w](https://x.org) "
        '[f](results/B1.png) ![F](results/B1.png) <a class="to" href="../references.html#k" title="t">k</a> '
        '<a class="to" href="../../proven.html#B1.c">c</a>\n```text\n[a](../../source/x.md)\n```\n'
    )
    assert book.within(text, here, kept) == (
        "[a](../A_foundations/A3_y.md#place) `b` [w](https://x.org) f ![F](results/B1.png) "
        '<a href="../references.xhtml#k" title="t">k</a> c\n```text\n[a](../../source/x.md)\n```\n'
    )


@with_extra
def test_formulas_are_set_as_they_are_meant():
    hat = "".join(book.mathml(r"\hat A_t", False).split())
    assert "<msub><mrow><moveraccent=" in hat
    assert "munderover" not in hat
    for formula in (r"\tfrac12 \dots ½", r"y_{\lt t}", r"\big[ x \big]", r"\log \pi \tag{2}", "^-"):
        ElementTree.fromstring(book.mathml(formula, True))
    with pytest.raises(Exception, match="unknown"):
        book.mathml(r"\unknown", False)


@with_extra
def test_html_becomes_xml():
    drawn = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0"/></svg>'
    text = book.xhtml(f'<p>a<br>b &amp; c &lt; d<input disabled></p>{drawn}<img src="x" alt="y">')
    ElementTree.fromstring(f"<body>{text}</body>")
    assert drawn in text


def test_it_is_made_where_it_is_asked_for_or_one_line_says_why(course, tmp_path, monkeypatch):
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    assert course.refused("site", "epub").startswith("error: rl site needs the extra `docs`")
    assert (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines().count("/*.epub") == 1
