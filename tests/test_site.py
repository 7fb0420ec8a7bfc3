"""The site: what becomes a page, where its links lead, and how it fares in a real browser, from a disk."""

import html
import html.parser
import http.client
import posixpath
import re
import threading
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
import yaml

from chapters.course import ledger, plans, practice, tables
from chapters.course.catalog import ROOT, find, items, lessons
from chapters.course.parts import exercises_of, tasks_of
from chapters.course.site import build, diagrams, exercises, lists, mistakes, pages, proven, search
from chapters.course.site.names import ORDERS, PROVEN, name_of
from chapters.utils.claims import Claim
from chapters.utils.lesson import UsageError

with_extra = pytest.mark.skipif(bool(build.missing()), reason=build.missing())
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@pytest.fixture(scope="module")
def laid_out():
    """All pages but those for which every lesson is imported: these are built with the site.

    They are "Every mistake", and the hints and solutions.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mistakes, "page", lambda: "# Every mistake")
        patched.setattr(exercises, "with_help", lambda text: text)
        return pages.collect()


def test_every_lesson_note_day_and_plan_is_a_page(laid_out):
    for item in items():
        assert f"# {item.id} · {item.title}" in laid_out.pages[name_of(item.path)], item.id
    for path in [*ROOT.glob("*.md"), *(ROOT / "planning").glob("*.md"), *(ROOT / "days").glob("*/*.md")]:
        assert name_of(path) in laid_out.pages, path
    order = re.findall(r"^(?:chapters|planning|days)/\S+$", laid_out.pages["index"], re.MULTILINE)
    numbered = [name_of(item.path) for item in items()]
    assert order[: len(numbered)] == numbered


def test_links_between_pages_lead_to_pages_and_pictures_are_there(laid_out):
    for name, text in laid_out.pages.items():
        folder = (ROOT / name).parent
        prose = diagrams.FENCE.sub("", text)
        targets = re.findall(r"\]\(([^()\s#]+)[^()]*\)", prose) + re.findall(r'(?:src|href)="([^"#]+)', prose)
        for target in targets:
            target = target.partition("?")[0]
            if re.match(r"\w+:", target) or name == "CONTRIBUTING":
                continue
            place = Path(unquote(str(folder / target))).resolve()
            known = place.relative_to(ROOT).as_posix()
            page = re.sub(r"\.(md|html)$", "", known)
            assert page in laid_out.pages or place in laid_out.pictures, f"{name}: {target}"


def test_code_that_only_draws_is_folded_and_nothing_is_lost():
    source = "X = 1\n\n\ndef draw(log):\n    log.figure(plotting.new_figure())\n\n\ndef main():\n    pass"
    text = pages.code(source)
    folded = text.index("<details>"), text.index("</details>")
    assert folded[0] < text.index("def draw") < folded[1] < text.index("def main")
    kept = re.sub(r"</?details>|<summary>.*?</summary>|```(python)?", "", text).split()
    assert kept == source.split()
    assert "<details>" not in pages.code("def main():\n    pass")


def test_a_paper_that_is_cited_leads_to_its_reference(laid_out):
    text, _ = pages.linked_up(
        "See `watkins1992qlearning`, and `nobody2020x`.", ROOT / "chapters" / "NOTATION.md"
    )
    assert (
        '<a class="to" href="references.html#watkins1992qlearning" title="Watkins and Dayan (1992). ' in text
    )
    assert "`nobody2020x`" in text
    assert 'id="watkins1992qlearning"' in laid_out.pages["chapters/references"]


def test_every_claim_is_on_the_page_of_what_is_proven_and_result_tables_lead_there(laid_out):
    claims = set()
    for item in lessons():
        book = ledger.load(item)
        claims |= {
            f"{item.id}.{name}" for name in [*book["claims"], *(one["name"] for one in book["pooled"])]
        }
        for name in book["claims"]:
            assert f"proven.html#{item.id}.{name}" in laid_out.pages[name_of(item.path)]
    assert set(re.findall(r'<div class="entry" id="([^"]+)"', laid_out.pages[PROVEN])) == claims
    linked = {
        found for text in laid_out.pages.values() for found in re.findall(r"proven\.html#([^\"]+)", text)
    }
    assert linked == claims
    note = laid_out.pages["chapters/D_rlhf/D1_reward_modeling_concepts"]
    assert 'proven.html#D3.calibration_slope">' in note


def claim(value, **bound):
    return Claim("one", "It is so.", value, **bound)


@pytest.mark.parametrize(
    ("values", "bound", "margin"),
    [
        ((2.0, 3.0), {"at_least": 1.0}, 1.0),
        ((0.5, 3.0), {"at_least": 1.0}, -0.5),
        ((-3.0, -1.5), {"at_most": -1.0}, 0.5),
        ((0.0, 0.2), {"at_most": 0.0}, -1.0),
        ((9.0, 10.5), {"near": (10.0, 2.0)}, 0.5),
        ((7.0,), {"near": (10.0, 2.0)}, -0.5),
        ((float("nan"), 2.0), {"at_least": 1.0}, -float("inf")),
    ],
)
def test_a_margin_is_that_of_the_worst_seed(values, bound, margin):
    records = [claim(value, **bound) for value in values]
    assert proven.margin(records) == pytest.approx(margin)
    assert (proven.margin_class(margin) == "fails") == any(not record.holds for record in records)


def test_dots_stand_on_their_side_of_the_bound():
    for bound in ({"at_least": 1.0}, {"at_most": 1.0}, {"near": (1.0, 0.5)}):
        for values in ((0.0, 0.8, 1.2, 3.0), (1.0, 1.0), (1e6, -1e6), (float("nan"), 2.0)):
            picture = proven.dots([claim(value, **bound) for value in values])
            left, width = (
                float(part) for part in re.search(r'<rect x="([\d.]+)" width="([\d.]+)"', picture).groups()
            )
            dots = re.findall(r'<circle class="(\w+)" cx="([\d.]+)"', picture)
            assert len(dots) == sum(value == value for value in values)
            for verdict, x in dots:
                assert (left - 0.11 <= float(x) <= left + width + 0.11) == (verdict == "holds"), (
                    bound,
                    values,
                )


def test_a_claim_has_a_kind():
    assert proven.kind([claim(1.0, at_least=0.0)] * 2) == "exact"
    assert proven.kind([claim(1.0, at_least=0.0), claim(2.0, at_least=0.0)]) == "statistical"
    assert proven.kind([claim(1.0, at_least=0.0, timed=True)] * 2) == "timed"
    assert proven.kind([claim(1.0, at_least=0.0, always=True)] * 2) == "identity"


def test_a_mistake_is_shown_with_its_lines_and_what_fails():
    item = find("B1")
    name, edit, changed = next(one for one in mistakes.named(item) if one[0] == "merged")
    text = mistakes.entry(item, name, edit, changed)
    assert 'id="B1.merged"' in text
    assert html.escape(edit.says) in text
    assert all(f"proven.html#B1.{claim}" in text for claim in edit.fails)
    assert 'class="gd">-' in text
    assert 'class="gi">+' in text
    lead = mistakes.linked_commands("Try `rl break B1 merged`.", item.path)
    assert (
        lead == 'Try <a class="to" href="../../mistakes.html#B1.merged"><code>rl break B1 merged</code></a>.'
    )


@pytest.mark.parametrize("lesson_id", ["A3", "B1"])
def test_each_exercise_has_its_hints_and_its_solution_folded_below_it(lesson_id):
    item = find(lesson_id)
    text = exercises.with_help(pages.lesson(item.path))
    block = tables.EXERCISES.search(text)[0]
    folded = re.findall(r'<details class="help"><summary>(.*?)</summary>(.*?)</details>', block, re.DOTALL)
    told = " ".join(re.sub(r'<details class="help">.*?</details>', "", block, flags=re.DOTALL).split())
    for one in exercises_of(item).values():
        assert one.title in told
        assert " ".join(one.task.split())[:60] in told
        assert one.answer.strip() in block
    graded = [
        name
        for key, one in exercises_of(item).items()
        for name in (*one.functions, *([key] if one.solution else []))
    ]
    solutions = [text for title, text in folded if title == "Solution"]
    for name, shown in zip(graded, solutions, strict=True):
        assert practice.source_of(tasks_of(item)[name]) in shown
    hints = [title for title, _ in folded if title.startswith("Hint")]
    assert len(hints) == sum(len(practice.hints(item, name)) for name in graded)


def test_a_hint_shows_words_as_words_code_as_code_and_equations_set():
    assert exercises.step_text("the first line: x = 1") == "The first line:\n\n```python\nx = 1\n```\n"
    assert exercises.step_text("x = f(y)") == "```python\nx = f(y)\n```\n"
    assert exercises.step_text(">>> f(1)\n2") == "```pycon\n>>> f(1)\n2\n```\n"
    assert "<p>If a &lt; b, take <code>c</code>.</p>" in exercises.step_text("If a < b, take `c`.")
    told = exercises.step_text("What it is.\nequation (2) V = x_1\nit belongs to section 3. Here")
    assert re.sub(r"\n+", "\n", told).strip().split("\n") == [
        "<p>What it is.</p>", "(2): $V = x_1$", "<p>It belongs to section 3. Here.</p>",
    ]  # fmt: skip


def test_hints_and_solutions_are_no_text_to_search():
    page = """<article role="main"><section id="a"><h1>A</h1><p>Do it.</p><details class="help"><summary>Hint
        </summary><p>secret</p></details><nav class="orders"><p>next</p></nav></section></article>"""
    assert search.sections(page) == [("a", "A", "A", "Do it.", "")]


def test_every_figure_says_what_it_shows():
    told = lists.captions()
    for item in lessons():
        for path in ledger.own_figures(item):
            assert len(told.get(path, "")) > 15, path.name
    draws = find("A3").evidence
    assert lists.drawn(draws, "A3")["A3_film.gif"].startswith("Value iteration on a slippery maze")


def test_before_and_after_in_each_plan():
    for plan in plans.load().values():
        order = [item for item in map(plans.find, dict.fromkeys(plan.items)) if item]
        for at, item in enumerate(order):
            line = re.search(rf'<p data-plan="{plan.id}">.*?</p>', lists.in_plans(item))[0]
            links = re.findall(r'<a href="([^"]+)" rel="(\w+)"', line)
            folder = posixpath.dirname(name_of(item.path))
            found = {rel: posixpath.normpath(posixpath.join(folder, place)) for place, rel in links}
            beside = {"prev": order[at - 1 : at], "next": order[at + 1 : at + 2]}
            wanted = {rel: name_of(one[0].path) for rel, one in beside.items() if one}
            assert found == {rel: f"{name}.html?plan={plan.id}" for rel, name in wanted.items()}
    assert "weekend" not in lists.in_plans(find("E11"))


def test_what_did_not_change_keeps_its_time_and_what_is_gone_goes(tmp_path):
    picture = ROOT / "chapters" / "B_core_algorithms" / "results" / "B1.png"
    build.lay_out(pages.Site({"index": "one", "a/b": "two"}, {picture}), tmp_path)
    times = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    (shown,) = tmp_path.rglob("B1.png")
    shown.unlink()
    shown.symlink_to(tmp_path / "elsewhere.png")
    build.lay_out(pages.Site({"index": "one", "c": "three"}, {picture}), tmp_path)
    assert shown.readlink() == picture
    assert {path.name for path in tmp_path.rglob("*.*")} == {"index.md", "c.md", "B1.png"}
    assert (tmp_path / "index.md").stat().st_mtime_ns == times[tmp_path / "index.md"]


def test_every_diagram_has_its_picture():
    """Else: `python -m chapters.course.site.diagrams mermaid.min.js`, as its docstring says."""
    texts = diagrams.texts()
    assert len(texts) > 10
    assert {diagrams.path_of(text) for text in texts} <= {*diagrams.PLACE.glob("*.svg")}
    for text in texts:
        picture = diagrams.path_of(text).read_text(encoding="utf-8")
        assert picture.count("\n") == 1
        assert not re.search(r"<style|fill=\"#|href|foreignObject|url\(\w|&lt;", picture)
        words = re.sub(r"<[^>]+>", "", re.sub(r"</tspan>", " ", picture)).split()
        labels = " ".join(diagrams.LABEL.findall(diagrams.STYLED.sub("", text))).replace("<br/>", " ").split()
        assert len(words) >= len(labels), "a label is not in the picture"


def test_what_readers_load_is_here():
    """KaTeX's style names fonts, and they stand beside it."""
    style = build.STATIC / "katex" / "katex.min.css"
    fonts = re.findall(r"url\(([^)]+)\)", style.read_text(encoding="utf-8"))
    assert len(fonts) == 20
    assert all((style.parent / font).exists() for font in fonts)
    for path in build.STATIC.glob("*.*"):
        assert not re.search(r"https?://|\bimport\b|fetch\(", path.read_text(encoding="utf-8")), path


def test_the_job_that_publishes_is_off_by_default():
    job = yaml.load((ROOT / ".github" / "workflows" / "site.yml").read_text(), Loader=yaml.BaseLoader)
    assert job["on"] == {"workflow_dispatch": ""}
    assert any(step.get("run") == ".venv/bin/rl site build" for step in job["jobs"]["site"]["steps"])
    assert job["permissions"] == {"contents": "read"}
    assert [name for name, one in job["jobs"].items() if "permissions" in one] == ["publish"]
    assert [step["uses"] for step in job["jobs"]["publish"]["steps"]] == ["actions/deploy-pages@v5"]


def test_without_the_extra_it_is_one_line(course, monkeypatch):
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    says = "error: rl site needs the extra `docs` (uv sync --inexact --compile-bytecode --extra docs)\n"
    assert course.refused("site", "build") == says
    assert course.refused("site", "serve") == says


@with_extra
def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="there is something else"):
        build.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_search_looks_through_sections_claims_and_mistakes():
    mark = '<a class="headerlink" href="#">¶</a>'
    page = f"""<article role="main" id="x"><section class="y" id="top"><h1>B1 · A &amp; b{mark}</h1>
        <p>First.</p><section id="one"><h2>One{mark}</h2><pre>x <span>= 1</span></pre></section></section>
        <div class="entry" id="B1.gap" data-kind="exact"><p><b>It holds.</b></p><svg><text>no</text></svg>
        <p>later</p></div></article>"""
    assert search.sections(page) == [
        ("top", "B1 · A & b", "B1 · A & b", "First.", ""),
        ("one", "B1 · A & b", "One", "", "x = 1"),
        ("B1.gap", "B1 · A & b", "B1.gap", "It holds.", ""),
    ]


def test_search_knows_what_the_front_page_says_is_where():
    known = search.subjects()
    assert "GAE" in known["chapters/C_policy_gradients/C1_actor_critic_methods_a2c.html"]
    assert not any("Week" in words for words in known.values()), "another table"
    assert "start" in known.pop("index.html")
    for page in known:
        assert [*ROOT.glob(page.replace(".html", ".*"))], page


def test_it_is_served_to_this_machine_only(tmp_path):
    (tmp_path / "index.html").write_text("front")
    server = build.server(tmp_path, 0)
    host, port = server.server_address
    assert host == "127.0.0.1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"front"
        connection.close()
        with pytest.raises(UsageError, match="cannot listen there"):
            build.server(tmp_path, port)
    finally:
        server.shutdown()
        server.server_close()


class Reader(html.parser.HTMLParser):
    """The places of a page, what it links to and loads, its headings and its images."""

    def __init__(self, text):
        super().__init__()
        self.places, self.links, self.headings, self.images = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places.add(found.get("id"))
        self.links += [found[name] for name in ("href", "src") if name in found]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole site, built once, in half a minute: {path: its page}."""
    folder = tmp_path_factory.mktemp("site")
    assert build.build(folder) == []
    return {path: Reader(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


@with_extra
def test_every_link_of_the_site_leads_somewhere(site):
    for path, page in site.items():
        for link in page.links:
            if re.match(r"https?:|mailto:|data:", link):
                continue
            target, _, anchor = unquote(link).partition("#")
            place = (path.parent / target.partition("?")[0]).resolve() if target else path
            assert place.exists(), f"{path.name}: {link}"
            if anchor and place.suffix == ".html":
                assert anchor in site[place].places, f"{path.name}: {link}"


@with_extra
def test_headings_in_order_images_described_and_sized(site):
    for path, page in site.items():
        assert page.headings[0] == 1, path
        assert page.headings.count(1) == 1, path
        assert all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:])), path
        for image in page.images:
            assert len(image.get("alt", "")) > 5, (path, image)
            assert {"width", "height"} <= image.keys(), (path, image)


@with_extra
def test_it_is_small(site):
    folder = next(path.parent for path in site if path.name == "search.html")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 60e6


# ---------------------------------------------------------------------------------------------------------
# In a real browser, opened from the disk

LEFT = ("net::ERR_ABORTED",)
"""How a picture fails whose page is left before it is there: as it should."""
LOUD = ("error", "warning")
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
COLLIDING = """() => {
  const place = (part) => part.getBoundingClientRect();
  const collides = (tag) => place(tag.previousElementSibling).right > place(tag).left + 1;
  return [...document.querySelectorAll(".katex-tag")].filter(collides).map((tag) => tag.textContent);
}"""
"""Numbers of equations that stand in their formulas."""
CONTRAST = """() => {
  const parts = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parts(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const one of document.querySelectorAll("article *, .sidebar-tree a, .toc-tree a")) {
    const texts = [...one.childNodes].filter((node) => node.nodeType === 3);
    const text = texts.map((node) => node.data).join("").trim();
    if (!text || !one.checkVisibility() || one.closest("svg, .katex, button")) continue;
    const [a, b] = [light(parts(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found[`${one.tagName}.${one.className}`] = `${ratio.toFixed(2)}: ${text.slice(0, 30)}`;
  }
  return found;
}"""


@pytest.fixture
def look(site, chromium):
    """look(name): that page from the disk. An error in it, or a request to anywhere, fails the test."""
    folder = next(path.parent for path in site if path.name == "search.html")
    contexts, amiss = [], []

    def open_(name, width=1400, scheme="light", page=None, base=f"file://{folder}"):
        if page is None:
            context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            context.set_default_timeout(120_000)  # a machine may be busy
            contexts.append(context)
            page = context.new_page()
            page.on("pageerror", lambda error: amiss.append(str(error)))
            page.on("console", lambda line: amiss.append(line.text) if line.type in LOUD else None)
            page.on("requestfailed", lambda request: request.failure in LEFT or amiss.append(request.url))
            page.on(
                "request",
                lambda request: (
                    None if request.url.startswith((base, "file:", "data:")) else amiss.append(request.url)
                ),
            )
        page.goto(f"{base}/{name}")
        return page

    open_.folder = folder

    open_.names = [path.relative_to(folder).as_posix() for path in site if "source" not in path.parts]
    yield open_
    for context in contexts:
        context.close()
    assert amiss == []


@with_extra
def test_every_page_opens_without_an_error_and_asks_for_nothing_elsewhere(look):
    page, formulas = None, 0
    for name in look.names:
        page = look(name, width=390, page=page)
        assert page.locator(".katex-error").count() == 0, name
        assert page.locator(".formula:not(:has(.katex))").count() == 0, name
        assert page.locator(".diagram").count() == page.locator(".diagram > svg").count(), name
        assert page.locator("pre:has-text('flowchart')").count() == 0, name
        assert page.evaluate(OVERFLOW) <= 0, f"{name} is wider than a phone"
        assert page.evaluate(COLLIDING) == [], name
        formulas += page.locator(".formula").count()
    assert formulas > 1000


@with_extra
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_told_from_its_ground(look, scheme):
    page = None
    for name in ("index", "chapters/B_core_algorithms/B1_tabular_q_learning", "proven", "mistakes"):
        page = look(f"{name}.html", scheme=scheme, page=page)
        assert page.evaluate(CONTRAST) == {}, name


@with_extra
def test_search_finds_words_from_the_disk(look):
    first = {
        "two masks of GAE": "C1 · ", "what beta does": "D0 · ",
        "why GRPO's loss is zero": "D5 · GRPO and verifiable rewards › 2. The loss is zero",
        "how to write an exercise": "Contributing › Write its exercises",
        "DPO": "D4 ·", "GAE": "C1 ·", "REINFORCE": "C0 ·", "offline": "E10 ·", "reward hacking": "D16 ·",
        "replay buffer": "B4 ·", "evaluate": "B8 ·", "install": "A0 ·", "Mac": "A0 ·", "KL penalty": "D15 ·",
        "multi-agent": "E9 ·", "optimization of reward models": "D16 ·", "mistakes": "Every mistake",
        "How do I start?": "Reinforcement learning, up to RLHF", "installation": "A0 ·",
        "getting started": "Reinforcement learning, up to RLHF",
    }  # fmt: skip
    among_six = {
        "Bellman": "A3 ·", "SARSA": "B1 ·", "bandit": "B0 ·", "Rainbow": "B6 ·", "calibration": "D3 ·",
        "trust region": "C5 ·", "importance sampling": "B2 ·", "what beta does": "D4 ·", "PPO clip": "C2 ·",
        "off by one": "Every mistake › ", "learning rate": "Notation", "terminated truncated": "A4 ·",
    }  # fmt: skip
    page = None
    for sought, many in ((first, 1), (among_six, 6)):
        for words, title in sought.items():
            page = look(f"search.html?q={quote(words)}", page=page)
            found = page.locator("#found li a").all_inner_texts()
            assert any(one.startswith(title) for one in found[:many]), (words, found[:6])
    page.fill("#search input", "qwertzuiop")
    assert page.locator("output").inner_text() == "0 found"
    page.fill("#search input", "SARSA")
    page.locator("#found li a").first.click()
    page.wait_for_url("**/B1_tabular_q_learning.html#*")


@with_extra
def test_numbers_lead_to_their_claims_and_commands_to_their_mistakes(look):
    lesson = "chapters/B_core_algorithms/B1_tabular_q_learning.html"
    page = look(lesson)
    page.locator("a[href$='proven.html#B1.success_4x4']").click()
    page.wait_for_url("**/proven.html#B1.success_4x4")
    entry = page.locator("[id='B1.success_4x4']")
    entry.scroll_into_view_if_needed()
    assert entry.locator("circle").count() == 10
    page.locator("select[name=lesson]").select_option("B1")
    page.locator("select[name=kind]").select_option("statistical")
    shown = page.locator(".entry:not([hidden])").count()
    assert 0 < shown < page.locator(".entry[data-lesson=B1]").count()
    assert page.locator("output").inner_text().startswith(f"{shown} of ")
    page = look(lesson, page=page)
    page.locator("a[href$='mistakes.html#B1.merged']").first.click()
    page.wait_for_url("**/mistakes.html#B1.merged")
    assert page.locator("details[id='B1.merged'] pre").is_visible()


@with_extra
def test_an_equation_and_its_line_point_at_each_other(look):
    page = look("chapters/B_core_algorithms/B1_tabular_q_learning.html")
    link = page.locator("a.equation[href='#equation-3']").first
    link.hover()
    assert "shown-together" in page.locator("#equation-3").get_attribute("class")
    page.mouse.move(0, 0)
    assert "shown-together" not in page.locator("#equation-3").get_attribute("class")


@with_extra
def test_the_keyboard_is_enough_and_focus_is_seen(look):
    page = look("proven.html")
    for _ in range(4):
        page.keyboard.press("Tab")
        seen = "(one => [one.tagName, getComputedStyle(one).outlineStyle])(document.activeElement)"
        tag, outline = page.evaluate(seen)
        assert tag != "BODY"
        assert outline != "none", tag
    page.locator("input[name=words]").focus()
    page.keyboard.type("no such word anywhere")
    assert page.locator("output").inner_text().startswith("0 of ")


@with_extra
def test_every_figure_and_film_shows(look):
    page = look("figures.html")
    shown = page.evaluate("""() => Promise.all([...document.querySelectorAll("article img")].map((one) => {
      one.loading = "eager";
      return one.decode().then(() => [one.naturalWidth, one.src], () => [0, one.src]);
    }))""")
    assert all(width > 0 for width, _ in shown)
    there = {path.name for item in lessons() for path in ledger.own_figures(item)}
    assert {Path(unquote(source)).name for _, source in shown} == there


@with_extra
def test_hints_and_solutions_open_one_at_a_time(look):
    page = look("chapters/A_foundations/A3_mdp_and_bellman.html")
    assert page.locator("details.help[open]").count() == 0
    solution = page.locator("details.help:has(summary:text-is('Solution'))").first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert "def q_from_v" in solution.locator("pre").inner_text()
    assert page.locator("details.help[open]").count() == 1


@with_extra
def test_next_and_previous_keep_to_a_plan(look):
    order = [item for item in map(plans.find, dict.fromkeys(plans.load()["weekend"].items)) if item]
    page = look(f"{ORDERS}.html")
    page.locator(f"#a-weekend a[href*='{order[2].path.stem}.html?plan=weekend']").first.click()
    page.wait_for_url(f"**/{order[2].path.stem}.html?plan=weekend")
    assert f"3 of {len(order)}" in page.locator(".following").inner_text()
    page.locator(".related-pages .next-page").click()
    page.wait_for_url(f"**/{order[3].path.stem}.html?plan=weekend")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**/{order[4].path.stem}.html?plan=weekend")
    page.locator(".related-pages .prev-page").click()
    page.wait_for_url(f"**/{order[3].path.stem}.html?plan=weekend")
    page.locator(".following a").click()
    page.wait_for_url(f"**/{order[3].path.stem}.html")
    assert page.locator(".following").count() == 0
    page = look(f"{name_of(order[-1].path)}.html?plan=weekend", page=page)
    assert page.locator(".related-pages .next-page").count() == 0


@with_extra
def test_code_is_copied_and_a_session_without_its_prompts(look):
    page = look("chapters/A_foundations/A3_mdp_and_bellman.html")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for block, begins in (
        (".highlight-python", "from collections.abc import"),
        (".highlight-pycon", "corridor = "),
    ):
        part = page.locator(block).first
        part.hover()
        part.locator("button.copy").click()
        there = "(begins) => navigator.clipboard.readText().then((text) => text.startsWith(begins))"
        page.wait_for_function(there, arg=begins)
        assert ">>>" not in page.evaluate("navigator.clipboard.readText()")


@with_extra
def test_on_paper_there_is_the_text_and_nothing_else(look):
    page = look("chapters/B_core_algorithms/B1_tabular_q_learning.html?plan=weekend")
    page.emulate_media(media="print")
    for part in (
        "aside.sidebar-drawer",
        "aside.toc-drawer",
        ".related-pages",
        "button.copy",
        "nav.orders",
        ".following",
    ):
        assert not page.locator(part).first.is_visible(), part
    assert page.locator("article h1").is_visible()
    assert page.evaluate(
        "[...document.querySelectorAll('pre')].every((one) => one.scrollWidth <= one.clientWidth + 1)"
    )
    assert page.pdf(format="A4").startswith(b"%PDF")


@with_extra
def test_it_is_served_as_it_is_read_from_the_disk(look):
    server = build.server(look.folder, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        page = look("search.html?q=SARSA", base=base)
        page.locator("#found li a").first.click()
        page.wait_for_url(f"{base}/**/B1_tabular_q_learning.html#*")
        assert page.locator(".katex").count() > 10
    finally:
        server.shutdown()
        server.server_close()
