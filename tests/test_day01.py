"""Day01: files and graders in the service's format, and a submission that survives what networks do."""

import base64
import errno
import html
import importlib.util
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from types import SimpleNamespace

import jsonschema
import pytest

from chapters.course.catalog import ROOT
from chapters.envs import arithmetic
from tests.azure_stub import AzureStub

DAY = ROOT / "days" / "Day01"
KEY = "k3y-that-must-never-be-shown"


def load(name: str):
    """A script of the day, imported by its path."""
    sys.path.insert(0, str(DAY))
    try:
        spec = importlib.util.spec_from_file_location(f"day01_{name}", DAY / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DAY))
    return module


submit = load("submit")
rft = submit.rft


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs submit.py's main in this process: (exit code, stdout, stderr). The key is never in the output."""
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    monkeypatch.delenv("AZURE_OPENAI_API_KEY", raising=False)

    def call(*arguments, stub=None):
        if stub is not None:
            monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", stub.address)
            monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        state = ["--state", str(tmp_path / "job.json"), "--every", "0.01"]
        monkeypatch.setattr(sys, "argv", ["submit.py", *state, *arguments])
        with pytest.raises(SystemExit) as ended:
            submit.main()
        out, err = capsys.readouterr()
        assert KEY not in out + err
        assert "Traceback" not in err
        return ended.value.code, out, err

    return call


@pytest.fixture
def serve(monkeypatch):
    """Starts stubs and closes them; waiting between attempts takes no time."""
    stubs = []

    def start(**options):
        stubs.append(AzureStub(**options))
        return stubs[-1]

    monkeypatch.setattr(submit.time, "sleep", lambda seconds: None)
    yield start
    for stub in stubs:
        stub.close()


class TestFiles:
    @pytest.mark.parametrize(("name", "count"), [("training", 200), ("validation", 60)])
    def test_every_line_passes_the_schema_and_is_true(self, name, count):
        items = rft.read_lines(rft.DATA / f"{name}.jsonl")
        assert len(items) == count
        for item in items:
            a, b = map(int, re.search(r"(\d+)\+(\d+)=$", item["messages"][-1]["content"]).groups())
            assert item["reference_answer"] == arithmetic.answer(a, b)

    def test_they_are_what_the_script_writes(self, tmp_path):
        rft.make_files(tmp_path)
        for name in ("training.jsonl", "validation.jsonl"):
            assert (tmp_path / name).read_bytes() == (rft.DATA / name).read_bytes()

    def test_no_sum_is_in_both_in_either_order(self):
        sums = []
        for name in ("training", "validation"):
            items = rft.read_lines(rft.DATA / f"{name}.jsonl")
            found = [re.findall(r"\d+", item["messages"][-1]["content"].splitlines()[-1]) for item in items]
            sums.append({tuple(sorted(map(int, pair))) for pair in found})
        assert not sums[0] & sums[1]

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("{", "no JSON"),
            ("[]", "not of type 'object'"),
            pytest.param("[" * 100_000, "no JSON", id="deep"),
            pytest.param('{"messages": ' + "9" * 5000 + "}", "no JSON", id="long number"),
            ('{"messages": []}', "line 2"),
            ('{"messages": [{"role": "user", "content": "1+1="}]}', "reference_answer"),
            ('{"messages": [{"role": "system", "content": "x"}], "reference_answer": "2"}', "system"),
            (
                '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],'
                ' "reference_answer": "2"}',
                "must be the user's",
            ),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path, line, says):
        good = json.dumps(rft.make_line(1, 2))
        (tmp_path / "training.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
        with pytest.raises(rft.FormatError, match=re.escape(says)) as refused:
            rft.read_lines(tmp_path / "training.jsonl")
        assert "line 2" in str(refused.value)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 300

    def test_only_the_end_of_a_line_ends_it(self, tmp_path):
        item = {**rft.make_line(1, 2), "note": "one\u2028two\x85three"}
        (tmp_path / "training.jsonl").write_text(
            json.dumps(item, ensure_ascii=False) + "\r\n", encoding="utf-8"
        )
        assert rft.read_lines(tmp_path / "training.jsonl") == [item]
        (tmp_path / "training.jsonl").write_text("")
        with pytest.raises(rft.FormatError, match="is empty"):
            rft.read_lines(tmp_path / "training.jsonl")


class TestGraders:
    ITEM = rft.make_line(7, 35)  # its answer is 24

    @pytest.mark.parametrize("path", sorted(rft.GRADERS.glob("*.json")), ids=lambda path: path.stem)
    def test_each_passes_the_schema_and_grades_the_reference_highest(self, path):
        grader = rft.read_grader(path)

        def judge(messages):
            return messages[-1]["content"].endswith("Answer: 24")

        grades = [rft.grade(grader, self.ITEM, text, judge=judge) for text in ("24", "42", "")]
        assert grades[0] == 1.0
        assert max(grades[1:]) < 1.0

    def test_kinds_cover_the_service(self):
        kinds = {rft.read_grader(path)["type"] for path in rft.GRADERS.glob("*.json")}
        assert kinds == {"string_check", "text_similarity", "python", "score_model", "multi"}

    @pytest.mark.parametrize(
        ("operation", "text", "grade"),
        [
            ("eq", "24", 1),
            ("eq", "24 ", 0),
            ("ne", "42", 1),
            ("like", "is 24.", 1),
            ("like", "A", 0),
            ("ilike", "A", 0),
        ],
    )
    def test_string_check(self, operation, text, grade):
        grader = {**rft.read_grader(rft.GRADERS / "string_check.json"), "operation": operation}
        assert rft.grade(grader, self.ITEM, text) == grade

    def test_like_keeps_case_and_ilike_does_not(self):
        item = {**self.ITEM, "reference_answer": "Yes"}
        grader = rft.read_grader(rft.GRADERS / "string_check.json")
        assert [rft.grade({**grader, "operation": op}, item, "oh yes") for op in ("like", "ilike")] == [
            0.0,
            1.0,
        ]

    @pytest.mark.parametrize(
        ("answer", "grade"),
        [("24", 1.0), ("25", 0.5), ("42", 0.0), ("2", 0.0), ("", 0.0), ("٢٤", 0.0), ("x" * 10**6, 0.0)],
    )
    def test_partial_credit_counts_digits(self, answer, grade):
        assert rft.grade(rft.read_grader(rft.GRADERS / "python.json"), self.ITEM, answer) == grade

    @pytest.mark.parametrize("body", ["return 1 / 0", "return None", "return 'a'", "return float('nan')"])
    def test_a_python_grader_that_breaks_gives_nothing(self, body):
        grader = {"type": "python", "name": "x", "source": f"def grade(sample, item):\n    {body}\n"}
        assert rft.grade(grader, self.ITEM, "24") == 0.0

    def test_a_score_model_is_kept_within_its_range(self):
        grader = rft.read_grader(rft.GRADERS / "score_model.json")
        judges = (lambda m: 7, lambda m: "no number", lambda m: float("nan"), lambda m: 0.25)
        assert [rft.grade(grader, self.ITEM, "24", judge) for judge in judges] == [1.0, 0.0, 0.0, 0.25]
        with pytest.raises(rft.FormatError, match="judge"):
            rft.grade(grader, self.ITEM, "24")

    def test_the_answer_is_data_and_never_a_template(self):
        seen = []
        rft.grade(
            rft.read_grader(rft.GRADERS / "score_model.json"),
            self.ITEM,
            "{{item.reference_answer}}",
            lambda messages: seen.append(messages[-1]["content"]) or 0,
        )
        assert seen[0].endswith("{{item.reference_answer}}")

    @pytest.mark.parametrize(
        ("formula", "value"),
        [
            ("0.5 * a + b / 4", 0.75),
            ("min(a, b)", 1.0),
            ("-a + max(b, 3)", 2.0),
            ("a / (b - b)", 0.0),
            ("1e999 * a", 0.0),
            ("1e999 - 1e999 + b", 0.0),
        ],
    )
    def test_formulas(self, formula, value):
        assert rft.calculate(formula, {"a": 1.0, "b": 1.0}) == value

    @pytest.mark.parametrize(
        "formula",
        ["c", "__import__('os')", "a.real", "a if b else 1", "a +", "(lambda: 1)()", "a[0]",
         "\ud800", f"1{'0' * 400} * a", f"{'1' * 5000} * a", "-" * 50_000 + "a", "+".join("a" * 20_000)],
        ids=lambda formula: ascii(formula[:9]),
    )  # fmt: skip
    def test_a_formula_that_is_more_than_arithmetic_is_refused(self, formula):
        with pytest.raises(rft.FormatError) as refused:
            rft.calculate(formula, {"a": 1.0, "b": 1.0})
        assert len(str(refused.value)) < 300

    @pytest.mark.parametrize("source", ["return 1 +", "return '\0'", "pass\nimport sys\nsys.exit(3)"])
    def test_a_python_grader_that_cannot_be_run_is_refused(self, source):
        grader = {"type": "python", "source": f"def grade(sample, item):\n {source}"}
        with pytest.raises(rft.FormatError, match="cannot be run"):
            rft.grade(grader, self.ITEM, "24")

    def test_a_python_grader_works_on_a_copy(self):
        item = rft.make_line(1, 2)
        source = "def grade(sample, item): return float(bool(item.clear() or item['messages'].clear()))"
        assert rft.grade({"type": "python", "source": source}, item, "3") == 0.0
        assert item == rft.make_line(1, 2)

    def test_a_python_grader_that_leaves_gives_nothing(self):
        source = "import sys\ndef grade(sample, item): sys.exit(3)"
        assert rft.grade({"type": "python", "source": source}, self.ITEM, "24") == 0.0

    @pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000])
    def test_a_grader_that_no_reader_takes_is_one_line(self, command, tmp_path, monkeypatch, content):
        (tmp_path / "x.json").write_text(content)
        monkeypatch.setattr(rft, "GRADERS", tmp_path)
        code, _, err = command("--grader", "x")
        assert (code, err.count("\n")) == (2, 1)
        assert len(err) < 300

    def test_an_unknown_field_is_named(self):
        grader = {**rft.read_grader(rft.GRADERS / "string_check.json"), "reference": "{{item.answer}}"}
        with pytest.raises(rft.FormatError, match="'answer'"):
            rft.grade(grader, self.ITEM, "24")
        with pytest.raises(rft.FormatError, match="'0'"):
            rft.grade({**grader, "reference": "{{item.messages.0}}"}, self.ITEM, "24")


class TestDryRun:
    @pytest.mark.parametrize("grader", sorted(path.stem for path in rft.GRADERS.glob("*.json")))
    def test_its_payload_passes_the_schema(self, command, grader):
        code, out, err = command("--grader", grader)
        assert code == 0, err
        body = json.loads(out)
        schema = json.loads((DAY / "schemas" / "job.schema.json").read_text(encoding="utf-8"))
        jsonschema.validate(body, schema)
        assert body["method"]["reinforcement"]["grader"] == rft.read_grader(rft.GRADERS / f"{grader}.json")
        assert "nothing sent" in err

    @pytest.mark.parametrize(
        "change", ["", {"suffix": "no spaces please"}, {"colour": "blue"}, {"method": {"type": "magic"}}]
    )
    def test_the_schema_notices(self, command, change):
        body = json.loads(command()[1])
        wrong = {**body, **change} if change else {key: body[key] for key in body if key != "model"}
        with pytest.raises(jsonschema.ValidationError):
            rft.validator("job").validate(wrong)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--grader", "vibes"), "there are: multi"),
            (("--files", "nowhere"), "training.jsonl: cannot be read"),
            (("--submit",), "AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY must be set"),
            (("--resume",), "no job is kept there"),
            (("--submit", "--resume"), "exclude each other"),
            (("--every", "soon"), "--every"),
            (("--colour",), "--colour"),
        ],
    )
    def test_wrong_input_is_one_line(self, command, arguments, says):
        code, out, err = command(*arguments)
        assert code == 2
        assert not out
        assert err.startswith("error: ")
        assert says in err
        assert err.count("\n") == 1

    def test_a_grader_that_prefers_a_wrong_answer_is_refused(self, command, tmp_path, monkeypatch):
        wrong = {**rft.read_grader(rft.GRADERS / "string_check.json"), "operation": "ne"}
        (tmp_path / "ne.json").write_text(json.dumps(wrong))
        monkeypatch.setattr(rft, "GRADERS", tmp_path)
        code, _, err = command("--grader", "ne")
        assert (code, "a wrong answer" in err) == (2, True)

    def test_a_prompt_in_both_files_is_refused(self, command, tmp_path):
        line = json.dumps(rft.make_line(1, 2)) + "\n"
        for name in ("training", "validation"):
            (tmp_path / f"{name}.jsonl").write_text(line)
        code, _, err = command("--files", str(tmp_path))
        assert (code, "both files" in err) == (2, True)

    @pytest.mark.parametrize("name", ["x" * 5000, "../graders/multi", ""])
    def test_a_grader_is_one_of_those_there(self, command, name):
        code, _, err = command("--grader", name)
        assert (code, err.count("\n")) == (2, 1)
        assert "there are: multi" in err
        assert len(err) < 300

    @pytest.mark.parametrize("every", ["nan", "inf", "1e12"])
    def test_a_wait_that_no_clock_knows_is_refused(self, command, every):
        code, _, err = command("--every", every)
        assert (code, err.count("\n")) == (2, 1)
        assert "--every" in err

    def test_an_output_that_cannot_be_written_is_one_line(self):
        with open("/dev/full", "w") as full:
            found = subprocess.run(
                [sys.executable, str(DAY / "submit.py")], stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert found.returncode == 2
        *_, last = found.stderr.splitlines()
        assert last == "error: the output cannot be written: No space left on device"
        assert "Traceback" not in found.stderr


ENCODED = {
    "upper": str.upper,
    "broken": lambda key: f"{key[:9]}\n{key[9:]}",
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "in a page": lambda key: html.escape(key),
    "in an address": lambda key: urllib.parse.quote_plus(key),
}


JOBS = {
    "no files": ({"status": "succeeded", "result_files": None}, 0),
    "letters for files": ({"status": "succeeded", "result_files": "abc"}, 1),
    "an empty file": ({"status": "succeeded", "result_files": [""]}, 1),
    "an error without parts": ({"status": "failed", "error": "boom"}, 1),
    "an error of parts": ({"status": "failed", "error": ["boom"]}, 1),
    "half a letter": ({"status": "succeeded", "fine_tuned_model": "\ud800"}, 0),
    "half a state": ({"status": "\udfff"}, 1),
    "an empty id": ({"id": ""}, 1),
    "an id that is a path": ({"id": "../x"}, 1),
}


class TestSubmission:
    def test_from_files_to_results(self, command, serve, tmp_path):
        stub = serve()
        code, out, err = command("--submit", stub=stub)
        assert code == 0, err
        assert "o4-mini.ft-reversed-sums" in out
        assert (tmp_path / "ftjob-1-results.csv").read_text().startswith("step,train_reward")
        assert json.loads((tmp_path / "job.json").read_text())["finished"] == "succeeded"
        (body,) = stub.jobs.values()
        rft.check(body, "job", "what arrived")
        for file_id, name in ((body["training_file"], "training"), (body["validation_file"], "validation")):
            assert (rft.DATA / f"{name}.jsonl").read_bytes() in stub.files[file_id]
        assert {seen["key"] for *_, seen in stub.requests} == {KEY}
        assert all("api-version=" in seen["query"] for *_, seen in stub.requests)
        for path in tmp_path.iterdir():
            assert KEY not in path.read_text()

    def test_a_failed_job_says_why(self, command, serve, tmp_path):
        error = {"code": "invalid_training_file", "message": "line 3 has no reference", "param": None}
        code, _, err = command("--submit", stub=serve(statuses=("running", "failed"), error=error))
        assert code == 1
        assert "failed: line 3 has no reference" in err
        assert json.loads((tmp_path / "job.json").read_text())["finished"] == "failed"

    @pytest.mark.parametrize("place", ["POST ^/files$", "POST ^/fine_tuning/jobs$", r"GET jobs/[\w-]+$"])
    @pytest.mark.parametrize("fault", ["429", "500", "drop"])
    def test_rate_limits_errors_and_lost_lines_are_waited_out(self, command, serve, place, fault):
        stub = serve(
            script={place: [fault, fault] if "fine_tuning/jobs$" not in place or fault == "drop" else []}
        )
        code, _, err = command("--submit", stub=stub)
        assert code == 0, err
        assert len(stub.jobs) == 1

    def test_a_lost_answer_does_not_create_a_second_job(self, command, serve):
        stub = serve(script={"POST ^/fine_tuning/jobs$": ["lose"]})
        code, _, err = command("--submit", stub=stub)
        assert code == 0, err
        assert len(stub.jobs) == 1

    def test_a_service_that_never_answers_ends_in_one_line(self, command, serve):
        stub = serve(script={"POST ^/files$": ["drop"] * 50})
        code, _, err = command("--submit", stub=stub)
        assert code == 1
        assert err.startswith("error: the service")
        assert err.count("\n") == 1
        assert not stub.jobs

    def test_a_wrong_key_is_one_line(self, command, serve):
        stub = serve()
        stub.answer = lambda *_: (401, b'{"error": {"code": "401", "message": "Access denied"}}')
        code, _, err = command("--submit", stub=stub)
        assert (code, err.count("\n")) == (1, 1)
        assert "Access denied" in err

    PLACES = (
        "POST ^/files$",
        r"GET ^/files/[\w-]+$",
        "POST ^/fine_tuning/jobs$",
        r"GET jobs/[\w-]+$",
        "GET events$",
    )

    # Of events, any other object is a right answer: a list without entries.
    NO_ANSWERS = (
        *itertools.product(["html", "text"], PLACES),
        *itertools.product(["other"], PLACES[:-1]),
    )

    @pytest.mark.parametrize(("fault", "place"), NO_ANSWERS)
    def test_an_answer_that_is_no_answer_is_one_line(self, command, serve, place, fault):
        code, _, err = command("--submit", stub=serve(script={place: [fault] * 50}))
        assert (code, err.count("\n")) == (1, 1), err
        assert err.startswith("error: the service")

    @pytest.mark.parametrize("place", PLACES)
    def test_a_service_that_repeats_the_key_does_not_show_it(self, command, serve, place):
        """That the key is in no output, `command` looks after."""
        code, _, err = command("--submit", stub=serve(script={place: ["echo"] * 50}))
        assert (code, err.count("\n")) == (1, 1)
        assert "<key>" in err

    def test_nothing_is_sent_on_to_where_a_redirect_leads(self, command, serve):
        stub, other = serve(), serve()
        stub.server.RequestHandlerClass.do_POST = lambda handler: handler.reply(
            307, b"", {"Location": other.address + handler.path, "Connection": "close"}
        )
        code, _, err = command("--submit", stub=stub)
        assert (code, err.count("\n"), other.requests) == (1, 1, [])

    @pytest.mark.parametrize("form", ENCODED)
    def test_the_key_is_known_in_other_forms(self, command, serve, tmp_path, monkeypatch, form):
        key = "k3y+with 'all'/that-can-be"
        monkeypatch.setattr(sys.modules[__name__], "KEY", key)
        said = ENCODED[form](key)
        stub = serve(statuses=("running", "failed"), error={"code": "x", "message": said, "param": None})
        stub.event = said
        code, out, err = command("--submit", stub=stub)
        assert code == 1
        assert "failed: <key>" in err
        assert "<key>" in out
        assert " ".join(said.split()) not in out + err

    @pytest.mark.parametrize("kind", JOBS)
    def test_whatever_a_job_looks_like(self, command, serve, kind):
        fields, expected = JOBS[kind]
        stub = serve()
        stub.job = lambda job_id, status: {
            **AzureStub.job(stub, job_id, status),
            **(fields if stub.looks else {}),
        }
        code, _, err = command("--submit", stub=stub)
        assert (code, err.count("\n")) == (expected, expected), err

    @pytest.mark.parametrize(
        "answer", [b"[" * 100_000, b'{"id":' + b"9" * 5000 + b"}", b'{"id":"\xff"}', b'{"id":""}']
    )
    def test_an_answer_that_no_reader_takes_is_one_line(self, command, serve, answer):
        stub = serve()
        stub.answer = lambda method, path, body: (
            (201, answer)
            if (method, path) == ("POST", "/fine_tuning/jobs")
            else AzureStub.answer(stub, method, path, body)
        )
        code, _, err = command("--submit", stub=stub)
        assert (code, err.count("\n")) == (1, 1)
        assert err.startswith("error: the service")

    def test_events_that_have_always_one_more_page_come_to_an_end(self, command, serve):
        stub = serve()
        stub.event = "\ud800\x1b[31m"
        stub.answer = lambda method, path, body: (
            (
                200,
                AzureStub.answer(stub, method, path, body)[1].replace(
                    b'"has_more": false', b'"has_more": true'
                ),
            )
            if path.endswith("/events")
            else AzureStub.answer(stub, method, path, body)
        )
        code, out, err = command("--submit", stub=stub)
        assert (code, err) == (0, "")
        assert "  ??[31m" in out
        assert sum(path.endswith("/events") for _, path, _ in stub.requests) <= 3 * submit.PAGES

    @pytest.mark.parametrize("state", ["/proc/job.json", "/etc/passwd/job.json"])
    def test_a_job_that_could_not_be_remembered_is_not_created(self, command, serve, state):
        stub = serve()
        code, _, err = command("--submit", "--state", state, stub=stub)
        assert (code, err.count("\n"), stub.requests) == (2, 1, [])
        assert "--state" in err

    def test_a_job_whose_note_is_lost_is_named(self, command, serve, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(submit, "write_json", full)
        code, _, err = command("--submit", stub=serve())
        assert (code, err.count("\n")) == (2, 1)
        assert "ftjob-1" in err

    @pytest.mark.parametrize("key", [KEY, 'k%y/with+odd=\\signs"', "schlüssel"])
    def test_whatever_a_job_says_the_key_is_neither_shown_nor_stored(
        self, command, serve, tmp_path, monkeypatch, key
    ):
        said = f"cannot use {key}, that is {json.dumps(key)}"
        stub = serve(statuses=("running", "failed"), error={"code": "x", "message": said, "param": None})
        stub.event = said
        monkeypatch.setattr(sys.modules[__name__], "KEY", key)
        code, out, err = command("--submit", stub=stub)
        if not key.isascii():
            assert (code, "characters that no key has" in err, stub.requests) == (2, True, [])
            return
        assert code == 1
        assert "<key>" in err
        assert "<key>" in out
        assert all(key not in path.read_text() for path in tmp_path.iterdir())

    def test_a_state_that_nobody_knows_ends_the_watch(self, command, serve, tmp_path):
        stub = serve(statuses=("running", "meditating"))
        code, _, err = command("--submit", stub=stub)
        assert (code, err.count("\n")) == (1, 1)
        assert "'meditating'" in err
        stub.statuses, stub.looks = ["succeeded"], 0
        assert command("--resume", stub=stub)[0] == 0

    @pytest.mark.parametrize(
        "address",
        ["http://example.com", "http://10.0.0.1:80", "https://", "example.com", "https://host:abc", "https://host:",
         "http://127.0.0.1:", "https://host:99999", "https://me:secret@host", "ftp://host", "https://[", "http://[::",
         "https://host?code=secret",
         "https://host#secret", " https://host", "https://ho\tst", "https://a..b", f"https://{'a' * 300}"],
    )  # fmt: skip
    @pytest.mark.parametrize("flag", ["--submit", "--resume"])
    def test_an_address_to_which_no_key_may_go_is_refused(
        self, command, monkeypatch, tmp_path, address, flag
    ):
        (tmp_path / "job.json").write_text(
            json.dumps({"job": "ftjob-1", "finished": None if flag == "--resume" else "failed"})
        )
        code, _, err = command(flag, stub=SimpleNamespace(address=address))
        assert (code, err.count("\n")) == (2, 1)
        assert "AZURE_OPENAI_ENDPOINT" in err
        assert "secret" not in err

    def test_an_unfinished_job_is_not_forgotten(self, command, serve, tmp_path):
        (tmp_path / "job.json").write_text('{"job": "ftjob-1", "finished": null}')
        code, _, err = command("--submit", stub=serve())
        assert (code, "--resume" in err) == (2, True)

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", '{"job": 3}', '{"job": ""}', '{"job": "../x"}', '{"job": "\\ud800"}', "[" * 100_000],
    )
    def test_a_broken_note_of_the_job_is_one_line(self, command, serve, tmp_path, content):
        (tmp_path / "job.json").write_text(content)
        for flag in ("--submit", "--resume"):
            code, _, err = command(flag, stub=serve())
            assert (code, err.count("\n")) == (2, 1)

    def test_a_paused_job_ends_the_watch_and_can_be_resumed(self, command, serve, tmp_path):
        stub = serve(statuses=("running", "paused"))
        code, _, err = command("--submit", stub=stub)
        assert (code, "paused" in err) == (1, True)
        stub.statuses, stub.looks = ["succeeded"], 0
        assert command("--resume", stub=stub)[0] == 0

    @pytest.mark.parametrize(
        ("number", "exit_code"),
        [
            (signal.SIGINT, 130),
            pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),  # test_stopping.py sees all three
            pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
        ],
    )
    def test_a_signal_leaves_a_job_that_can_be_resumed(self, number, exit_code, command, serve, tmp_path):
        stub = serve(statuses=("running",))
        state = tmp_path / "job.json"
        program = subprocess.Popen(
            [sys.executable, str(DAY / "submit.py"), "--submit", "--state", str(state), "--every", "0.05"],
            env={**os.environ, "AZURE_OPENAI_ENDPOINT": stub.address, "AZURE_OPENAI_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # whoever runs the tests in the background may have had them ignore it
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        )
        deadline = time.monotonic() + 60
        while not (state.exists() and stub.looks > 2) and time.monotonic() < deadline:
            threading.Event().wait(0.05)  # time.sleep is switched off here
        program.send_signal(number)
        out, err = program.communicate(timeout=30)
        assert program.returncode == exit_code
        assert err.count("\n") == 1
        assert "--resume" in err
        assert KEY not in out + err
        stub.statuses, stub.looks = ["succeeded"], 0
        assert command("--resume", stub=stub)[0] == 0
        assert len(stub.jobs) == 1
