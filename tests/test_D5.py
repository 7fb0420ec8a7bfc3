"""D5's learner on a small token world, and wrong once it is edited; the world of sums; TRL's defaults."""

import dataclasses
import doctest
import itertools
import math
import time
import types

import numpy as np
import pytest
import torch

from chapters.D_rlhf import D5_grpo_verifiable_rewards as lesson
from chapters.D_rlhf.checks.D5 import EDITS
from chapters.D_rlhf.evidence import D5 as evidence
from chapters.D_rlhf.evidence import D5_trl
from chapters.D_rlhf.evidence.D5_trl import seconds_to
from chapters.envs import arithmetic
from chapters.envs.token_world import token_world
from chapters.text import grpo, tasks
from chapters.text.models import make_model, make_tokenizer
from chapters.text.recipes import arithmetic_recipe
from chapters.utils import RunLog
from chapters.utils.edits import edited
from chapters.utils.optim import Adam
from chapters.utils.seeding import seed_everything

QUICK = {"num_prompts": 8, "group_size": 16, "num_epochs": 2, "learning_rate": 0.1, "num_updates": 60}


def learnt(module, folder, **changes):
    """(KL, expected reward, metrics) after a short sampled run on a small world."""
    seed_everything(0)
    world = token_world(0, num_symbols=4, length=3)
    cfg = dataclasses.replace(module.Config(), **QUICK | changes)
    policy, log = world.reference(), RunLog(folder, "D5")
    module.train(policy, world.reference(), tasks.world_task(world), cfg, log, "quick")
    log.close()
    log_probs = world.log_probs(policy).detach()
    return float(world.kl(log_probs)), float(world.expected_reward(log_probs)), log.metrics


@pytest.mark.parametrize("name", ["GRPO", "RLOO's baseline", "Dr. GRPO", "DAPO", "TRL's default"])
def test_the_family_learns(name, tmp_path):
    """The reference earns 0 by construction."""
    assert learnt(lesson, tmp_path, **lesson.FAMILY[name])[1] > 1.0


@pytest.mark.parametrize("name", ["wrong_sign", "constant_ratio"])
def test_an_edited_learner_does_not(name, tmp_path):
    assert learnt(edited(lesson, EDITS[name]), tmp_path)[1] < 0.1


def test_the_penalty_holds_the_policy_unless_the_reference_trains_along(tmp_path):
    kl = learnt(lesson, tmp_path, beta=2.0)[0]
    assert kl < 0.5
    along = edited(lesson, EDITS["reference_trains_along"])
    assert learnt(along, tmp_path, beta=2.0)[0] > 2.0 * kl


def test_the_reference_stays_as_it_was(tmp_path):
    world = token_world(0, num_symbols=4, length=3)
    reference = world.reference()
    before = reference.table.detach().clone()
    cfg = dataclasses.replace(lesson.Config(), **QUICK | {"num_updates": 3})
    log = RunLog(tmp_path, "D5")
    lesson.train(world.reference(), reference, tasks.world_task(world), cfg, log, "quick")
    log.close()
    assert torch.equal(reference.table, before)


def test_each_update_makes_its_passes_and_clips_before_it_steps():
    """Zero, step, zero, step …; what is stepped along is clipped; the first loss is returned."""
    world = token_world(0, num_symbols=4, length=3)
    cfg = dataclasses.replace(lesson.Config(), num_prompts=8, group_size=16, num_epochs=3, beta=0.0)
    policy = world.reference()
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    batch = lesson.collect(policy, policy, tasks.world_task(world), rng, generator, cfg)
    calls = []

    class Spy(Adam):
        def zero_grad(self):
            calls.append("zero")
            super().zero_grad()

        def step(self):
            norm = math.sqrt(sum(p.grad.square().sum().item() for p in self.parameters if p.grad is not None))
            assert norm <= 1.0 + 1e-5
            calls.append("step")
            super().step()

    big = {**batch, "advantages": 100.0 * batch["advantages"]}
    loss, norm = lesson.update(policy, Spy(policy.parameters(), lr=0.1), big, cfg)
    assert calls == ["zero", "step"] * 3
    assert norm > 1.0
    assert abs(loss) < 1e-3, "the loss of the first pass, not of the last"


def test_two_seeds_give_two_runs(tmp_path):
    first, second = (learnt(lesson, tmp_path / str(seed), seed=seed)[2]["quick_reward"] for seed in (0, 1))
    assert first != second


def test_leaving_one_out_is_a_factor_and_nothing_else():
    rewards = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 8)))
    ratio = lesson.advantages(rewards, "leave_one_out", False) / lesson.advantages(
        rewards, "group_mean", False
    )
    assert torch.allclose(ratio, torch.full_like(ratio, 8 / 7))


def test_dynamic_sampling_finds_groups_that_differ():
    world = token_world(1, num_symbols=3, length=2)
    policy = world.reference()
    task = tasks.world_task(world)._replace(score=lambda rows, ids: (ids[:, 0] == 1).double())
    cfg = dataclasses.replace(lesson.Config(), num_prompts=64, group_size=2)
    shares = []
    for module in (lesson, edited(lesson, EDITS["dynamic_sampling"])):
        rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        batch = module.collect(policy, policy, task, rng, generator, cfg)
        shares.append(float(grpo.informative(batch["rewards"].view(64, 2)).float().mean()))
        expected = world.rows(batch["completion_ids"])
        assert torch.equal(batch["rewards"], (world.completion_ids[expected, 0] == 1).double())
    assert shares[1] > shares[0] + 0.3


def test_a_group_that_agrees_is_not_informative():
    rewards = torch.tensor(
        [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.5], [-1.0, -1.0, -1.0]]
    )
    assert grpo.informative(rewards).tolist() == [False, True, False, True, False]


def test_the_step_size_rises_stays_and_falls():
    shares = [grpo.schedule(i, 200) for i in range(200)]
    assert shares[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert set(shares[10:120]) == {1.0}
    assert shares[120:] == pytest.approx([(200 - i) / 80 for i in range(120, 200)])


def test_the_learner_follows_the_schedule(tmp_path, monkeypatch):
    """With a step size that is zero but for one update, only that update moves the policy."""
    monkeypatch.setattr(lesson, "schedule", lambda i, num: float(i == 2))
    world, seen = token_world(0, num_symbols=4, length=3), []
    cfg = dataclasses.replace(lesson.Config(), **QUICK | {"num_updates": 4})
    policy, log = world.reference(), RunLog(tmp_path, "D5")

    def watch(policy, step):
        seen.append((step, policy.table.detach().clone()))

    lesson.train(policy, world.reference(), tasks.world_task(world), cfg, log, "quick", watch)
    log.close()
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    moved = [not torch.equal(a, b) for (_, a), (_, b) in itertools.pairwise(seen)]
    assert moved == [False, True, False]


def test_trls_defaults_are_what_the_text_says():
    """beta 0 with DAPO's loss, divided by the group's deviation; the ratio on the KL where there is one."""
    trl = pytest.importorskip("trl")
    default = {field.name: field.default for field in dataclasses.fields(trl.GRPOConfig)}
    assert default["beta"] == 0.0
    assert default["loss_type"] == "dapo"
    assert default["scale_rewards"] == "group"
    assert default["use_bias_correction_kl"] is True
    assert lesson.FAMILY["TRL's default"] == {"average": "tokens", "beta": 0.0}


def test_pass_at_k_against_all_subsets():
    for n, correct in ((4, [0, 1, 2, 4]), (6, [3, 5]), (7, [1])):
        for k in range(1, n + 1):
            shares = []
            for c in correct:
                subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
                shares.append(sum(any(subset) for subset in subsets) / len(subsets))
            assert tasks.pass_at_k(np.array(correct), n, k) == pytest.approx(sum(shares) / len(shares))
    assert tasks.pass_at_k(np.array([32]), 64, 1) == 0.5
    assert not doctest.testmod(tasks).failed


def test_split_keeps_sums_apart_in_both_orders():
    train, held_out = (set(map(tuple, arithmetic.operands(part).tolist())) for part in (False, True))
    assert len(train) + len(held_out) == (arithmetic.LARGEST + 1) ** 2
    assert not train & held_out
    for pairs in (train, held_out):
        assert {(b, a) for a, b in pairs} == pairs
    assert 0.15 < len(held_out) / 2500 < 0.25
    rng = np.random.default_rng(0)
    for part, pairs in ((False, train), (True, held_out)):
        for text in arithmetic.write_problems(rng, 200, held_out=part):
            a, b = text.partition("=")[0].split("+")
            assert (int(a), int(b)) in pairs
            assert text.partition("=")[2][::-1] == str(int(a) + int(b))


def test_verify_takes_the_exact_answer_and_nothing_else():
    asked = ["07+35="] * 6
    assert arithmetic.verify(asked, ["24", "42", "24 ", "024", "", "240"]).tolist() == [1, 0, 0, 0, 0, 0]
    assert arithmetic.answer(2, 3) == "5"


def test_grading_tokens_is_not_fooled_by_special_ones():
    tokenizer = make_tokenizer(arithmetic_recipe())
    two, four = tokenizer.convert_tokens_to_ids(["2", "4"])
    end, pad, unknown = tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id
    written = [
        [two, four, end, pad], [two, four, end, two], [two, unknown, four, end], [pad, two, four, end],
        [two, end, four, end],
    ]  # fmt: skip
    assert arithmetic.grade(tokenizer, ["07+35="] * 5, written).tolist() == [1, 1, 0, 0, 0]


class Oracle(torch.nn.Module):
    """Writes the answer that stands in a table, whatever came before: for the measuring, not the learning."""

    def __init__(self, prompts, tokenizer, share):
        super().__init__()
        self.answers, self.size = {}, len(tokenizer)
        for number, prompt in enumerate(prompts):
            a, b = prompt.removesuffix("=").split("+")
            right = arithmetic.answer(int(a), int(b)) if number < share * len(prompts) else "="
            ids = tokenizer(right)["input_ids"] + [tokenizer.eos_token_id] * 4
            self.answers[tuple(tokenizer(prompt)["input_ids"])] = ids

    def forward(self, input_ids, past_key_values=None, **_):
        text = input_ids if past_key_values is None else torch.cat([past_key_values, input_ids], 1)
        logits = torch.full((*input_ids.shape, self.size), -1e4)
        for row, ids in enumerate(text.tolist()):
            answer = self.answers[tuple(ids[:6])]
            for place in range(input_ids.shape[1]):
                at = text.shape[1] - input_ids.shape[1] + place - 5
                logits[row, place, answer[max(at, 0)]] = 0.0
        return type("Out", (), {"logits": logits, "past_key_values": text})()


@pytest.fixture(scope="module")
def sums():
    """(tokenizer, prompts, task) of the held-out sums."""
    tokenizer = make_tokenizer(arithmetic_recipe())
    return tokenizer, *tasks.sums_task(tokenizer, held_out=True)


def test_accuracy_counts_right_answers(sums):
    tokenizer, prompts, task = sums
    right, entropy = tasks.count_right(Oracle(prompts, tokenizer, 0.25), task, 10, 0)
    assert right.sum() == 10 * round(0.25 * len(prompts))
    assert entropy == pytest.approx(0.0, abs=1e-3)
    assert set(right.tolist()) == {0, 10}
    assert (tasks.number_right(Oracle(prompts, tokenizer, 0.25), task, 10, 0) == right).all()


def test_entropy_is_that_of_the_policy():
    """A tabular policy's, by enumeration: nats of a completion over its expected length."""
    world = token_world(0, num_symbols=4, length=3)
    policy = world.reference()
    log_probs = world.log_probs(policy).detach()
    lengths = (log_probs.exp() * world.completion_mask.sum(1)).sum(1).mean()
    exact = -(log_probs.exp() * log_probs).sum(1).mean() / lengths
    _, found = tasks.count_right(policy, tasks.world_task(world), 2000, 0)
    assert found == pytest.approx(float(exact), rel=0.03)


def test_measuring_is_every_so_often_at_the_end_and_free_of_charge(sums, tmp_path):
    tokenizer, prompts, task = sums
    log = RunLog(tmp_path, "D5")
    watch = tasks.accuracy_watcher("x", task, 7, 0, log, every=3)
    oracle = Oracle(prompts, tokenizer, 0.5)
    for step in range(8):
        watch(oracle, step)
        began = time.process_time()
        while time.process_time() - began < 0.01:  # a little work between the measurements
            pass
    log.close()
    steps, shares = log.series("x_greedy")
    assert steps == [0, 3, 6, 7]
    assert shares == log.series("x_sampled")[1] == [round(0.5 * len(prompts)) / len(prompts)] * 4
    seconds = log.series("x_cpu_seconds")[1]
    assert seconds[0] == 0.0
    assert 0.06 < seconds[-1] < 0.3


def test_seconds_count_from_the_first_measurement_that_meets_all_bars(tmp_path):
    log = RunLog(tmp_path, "D5")
    for step, (greedy, sampled) in enumerate([(0.95, 0.1), (0.5, 0.9), (0.9, 0.6), (1.0, 1.0)]):
        log.write(step, x_greedy=greedy, x_sampled=sampled, x_cpu_seconds=step)
    assert seconds_to(log, "x", {"greedy": 0.9, "sampled": 0.6}) == 2.0
    assert seconds_to(log, "x", {"greedy": 1.1}) == np.inf
    log.close()


# What the evidence makes of what it trains


def test_each_row_of_the_family_trains_a_copy_with_its_own_settings(tmp_path, monkeypatch):
    base, log, trained = torch.nn.Linear(1, 1).requires_grad_(False), RunLog(tmp_path, "D5"), {}
    log.keep(base=base, held_out="held out", task="task")
    monkeypatch.setattr(tasks, "accuracy_watcher", lambda *arguments: arguments)

    def train(policy, reference, task, cfg, log, name, watch):
        assert policy is not base
        assert all(parameter.requires_grad for parameter in policy.parameters())
        assert not any(parameter.requires_grad for parameter in base.parameters())
        assert (reference, task) == (base, "task")
        assert watch == (name, "held out", 7, 3, log, 7)
        trained[name] = cfg

    dynamic = []
    resampling = types.SimpleNamespace(train=lambda *args: dynamic.append(args[5]) or train(*args))
    monkeypatch.setattr(lesson, "train", train)
    monkeypatch.setattr(evidence, "edited", lambda module, edit: resampling)
    evidence.train_family(lesson.Config(seed=3), evidence.Config(num_family_updates=7), log)
    log.close()
    assert len(trained) == len(evidence.ROWS)
    assert dynamic == ["family_dapo"]
    for (name, settings), cfg in zip(evidence.ROWS.items(), trained.values()):
        assert {key: getattr(cfg, key) for key in settings} == settings, name
        assert (cfg.num_updates, cfg.seed) == (7, 3)


def test_names_of_metrics_and_their_latest_values():
    assert evidence.key("Dr. GRPO, TRL's 2") == "dr__grpo__trl_s_2"
    assert evidence.last({"metrics": {"m": [(0, 1.0), (9, 3.0)]}}, "m") == 3.0


def test_tries_and_entropy_are_counted_before_and_after(tmp_path, monkeypatch):
    """Two sums, four answers each: one right before, four right of one sum and none of the other after."""
    counts = {"base": (np.array([1, 1]), 2.0), "policy": (np.array([4, 0]), 0.5)}
    monkeypatch.setattr(tasks, "count_right", lambda policy, task, num, seed: counts[policy])
    log = RunLog(tmp_path, "D5")
    log.keep(base="base", policy="policy", held_out=None)
    evidence.claim_more_tries(lesson.Config(), evidence.Config(num_samples=4), log)
    log.close()
    assert log.series("pass_before") == ([1, 2, 4], [0.25, 0.5, 1.0])
    assert log.series("pass_after") == ([1, 2, 4], [0.5, 0.5, 0.5])
    found = {claim.name: claim.value for claim in log.claims}
    assert found == {"entropy_ratio": 0.25, "gain_at_one_over_many": 0.25 - (0.5 - 1.0)}


def test_gaps_to_the_library_are_what_was_planted_and_else_rounding(sums, monkeypatch):
    """A hundredth is added to our leave-one-out advantages, and to our losses of one average."""
    tokenizer, prompts, _ = sums
    seed_everything(0)
    base = make_model(arithmetic_recipe(), len(tokenizer)).eval()
    right = lesson.advantages

    def advantages(rewards, baseline, divide):
        return right(rewards, baseline, divide) + 0.01 * (baseline == "leave_one_out")

    loss = lesson.grpo_loss
    monkeypatch.setattr(lesson, "advantages", advantages)
    monkeypatch.setattr(
        lesson, "grpo_loss", lambda *args: loss(*args) + 0.01 * (args[2].average == "constant")
    )
    gaps = D5_trl.trl_gaps(base, tokenizer, prompts, lesson.Config())
    planted = {"advantages_RLOO_False"} | {
        f"loss_{name}"
        for name, (_, settings) in D5_trl.LOSSES.items()
        if settings.get("average") == "constant"
    }
    assert len(planted) == 2
    for name, gap in gaps.items():
        assert gap == pytest.approx(0.01 if name in planted else 0.0, abs=1e-5), name
    assert len(gaps) == 3 + len(D5_trl.LOSSES)


@pytest.mark.parametrize("module", [lesson, grpo], ids=["lesson", "text"])
@pytest.mark.parametrize("baseline", ["group_mean", "leave_one_out"])
def test_a_group_of_one_has_no_advantages(module, baseline):
    """As in TRL, whose trainer wants two generations of each prompt at least."""
    with pytest.raises(ValueError, match="nothing to be compared with"):
        module.advantages(torch.ones(3, 1), baseline)


def test_the_librarys_grpo_is_watched_after_each_update_of_several_steps(monkeypatch):
    """Four gradient steps are one update, as ours counts them."""
    cfg, seen = dataclasses.replace(lesson.Config(), num_epochs=4), []

    def make_trainer(*arguments):
        (callback,) = arguments[-1]

        def train():
            for step in range(1, 10):
                callback.on_step_end(None, types.SimpleNamespace(global_step=step), None, model="trained")

        return types.SimpleNamespace(train=train)

    monkeypatch.setattr(D5_trl, "make_trainer", make_trainer)
    base = torch.nn.Linear(1, 1)
    D5_trl.train_grpo(base, None, ["1+1="], len, cfg, lambda model, update: seen.append((model, update)))
    assert seen == [(base, 0), ("trained", 1), ("trained", 2)]
