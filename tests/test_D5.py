"""D5's learner whole on a small token world, and wrong once an error is planted; the world of sums."""

import dataclasses

import numpy as np
import pytest
import torch

from chapters.course.planting import plant
from chapters.D_rlhf import D5_grpo_verifiable_rewards as lesson
from chapters.D_rlhf.evidence.D5_tools import counter, encoded_sums, encoded_world, seconds_to
from chapters.envs import arithmetic
from chapters.envs.token_world import token_world
from chapters.text.models import make_tokenizer
from chapters.text.recipes import arithmetic_recipe
from chapters.utils import RunLog
from chapters.utils.seeding import seed_everything

QUICK = lesson.TOKENS | {"group_size": 32, "beta": 0.5, "num_updates": 150}
WORLD = {"num_symbols": 4, "length": 3}


def gap_closed(module, folder, **changes):
    """Share of the gap to the exact optimum that a short sampled run closes on a small world."""
    seed_everything(0)
    world = token_world(0, **WORLD)
    cfg = dataclasses.replace(module.Config(), **QUICK | {"num_tokens": 3} | changes)
    policy, log = world.reference(), RunLog(folder, "D5")
    module.train(policy, world.reference(), module.Task(*encoded_world(world)), cfg, log, "quick")
    log.close()
    return world.gap_closed(world.log_probs(policy), cfg.beta)


@pytest.mark.parametrize("variant", ["grpo_kl", "rloo"])
def test_kl_in_the_reward_finds_the_optimum(variant, tmp_path):
    assert gap_closed(lesson, tmp_path, **lesson.CHART[variant][1]) > 0.9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("losses = -clipped_objective", "losses = clipped_objective"),
        ("return rewards - beta *", "return rewards + beta *"),
        ("logits[:, prompt_ids.shape[1] - 1 : -1]", "logits[:, prompt_ids.shape[1] :]"),
        (
            "            optimizer.param_groups",
            "            reference = policy\n            optimizer.param_groups",
        ),
    ],
    ids=["sign", "paid for leaving", "logits off by one", "reference trains along"],
)
def test_planted_error_misses_the_optimum(old, new, tmp_path):
    found = gap_closed(plant(lesson, old, new), tmp_path, **lesson.CHART["grpo_kl"][1])
    assert not found > 0.9


def test_published_grpo_ends_where_its_expected_update_is_zero():
    """And that is not the optimum, unless the KL is in the reward."""
    seed_everything(0)
    world = token_world(0, **WORLD)
    cfg = dataclasses.replace(lesson.Config(), **QUICK, num_token_updates=300)
    policy, left = lesson.fixed_point(world, cfg)
    assert left < 1e-3
    assert world.gap_closed(world.log_probs(policy), cfg.beta) < 0.95
    right, _ = lesson.fixed_point(world, dataclasses.replace(cfg, **lesson.CHART["grpo_kl"][1]))
    assert world.gap_closed(world.log_probs(right), cfg.beta) > 0.999


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


def test_accuracy_counts_right_answers():
    tokenizer = make_tokenizer(arithmetic_recipe())
    prompts, task = encoded_sums(tokenizer, held_out=True)
    cfg = dataclasses.replace(lesson.Config(), **lesson.SMOKE)
    count = counter(lesson.answer_groups, lesson.log_probs_of, lesson.Task(*task), cfg)
    right, entropy = count(Oracle(prompts, tokenizer, 0.25), 10)
    assert right.sum() == 10 * round(0.25 * len(prompts))
    assert entropy == pytest.approx(0.0, abs=1e-3)
    assert set(right.tolist()) == {0, 10}


def test_seconds_count_from_the_first_measurement_that_meets_all_bars(tmp_path):
    log = RunLog(tmp_path, "D5")
    for step, (greedy, sampled) in enumerate([(0.95, 0.1), (0.5, 0.9), (0.9, 0.6), (1.0, 1.0)]):
        log.write(step, x_greedy=greedy, x_sampled=sampled, x_cpu_seconds=step)
    assert seconds_to(log, "x", {"greedy": 0.9, "sampled": 0.6}) == 2.0
    assert seconds_to(log, "x", {"greedy": 1.1}) == np.inf
    log.close()
