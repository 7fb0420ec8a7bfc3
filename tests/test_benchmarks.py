"""The benchmarks: their arithmetic on made-up runs, their book-keeping, and every contender for a few steps.

Nothing here asserts a time: those stand in benchmarks/README.md, generated from committed runs.
"""

import dataclasses
import json
import math
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from benchmarks import cartpole, pendulum, race, worker
from chapters.utils import UsageError

RACES = (cartpole.RACE, pendulum.RACE)
EVERYONE = [(one, contender) for one in RACES for contender in one.contenders]
QUICK = (
    "c0",
    "b4",
    "c3",
    "c5",
    "c7",
    "c6_td3",
    "sb3_ppo",
)  # to import and to compile, too; the others are slow
each_contender = pytest.mark.parametrize(
    ("one", "contender"),
    [
        pytest.param(one, contender, id=f"{one.name}-{contender.name}", marks=marks)
        for one, contender in EVERYONE
        for marks in [() if contender.name in QUICK else pytest.mark.slow]
    ],
)


def checks(*scores):
    """Checks every 10 steps, 1 CPU second and 2 seconds apart."""
    return [[10 * i, score, float(i), 2.0 * i] for i, score in enumerate(scores, start=1)]


def run(scores, contender="c3", seed=0, **changes):
    return {
        "contender": contender, "job": {"seed": seed}, "checks": checks(*scores), "num_env_steps": 60,
        "learning_cpu_seconds": 6.0, "learning_wall_seconds": 12.0, "import_cpu_seconds": 2.0,
        "import_wall_seconds": 2.5, "warm_up_cpu_seconds": 3.0, "peak_memory_mb": 400,
        "versions": {"numpy": "2"}, **changes,
    }  # fmt: skip


# Arithmetic


@pytest.mark.parametrize(
    ("scores", "in_a_row", "expected"),
    [
        ((10, 475, 500, 480, 20, 500), 3, race.Crossing(40, 4.0, 8.0, 2 / 3)),
        ((10, 475, 500, 480, 20, 500), 1, race.Crossing(20, 2.0, 4.0, 4 / 5)),
        ((500, 474.9, 500, 500, 474, 500), 3, None),
        ((500, 500), 3, None),
        ((500, 500, 500), 3, race.Crossing(30, 3.0, 6.0, 1.0)),
        ((10, 20), 1, None),
        ((), 1, None),
    ],
)
def test_crossing_is_timed_at_the_last_of_three_checks_in_a_row(scores, in_a_row, expected):
    assert race.crossing(checks(*scores), 475.0, in_a_row) == expected


def test_summary_takes_medians_and_keeps_failures_as_infinite():
    fast, slow, never = (500,) * 6, (0, 0, 500, 500, 500, 0), (500, 0) * 3
    one = race.summarise(cartpole.RACE, [run(scores, seed=i) for i, scores in enumerate((fast, slow, never))])
    assert one.first == [1.0, 3.0, 1.0]
    assert one.sustained == [3.0, 5.0, math.inf]
    assert one.steps == [30, 50, math.inf]
    assert one.wall == [6.0, 10.0, math.inf]
    assert one.later == [1.0, 0.5]
    assert one.reached == 2
    assert one.steps_per_second == 10.0


def test_regret_is_to_what_the_optimum_earns_from_the_same_starts(tmp_path):
    """Of seed 0 the optimum earns 500 and of seed 1 one more; the last checks are 475 and 500."""
    solvable = dataclasses.replace(SMALL, best=lambda seed: 500.0 + seed)
    runs = [run((0, 475), "a", 0), run((0, 500), "a", 1), run((), "a", 1)]
    assert race.summarise(solvable, runs).regret == [25.0, 1.0]
    assert "| 13 (1 to 25) |\n" in race.tables(solvable, {"machine": "one", "runs": runs})
    assert "regret" not in race.tables(SMALL, {"machine": "one", "runs": runs})
    assert pendulum.RACE.best(0) > pendulum.RACE.threshold


def test_ratio_is_of_medians_over_the_seeds_that_both_ran():
    ours = race.summarise(cartpole.RACE, [run((500,) * 6, seed=seed) for seed in (0, 1, 2)])  # 3 s each
    runs = [run((0,) * seed + (500,) * (6 - seed), seed=seed) for seed in (1, 2, 3)]  # 4, 5 and 6 s
    seeds, ratio, (low, high) = race.ratio_of_medians(ours, race.summarise(cartpole.RACE, runs))
    assert (seeds, ratio) == (2, 1.5)
    assert math.isnan(low), "below five seeds an interval covers too little (lesson B8)"
    assert math.isnan(high)


@pytest.mark.parametrize("count", [4, 5, 7])
def test_an_interval_stands_from_five_seeds_on(count):
    ours = race.summarise(cartpole.RACE, [run((500,) * 6, seed=seed) for seed in range(count)])
    runs = [run((0,) * (seed % 3) + (500,) * 4, seed=seed) for seed in range(count)]
    seeds, ratio, (low, high) = race.ratio_of_medians(ours, race.summarise(cartpole.RACE, runs))
    assert seeds == count
    if count < 5:
        assert math.isnan(low)
    else:
        assert low <= ratio <= high


def test_ratio_against_one_that_never_got_there_is_infinite_and_ours_never_gains():
    solved = race.summarise(cartpole.RACE, [run((500,) * 6)])
    failed = race.summarise(cartpole.RACE, [run((0,) * 6)])
    assert race.ratio_of_medians(solved, failed)[1] == math.inf
    assert race.ratio_of_medians(failed, solved)[1] == 0.0


def test_numbers_are_written_with_three_figures():
    assert [race.number(value) for value in (0.1234, 12.345, 123.4, 12345.6, math.inf, math.nan)] == [
        "0.123", "12.3", "123", "12,346", "–", "–",
    ]  # fmt: skip
    assert race.span([1.0, 2.0, 4.0]) == "2 (1 to 4)"
    assert race.span([1.0, 2.0, math.inf]) == "2 (1 to –)"
    assert race.span([math.inf]) == "–"


def test_the_clock_stands_still_during_a_check(monkeypatch):
    """Two checks that burn 0.3 CPU seconds each are not counted; work of the learner is."""

    def burn(seconds):
        start = time.process_time()
        while time.process_time() - start < seconds:
            pass

    def slow_evaluate(policy, env_id, episodes, seed):
        burn(0.3)
        return np.full(episodes, policy)

    monkeypatch.setattr(worker, "evaluate", slow_evaluate)
    record = worker.Recorder({"eval_every": 10, "env_id": "", "num_eval_episodes": 2, "seed": 0})
    with record.learning():
        for step in range(0, 31, 6):  # checks are due at 10, 20 and 30: the first offers from there on
            burn(0.01)
            record.offer(step, 7.0 + step)
    assert [(step, score) for step, score, _, _ in record.checks] == [(12, 19.0), (24, 31.0), (30, 37.0)]
    assert 0.05 < record.cpu < 0.3, "three checks of 0.3 s were counted"
    assert record.checks[0][2] < record.checks[1][2] < record.checks[2][2] <= record.cpu + 1e-4


# Book-keeping


def fake(calls, fail=()):
    def launch(contender, job):
        calls.append((contender.name, job["seed"]))
        if contender.name in fail:
            raise UsageError("broken")
        kept = run((500,) * 6)
        return {name: value for name, value in kept.items() if name not in ("contender", "job")}

    return launch


A = race.Contender("a", "ours: A", "m:f", 2)
B = race.Contender("b", "B", "m:f", 1, settings={"x": 1})
SMALL = race.Race("small", "CartPole-v1", 475.0, 10, (A, B), (("a", "b"),))


def test_runs_alternate_and_what_is_saved_is_not_run_again(tmp_path):
    calls, path = [], tmp_path / "small.json"
    race.run_all(SMALL, path, launch=fake(calls))
    assert calls == [("a", 0), ("b", 0), ("a", 1)]
    calls.clear()
    race.run_all(SMALL, path, launch=fake(calls))
    assert calls == []
    race.run_all(SMALL, path, only=["b"], fresh=True, launch=fake(calls))
    assert calls == [("b", 0)]
    assert len(race.load(path)["runs"]) == 3, "the other contender's runs are kept"
    changed = dataclasses.replace(SMALL, contenders=(dataclasses.replace(B, settings={"x": 2}),))
    calls.clear()
    race.run_all(changed, path, launch=fake(calls))
    assert calls == [("b", 0)], "other settings are another run"


def test_a_contender_that_fails_is_left_out_and_the_others_run(tmp_path, capsys):
    calls = []
    failed = race.run_all(SMALL, tmp_path / "small.json", launch=fake(calls, fail=("a",)))
    assert failed == ["ours: A: broken"]
    assert calls == [("a", 0), ("b", 0)], "once is enough"
    assert "ours: A: broken" in capsys.readouterr().err
    assert [entry["contender"] for entry in race.load(tmp_path / "small.json")["runs"]] == ["b"]


def test_an_interrupted_race_keeps_what_it_has(tmp_path, monkeypatch, capsys):
    def launch(contender, job):
        if contender.name == "b":
            raise KeyboardInterrupt
        return fake([])(contender, job)

    monkeypatch.setattr(race.run_all, "__kwdefaults__", {**race.run_all.__kwdefaults__, "launch": launch})
    assert race.command(SMALL, out=tmp_path) == 130
    assert "interrupted" in capsys.readouterr().err
    assert len(race.load(tmp_path / "small.json")["runs"]) == 1


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),  # test_stopping.py sees all three
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_race_with_the_run_under_way(number, tmp_path):
    def heed():
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)

    command = [sys.executable, race.HERE / "pendulum.py", "--quick", "--out", tmp_path]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    deadline = time.monotonic() + 60
    while not (family := psutil.Process(process.pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.startswith("interrupted: ")
    assert said.count("\n") == 1
    assert not psutil.wait_procs(family, timeout=10)[1]


def test_an_unknown_contender_and_another_machine_are_refused_in_one_line(tmp_path, capsys):
    assert race.command(SMALL, only=["c"], out=tmp_path) == 2
    assert "--only c: no such contender (there are a, b)" in capsys.readouterr().err
    race.save(tmp_path / "small.json", {"machine": "another", "runs": []})
    assert race.command(SMALL, out=tmp_path) == 2
    assert "was measured on another" in capsys.readouterr().err


def test_table_alone_runs_nothing_and_draws_the_plot(tmp_path, capsys):
    race.run_all(SMALL, tmp_path / "small.json", launch=fake([]))
    capsys.readouterr()
    assert race.command(SMALL, table=True, out=tmp_path) == 0
    printed = capsys.readouterr().out
    assert "| ours: A | 2 of 2 seeds | 1 | 3 | 6 | 30 | 100 % |" in printed
    assert "| ours: A | 60 | 10 | 2 | 2.5 | 3 | 400 |" in printed
    assert "| B over ours: A | 1 | 1 | – | 1 |" in printed
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")


def test_the_script_refuses_what_it_does_not_know(tmp_path):
    done = subprocess.run(
        [sys.executable, race.HERE / "cartpole.py", "--only", "nobody", "--out", tmp_path],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: --only nobody: no such contender (there are c3, sb3_ppo,")
    assert done.stderr.count("\n") == 1


def saved(change=lambda results: None) -> str:
    """Saved results of two runs, after a change."""
    results = {"machine": race.machine(), "runs": [run((500,) * 6), run((0,) * 6, "sb3_ppo")]}
    change(results)
    return json.dumps(results)


DAMAGE = {
    "empty": "",
    "cut off": saved()[:300],
    "a list": "[1, 2]",
    "null": "null",
    "deeply nested": "[" * 100_000,
    "not UTF-8": b"\xff\xfe{}",
    "no runs": saved(lambda results: results.pop("runs")),
    "runs of another kind": saved(lambda results: results.update(runs=[3])),
    "no machine": saved(lambda results: results.pop("machine")),
    "no checks": saved(lambda results: results["runs"][0].pop("checks")),
    "a short check": saved(lambda results: results["runs"][0]["checks"][0].pop()),
    "a score that is none": saved(lambda results: results["runs"][0]["checks"][0].__setitem__(1, None)),
    "a text for a number": saved(lambda results: results["runs"][0].update(peak_memory_mb="much")),
    "a number too long": saved().replace('"peak_memory_mb": 400', '"peak_memory_mb": ' + "9" * 400),
    "a number too large": saved(lambda results: results["runs"][0].update(peak_memory_mb=1e300)),
    "a check after no time": saved(lambda results: results["runs"][0]["checks"][0].__setitem__(2, 0.0)),
    "a check after next to no time": saved(
        lambda results: results["runs"][0]["checks"][0].__setitem__(2, 1e-320)
    ),
    "no time at all": saved(lambda results: results["runs"][0].update(learning_cpu_seconds=0)),
    "no job": saved(lambda results: results["runs"][0].update(job=None)),
    "versions of another kind": saved(lambda results: results["runs"][0].update(versions={"numpy": 2})),
}


@pytest.mark.parametrize("flags", [{"table": True}, {"only": ["a"]}], ids=["table", "run"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_results_are_one_line(kind, flags, tmp_path, capsys):
    content = DAMAGE[kind]
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / "small.json").write_bytes(content)
    assert race.command(SMALL, out=tmp_path, **flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: {tmp_path / 'small.json'}: ")
    assert (tmp_path / "small.json").read_bytes() == content, "nothing is written over"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert race.command(SMALL, table=True, out=tmp_path / "file") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("script", ["cartpole.py", "rejax_ppo/compare.py"])
def test_an_unknown_flag_is_one_line(script):
    done = subprocess.run([sys.executable, race.HERE / script, "--bogus"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "--bogus" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_index_is_said_in_one_line(tmp_path, monkeypatch):
    """An environment that cannot be made: the reason and what to look at, no traceback."""
    contender = race.Contender("p", "P", "m:f", environment="peers/sbx_requirements.txt")
    monkeypatch.setattr(race, "ROOT", tmp_path)
    monkeypatch.setattr(race.shutil, "which", lambda name: sys.executable)  # a "uv" that knows no `venv`
    with pytest.raises(UsageError, match=r"^no environment: is the package index in reach\? \("):
        race.python_of(contender)


# What is committed


@pytest.mark.parametrize("one", RACES, ids=lambda one: one.name)
def test_readme_says_what_the_saved_runs_say(one):
    text = (race.HERE / "README.md").read_text(encoding="utf-8")
    assert race.block(one.name).search(text), "no block to write the table into"
    assert race.render(text, one, race.load(race.HERE / "results" / f"{one.name}.json")) == text, (
        f"run `python benchmarks/{one.name}.py --table`"
    )


@pytest.mark.parametrize("one", RACES, ids=lambda one: one.name)
def test_saved_runs_are_todays_jobs(one):
    """Each with the settings that the script names today, each contender on as many seeds as it says."""
    results = race.load(race.HERE / "results" / f"{one.name}.json")
    for contender in one.contenders:
        for seed in range(contender.seeds):
            found = race.find(results, contender.name, one.job(contender, seed))
            assert found, f"{contender.name}, seed {seed}"


def test_pairs_name_contenders():
    for one in RACES:
        names = [contender.name for contender in one.contenders]
        assert len(set(names)) == len(names)
        assert {name for pair in one.pairs for name in pair} <= set(names)


def test_requirements_of_peers_are_pinned_and_name_no_address():
    for _, contender in EVERYONE:
        if contender.environment:
            lines = (race.HERE / contender.environment).read_text(encoding="utf-8").splitlines()
            assert lines
            assert all(re.match(r"^[\w.-]+==[\w.]+( ; .*)?$", line) for line in lines)


# Every contender


@each_contender
def test_contender_runs(one, contender):
    """A few hundred steps: it learns, is checked, and reports what the table needs."""
    job = one.job(contender, 0, smoke=True)
    if contender.environment:
        module = contender.runner.partition(":")[0]
        pytest.importorskip(module, reason="runs in an environment of its own, made by the benchmark")
    if contender.lacks:
        assert contender.name == "rllib_impala", "nothing but Ray's is spared"
        pytest.importorskip("ray", reason="RLlib comes with the extra `scale`, which most do without")
    out = json.loads(json.dumps(worker.run(job)))
    assert out["checks"], "no check"
    steps = [step for step, _, _, _ in out["checks"]]
    assert steps == sorted(steps)
    assert steps[-1] <= out["num_env_steps"]
    for _, score, cpu, wall in out["checks"]:
        assert math.isfinite(score)
        assert 0 < cpu <= out["learning_cpu_seconds"] + 1e-3
        assert 0 < wall <= out["learning_wall_seconds"] + 1e-3
    assert race.summarise(one, [run((), **out)]).steps_per_second > 0
