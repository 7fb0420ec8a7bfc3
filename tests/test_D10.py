"""D10's learners in small, and what is wrong once edited."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from chapters.D_rlhf import D10_grounding_and_memory as lesson
from chapters.D_rlhf.checks.D10 import EDITS
from chapters.D_rlhf.evidence import D10 as evidence
from chapters.envs import scenes, tmaze
from chapters.utils import RunLog
from chapters.utils.edits import edited


@pytest.fixture
def cfg():
    return replace(lesson.Config(), batch_size=96, imitation_updates=40, rl_updates=30)


def test_a_seer_learns_and_an_edited_one_does_not(cfg, tmp_path):
    log = RunLog(tmp_path, "D10")
    lesson.train_seer(cfg, log, "right")
    assert log.last("right_success") > 0.5
    for name in ("eyes_shut", "rows_mixed"):
        edited(lesson, EDITS[name]).train_seer(replace(cfg, rl_updates=1), log, name)
    log.close()
    assert log.last("eyes_shut_success") < 0.2


def test_a_retrieval_that_is_written_and_never_read_learns_nothing(cfg, tmp_path):
    log = RunLog(tmp_path, "D10")
    short = replace(cfg, batch_size=64, imitation_updates=50, rl_updates=1, longest_delay=2)
    lesson.train_walker(lesson.Retrieval, short, log, "right")
    edited(lesson, EDITS["memory_unread"]).train_walker(
        lesson.Walker, replace(short, imitation_updates=5), log, "x"
    )
    log.close()
    assert log.last("right_chance") > 0.6
    assert log.last("x_chance") <= 0.5 + 1e-9


# What is trained on, and what is measured


class AtCell(lesson.Seer):
    """Touches one cell with chance 0.7, each other with 0.02; its attention is on the next one."""

    def __init__(self, cell=3):
        super().__init__(4)
        self.weight, self.cell = nn.Parameter(torch.zeros(())), cell

    def forward(self, images, words):
        chances = torch.full((len(images), scenes.NUM_CELLS), 0.02)
        chances[:, self.cell] = 0.7
        return chances.log() + 0 * self.weight

    def look(self, images, words):
        return self(images, words).exp().roll(1, dims=1)


def seer_parts(cfg, monkeypatch, tmp_path):
    """(play, measure, words of every scene that was drawn, the first for the test) of `train_seer`."""
    drawn, draw, parts = [], scenes.draw, []

    def spied(words, rng):
        drawn.append({tuple(row) for row in words.tolist()})
        return draw(words, rng)

    monkeypatch.setattr(scenes, "draw", spied)
    monkeypatch.setattr(lesson, "train", lambda policy, play, measure, *_: parts.extend((play, measure)))
    log = RunLog(tmp_path, "D10")
    lesson.train_seer(cfg, log, "x")
    log.close()
    return *parts, drawn


def test_a_seer_is_trained_on_no_held_out_instruction_and_measured_on_nothing_else(
    cfg, tmp_path, monkeypatch
):
    play, measure, drawn = seer_parts(cfg, monkeypatch, tmp_path)
    held_out = {tuple(row) for row in scenes.instructions(held_out=True).tolist()}
    for shown in (True, False):
        for _ in range(4):
            play(AtCell(), shown)
    assert drawn[0] == held_out
    met = set.union(*drawn[1:])
    assert len(met) > 40
    assert not met & held_out
    test = scenes.held_out_scenes(scenes.NUM_TEST, cfg.seed)
    at = (test["target"] == 3).float().mean().item()
    monkeypatch.setattr(lesson, "touch", lambda attention, places: attention.roll(-1, dims=1).log())
    found = measure(AtCell())
    assert found["success"] == pytest.approx(0.7 * at + 0.02 * (1 - at), abs=1e-6)
    beside = (test["target"] == 4).float().mean().item()
    assert found["attention"] == pytest.approx(0.7 * beside + 0.02 * (1 - beside), abs=1e-6)


def test_a_touch_is_paid_if_it_is_of_the_named_thing_and_a_teacher_is_followed_if_it_shows(
    cfg, tmp_path, monkeypatch
):
    monkeypatch.setattr(scenes, "TEACHER_ERROR", 0.0)
    scene = {}

    def spied(words, rng, draw=scenes.draw):
        scene.update(draw(words, rng))
        return scene

    play, _, _ = seer_parts(cfg, monkeypatch, tmp_path)
    monkeypatch.setattr(scenes, "draw", spied)
    batch = play(AtCell(), True)
    assert (batch["rewards"] == 1.0).all(), "a teacher that never errs"
    assert batch["alive"].all()
    assert batch["asked"].all()
    expected = torch.where(scene["target"] == 3, 0.7, 0.02).log()
    assert torch.allclose(batch["log_probs"][:, 0], expected)
    batch = play(AtCell(), False)
    touched = batch["log_probs"][:, 0] > math.log(0.5)
    assert 0.5 < touched.float().mean() < 0.9, "drawn from the policy: 0.7"
    assert torch.equal(batch["rewards"][touched, 0], (scene["target"][touched] == 3).float())
    assert batch["alive"].all(), "a touch that pays nothing is a step, too"
    assert batch["asked"].all()
    assert batch["log_probs"].requires_grad


def test_imitation_comes_first_then_reward_and_the_last_update_is_measured(cfg, tmp_path, monkeypatch):
    shown, rates, losses = [], [], []

    class Watched(lesson.Adam):
        def step(self):
            rates.append(self.lr)
            super().step()

    def play(policy, show):
        shown.append(show)
        part = torch.ones(2, 1)
        return {"log_probs": policy.weight * part, "rewards": part, "alive": part > 0, "asked": part > 0}

    monkeypatch.setattr(lesson, "Adam", Watched)

    def loss_of(name):
        def loss(log_probs, *_, **__):
            losses.append(name)
            return log_probs.sum()

        return loss

    for name in ("imitation_loss", "policy_loss"):
        monkeypatch.setattr(lesson, name, loss_of(name))
    log, policy = RunLog(tmp_path, "D10"), AtCell()
    short = replace(cfg, imitation_updates=8, rl_updates=6, learning_rate=0.1)
    lesson.train(policy, play, lambda policy: {"weight": policy.weight.item()}, short, log, "x")
    log.close()
    assert shown == [True] * 8 + [False] * 6
    assert losses == ["imitation_loss"] * 8 + ["policy_loss"] * 6
    assert rates == pytest.approx([0.1 * (1 - 0.9 * i / 14) for i in range(14)])
    steps, weights = log.series("x_weight")
    assert steps == [10, 14]
    assert weights[-1] == policy.weight.item() < weights[0] < 0.0, "each step lowers the loss"


def test_a_walker_trains_in_all_short_corridors_and_is_measured_in_the_longest(cfg, tmp_path, monkeypatch):
    parts, asked = [], []
    monkeypatch.setattr(lesson, "train", lambda policy, play, measure, *_: parts.extend((play, measure)))
    monkeypatch.setattr(tmaze, "measured", lambda policy, delay, seed: asked.append((delay, seed)) or {})
    log = RunLog(tmp_path, "D10")
    walker = lesson.train_walker(lesson.Retrieval, replace(cfg, longest_delay=5, seed=4), log, "x")
    log.close()
    play, measure = parts
    measure(walker)
    assert asked == [(5, 4)]
    lengths = {n for _ in range(3) for n in play(walker, True)["alive"].sum(dim=1).tolist()}
    assert lengths == {4 + delay + 1 for delay in range(2, 6)}, "four signs, the corridor, the junction"


def test_what_main_claims_is_what_it_measured(tmp_path, monkeypatch):
    """A seer that ends at 0.91, with 0.6 of its attention; a walker that reads 3 memories."""
    monkeypatch.setattr(scenes, "figure_of", lambda *_: None)
    monkeypatch.setattr(RunLog, "figure", lambda *_: None)
    trained, asked = [], []

    def train_seer(cfg, log, name):
        for step, success in ((10, 0.99), (20, 0.91)):
            log.write(step, **{f"{name}_success": success, f"{name}_attention": success - 0.31})

    def train_walker(make, cfg, log, name):
        trained.append((make, name))
        log.write(10, **{f"{name}_chance": 0.47 if name == "memoryless" else 0.4})
        return make(16, 4)

    def right_turns(policy, delays, seed):
        asked.append((getattr(policy, "num_read", None), delays, seed))
        return [0.8]

    monkeypatch.setattr(lesson, "train_seer", train_seer)
    monkeypatch.setattr(lesson, "train_walker", train_walker)
    monkeypatch.setattr(tmaze, "right_turns", right_turns)
    log = RunLog(tmp_path, "D10")
    lesson.main(lesson.Config(seed=2, num_read=3, longest_delay=5), log)
    log.close()
    assert trained == [(lesson.Retrieval, "retrieval"), (lesson.Walker, "memoryless")]
    assert asked == [(3, [5], 2)]
    values = {claim.name: claim.value for claim in log.claims}
    assert values == pytest.approx(
        {"named_touched": 0.91, "named_seen": 0.6, "door_opened": 0.8 / 0.9, "memoryless": 0.47}
    )
    bounds = {claim.name: claim.at_least if claim.at_most is None else claim.at_most for claim in log.claims}
    assert bounds["memoryless"] == pytest.approx(0.5)


# What the evidence measures


def test_what_was_taken_away_is_what_is_measured(tmp_path, monkeypatch):
    trained = []
    ends = {"eyes_shut": 0.1, "place_unread": 0.4, "untaught": 0.95}

    def learns(edit):
        def train_seer(cfg, log, name):
            trained.append((name, edit, cfg.imitation_updates, cfg.rl_updates))
            log.write(1, **{f"{name}_success": 0.0})
            log.write(2, **{f"{name}_success": ends[name]})

        return train_seer

    monkeypatch.setattr(evidence, "edited", lambda module, edit: SimpleNamespace(train_seer=learns(edit)))
    monkeypatch.setattr(lesson, "train_seer", learns(None))
    log = RunLog(tmp_path, "D10")
    for step, success in ((10, 0.5), (20, 0.72), (30, 0.97)):
        log.write(step, seer_success=success)
    cfg = lesson.Config(imitation_updates=20, rl_updates=10)
    evidence.claim_taken(cfg, evidence.Config(taken_updates=6), log)
    log.close()
    assert trained == [
        ("eyes_shut", EDITS["eyes_shut"], 6, 6),
        ("place_unread", EDITS["place_unread"], 6, 6),
        ("untaught", None, 0, 30),
    ]
    values = {claim.name: claim.value for claim in log.claims}
    assert values == pytest.approx({**ends, "as_taught": 0.72})
    bounds = {claim.name: claim.at_most or claim.at_least or claim.near[0] for claim in log.claims}
    assert bounds == pytest.approx(
        {
            "eyes_shut": 1 / 8 + 4 * (1 / 8 * 7 / 8 / 600) ** 0.5,
            "place_unread": 0.5 + 4 * (0.25 / 600) ** 0.5,
            "as_taught": 0.7 + 0.3 / 8,
            "untaught": 0.7 + 0.3 / 8,
        }
    )


def test_far_corridors_are_walked_with_each_memory(tmp_path, monkeypatch):
    asked = []
    retrieval, gru = SimpleNamespace(num_read=None), SimpleNamespace()

    def train_walker(make, cfg, log, name):
        assert (make, name) == (evidence.Recurrent, "recurrent")
        log.write(1, recurrent_chance=0.88)
        return gru

    def right_turns(policy, delays, seed, num_orders):
        read = None if policy is gru else policy.num_read
        asked.append((read, seed))
        far = {None: 0.5, 4: 0.87, 10**9: 0.8}[read]
        return [0.9 if delay < delays[-1] else far for delay in delays]

    monkeypatch.setattr(lesson, "train_walker", train_walker)
    monkeypatch.setattr(tmaze, "right_turns", right_turns)
    log = RunLog(tmp_path, "D10")
    log.keep(retrieval=retrieval)
    evidence.claim_memories(lesson.Config(seed=3), evidence.Config(far=40), log)
    log.close()
    assert asked == [(4, 3), (10**9, 3), (None, 3)]
    assert log.series("far_gru") == ([2, 4, 8, 16, 32], [0.9, 0.9, 0.9, 0.9, 0.5])
    values = {claim.name: claim.value for claim in log.claims}
    assert values == pytest.approx(
        {"recurrent_near": 0.88 / 0.9, "best_far": 0.87 / 0.9, "list_thins": -0.07, "recurrent_far": -0.37}
    )


def test_a_recurrent_memory_is_written_over_and_read_whole():
    walker = evidence.Recurrent(5, 4)
    first, second = torch.tensor([1, 4]), torch.tensor([2, 2])
    once = walker.cell(walker.see(first))
    memory = walker.write(second, walker.write(first, None))
    assert torch.equal(memory, walker.cell(walker.see(second), once))
    assert torch.equal(walker.recall(first, memory), memory)


@pytest.mark.parametrize("count", [2, 1001])
def test_one_list_of_four_that_gives_another_share_is_noticed(count, tmp_path, monkeypatch):
    retrieve = lesson.retrieve

    def wrong(query, keys, values, num_read):
        return retrieve(query, keys, values, num_read) + 0.01 * (keys.shape[1] == count)

    for name, found in (("right", retrieve), ("wrong", wrong)):
        monkeypatch.setattr(lesson, "retrieve", found)
        log = RunLog(tmp_path / name, "D10")
        evidence.claim_share(lesson.Config(), log)
        log.close()
        assert log.claims[0].value == pytest.approx(0.01 * (name == "wrong"), abs=1e-5)
