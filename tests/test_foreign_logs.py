"""`rl diagnose` on logs of other libraries: found, read, understood, and named for what they show."""

import json
import math
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import test_E3 as own

from chapters.course.catalog import CHAPTERS
from chapters.course.diagnose import log_of, report, run_folder
from chapters.diagnosis import files as logs
from chapters.diagnosis import names
from chapters.diagnosis.logs import NEEDS, OTHERS, everything, judged, suspects
from chapters.diagnosis.names import LIBRARIES, Learner, learners_of
from chapters.diagnosis.rules import CATALOGUE, DIAGNOSTICS
from chapters.E_practice.evidence import E3 as evidence
from chapters.E_practice.evidence import E3_foreign as foreign
from chapters.E_practice.evidence import E3_zoo
from chapters.utils.lesson import UsageError
from chapters.utils.runlog import RunLog

COUNT = 40
rng = random.Random(0)


def course(first: float, last: float, noise: float = 0.0, count: int = COUNT) -> list[tuple[int, float]]:
    """From the first to the last value, with noise that is the same in every run of the tests."""
    draw = random.Random(round(1000 * first) + count)
    step = (last - first) / (count - 1)
    return [(i, first + step * i + noise * draw.uniform(-1, 1)) for i in range(count)]


def one(metrics: dict) -> Learner:
    (learner,) = learners_of(metrics)
    return learner


def first_of(metrics: dict) -> str:
    """The first suspect in a log of one learner, 'none' without one."""
    return next((found.bug for found in suspects(one(metrics))), "none")


def sb3(**changes) -> dict:
    """A healthy log of Stable-Baselines3's PPO, some of it replaced."""
    return {
        "time/fps": course(900, 900),
        "rollout/ep_rew_mean": course(20, 400, 20),
        "train/approx_kl": course(0.01, 0.006, 0.004),
        "train/entropy_loss": course(-0.69, -0.4),
        "train/explained_variance": course(0.0, 0.9, 0.1),
        "train/value_loss": course(10, 60, 5),
        "train/clip_fraction": course(0.1, 0.1),
        "train/loss": course(5, 30),
    } | {f"train/{name}" if name != "rollout/ep_rew_mean" else name: rows for name, rows in changes.items()}


def trl(**changes) -> dict:
    """A healthy log of TRL's GRPO, some of it replaced."""
    return {
        "reward": course(0.1, 0.9, 0.05),
        "reward_std": course(0.3, 0.1),
        "frac_reward_zero_std": course(0.0, 0.6),
        "kl": course(0.0, 0.8),
        "entropy": course(2.2, 0.7),
        "grad_norm": course(1.0, 0.5),
        "completions/mean_length": course(6, 6),
    } | changes


def dqn(**changes) -> dict:
    """A healthy log of Stable-Baselines3's deep Q-network."""
    return {
        "rollout/ep_rew_mean": course(20, 200, 5),
        "rollout/exploration_rate": course(1.0, 0.05),
        "train/loss": course(0.1, 2.0),
    } | changes


HEALTHY = {"SB3 PPO": sb3(), "TRL GRPO": trl(), "SB3 DQN": dqn()}
UP_AND_DOWN = [(i, value) for i, (_, value) in enumerate([*course(20, 300, 9, 25), *course(300, 40, 9, 15)])]


@pytest.mark.parametrize("log", HEALTHY.values(), ids=HEALTHY.keys())
def test_a_healthy_log_raises_no_alarm_and_says_what_was_judged(log):
    learner = one(log)
    assert suspects(learner) == []
    assert len(judged(learner)) >= 3


FAULTS = [
    ("learning_rate_too_high", sb3(approx_kl=course(2.0, 5.0))),
    ("learning_rate_too_high", sb3(value_loss=course(1.0, 1e9))),
    ("reward_scale", sb3(value_loss=course(738_000, 700_000), explained_variance=course(0.0, 0.01))
     | {"rollout/ep_rew_mean": course(-52_000, -50_000)}),
    ("dead_critic", sb3(explained_variance=course(-0.1, 0.01))),
    ("wrong_sign", sb3() | {"rollout/ep_rew_mean": course(22, 9, 0.5)}),
    ("unstable", sb3() | {"rollout/ep_rew_mean": UP_AND_DOWN}),
    ("unstable", dqn() | {"rollout/ep_rew_mean": UP_AND_DOWN}),
    ("unstable", dqn() | {"rollout/ep_rew_mean": course(22, 9, 0.5)}),
    ("learning_rate_too_high", dqn() | {"train/loss": course(1.0, 1e10)}),
    ("learning_rate_too_high", {"losses/q_values": course(1, 1e6), "charts/episodic_return": course(20, 25)}),
    ("equal_groups", trl(frac_reward_zero_std=course(1, 1), reward_std=course(0, 0), reward=course(0, 0))),
    ("equal_groups", {"reward": course(1, 1), "reward_std": course(0, 0), "kl": course(0, 0)}),
    ("impossible_kl", trl(kl=course(-0.5, -3.0, 0.5))),
    ("impossible_kl", {"objective/kl": course(-2, -9, 1),
                       "objective/non_score_reward": course(0.1, 0.4, 0.1)}),
    ("wrong_sign", trl(reward=course(0.5, 0.1, 0.02))),
    ("learning_rate_too_high", trl(entropy=[(0, 2.2), *course(0.0, 0.0)[1:]])),
    ("learning_rate_too_high", trl(kl=course(40, 60, 5), reward=course(0.1, 0.1, 0.05))),
    ("learning_rate_too_high", trl(grad_norm=[*course(1, 1)[:-1], (COUNT, math.nan)])),
    ("missing_detach", trl(kl=course(0, 0), reward=course(0.1, 0.1, 0.05))),
    ("trained_reference", trl(kl=course(0, 0))),
    ("wrong_sign", {"rewards/accuracies": course(0.5, 0.05), "grad_norm": course(1, 1)}),
]  # fmt: skip


@pytest.mark.parametrize(("bug", "log"), FAULTS, ids=[f"{bug}-{i}" for i, (bug, _) in enumerate(FAULTS)])
def test_a_fault_is_named_first_in_the_librarys_own_log(bug, log):
    assert first_of(log) == bug
    assert bug in judged(one(log)), "what is named could be judged"


def test_what_is_right_at_the_end_of_a_good_run_is_no_fault():
    end = [(i, 1.0) for i in range(20, 40)]
    solved = trl(
        reward=[*course(0.1, 1.0)[:20], *end],
        frac_reward_zero_std=[*course(0.0, 1.0)[:20], *end],
    )
    assert first_of(solved) == "none"
    nothing_varies = sb3(explained_variance=[(0, math.nan), *course(0.1, 0.9)[1:-1], (COUNT, math.nan)])
    assert first_of(nothing_varies) == "none", "a share of a variance of 0 is no number"
    gaussian = sb3(entropy_loss=course(-1.4, 2.0), std=course(1.0, 0.1))
    assert first_of(gaussian) == "none", "the entropy of a density may be below 0"
    assert first_of(sb3(approx_kl=course(-2e-9, -1e-9))) != "impossible_kl", "rounding"
    far = {"beta_0_kl": course(0, 83), "beta_0_score": course(0, 3, 0.1)}
    assert first_of(far) == "none", "without a penalty what pays leads far away, at any step size"
    unexplained = course(0.01, 0.0, 0.02)
    little = sb3(explained_variance=unexplained, value_loss=course(222, 95, 3))
    assert first_of(little) == "none", "A2C by five steps, MountainCar before its first success"
    assert first_of(sb3(explained_variance=unexplained, value_loss=course(63, 130, 3))) == "dead_critic"
    noise = trl(kl=[(i, random.Random(i).gauss(0.0, 0.3)) for i in range(COUNT)])
    assert first_of(noise) == "none", "an estimate may be below 0"


def test_the_divergence_of_our_text_learners_is_that_from_the_reference():
    """D2 logs it as `review_kl`: 4 nats of a completion are no step of 4 nats."""
    log = {"review_kl": course(0, 4), "review_score": course(0, 2.5, 0.1), "review_first_gap": course(0, 0)}
    assert one(log).sources["kl_ref"] == "review_kl"
    assert first_of(log) == "none"
    assert first_of({"ours_kl": course(4, 4), "ours_return": course(9, 99, 3)}) == "learning_rate_too_high"


@pytest.mark.parametrize(("bug", "metrics", "least"), own.BROKEN)
def test_everything_that_the_zoo_shows_is_named_here_too(bug, metrics, least):
    log = own.healthy() | metrics
    assert suspects(one(own.healthy())) == []
    named = [found.bug for found in suspects(one(log))]
    assert bug in named[:1] or named[:1] == ["unstable"]
    assert bug in judged(one(log))


def test_each_suspect_is_known_and_each_rule_can_be_judged():
    assert {bug for bug, _, _ in NEEDS} == {*CATALOGUE, *OTHERS}
    assert not CATALOGUE.keys() & OTHERS.keys()
    for bug, log in [*FAULTS, *((bug, metrics) for bug, metrics, _ in own.BROKEN)]:
        assert everything(bug).what
        for learner in learners_of(log):
            assert {found.bug for found in suspects(learner)} <= judged(learner).keys(), "no alarm is sure"


# Names


def test_a_name_of_a_library_is_no_learner():
    for table in LIBRARIES.values():
        for theirs, ours in table.items():
            assert ours.removeprefix("-") in names.KNOWN
            learner = one({theirs: course(1, 2)})
            assert learner.name == ""
            if theirs != names.KL:
                assert learner.sources == {ours.removeprefix("-"): theirs}
    assert one(sb3()).metrics["entropy"][0][1] == 0.69, "their entropy loss is its negative"
    assert one({"train/reward": course(0, 1), "train/kl": course(0, 1)}).sources["kl_ref"] == "train/kl"


def test_other_learners_and_evaluations_are_kept_apart():
    written = ("a/approx_kl", "b_approx_kl", "eval/approx_kl", "eval_kl", "eval/mean_reward")
    found = learners_of({name: course(0, 1) for name in written})
    assert sorted(learner.name for learner in found) == ["", "a", "b"]
    assert (
        learners_of({"time/fps": course(0, 1), "x": course(0, 1), "_": course(0, 1), "": course(0, 1)}) == []
    )


def test_the_kind_of_a_learner_follows_from_what_it_logs():
    assert [one(log).kind for log in HEALTHY.values()] == ["on-policy", "text", "off-policy"]
    assert one({"return": course(0, 1)}).kind == ""
    assert "kl_ref" not in one(dqn()).wanted()
    assert one({"return": course(0, 1)}).wanted() == [*DIAGNOSTICS]


def test_the_table_of_names_is_shown_as_it_is():
    text = (CHAPTERS / "E_practice" / "E0_debugging_common_pitfalls.md").read_text(encoding="utf-8")
    assert "\n".join(names.table()) in text


# Files


def write_csv(path: Path, log: dict) -> Path:
    lines = [",".join(["time/total_timesteps", *log])]
    for i in range(COUNT):
        lines.append(",".join([str(100 * i), *(str(dict(rows).get(i, "")) for rows in log.values())]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_lines(path: Path, log: dict, text: bool = False) -> Path:
    rows = [{"step": i} | {name: dict(rows)[i] for name, rows in log.items()} for i in range(COUNT)]
    if text:
        rows = [{name: str(value) for name, value in row.items()} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def told(path: Path) -> list[str]:
    return list(report(run_folder(str(path), path.parent / "runs")))


def test_a_run_of_sb3_reads_alike_in_each_of_its_formats(tmp_path):
    foreign.run(tmp_path / "run", "sb3_ppo", "none", 0, share=1 / 12)
    found = [logs.find(tmp_path / "run" / name) for name in ("progress.csv", "progress.json")]
    (event,) = (tmp_path / "run").glob("*tfevents*")
    read = [logs.read(path).metrics for path in (*found, event)]
    for name in ("train/approx_kl", "train/value_loss", "rollout/ep_rew_mean", "train/entropy_loss"):
        table, lines, events = (log[name] for log in read)
        assert [step for step, _ in table] == [step for step, _ in lines] == [step for step, _ in events]
        values = [value for _, value in table]
        assert values == pytest.approx([value for _, value in lines], rel=1e-6)
        assert values == pytest.approx([value for _, value in events], rel=1e-6)
    assert logs.find(tmp_path / "run").name == "progress.csv"
    lines = told(tmp_path / "run")
    assert any("approx_kl = train/approx_kl" in line for line in lines)
    assert any(line.startswith("not used: ") for line in lines)


def test_a_run_of_trl_is_read_from_its_state(tmp_path):
    foreign.run(tmp_path / "run", "trl_grpo", "equal_groups", 0, share=1 / 8)
    lines = told(tmp_path / "run")
    assert lines[1].startswith("1. equal_groups")
    whole = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    (tmp_path / "run" / "checkpoint-4").mkdir()
    (tmp_path / "run" / "trainer_state.json").rename(tmp_path / "run" / "checkpoint-4" / "trainer_state.json")
    assert told(tmp_path / "run")[1:] == lines[1:], "a checkpoint holds it too"
    (tmp_path / "history.json").write_text(json.dumps(whole["log_history"]))
    assert told(tmp_path / "history.json")[1:] == lines[1:], "and a history alone is enough"


def test_what_is_planted_in_other_libraries_can_be_named():
    for learner in ("sb3_ppo", "trl_grpo"):
        assert len({*foreign.BUGS[learner]} - {"none"}) >= 3
    for bugs in foreign.BUGS.values():
        assert bugs[0] == "none"
        assert {*bugs} <= {*foreign.FIRST}


@pytest.mark.parametrize(("answer", "first", "alarms"), [("none", 0, 0), ("unstable", 0, 4), ("", 1, 0)])
def test_the_claims_about_other_libraries_count_what_was_named(tmp_path, monkeypatch, answer, first, alarms):
    """Whoever names nothing misses every bug, whoever always names the same one alarms every healthy run."""
    monkeypatch.setattr(foreign, "run", lambda folder, *_, **__: None)
    monkeypatch.setattr(foreign, "named_first", lambda folder: answer or folder.name.partition("-")[2])
    log = RunLog(tmp_path / "run", "E3")
    evidence.run_foreign(evidence.lesson.Config(), evidence.Config(), log)
    log.close()
    values = {claim.name: claim.value for claim in log.claims}
    assert values == {"foreign_first": first, "foreign_alarms": alarms}
    for (learner, bug), counted in E3_zoo.foreign_counts([log.metrics] * 2).items():
        assert counted[foreign.FIRST.index(answer or bug)] == sum(counted) == 2, (learner, bug)


@pytest.mark.parametrize("form", ["events", "wandb"])
def test_what_our_own_trackers_write_is_read(form, tmp_path, monkeypatch):
    from chapters.utils import tracking

    monkeypatch.setenv("WANDB_MODE", "offline")
    kind = {"events": tracking.TensorBoard, "wandb": lambda folder: tracking.WandB(folder, "E3", {})}[form]
    tracker = kind(tmp_path)
    for step, value in course(2.0, 5.0):
        tracker.write(step, {"train/approx_kl": value})
    tracker.close()
    place = tmp_path / ("tensorboard" if form == "events" else "wandb")
    for _ in range(100):  # wandb's own process writes the file, and may not have ended yet
        read = logs.read(logs.find(place)).metrics.get("train/approx_kl", [])
        if len(read) == COUNT:
            break
        time.sleep(0.1)
    assert [step for step, _ in read] == [*range(COUNT)]
    assert [value for _, value in read] == pytest.approx([value for _, value in course(2.0, 5.0)], rel=1e-6)
    assert told(place)[1].startswith("1. learning_rate_too_high")


@pytest.mark.parametrize("sizes", [[5, 40_000, 3], [32_747, 9], [32_752, 9], [32_755, 9], [100_000]])
def test_records_that_run_over_blocks_are_put_together(sizes):
    """LevelDB's log format: no part of a record crosses a block of 32 KiB, a rest under 7 bytes is filled."""
    records = [bytes([i % 251]) * size for i, size in enumerate(sizes)]
    data = b"\0" * 7
    for record in records:
        first = True
        while first or record:
            left = 32768 - len(data) % 32768
            if left < 7:
                data += b"\0" * left
                continue
            part, record = record[: left - 7], record[left - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not record]
            data += bytes(4) + struct.pack("<HB", len(part), kind) + part
            first = False
    assert list(logs._leveldb(data)) == [bytes([i % 251]) * size for i, size in enumerate(sizes)]
    assert list(logs._leveldb(data[:-1])) == [bytes([i % 251]) * size for i, size in enumerate(sizes)][:-1]


@pytest.mark.parametrize("text", [False, True])
def test_numbers_given_as_strings_are_numbers(text, tmp_path):
    path = write_lines(tmp_path / "log.jsonl", sb3(approx_kl=course(2.0, 5.0)), text)
    assert told(path)[1].startswith("1. learning_rate_too_high")
    folder = tmp_path / "E3" / "run"
    folder.mkdir(parents=True)
    write_lines(folder / "metrics.jsonl", {"approx_kl": course(2.0, 5.0)})
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text.replace('"approx_kl": ', '"approx_kl": "').replace("}", '"}'))
    assert told(folder)[1].startswith("1. learning_rate_too_high")


def test_a_log_without_what_a_rule_needs_is_nothing_to_go_on(tmp_path):
    path = write_csv(
        tmp_path / "progress.csv", {"time/fps": course(1, 1), "rollout/ep_len_mean": course(1, 1)}
    )
    assert told(path)[1].startswith("nothing to go on: no name in it is known")
    path = write_csv(tmp_path / "progress.csv", {"rollout/ep_rew_mean": course(1, 2)[:3]})
    assert told(path)[1].startswith("nothing to go on: log these, often: return, ")
    path = write_csv(tmp_path / "progress.csv", sb3())
    assert told(path)[1].startswith("no alarm (of ")
    for count, rows in ((1, "1 row"), (2, "2 rows"), (7, "7 rows")):
        path = write_csv(tmp_path / "short.csv", {name: values[:count] for name, values in sb3().items()})
        assert told(path)[1].startswith(f"too little to judge: {rows}, a course needs 8 (of ")
    path = write_csv(tmp_path / "progress.csv", sb3())
    assert any("dead_critic by explained_variance" in line for line in told(path)[2:6])


def test_torn_and_odd_files_are_read_up_to_there(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", sb3(approx_kl=course(2.0, 5.0)))
    path.write_text(path.read_text() + '{"train/approx_kl": 3.0, "a', encoding="utf-8")
    assert told(path)[1].startswith("1. learning_rate_too_high")
    path = write_csv(tmp_path / "log.csv", sb3(approx_kl=course(2.0, 5.0)))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b",", b";") + b"1;2\0\xff\n")
    assert told(path)[1].startswith("1. learning_rate_too_high")
    deep = '{"train": {"approx_kl": 3.0}, "x": ' + "[" * 5000 + "]" * 5000 + "}\n"
    (tmp_path / "deep.jsonl").write_text(deep + '{"train": {"approx_kl": 3.0, "n": ' + "9" * 400 + "}}\n")
    assert told(tmp_path / "deep.jsonl")[1].startswith("1. learning_rate_too_high")


def tables(log: dict) -> dict[str, bytes]:
    """A log as people have it: one file for each habit."""
    names = ["step", *log]
    rows = [[i, *(rows[i][1] for rows in log.values())] for i in range(COUNT)]
    text = "".join(",".join(map(str, row)) + "\n" for row in [names, *rows])
    lines = [json.dumps(dict(zip(names, row))) for row in rows]
    turned = [[*row[:1], *row[:0:-1]] for row in [names, *rows]]
    anew = "".join(",".join(map(str, row)) + "\n" for row in [names, *rows[:20], turned[0], *turned[21:]])
    return {
        "pipes.csv": text.replace(",", "|").encode(),
        "spaces.csv": text.replace(",", " ").encode(),
        "decimal-commas.csv": text.replace(",", ";").replace(".", ",").encode(),
        "sep.csv": b"sep=,\n" + text.encode(),
        "comment.csv": b'#{"t_start": 1.5}\n' + text.encode(),
        "savetxt.csv": b"# " + text.encode(),
        "blank.csv": b"\n\n" + text.encode(),
        "LOUD.CSV": text.encode(),
        "anew.csv": anew.encode(),
        "wide.csv": text.encode("utf-16"),
        "wide.jsonl": "\n".join(lines).encode("utf-16"),
        "wide.json": f"[{','.join(lines)}]".encode("utf-16-le"),
        "columns.json": json.dumps(dict(zip(names, zip(*rows)))).encode(),
        "torn-first.jsonl": "\n".join(['{"step": 1, "tr', *lines]).encode(),
        "blank.jsonl": ("\n" + "\n\n".join(lines)).encode(),
        "mixed.jsonl": "\n".join([*lines[:9], "null", "[1, 2]", *lines[9:]]).encode(),
    }


@pytest.mark.parametrize("name", tables(sb3()))
def test_logs_that_people_have_read_like_any_other(name, tmp_path):
    plain = {ours: [value for _, value in rows] for ours, rows in one(sb3()).metrics.items()}
    for log, says in ((sb3(), "no alarm"), (sb3(approx_kl=course(2.0, 5.0)), "1. learning_rate_too_high")):
        (tmp_path / name).write_bytes(tables(log)[name])
        assert told(tmp_path / name)[1].startswith(says)
    (tmp_path / name).write_bytes(tables(sb3())[name])
    read = one(logs.read(tmp_path / name).metrics).metrics
    assert {ours: [value for _, value in rows] for ours, rows in read.items()} == plain


def test_what_a_log_holds_no_number_of_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("step,train/approx_kl\n1,12%\n2,13%\n")
    assert told(tmp_path / "a.csv")[1].startswith("nothing to go on: train/approx_kl holds no number")


def test_holes_in_a_healthy_log_are_no_divergence():
    values = [(i, 10.0 if i % 3 else math.nan) for i in range(COUNT)]
    assert not math.isfinite(values[-1][1])
    assert first_of(sb3(value_loss=values)) == "none"
    assert first_of(sb3(value_loss=values[:-1] + [(COUNT + i, math.nan) for i in range(5)])) != "none"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"step,kl,kl\n1,2,3\n"),
        ("a.json", b"{"), ("a.json", b"7"), ("a.json", b"[1, 2]"), ("a.json", b""), ("a.csv", b""),
        ("a.csv", b"1,2\n3,4\n"), ("a.json", b"[" * 100_000), ("a.jsonl", b"\xff\xfe\0"), ("a.txt", b"step"),
        ("trainer_state.json", b'{"log_history": 7}'), ("a.csv", b'step,"' + b"x" * 200_000),
    ],
)  # fmt: skip
def test_what_is_no_log_is_refused_in_a_line(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"read|kind") as refused:
        log_of(run_folder(str(tmp_path / name), tmp_path / "runs"))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"x" * 7, b"x" * 100, b"\xff" * 70_000])
def test_damaged_event_files_hold_nothing(content, tmp_path):
    for name in ("events.out.tfevents.1", "run-1.wandb"):
        (tmp_path / name).write_bytes(content)
        assert logs.read(tmp_path / name).metrics == {}


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "two\nlines", "E3/none", "\udcff"])
def test_a_name_that_means_nothing_is_refused_in_a_line(name, tmp_path):
    with pytest.raises(UsageError, match=r"is no run and no log|name too long") as refused:
        run_folder(name, tmp_path)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 700
    str(refused.value).encode("utf-8")


def test_names_in_a_log_can_be_printed(tmp_path):
    path = tmp_path / "log.jsonl"
    rows = [{"n" * 5000: 1.0, "\ud800": 1.0, "a\nb_approx_kl": 0.01, "\ud800/approx_kl": 0.01}] * 9
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = told(path)
    assert all(len(line) < 300 and "\n" not in line for line in lines)
    "\n".join(lines).encode("utf-8")


def test_the_command_refuses_in_one_line(tmp_path):
    (tmp_path / "a.csv").write_text("")
    code = "from chapters.course.cli import main; main()"
    for wrong in (str(tmp_path / "a.csv"), "n" * 5000):
        done = subprocess.run([sys.executable, "-c", code, "diagnose", wrong], capture_output=True, text=True)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1


def test_twenty_thousand_lines_take_a_fraction_of_a_second(tmp_path):
    """A million take seconds; TensorBoard's own reader would take minutes."""
    count = 20_000
    path = tmp_path / "log.jsonl"
    line = '{"step": %d, "approx_kl": 0.01, "return": 20.0, "entropy": 0.5}\n'
    path.write_text("".join(line % i for i in range(count)))
    start = time.process_time()
    assert told(path)[1].startswith("no alarm")
    assert time.process_time() - start < 1.0
    with (tmp_path / "events.out.tfevents.1").open("wb") as file:
        for i in range(count):
            record = _event(i)
            file.write(struct.pack("<Q", len(record)) + bytes(4) + record + bytes(4))
    start = time.process_time()
    assert len(logs.read(tmp_path / "events.out.tfevents.1").metrics["losses/approx_kl"]) == count
    assert time.process_time() - start < 1.0


def _event(step: int) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    value = Summary.Value(tag="losses/approx_kl", simple_value=0.01)
    return Event(step=step, summary=Summary(value=[value])).SerializeToString()
