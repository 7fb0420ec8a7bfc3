"""`rl exercise` writes stubs and keeps what is there; `rl grade` passes any idiom, and names mistakes."""

import errno
import json
import os
import subprocess
import sys
import time

import jax
import pytest
import torch
import typer

from chapters.course import bugs, cli, grading, overview, plans, practice, shown, spying, worked
from chapters.course.catalog import ROOT, find, lessons
from chapters.course.parts import exercises_of, tasks_of
from chapters.course.spying import Call, replay, same_answer, spied
from chapters.text.models import off_the_clock

GAE = """
def gae(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    advantages = torch.zeros_like(rewards)
    last = torch.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + gamma * next_values[t] * (~terminated[t]) - values[t]
        last = delta + gamma * gae_lambda * (~(terminated[t] | truncated[t])) * last
        advantages[t] = last
    return advantages
"""
SHORT = """
def gae(r, v, v2, end, cut, g, l):
    end, cut = end.float(), cut.float()
    out, last = [], 0.0
    for t in reversed(range(r.shape[0])):
        last = r[t] + g * (1 - end[t]) * v2[t] - v[t] + g * l * (1 - end[t]) * (1 - cut[t]) * last
        out.insert(0, last)
    return torch.stack(out)
"""
IN_NUMPY = """
def gae(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    deltas = (rewards + gamma * next_values * (~terminated) - values).numpy()
    goes_on = 1.0 - (terminated | truncated).numpy()
    found = np.zeros_like(deltas)
    for t in range(len(deltas) - 1, -1, -1):
        found[t] = deltas[t] + (gamma * gae_lambda * goes_on[t] * found[t + 1] if t + 1 < len(deltas) else 0)
    return torch.from_numpy(found)
"""
C3 = find("C3")


def right_source(item, name):
    """The right function as text, without what is said below it."""
    one = exercises_of(item).get(name)
    answer = one.answer.strip() if one else ""
    return practice.solution(item, name).removesuffix(answer).partition("\n\nequation")[0]


def grade_of(source, name="gae", item=C3):
    (grade,) = grading.graded(item, source, name)
    return grade


@pytest.mark.parametrize("source", [GAE, SHORT, IN_NUMPY])
def test_right_answers_pass_in_any_idiom(source):
    grade = grade_of(source)
    assert (grade.state, grade.said) == ("passed", "")


def test_a_mistake_is_shown_on_its_smallest_input_and_named():
    grade = grade_of(GAE.replace("(~terminated[t])", "(~truncated[t])"))
    assert grade.state == "failed"
    assert grade.looks_like == ["swaps the masks: a time limit loses the bootstrap, an end keeps it"]
    assert {"inputs", "expected", "found"} <= set(grade.example)
    assert "rewards = [[" in grade.example["inputs"]


@pytest.mark.parametrize(
    ("source", "state", "words"),
    [
        ("", "not begun", ""),
        ("def gae(rewards):\n    '''Words.'''\n    ...", "not begun", ""),
        # a learner's own way to leave a body open: the grader must not call it wrong
        ("def gae(*a):\n    raise NotImplementedError", "not begun", ""),
        ("def gae(*a):\n    while True:\n        pass", "failed", "does not end within"),
        (
            "def gae(*a):\n    return 1 / 0",
            "failed",
            "stops with ZeroDivisionError: division by zero, line 2",
        ),
        ("def gae(rewards, *a):\n    return rewards[0]", "failed", "returns shape [1], expected [1, 1]"),
        ("def gae(rewards, *a):\n    rewards", "failed", "returns nothing: is a `return` missing?"),
        ("def gae(x):\n    return x", "failed", "stops with TypeError"),
        ("gae = 3", "failed", "gae is a int, no function"),
    ],
)
def test_each_kind_of_wrong_turn_has_its_message(source, state, words, monkeypatch):
    monkeypatch.setattr(grading, "SECONDS", 0.5)
    grade = grade_of(source)
    assert grade.state == state
    assert words in grade.said


def test_prints_are_remarked():
    grade = grade_of(GAE.replace("    advantages =", "    print('here')\n    advantages ="))
    assert grade.state == "passed"
    assert grade.remarks == ["it prints: a function of the course says nothing"]


def test_a_procedure_is_known_by_what_it_leaves():
    """It answers nothing: the weights that it moved are shown and compared."""
    source = """
def move_average(average, network, rate):
    for slow, fast in zip(average.parameters(), network.parameters()):
        slow.data += (1 - rate) * (fast.data - slow.data)
"""
    grade = grade_of(source, "move_average", find("B4"))
    assert grade.state == "failed"
    assert grade.looks_like == ["keeps the share that it should replace"]
    assert grade.example["expected"].startswith("average.weight [[")
    assert grade.example["found"] != grade.example["expected"]
    right = grade_of(source.replace("(1 - rate)", "rate"), "move_average", find("B4"))
    assert (right.state, right.remarks) == ("passed", [])


def test_a_missing_gradient_is_said():
    source = "def clipped_surrogate(ratio, advantages, clip_eps):\n    ratio = ratio.detach()\n"
    source += (
        "    return torch.min(ratio * advantages, ratio.clamp(1 - clip_eps, 1 + clip_eps) * advantages)\n"
    )
    assert grade_of(source, "clipped_surrogate").said == "returns a constant: no gradient flows"


def compute(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_a_model_takes_to_be_made_does_not_count_as_a_learners_time():
    with spying.within(0.3), off_the_clock():
        compute(0.4)
    stopped = off_the_clock()(compute)
    with pytest.raises(spying.OverTime), spying.within(0.3):
        [stopped(0.1), compute(0.4)]


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_stubs_are_not_begun_and_solutions_pass(item, tmp_path):
    path, added = practice.write(item, tmp_path)
    assert added == list(tasks_of(item))
    assert {grade.state for grade in grading.graded(item, path.read_text())} == {"not begun"}
    for name in added:
        assert worked.by_hand(tasks_of(item)[name], tasks_of(item)[name].right, {}) == {}, name
    beyond = [name for name, task in tasks_of(item).items() if task.exercise]
    for name in (added[0], *beyond):
        assert grading.graded(item, right_source(item, name), name)[0].state == "passed"


def test_what_stands_in_a_practice_file_stays(tmp_path):
    path, added = practice.write(C3, tmp_path, "gae")
    assert added == ["gae"]
    mine = path.read_text().replace("...  # yours", "return 7")
    path.write_text(mine)
    _, added = practice.write(C3, tmp_path)
    assert "gae" not in added
    assert path.read_text().startswith(mine)
    assert practice.write(C3, tmp_path)[1] == []


def test_commands(course, tmp_path):
    code, out, _ = course.rl("exercise", "C3.gae")
    assert code == 0
    assert "practice/C3.py: gae" in out
    stub = (tmp_path / "practice" / "C3.py").read_text()
    assert "def gae(" in stub
    assert "reversed" not in stub
    file = tmp_path / "mine.py"
    file.write_text(GAE)
    code, out, _ = course.rl("grade", "C3.gae", file)
    assert code == 0
    assert "1 of 1 passed" in out
    file.write_text(GAE.replace("(~terminated[t])", "1"))
    code, out, _ = course.rl("grade", "C3.gae", file, "--json")
    assert code == 1
    (found,) = json.loads(out)["functions"]
    assert found["looks_like"]
    book = json.loads((tmp_path / "practice" / "progress.json").read_text())
    assert "passed" in book["C3.gae"]
    assert course.rl("solution", "C3.gae")[0] == 0


def test_unknown_functions_are_refused(course):
    assert "has no exercise 'bogus' (there are: " in course.refused("exercise", "C3.bogus")
    assert "no lesson 'Z9'" in course.refused("exercise", "Z9.gae")


@pytest.mark.parametrize("content", ["a = b = \0", "raise ValueError('no')", None, b"\xff\xfe"])
def test_files_that_cannot_be_graded_are_one_line(course, tmp_path, content):
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "mine.py" in course.refused("grade", "C3.gae", file)


def test_what_is_no_file_is_not_read(course, tmp_path):
    """A device may never come to an end."""
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path):
        assert f"{path}: not a file" in course.refused("grade", "C3", path)


def test_hints_come_one_more_at_a_time_and_can_be_read_again(course):
    shown = [course.rl("hint", "C3.gae")[1] for _ in range(4)]
    assert [text.count("hint ") for text in shown] == [1, 2, 3, 3]
    assert "equation (2)" in shown[0]
    assert ">>> gae(" in shown[1]
    assert "the first line: " in shown[2]


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_every_function_has_two_hints_at_least_and_a_solution(item):
    for name in tasks_of(item):
        assert len(practice.hints(item, name)) >= 2, name
        assert f"{name}" in practice.solution(item, name)


COLUMN = GAE.replace("return advantages", "return advantages[..., None]")


@pytest.mark.parametrize(
    ("source", "name", "lesson", "words"),
    [
        (COLUMN, "gae", "C3", "returns shape [1, 1, 1], expected [1, 1]"),
        (
            GAE.replace("return advantages", "return advantages.numpy()"),
            "gae",
            "C3",
            "returns a ndarray, expected",
        ),
        (
            GAE.replace("return advantages", "return list(advantages)"),
            "gae",
            "C3",
            "returns a list, expected one Tensor",
        ),
    ],
)
def test_an_answer_of_another_kind_fails_though_its_numbers_are_right(source, name, lesson, words):
    grade = grade_of(source, name, find(lesson))
    assert grade.state == "failed"
    assert words in grade.said


def test_a_loss_that_no_gradient_flows_through_fails():
    lesson, name = find("D4"), "dpo_loss"
    whole = right_source(lesson, name)
    assert grade_of(whole, name, lesson).state == "passed"
    cut = whole + "\n\nright = dpo_loss\ndef dpo_loss(*a, **k):\n    return right(*a, **k).detach()\n"
    assert grade_of(cut, name, lesson).said == "returns a constant: no gradient flows"


def test_gradients_are_compared_in_jax_too():
    asked = [Call(((jax.numpy.array([1.0, 2.0]), 3), {}), ((), {}))]
    (right,), (stopped,) = (
        list(replay(square, asked))
        for square in (lambda x, n: n * (x**2).sum(), lambda x, n: n * (x * jax.lax.stop_gradient(x)).sum())
    )
    assert right.answer == stopped.answer == 15.0
    assert right.slopes[0].tolist() == [6.0, 12.0]
    assert not same_answer(right, stopped)


def test_a_zero_may_be_a_constant():
    """The mean of no token: a new zero is right though no gradient flows through it."""
    source = """
def masked_mean(numbers, mask):
    return numbers[mask].mean() if mask.any() else torch.zeros(())
"""
    assert grade_of(source, "masked_mean", find("D2")).state == "passed"
    constant = source.replace(".mean()", ".mean().detach()")
    assert grade_of(constant, "masked_mean", find("D2")).said == "returns a constant: no gradient flows"


def test_a_stop_is_not_said_of_an_input_that_shows_another_mistake():
    """The check stops at the first mistake; that a later input would raise is nothing to begin with."""
    source = "def score(probs, actions):\n    found = -probs\n    found[actions] += 1\n    return found\n"
    grade = grade_of(source, "score", find("C0"))
    assert grade.said == "a value differs from the definition"
    assert grade.example["found"].startswith("[[")


def test_what_is_learnt_from_may_be_a_constant():
    source = GAE.replace("def gae", "@torch.no_grad()\ndef gae")
    assert grade_of(source).state == "passed"


def test_no_mask_is_not_taken_for_the_mask_turned_round():
    lesson = find("B3")
    without = "def td_target(r, v, end, gamma):\n    return r + gamma * v\n"
    (grade,) = grading.graded(lesson, without, "td_target")
    assert len(grade.looks_like) == 1


def test_names_of_functions_and_arguments():
    grade = grade_of(GAE.replace("def gae", "def compute_gae"))
    assert (grade.state, grade.said) == ("not begun", "there is no 'gae' in this file, but 'compute_gae'")
    other = "def evaluate_exactly(mdp, policy):\n    return 0\n"  # similar, and an exercise of its own
    (grade,) = grading.graded(find("A3"), other, "evaluate_iteratively")
    assert (grade.state, grade.said) == ("not begun", "")
    assert "the lesson calls its arguments rewards, values" in grade_of(SHORT).remarks[0]
    stub_below = GAE + "\ndef gae(rewards):\n    ...\n"
    assert grade_of(stub_below).state == "not begun", "the last definition counts"


def test_a_progress_file_that_may_not_be_read_stays(course, tmp_path, monkeypatch):
    """As root one may read every file, so the refusal is simulated."""
    path = tmp_path / "practice" / "progress.json"
    path.parent.mkdir()
    path.write_text("{}")

    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(shown, "read_json", refuse)
    for command in (("hint", "C3.gae"), ("goals",)):
        assert f"{path}: cannot be read (Permission denied)" in course.refused(*command)
    assert path.exists()
    assert not path.with_suffix(".damaged").exists()


def test_a_damaged_progress_file_is_put_aside(course, tmp_path):
    folder = tmp_path / "practice"
    folder.mkdir()
    (folder / "progress.json").write_text("{not json")
    file = tmp_path / "mine.py"
    file.write_text(GAE)
    code, _, err = course.rl("grade", "C3.gae", file)
    assert code == 0
    assert "was damaged" in err
    assert (folder / "progress.damaged").read_text() == "{not json"
    assert "C3.gae" in json.loads((folder / "progress.json").read_text())


def test_a_practice_file_runs_as_a_script(tmp_path):
    path, _ = practice.write(find("D4"), tmp_path)
    exec(compile(path.read_text(), str(path), "exec"), {"__name__": "mine"})


# Beyond the lesson's functions

CLIPPED = """
def clipped_value_loss(v, old, target, eps):
    step = torch.where(v > old + eps, old + eps, torch.where(v < old - eps, old - eps, v))
    errors = torch.stack([(v - target) ** 2, (step - target) ** 2])
    return errors.max(dim=0).values.sum() / len(v)
"""


def test_an_exercise_beyond_the_lesson_is_written_graded_hinted_and_solved(course, tmp_path):
    name = "C3.clipped_value_loss"
    assert "C3.py: clipped_value_loss" in course.rl("exercise", name)[1]
    path = tmp_path / "practice" / "C3.py"
    stub = path.read_text()
    assert "## C3.2 · A clip for the critic" in stub
    assert "def clipped_value_loss(values: Tensor" in stub
    assert "near =" not in stub
    assert "clipped_value_loss  not begun" in course.rl("grade", name)[1]
    path.write_text(stub + CLIPPED)
    code, out, _ = course.rl("grade", "C3.2")
    assert code == 0
    assert "it makes none of its 3 known mistakes" in out
    path.write_text(stub + CLIPPED.replace(".max(", ".min("))
    code, out, _ = course.rl("grade", path)
    assert code == 1
    assert "looks like: takes the smaller error" in out
    assert r"equation (E1) \tfrac1B" in out
    assert "hint 2 of 3" in [course.rl("hint", name)[1] for _ in range(2)][1]
    code, out, _ = course.rl("solution", name)
    assert code == 0
    assert "near = old_values" in out
    assert "It learns more slowly" in out


def test_an_exercise_of_several_functions_has_a_name_and_a_number(course, tmp_path):
    assert "C3.py: gae, clipped_surrogate" in course.rl("exercise", "C3.1")[1]
    assert "nothing was missing" in course.rl("exercise", "C3.heart")[1]
    assert "0 of 2 passed" in course.rl("grade", "C3.heart")[1]
    assert "name one of gae, clipped_surrogate" in course.refused("hint", "C3.1")
    assert "name one function: C3.gae, say" in course.refused("hint", "C3")


def test_a_wrong_worked_example_comes_first(course, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(GAE.replace("(~terminated[t])", "1"))
    lines = course.rl("grade", "C3.gae", file)[1].splitlines()
    place = next(i for i, line in enumerate(lines) if "the worked example: gae(" in line)
    assert lines[place + 1].split() == ["by", "hand:", "[[0.0],", "[-4.0]]"]
    assert lines[place + 2].split() == ["yours:", "[[3.0],", "[2.0]]"]
    assert place < next(i for i, line in enumerate(lines) if "the smallest input" in line)


ODD = {
    "raise BaseException('so')": "stops with RuntimeError: BaseException: so",
    "raise GeneratorExit": "stops with RuntimeError: GeneratorExit",
    "import asyncio; raise asyncio.CancelledError": "stops with RuntimeError: CancelledError",
    "import os; os._exit(0)": "stops with RuntimeError: os._exit(0) would end rl itself",
    "from os import abort; abort()": "stops with RuntimeError: os.abort() would end rl itself",
    "import sys; sys.stdout.close(); return rewards": "a value differs from the definition",
}


@pytest.mark.parametrize("body", ODD)
def test_whatever_a_function_raises_or_closes_it_is_graded(body):
    said = grade_of(f"import torch\n{GAE.partition(':')[0]}:\n    {body}\n").said
    assert ODD[body] in said


def test_a_file_that_closes_its_output_or_raises_what_nobody_catches_is_one_line(course, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import sys\nsys.stdout.close()\nraise BaseException('so')\n")
    assert "line 3: stops with RuntimeError: BaseException: so" in course.refused("grade", "C3.gae", file)


def test_a_file_that_ends_the_process_is_one_line(course, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import os\nos._exit(0)\n")
    said = course.refused("grade", "C3.gae", file)
    assert "line 2: stops with RuntimeError: os._exit(0) would end rl" in said


def test_a_process_that_a_learner_forks_ends_as_it_likes():
    exit_before = os._exit
    with spying.no_sudden_end():
        if (child := os.fork()) == 0:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert os._exit is exit_before


@pytest.mark.parametrize(("body", "state"), [("pass", "not begun"), ("answer = 1", "failed")])
def test_a_class_in_place_of_a_function_is_told(body, state):
    grade = grade_of(f"class gae:\n    {body}\n")
    assert grade.state == state
    assert grade.said == "gae is a class in this file, a function is asked for: def gae(...)"


def test_of_a_long_line_the_part_with_the_mistake_is_shown(course, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f"x = {'1 + ' * 90}(2 3){' + 1' * 90}\n")
    code, out, err = course.rl("grade", "C3.gae", file)
    _, line, caret = err.splitlines()
    assert (code, out) == (2, "")
    assert line[caret.index("^") :].startswith("2 3)")
    assert len(line) < 110


def test_a_syntax_error_shows_the_line_with_a_caret(course, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\ndef gae(a, b:\n    return a\n")
    code, out, err = course.rl("grade", "C3.gae", file)
    assert (code, out) == (2, "")
    said, line, caret = err.splitlines()
    assert said.endswith("mine.py, line 2: is no Python ('(' was never closed)")
    assert line.strip() == "def gae(a, b:"
    assert line[caret.index("^")] == "("


def test_a_bad_file_is_told_to_programs_too(course, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("raise ValueError('no')")
    code, out, err = course.rl("grade", "C3.gae", file, "--json")
    assert (code, err) == (2, "")
    found = json.loads(out)
    assert found["lesson"] == "C3"
    assert found["error"] == f"{file}, line 1: stops with ValueError: no"
    code, out, _ = course.rl("grade", "C3.gae", tmp_path / "none.py", "--json")
    assert code == 2
    assert "no such file" in json.loads(out)["error"]


# Beginning anew, and what is kept


def test_reset_asks_and_keeps_a_copy(course, tmp_path, monkeypatch):
    course.rl("exercise", "C3")
    path = tmp_path / "practice" / "C3.py"
    stub = path.read_text()
    mine = stub.replace("...  # yours", "return 7")
    path.write_text(mine)
    answers = iter([False, True])
    monkeypatch.setattr("typer.confirm", lambda text, abort: next(answers) or _abort())
    code, _, err = course.rl("exercise", "C3", "--reset")
    assert (code, err) == (130, "interrupted\n")
    assert path.read_text() == mine
    code, out, _ = course.rl("exercise", "C3", "--reset")
    assert "what you had written is now in " in out
    assert path.read_text() == stub
    assert path.with_name("C3.before-1.py").read_text() == mine
    path.write_text(mine)
    course.rl("exercise", "C3.gae", "--reset", "--yes")
    assert path.with_name("C3.before-2.py").read_text() == mine
    states = {grade.function: grade.state for grade in grading.graded(C3, path.read_text())}
    assert states.pop("gae") == "not begun"
    assert set(states.values()) == {"failed"}
    assert course.rl("exercise", "B1", "--reset")[0] == 0, "nothing to put aside"


@pytest.mark.parametrize("what", ["C3", "C3.gae", "C3.bug"])
def test_what_cannot_be_begun_anew_stays_in_its_place(course, tmp_path, monkeypatch, what):
    """The disk is full: the file is where it was, under its name, and nothing says otherwise."""
    course.rl("exercise", what)
    (path,) = (tmp_path / "practice").glob("*.py")
    mine = path.read_text() + "# mine\n"
    path.write_text(mine)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for module in (practice, bugs):
        monkeypatch.setattr(module, "write_atomic", full)
    assert "No space left" in course.refused("exercise", what, "--reset", "--yes")
    assert [file.name for file in (tmp_path / "practice").glob("*.py")] == [path.name]
    assert path.read_text() == mine


def _abort():
    raise typer.Abort


def test_hand_edited_entries_are_left_out_and_kept_in_a_copy(tmp_path, capsys):
    path = tmp_path / "progress.json"
    path.write_text('{"C3.gae": {"passed": "today", "failed": "many"}, "C3.normalise": 3}')
    assert shown.read(tmp_path) == {"C3.gae": {"passed": "today", "failed": "many"}}
    assert "no entry is C3.normalise" in capsys.readouterr().err
    assert '"C3.normalise": 3' in (tmp_path / "progress.damaged").read_text()
    path.write_text("[1]")
    assert shown.read(tmp_path) == {}
    assert (tmp_path / "progress.damaged.2").read_text() == "[1]", "no copy is written over"
    path.write_text('{"C3.gae": {"failed": "many", "hints": -3}}')
    shown.keep(C3, [grading.Grade("gae", "failed")], tmp_path)
    assert shown.read(tmp_path)["C3.gae"]["failed"] == 1


KILLED = """
import json, os, signal, sys, time
from pathlib import Path
from chapters.course import shown

folder = Path(sys.argv[1])
with shown.changing(folder) as book:
    book["C3.gae"] = {"passed": "2026-11-27"}
for round_ in range(20):
    child = os.fork()
    if not child:
        while True:
            with shown.changing(folder) as book:
                entry = book.setdefault("C3.normalise", {"padding": "x" * 10_000})
                entry["failed"] = shown.count(entry, "failed") + 1
    time.sleep(0.005 * (1 + round_ % 5))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    book = json.loads((folder / "progress.json").read_text())
    assert book["C3.gae"] == {"passed": "2026-11-27"}
print(book["C3.normalise"]["failed"])
"""


def test_a_kill_while_writing_loses_nothing(tmp_path):
    """A child that writes without end is killed at any moment: what was written stands, and can be read.

    Its parent is a small process: to copy one that holds all libraries takes longer than what is tested.
    """
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "something was written"
    with shown.changing(tmp_path) as book:
        book["C3.gae"]["hints"] = 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "progress.json"]


# What your own version shows

GOALS = """# Goals

- [ ] I can solve the small lake (claim `B1.success_4x4`)
- [ ] I can solve both (claims `B1.success_4x4`, `B1.success_8x8`)
- [ ] I can clip (exercise `C3.2`)
- [ ] I can do what comes before and after it (exercises `C3.1`, `C3.3`)
"""


def test_what_your_own_version_shows_is_told_from_what_the_lessons_code_shows(course, tmp_path, monkeypatch):
    course.run("B1/20260101-000000-seed0", {"success_4x4": 0.6, "success_8x8": 0.6})
    page = tmp_path / "goals.md"
    page.write_text(GOALS, encoding="utf-8")
    monkeypatch.setattr(cli, "GOALS", page)
    (folder := tmp_path / "practice").mkdir()
    book = {
        "C3.clipped_value_loss": {"passed": "2026-11-27"},
        "C3.gae": {"passed": "2026-11-27"},
        "C3.bug": {"found": {"no_min": "2026-11-27"}},
        "B1.train": {"held": ["success_4x4"]},
    }
    (folder / "progress.json").write_text(json.dumps(book))
    out = course.rl("goals")[1]
    assert "2 shown by your own version, 1 shown by the lesson's code, 1 yours to judge" in out
    assert "B1 trained with your functions" in out
    assert "exercise C3.2 passed" in out
    book["C3.clipped_surrogate"] = {"passed": "2026-11-27"}
    (folder / "progress.json").write_text(json.dumps(book))
    assert "3 shown by your own version" in course.rl("goals")[1]


def test_plans_count_what_exercises_take():
    table = exercises_of(C3)
    assert plans.exercise_minutes("C3") == sum(one.minutes for one in table.values()) + plans.BUG_MINUTES
    assert plans.exercise_minutes("A1") == plans.exercise_minutes("Z9") == 0.0
    line = next(line for line in overview.plans_lines() if line.startswith("rl plan weekend"))
    assert "exercises " in line


def test_what_jax_only_traces_is_no_call():
    """It has no numbers that could be shown, compared or replayed."""
    spy, calls = spied(lambda x: (x**2).sum())
    jax.grad(spy)(jax.numpy.ones(3))
    jax.vmap(spy)(jax.numpy.ones((3, 2)))
    assert calls == []
    assert spy(jax.numpy.ones(3)) == 3.0
    assert len(calls) == 1


def test_grading_takes_one_thread():
    """On a busy machine several wait for each other, and the time limit counts what all of them take."""
    torch.set_num_threads(2)
    try:
        grade_of(GAE)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def test_each_function_is_judged_by_itself():
    """A wrong helper is not looked for in the function that calls it."""
    source = """
def implicit_rewards(log_ratios, beta):
    return -beta * log_ratios


def dpo_loss(log_ratios, labels, beta):
    chosen, rejected = implicit_rewards(log_ratios, beta).unbind(1)
    m = chosen - rejected
    return -labels * F.logsigmoid(m) - (1 - labels) * F.logsigmoid(-m)
"""
    states = {grade.function: grade.state for grade in grading.graded(find("D4"), source)}
    assert (states["implicit_rewards"], states["dpo_loss"]) == ("failed", "passed")


def test_what_is_changed_in_place_is_said_first():
    source = """
def epsilon_greedy(row, epsilon, rng):
    best = max(row)
    for i in range(len(row)):
        row[i] -= best
    if rng.random() < epsilon:
        return rng.randrange(len(row))
    return rng.choice([i for i in range(len(row)) if row[i] == 0.0])
"""
    (grade,) = grading.graded(find("B1"), source, "epsilon_greedy")
    assert grade.said.startswith("it changes its argument 'row' in place")
    spoilt = GAE.replace("    last = torch", "    rewards *= 2.0\n    last = torch", 1)
    late = GAE.replace("    return", "    rewards += 1\n    return")
    for source in (spoilt, late):
        grade = grade_of(source)
        assert grade.state == "failed"
        assert grade.said.startswith("it changes its argument 'rewards' in place")


def test_the_last_number_is_the_bug(course):
    item = find("C3")
    number = len(exercises_of(item)) + 1
    assert cli._functions(f"C3.{number}") == (item, "bug")
    assert cli._functions("C3.1") == (item, "1")
    assert f"has no exercise '{number + 1}'" in course.refused("exercise", f"C3.{number + 1}")


def test_a_stub_comes_with_the_kinds_of_array_that_it_names(tmp_path):
    path, _ = practice.write(find("D4"), tmp_path, "dpo_loss")
    alias = 'Both, Vector = Float[Tensor, "B 2"], Float[Tensor, " B"]  # a number for each of a pair'
    assert alias in path.read_text()
