"""The days tell what their results say: tables are made from the recorded runs, files are in place."""

import importlib.util
import json
import math
import os
import subprocess
import sys

import jsonschema
import numpy as np
import pytest

from chapters.course.catalog import ROOT

DAYS = ROOT / "days"
STUDIES = {"Day01": "train_here", "Day02": "compare", "Day03": "study"}


def load(day: str, name: str):
    """A script of a day, imported by its path as Python would run it."""
    folder = DAYS / day if day else DAYS
    sys.path[:0] = [str(folder), str(DAYS)]
    try:
        spec = importlib.util.spec_from_file_location(f"{day}_{name}", folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        del sys.path[:2]
    return module


@pytest.mark.parametrize("day", STUDIES)
def test_the_table_is_what_the_recorded_runs_give(day):
    study, experiment = load(day, STUDIES[day]), load("", "experiment")
    results = json.loads((DAYS / day / "results.json").read_text(encoding="utf-8"))
    readme = (DAYS / day / "README.md").read_text(encoding="utf-8")
    assert experiment.fill(readme, study.block(results)) == readme, (
        f"python days/{day}/{STUDIES[day]}.py --report"
    )
    assert study.FIGURE.exists()
    assert len(next(iter(results.values()))) == len(study.SEEDS)


@pytest.mark.parametrize(
    "arguments", [["Day01/rft.py", "--help"], ["Day01/rft.py", "x"], ["Day02/preferences.py", "--x"]]
)
def test_a_small_script_refuses_what_it_does_not_know(arguments):
    """Not by writing its files anew."""
    script, *flags = arguments
    before = [path.stat().st_mtime_ns for path in DAYS.glob("*/data/*")]
    result = subprocess.run([sys.executable, DAYS / script, *flags], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "allowed: " in result.stderr
    assert before == [path.stat().st_mtime_ns for path in DAYS.glob("*/data/*")]


@pytest.mark.parametrize("buffered", ["", "1"])
def test_an_output_that_cannot_be_written_is_one_line(buffered):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, DAYS / "Day02" / "preferences.py", "--request"],
            env={**os.environ, "PYTHONUNBUFFERED": buffered},
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
    assert (result.returncode, result.stderr) == (2, "error: the output: No space left on device\n")


@pytest.mark.parametrize("day", STUDIES)
def test_an_unknown_argument_is_one_line(day):
    command = [sys.executable, str(DAYS / day / f"{STUDIES[day]}.py"), "--fast"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "--report" in result.stderr


def one_of(arms, value):
    """A metric of a run of the last arm becomes something else."""
    run = [*arms.values()][-1]["0"]
    run[next(iter(run))] = value


DAMAGED = {
    "missing": (None, "run this without --report"),
    "empty": ("", "damaged"),
    "cut off": ('{"a": {"0": {', "damaged"),
    "a list": ("[]", "damaged"),
    "deeply nested": ("[" * 100_000, "damaged"),
    "no runs": ("{}", "run this without --report"),
    "no metrics": ("all", "damaged"),
    "another arm": (lambda arms: arms.update(other={}), "'other' is none of"),
    "another seed": (
        lambda arms: [runs.update({"99": runs["0"]}) for runs in arms.values()],
        "'99' is none of",
    ),
    "no number": (lambda arms: one_of(arms, math.nan), "is no number: nan"),
    "nothing": (lambda arms: one_of(arms, None), "is no number: None"),
    "a word": (lambda arms: one_of(arms, "0.5"), "is no number: 0.5"),
    "a truth": (lambda arms: one_of(arms, True), "is no number: True"),
    "endless": (lambda arms: one_of(arms, math.inf), "is no number: inf"),
    "too long": (lambda arms: one_of(arms, 10**400), "is no number: 1000"),
    "a folder": ("folder", "Is a directory"),
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("day", STUDIES)
def test_a_report_on_damaged_results_is_one_line(day, kind, tmp_path, monkeypatch, capsys):
    study = load(day, STUDIES[day])
    content, says = DAMAGED[kind]
    path = tmp_path / "results.json"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        arms = json.loads(study.RESULTS.read_text())
        emptied = json.dumps({arm: {seed: {} for seed in runs} for arm, runs in arms.items()})
        if callable(content):
            content(arms)
            content = json.dumps(arms)
        path.write_text(emptied if content == "all" else content)
    monkeypatch.setattr(study, "RESULTS", path)
    monkeypatch.setattr(sys, "argv", ["study.py", "--report"])
    with pytest.raises(SystemExit) as left:
        study.main()
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error


@pytest.mark.parametrize("day", STUDIES)
def test_each_day_has_its_headings_in_order(day):
    readme = (DAYS / day / "README.md").read_text(encoding="utf-8")
    wanted = ["**Hypothesis.**", "## Set-up", "## Result", "**Verdict.**", "## What surprised me"]
    wanted += ["## Lessons learned", "## Next"]
    places = [readme.index(heading) for heading in wanted]
    assert places == sorted(places)


class TestExperiment:
    @pytest.fixture
    def experiment(self):
        return load("", "experiment")

    def test_an_interrupted_study_goes_on_where_it_stopped(self, experiment, tmp_path):
        calls = []

        def run(seed):
            calls.append(seed)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return {"value": seed}

        with pytest.raises(KeyboardInterrupt):
            experiment.run_arms(tmp_path / "results.json", {"arm": run}, range(4), fresh=False)
        results = experiment.run_arms(tmp_path / "results.json", {"arm": run}, range(4), fresh=False)
        assert calls == [0, 1, 2, 2, 3]
        assert experiment.values(results, "arm", "value").tolist() == [0, 1, 2, 3]

    def test_the_interval_is_students(self, experiment):
        # mean 2, standard error 0.5774, t(0.975, 2) = 4.3027
        assert experiment.interval(np.array([1.0, 2.0, 3.0])) == "2 (-0.484 to 4.48)"

    def test_differences_are_paired(self, experiment):
        noisy = {"0": {"x": 0.0}, "1": {"x": 100.0}, "2": {"x": 50.0}}
        better = {seed: {"x": row["x"] + 1.0} for seed, row in noisy.items()}
        assert experiment.difference({"a": better, "b": noisy}, "a", "b", "x") == "1 (1 to 1)"

    @pytest.mark.parametrize("readme", ["no marks", "<!-- measured --> one"])
    def test_a_readme_without_marks_is_refused(self, experiment, readme):
        with pytest.raises(ValueError, match="needs one pair"):
            experiment.fill(readme, "table")


class TestPreferences:
    @pytest.fixture
    def preferences(self):
        return load("Day02", "preferences")

    @pytest.mark.parametrize("name", ["training", "validation"])
    def test_every_line_passes_the_schema_and_prefers_the_warmer(self, preferences, name):
        from chapters.envs.reviews import sentiment

        lines = (preferences.DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == preferences.COUNTS[name]
        for line in map(json.loads, lines):
            preferences.validator().validate(line)
            prompt = line["input"]["messages"][-1]["content"]
            outputs = [line[key][0]["content"] for key in ("preferred_output", "non_preferred_output")]
            warm, cold = sentiment([f"{prompt} {output}" for output in outputs])
            assert warm > cold

    def test_no_pair_is_in_both_files(self, preferences):
        training, validation = (
            set((preferences.DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
            for name in ("training", "validation")
        )
        assert not training & validation

    @pytest.mark.parametrize("part", ["input", "preferred_output", "non_preferred_output"])
    def test_the_schema_notices_what_is_missing(self, preferences, part):
        line = preferences.make_line("the film was", "superb .", "dull .")
        preferences.validator().validate(line)
        with pytest.raises(jsonschema.ValidationError):
            preferences.validator().validate({key: line[key] for key in line if key != part})

    def test_the_request_passes_day01s_schema(self, preferences):
        schema = json.loads((DAYS / "Day01" / "schemas" / "job.schema.json").read_text(encoding="utf-8"))
        jsonschema.validate(preferences.request(), schema)
