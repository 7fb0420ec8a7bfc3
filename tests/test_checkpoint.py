"""A run that is stopped goes on, and ends as if it had been left alone; what does not fit is refused."""

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file

from chapters.course.catalog import ROOT
from chapters.D_rlhf import D3_reward_model as D3
from chapters.text import checkpoint
from chapters.text.checkpoint import resumable
from chapters.utils import UsageError
from chapters.utils.lesson import RunOptions, execute
from chapters.utils.optim import Adam
from chapters.utils.runlog import read_metrics


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    num_steps: int = 8
    pairs: Path | None = None


class Net(torch.nn.Module):
    """Two layers of one weight, as a language model's first and last are, and a buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.last.weight = self.first.weight
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))


class Stop(KeyboardInterrupt):
    """What ends a run in the middle of a step."""


def train(log, num_steps, name, stop_at=None):
    """A loop that draws from every kind of generator; `stop_at`: the step in whose middle it is stopped."""
    torch.manual_seed(1)
    net, rng, generator = Net(), np.random.default_rng(2), torch.Generator().manual_seed(3)
    optimizer, order = Adam(net.parameters(), lr=0.1), torch.arange(5)
    for step in resumable(log, num_steps, f"steps ({name})", (net, optimizer, rng, generator, order)):
        noise = torch.randn(3, generator=generator) + torch.randn(3) + float(rng.normal())
        noise = noise + random.random() + float(np.random.normal())  # noqa: NPY002
        loss = net.last(net.first(noise)).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        if step == stop_at:
            raise Stop
        optimizer.step()
        net.seen[0] += 1
        order.copy_(order[torch.randperm(5, generator=generator)])
        log.write(step, **{f"{name}_loss": loss.item(), f"{name}_order": order[0]})
    return net, order


def lesson(stop=None, num_loops=2):
    """A `main` with two loops; stop: (loop, step) at which it is stopped."""

    def main(cfg, log):
        random.seed(cfg.seed)
        np.random.seed(cfg.seed)  # noqa: NPY002
        log.write(0, begun=1.0)
        for loop in range(num_loops):
            at = stop[1] if stop and stop[0] == loop else None
            net, order = train(log, cfg.num_steps, f"loop{loop}", at)
            log.keep(**{f"net{loop}": net, f"order{loop}": order})
        log.write(1, ended=1.0)

    return main


def go(tmp_path, stop=None, resume=None, cfg=Config(), save_every=0.0, file="D5_toy.py"):
    """The log of a run; of one that was stopped, its folder."""
    options = RunOptions(out=tmp_path, resume=resume, save_every=save_every)
    try:
        return execute(lesson(stop), cfg, tmp_path / file, options, print_claims=False)
    except Stop:
        return max((tmp_path / file[:2]).iterdir(), key=os.path.getmtime)


def outcome(log):
    """All that a run ends with."""
    kept = {name: one if torch.is_tensor(one) else one.state_dict() for name, one in log.kept.items()}
    return kept, read_metrics(log.folder), log.metrics


def same(one, two) -> bool:
    if torch.is_tensor(one):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return one == two


@pytest.mark.parametrize("stop", [(0, 3), (0, 7), (1, 0), (1, 1), (1, 6)])
def test_it_ends_as_if_it_had_been_left_alone(stop, tmp_path):
    alone = outcome(go(tmp_path / "alone"))
    folder = go(tmp_path / "stopped", stop)
    random.seed(99)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 — a new process would have other states
    log = go(tmp_path / "stopped", resume=folder)
    assert log.folder == folder
    assert all(same(a, b) for a, b in zip(alone, outcome(log)))
    assert json.loads((folder / "run.json").read_text())["status"] == "passed"


def test_it_may_be_stopped_many_times(tmp_path):
    alone = outcome(go(tmp_path / "alone"))
    folder = go(tmp_path / "stopped", (0, 2))
    for stop in ((0, 3), (0, 3), (0, 6), (1, 2), (1, 5)):
        assert go(tmp_path / "stopped", stop, folder) == folder
    assert all(same(a, b) for a, b in zip(alone, outcome(go(tmp_path / "stopped", resume=folder))))


@pytest.mark.parametrize("wrong", ["weights", "means", "steps", "numpy", "torch", "global", "order", "rows"])
def test_nothing_that_is_saved_could_be_left_out(wrong, tmp_path, monkeypatch):
    """With any part of it not restored, the run ends elsewhere."""
    alone = outcome(go(tmp_path / "alone"))
    folder = go(tmp_path / "stopped", (0, 5))
    load = checkpoint.Loop.load

    def broken(loop):
        before = {name: one.detach().clone() for name, one in loop.tensors.items()}
        rng, generator = loop.random[0].bit_generator.state, loop.generators[0].get_state()
        of_all = torch.get_rng_state()
        rewind = loop.log.rewind
        if wrong == "rows":
            loop.log.rewind = lambda rows: None
        done = load(loop)
        loop.log.rewind = rewind
        with torch.no_grad():
            for name, one in loop.tensors.items():
                if {"weights": "0.", "means": "1.means", "steps": "1.steps", "order": "4."}.get(
                    wrong, "-"
                ) in name:
                    one.copy_(before[name])
        if wrong == "numpy":
            loop.random[0].bit_generator.state = rng
        elif wrong == "torch":
            loop.generators[0].set_state(generator)
        elif wrong == "global":
            torch.set_rng_state(of_all)
        return done

    monkeypatch.setattr(checkpoint.Loop, "load", broken)
    assert not all(same(a, b) for a, b in zip(alone, outcome(go(tmp_path / "stopped", resume=folder))))


def test_what_is_saved_is_whole_though_its_writing_is_cut_off(tmp_path, monkeypatch):
    alone, replace, saves = outcome(go(tmp_path / "alone")), os.replace, []

    def cut_off(source, target):
        if str(target).endswith(".safetensors"):
            saves.append(target)
            if len(saves) == 4:
                Path(source).write_bytes(Path(source).read_bytes()[:100])
                raise Stop
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut_off)
    folder = go(tmp_path / "stopped")
    assert [path.name for path in folder.glob("checkpoint*")] == ["checkpoint-steps-loop0.safetensors"]
    log = go(tmp_path / "stopped", resume=folder)
    assert all(same(a, b) for a, b in zip(alone, outcome(log)))
    assert not list(folder.glob(".checkpoint*")), "what was cut off is written over"


def test_a_short_run_saves_nothing_and_a_long_one_not_too_often(tmp_path, monkeypatch):
    rare, often = go(tmp_path, save_every=60.0), go(tmp_path / "often", save_every=0.0)
    assert not list(rare.folder.glob("*.safetensors"))
    assert len(list(often.folder.glob("*.safetensors"))) == 2
    assert all(same(a, b) for a, b in zip(outcome(rare), outcome(often))), "to save changes nothing"
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now.__setitem__(0, now[0] + 1.0) or now[0])
    times, save = [], checkpoint._digest
    monkeypatch.setattr(checkpoint, "_digest", lambda tensors: times.append(now[0]) or save(tensors))
    go(tmp_path / "costly", save_every=2.0, cfg=Config(num_steps=60))
    assert len(times) < 12, "writing takes a second here, and is not done every two"


def refused(tmp_path, folder, **changes) -> str:
    with pytest.raises(UsageError) as error:
        go(tmp_path, resume=folder, **changes)
    said = str(error.value)
    assert "\n" not in said
    return said


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    folder = go(tmp_path, (0, 5))
    says = "it ran with --num-steps 8, this is 9 (allowed: the same settings)"
    assert says in refused(tmp_path, folder, cfg=Config(num_steps=9))
    assert "it ran with --seed 0, this is 1" in refused(tmp_path, folder, cfg=Config(seed=1))
    assert "a run of D5, not of D4" in refused(tmp_path, folder, file="D4_toy.py")
    assert "no folder of a run" in refused(tmp_path, tmp_path)
    assert "no folder of a run" in refused(tmp_path, tmp_path / "nowhere")
    early = go(tmp_path / "early", (0, 0))
    assert "it had saved nothing yet" in refused(tmp_path, early)
    ended = go(tmp_path / "ended").folder
    assert "it came to its end (passed)" in refused(tmp_path, ended)
    assert go(tmp_path, resume=folder).folder == folder, "nothing of this has spoiled it"


def test_what_is_damaged_or_foreign_is_refused_in_one_line(tmp_path):
    folder = go(tmp_path, (0, 5))
    (path,) = folder.glob("checkpoint*")
    whole = path.read_bytes()
    for data in (whole[:-7], whole[:50], b"", b"nothing", whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]):
        path.write_bytes(data)
        assert "it is damaged" in refused(tmp_path, folder)
    save_file({"weight": torch.zeros(2)}, path)
    assert "it was not written here" in refused(tmp_path, folder)
    other = go(tmp_path / "other", (0, 5), cfg=Config(seed=3))
    path.write_bytes(next(other.glob("checkpoint*")).read_bytes())
    assert "it belongs to another run" in refused(tmp_path, folder)
    path.write_bytes(whole)
    assert go(tmp_path, resume=folder).folder == folder


def test_what_began_elsewhere_is_refused_in_one_line(tmp_path, monkeypatch):
    """Other weights to begin with, as of a model's folder that was changed, or another file of pairs."""
    pairs = tmp_path / "own.jsonl"
    lines = [json.dumps({"prompt": f"{i}", "chosen": " yes", "rejected": " no"}) for i in range(12)]
    pairs.write_text("\n".join(lines[:11]))
    cfg = Config(pairs=pairs)
    folder = go(tmp_path, (0, 5), cfg=cfg)
    pairs.write_text("\n".join(lines))
    assert "it began from other weights, data or settings" in refused(tmp_path, folder, cfg=cfg)
    pairs.write_text("\n".join(lines[:11]))
    first = torch.nn.init.kaiming_uniform_
    monkeypatch.setattr(
        torch.nn.init, "kaiming_uniform_", lambda *args, **more: first(*args, **more).data.add_(1e-3)
    )
    assert "it began from other weights" in refused(tmp_path, folder, cfg=cfg)


def test_what_is_frozen_is_looked_at_and_not_saved(tmp_path):
    """As beside an adapter: else each file holds the whole model, and another model would pass for it."""

    def main(cfg, log):
        torch.manual_seed(0)
        net = Net()
        net.first.requires_grad_(False)
        with torch.no_grad():
            net.first.bias += begins
        for step in resumable(log, 3, "steps", (net,)):
            with torch.no_grad():
                net.last.bias += 1.0
            if step == stop:
                raise Stop
        log.keep(net=net)

    def once(resume=None):
        options = RunOptions(out=tmp_path, resume=resume, save_every=0.0)
        return execute(main, Config(), tmp_path / "D5_toy.py", options, print_claims=False)

    begins, stop = 0.0, 1
    with pytest.raises(Stop):
        once()
    (path,) = tmp_path.glob("D5/*/checkpoint*")
    _, tensors = checkpoint.read(path)
    assert {name for name in tensors if name.startswith("0.")} == {"0.last.bias", "0.seen"}
    begins = 1e-3
    with pytest.raises(UsageError, match="it began from other weights"):
        once(path.parent)
    begins, stop = 0.0, 99
    expected = once(path.parent).kept["net"].last.bias
    torch.manual_seed(0)
    assert torch.equal(expected, Net().last.bias + 1.0 + 1.0 + 1.0)


def test_a_run_that_still_runs_is_not_gone_on_with(tmp_path, monkeypatch):
    folder = go(tmp_path, (0, 5))
    checkpoint._locks.pop(folder.resolve()).release()
    with FileLock(folder / ".running.lock"):
        assert "it is still running" in refused(tmp_path, folder)
    assert go(tmp_path, resume=folder).folder == folder


def test_a_lesson_that_saves_nothing_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("chapters.utils.lesson.RESUMERS", [])
    assert "D5 saves nothing to go on from" in refused(tmp_path, tmp_path)


def test_two_loops_of_one_name_are_an_error(tmp_path):
    def main(cfg, log):
        train(log, 2, "twice")
        train(log, 2, "twice")

    with pytest.raises(ValueError, match="two loops"):
        execute(main, Config(), tmp_path / "D5_toy.py", RunOptions(out=tmp_path), print_claims=False)


def test_a_reward_model_goes_on_in_the_middle_of_a_later_pass(tmp_path):
    """D3's shuffles build on each other: the order of the pairs is part of what is saved."""

    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.zeros(20))

        def forward(self, ids, mask):
            if len(seen) == stop:
                raise Stop
            seen.append(ids[:, 0].tolist())
            return self.weights[ids[:, 0]]

    ids = torch.arange(16).reshape(2, 8, 1)
    cfg = D3.Config(num_epochs=4, batch_size=2, num_pairs=64)
    found = []

    def main(cfg, log):
        head = D3.train_reward_model(Head(), {"ids": ids, "mask": torch.ones_like(ids)}, cfg, log)
        log.keep(weights=head.weights.detach())

    for stop, resume in ((99, False), (11, False), (99, True)):
        seen = []
        options = RunOptions(out=tmp_path / str(stop), save_every=0.0, resume=resume or None)
        if resume:
            options = dataclasses.replace(options, resume=next((tmp_path / "11" / "D3").iterdir()))
        try:
            log = execute(main, cfg, tmp_path / "D3_toy.py", options, print_claims=False)
        except Stop:
            continue
        found.append((seen, log.kept["weights"]))
    (alone, weights), (after, weights_after) = found
    assert after == alone[11:]
    assert torch.equal(weights, weights_after)


@pytest.mark.slow
def test_d5_killed_and_resumed_ends_with_the_same_weights():
    """By SIGKILL, at random moments; `python tests/kill_and_resume.py --kills 20` is the long form."""
    command = [sys.executable, ROOT / "tests" / "kill_and_resume.py", "--kills", "1", "--updates", "12"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kills"] == 1
