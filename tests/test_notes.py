"""Prose is checked like code: notes have their parts, links lead somewhere, every paper cited is known.

Nothing here is a list kept by hand: notes and lessons are found by file name.
"""

import contextlib
import io
import re
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import bibtexparser
import pytest

from chapters.course import ledger
from chapters.course.catalog import CHAPTERS, ROOT, find, items, lessons

NOTES = [item for item in items() if item.kind == "md"]
PROSE = sorted(
    [*ROOT.glob("*.md"), *CHAPTERS.glob("*.md"), *CHAPTERS.glob("*/*.md")]
    + [path for folder in ("days", "planning", "benchmarks") for path in (ROOT / folder).rglob("*.md")]
)
CITING = [*PROSE, *(path for path in CHAPTERS.rglob("*.py") if path.parent.name != "course")]
KEY = re.compile(r"\b[a-z]{2,}(?:19|20)\d\d[a-z]*\d?\b")
HOUSE_NAMES = """obs actions rewards next_obs terminated truncated done log_prob values next_values advantages
returns td_target gamma gae_lambda clip_eps ent_coef vf_coef max_grad_norm num_envs num_steps num_epochs
minibatch_size approx_kl key prompt_ids completion_ids completion_mask token_log_probs ref_log_probs
old_log_probs group_size beta"""

each_note = pytest.mark.parametrize("note", NOTES, ids=lambda note: note.id)
each_page = pytest.mark.parametrize("page", PROSE, ids=lambda page: page.relative_to(ROOT).as_posix())
each_lesson = pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.id)


@cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def markdown(path: Path) -> str:
    """The Markdown of a page, or of a lesson's text cells; without fenced code."""
    text = read(path)
    if path.suffix == ".py":
        text = "\n\n".join(re.findall(r'^r"""\n(.*?)^"""$', text, re.DOTALL | re.MULTILINE))
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def words(path: Path) -> int:
    """Words a reader reads: no code, no displayed equations, nothing generated."""
    text = re.sub(
        r"<!-- results.*?<!-- /results -->|</?[a-z][^>]*>|\$\$.*?\$\$", " ", markdown(path), flags=re.DOTALL
    )
    return len([word for word in text.split() if re.search(r"\w", word)])


def anchors(path: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ +(.+)$", markdown(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(text: str, page: Path) -> list[str]:
    """Relative links of a page's Markdown that lead to no file, to no heading, or out of the repository."""
    targets = re.findall(r"\]\(([^()\s]+)\)|<img[^>]* src=\"([^\"]+)\"", re.sub(r"`[^`\n]*`", "", text))
    dead = []
    for target in (link or image for link, image in targets):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not re.match(r"(https?|mailto):", target) and (
            not there.exists()
            or not there.is_relative_to(ROOT)
            or (anchor and (there.suffix != ".md" or anchor not in anchors(there)))
        ):
            dead.append(target)
    return dead


def equation_faults(source: str, text: str) -> list[str]:
    """What is wrong with the numbered equations of a lesson, given its source and its Markdown."""
    tags = [int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", text)]
    own = re.sub(r"\b[A-E]\d+(?:'s|,)? eqs?\. \(\d+\)", "", source)  # "A3's eq. (4)" is another lesson's
    marks = r"\beqs?\. (\(\d+\)(?:(?:, | and |, and )\(\d+\))*)"
    used = {int(n) for mark in re.findall(marks, own) for n in re.findall(r"\d+", mark)}
    used |= {int(n) for n in re.findall(r"\w[,:]? \((\d+)\)", text)}
    code = {int(n) for mark in re.findall(f"#.*?{marks}", own) for n in re.findall(r"\d+", mark)}
    faults = [f"({tag}) is referred to by neither code nor text" for tag in set(tags) - used]
    faults += [f"the code refers to ({number}), which is not there" for number in code - set(tags)]
    if tags != list(range(1, len(tags) + 1)):
        faults.append(f"numbered {tags}")
    if not code:
        faults.append("no line of code says which equation it implements")
    return faults


@cache
def bibliography() -> bibtexparser.Library:
    return bibtexparser.parse_file(str(CHAPTERS / "references.bib"))


# The form of a note


@each_note
def test_note_opens_with_question_and_answer(note):
    assert note.text.startswith(f"# {note.id} · ")
    assert note.question.endswith("?")
    blocks = [block for block in note.text.split("\n\n") if block.strip()]
    assert blocks[1].startswith("**Question.**")
    assert blocks[2].startswith("**Answer.**"), "the answer is one paragraph, right after the question"


@each_note
def test_note_has_its_parts_in_order(note):
    parts = ["```mermaid", "## What the lessons measured", "## Common mistakes", "## Check yourself"]
    parts.append("## Where to go next")
    positions = [note.text.find(part) for part in parts]
    assert all(position >= 0 for position in positions), dict(zip(parts, positions))
    assert positions == sorted(positions)
    assert re.search(r"<!-- results: [A-E]\d+.* -->", note.text), "no generated block"


@each_page
def test_generated_blocks_name_claims_that_exist(page):
    for lesson, only in re.findall(r"<!-- results: ([A-E]\d+) ([\w, ]+) -->", read(page)):
        item = find(lesson, kinds=("py",))
        assert item.ledger.exists(), f"{lesson} was never recorded"
        book = ledger.load(item)
        known = {*book["claims"], *(claim["name"] for claim in book["pooled"])}
        assert {name.strip() for name in only.split(",")} <= known


@each_note
def test_note_asks_three_questions_and_folds_the_answers(note):
    section = note.text.partition("## Check yourself")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d\. ", section, re.MULTILINE)) == 3
    answers = re.findall(r"<details><summary>Answer</summary>\n\n(.+?)\n\n +</details>", section, re.DOTALL)
    assert len(answers) == 3
    assert all(len(answer.split()) > 10 for answer in answers)


@each_note
def test_note_is_as_long_as_one_question_needs(note):
    assert 800 <= words(note.path) <= 1500


@each_note
def test_code_in_a_note_prints_what_the_note_says(note):
    """A ```python block runs as it stands; the ```text block behind it is its output.

    Warnings are swallowed: a note may show what a deprecated name does.
    """
    for code, printed in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", note.text, re.DOTALL):
        output = io.StringIO()
        with contextlib.redirect_stdout(output), warnings.catch_warnings(record=True):
            exec(compile(code, f"{note.id}.md", "exec"), {"__name__": "note"})
        assert output.getvalue() == printed
    assert note.text.count("```python") == len(
        re.findall(r"```python\n.*?```\n\n```text", note.text, re.DOTALL)
    )


def test_readme_starts_with_the_two_commands_and_lists_everything():
    text = read(ROOT / "README.md")
    assert re.search(r"^\./setup\.sh\b", text, re.MULTILINE)
    assert re.search(r"^\./setup\.sh --test\b", text, re.MULTILINE)
    assert "<!-- syllabus -->" in text
    assert "<!-- /syllabus -->" in text
    for item in items():
        assert item.path.relative_to(ROOT).as_posix() in text, f"{item.id} is not in the syllabus"


# The algorithms that the documents behind this course list in their tables; RLHF's parts among them.
NAMED_ALGORITHMS = """
Q-learning, DQN, Double DQN, dueling DQN, Rainbow, REINFORCE, A2C, A3C, PPO, TRPO, SAC, TD3, Dyna-Q,
MuZero, Dreamer, MBPO, AlphaGo, AlphaZero, IMPALA, Reward models, KL penalty, reference model, DPO,
constitutional AI, inverse RL, Behaviour cloning, Offline RL, Continual learning"""


def found_algorithms() -> list[tuple[str, str, str]]:
    """(what is looked for, where it is built, its functions), each row of README's table."""
    table = read(ROOT / "README.md").split("## Find an algorithm\n")[1].split("\n## ")[0]
    return re.findall(r"^\| ((?!you look).+?) \| (\[.+?|\*planned.+?) \| ?(.*?) ?\|$", table, re.MULTILINE)


def test_every_algorithm_of_the_source_documents_can_be_found():
    looked_for = "\n".join(names for names, _, _ in found_algorithms())
    for name in re.split(r",\s+", NAMED_ALGORITHMS.strip()):
        assert re.search(rf"\b{re.escape(name)}\b", looked_for), f"{name} is not in README's table"


@pytest.mark.parametrize("row", found_algorithms(), ids=lambda row: row[0])
def test_a_found_algorithm_is_a_lesson_with_recorded_claims_and_its_functions(row):
    names, place, functions = row
    if place.startswith("*planned*"):
        assert not functions, f"{names}: what is planned has no functions yet"
        return
    lesson = find(re.match(r"\[(\w+)\]", place)[1])
    assert f"]({lesson.path.relative_to(ROOT).as_posix()})" in place
    assert (lesson.results / f"{lesson.id}.json").is_file(), f"{lesson.id} has no ledger"
    named = re.findall(r"`(\w+)`", functions)
    assert named, f"{names}: no function to start at"
    for name in named:
        assert re.search(rf"^(?:def|class) {name}\b", read(lesson.path), re.MULTILINE), f"{lesson.id}: {name}"


def test_contributing_names_every_step_of_adding_a_lesson():
    text = read(ROOT / "CONTRIBUTING.md")
    for step in (
        "log.claim",
        "EDITS",
        "measure(cfg, extra, log)",
        "rl record",
        "rl tables",
        "SMOKE",
        "uv run pytest",
        "ruff",
        "same-as",
    ):
        assert step in text, step


def test_notation_has_every_house_name_and_none_twice():
    rows = re.findall(r"^\|[^|\n]*\|((?:[^|\n]|\\\|)*)\|", read(CHAPTERS / "NOTATION.md"), re.MULTILINE)
    ends = re.findall(r"^\| `(\w+)` \|", read(CHAPTERS / "NOTATION.md"), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)(?:\[[^\]]*\])?`", row)]
    names = [name for name in names if name not in ends] + ends
    assert set(HOUSE_NAMES.split()) <= set(names)
    assert not {name for name in names if names.count(name) > 1}


# Links


@pytest.mark.parametrize(
    "page",
    [*PROSE, *(lesson.path for lesson in lessons())],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_relative_link_leads_somewhere(page):
    assert dead_links(markdown(page), page) == []


@each_page
def test_fences_are_closed_and_diagrams_have_a_kind(page):
    fences = re.findall(r"^ *(```+)(\w*)$", read(page), re.MULTILINE)
    assert len(fences) % 2 == 0, "a fence is not closed"
    for kind in re.findall(r"```mermaid\n\s*(\w+)", read(page)):
        assert kind in ("flowchart", "sequenceDiagram", "stateDiagram", "classDiagram", "timeline")


# Papers


def test_bibliography_parses_and_every_entry_is_complete():
    library = bibliography()
    assert not library.failed_blocks, [block.error for block in library.failed_blocks]  # duplicate keys too
    for entry in library.entries:
        fields = {field.key: str(field.value) for field in entry.fields}
        assert {"author", "title", "year"} <= set(fields), entry.key
        assert set(fields) & {"journal", "booktitle", "publisher", "institution", "howpublished"}, entry.key
        assert fields["year"] in entry.key, f"{entry.key} is of {fields['year']}"


def test_every_paper_has_one_arxiv_id_and_one_entry():
    eprints, titles = [], []
    for entry in bibliography().entries:
        fields = {field.key: str(field.value) for field in entry.fields}
        titles.append((re.sub(r"[^a-z]", "", fields["title"].lower()), fields.get("edition")))
        linked = re.findall(r"arxiv\.org/abs/([\w./]+)", fields.get("url", ""))
        if eprint := fields.get("eprint"):
            assert re.fullmatch(r"\d{4}\.\d{4,5}", eprint), entry.key
            assert linked in ([], [eprint]), entry.key
            assert 2000 + int(eprint[:2]) <= int(fields["year"]), (
                f"{entry.key}: published before its preprint"
            )
            eprints.append(eprint)
        else:
            assert not linked, f"{entry.key}: the id belongs in eprint too"
    assert len(eprints) == len(set(eprints))
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("path", CITING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_paper_cited_is_in_the_bibliography(path):
    cited = {match.group() for match in KEY.finditer(read(path))}
    unknown = cited - {entry.key for entry in bibliography().entries}
    assert not unknown, f"not in references.bib: {', '.join(sorted(unknown))}"


def test_every_paper_in_the_bibliography_is_cited():
    words = {word for path in CITING for word in re.findall(r"\w+", read(path))}  # each key is one word
    assert [entry.key for entry in bibliography().entries if entry.key not in words] == []


@each_lesson
def test_lesson_cites_in_its_header_what_it_cites_below(lesson):
    header = re.search(r"^References:(.*?)\n\n", lesson.text, re.DOTALL | re.MULTILINE).group(1)
    cited = {match.group() for match in KEY.finditer(read(lesson.path))}
    assert cited <= {match.group() for match in KEY.finditer(header)}


# Equations


@each_lesson
def test_equations_are_numbered_in_order_and_each_is_used(lesson):
    assert equation_faults(read(lesson.path), markdown(lesson.path)) == []


@each_note
def test_equations_of_a_note_are_numbered_in_order_and_each_is_used(note):
    tags = [int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", note.text)]
    assert tags == list(range(1, len(tags) + 1))
    used = {int(n) for n in re.findall(r"[\w.:][,:]? \((\d+)\)", note.text)}
    used |= {int(n) for n in re.findall(r"equations? \((\d+)\)", note.text)}
    assert set(tags) <= used, "an equation that nothing refers to needs no number"


# The way through


def listed(text: str) -> set[str]:
    """The lessons that a text names, with those inside its ranges: "B8, D9–D11" is B8, D9, D10 and D11."""
    names = set()
    for chapter, first, last in re.findall(r"\b([A-E])(\d+)(?:–[A-E](\d+))?\b", text):
        names |= {f"{chapter}{number}" for number in range(int(first), int(last or first) + 1)}
    return names


def called_planned() -> dict[str, set[str]]:
    """{where it is said: the lessons that are said to be still to be built}."""
    roadmap, further = read(ROOT / "planning" / "roadmap.md"), read(find("E2").path)
    stretches = re.findall(r"^\| \d · .*\|([^|]*)\|$", roadmap, re.MULTILINE)
    rows = re.findall(r"^\| ([A-E]\d+) \|", roadmap, re.MULTILINE)
    marked = [
        line for page in PROSE for line in read(page).splitlines() if "*planned*" in line and "|" in line
    ]
    return {
        "roadmap, stretches": listed(" ".join(stretches)),
        "roadmap, planned lessons": set(rows),
        "E2, planned": listed(re.search(r"^## Planned\n(.*?)^## ", further, re.DOTALL | re.MULTILINE)[1]),
        "marked *planned* in a table": listed(" ".join(marked)),
    }


def test_nothing_built_is_called_planned():
    """And the three lists of what is still to be built name the same lessons."""
    places = called_planned()
    built = {item.id for item in items()}
    for place, names in places.items():
        assert not names & built, (place, sorted(names & built))
    rows = places["roadmap, planned lessons"]  # none, when all are built
    assert places["roadmap, stretches"] == rows == places["E2, planned"]


def test_links_alone_lead_from_the_front_page_to_every_page():
    """Notes, lessons, days, plans: whoever starts at README and only follows links sees them all."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in reached or not page.is_file():
            continue
        reached.add(page)
        if page.suffix in (".md", ".py"):
            text = markdown(page) if page.suffix == ".md" or page.match("[A-E]*_*/[A-E]*_*.py") else ""
            links = re.findall(r"\]\(([^()\s#]+)[^()\s]*\)", text)
            waiting += [page.parent / link for link in links if not re.match(r"\w+:", link)]
    wanted = {page.resolve() for page in PROSE} | {item.path.resolve() for item in items()}
    missed = sorted(path.relative_to(ROOT).as_posix() for path in wanted - reached)
    assert missed == []


# Spelling


def test_spelling():
    """codespell over prose and code, with the words this project allows (pyproject.toml)."""
    lessons_and_tools = [path for suffix in ("py", "sh") for path in CHAPTERS.rglob(f"*.{suffix}")]
    paths = [str(path.relative_to(ROOT)) for path in (*PROSE, *lessons_and_tools, *ROOT.glob("tests/*.py"))]
    command = [sys.executable, "-m", "codespell_lib", *paths]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


# These checks notice what they are for


@pytest.mark.parametrize(
    "link",
    ["[x](missing.md)", "[x](NOTATION.md#no-such-heading)", "[x](../../outside)", '<img src="no.png">'],
)
def test_a_dead_link_is_noticed(link):
    page = CHAPTERS / "NOTATION.md"
    assert dead_links(f"See {link}.", page)
    assert not dead_links("See [x](NOTATION.md#values), [y](#values) and [z](https://arxiv.org).", page)


@pytest.mark.parametrize(
    ("old", "new"),
    [(r"\tag{2}", r"\tag{3}"), ("# eq. (1)", "# eq. (4)"), ("By (2)", "Thus"), ("# eq. (1)", "")],
    ids=["wrong number", "no such equation", "never used", "no code says so"],
)
def test_a_misnumbered_equation_is_noticed(old, new):
    text, code = r"$$a \tag{1}$$ By (2), $$b \tag{2}$$", "a = 1  # eq. (1)"
    assert equation_faults(code, text) == []
    assert equation_faults(code.replace(old, new), text.replace(old, new))
