"""D4's learner on a token world of 21 completions, whole, and wrong there once an error is planted in it."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from chapters.course.planting import plant
from chapters.D_rlhf import D4_direct_preference_optimization as lesson
from chapters.D_rlhf.evidence.D4_trl import as_texts
from chapters.envs.reviews import PROMPTS, sentiment
from chapters.envs.token_world import token_world
from chapters.text.models import LoadedModel, make_model, make_tokenizer
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog
from chapters.utils.peers import silence
from chapters.utils.timing import PeakMemory

QUICK = {"world_steps": 150, "world_batch": 128, "world_learning_rate": 0.1}
PLANTED = {
    "chosen and rejected swapped": (
        "margin = rewards[:, 0] - rewards[:, 1]", "margin = rewards[:, 1] - rewards[:, 0]",
    ),
    "reference dropped": ("return (ours - theirs).reshape(-1, 2)", "return ours.reshape(-1, 2)"),
    "beta missing": ("return beta * log_ratios", "return log_ratios"),
    "labels hard": ("    labels = pairs[\"labels\"] +", "    labels = pairs[\"labels\"].round() +"),
    "reference trains along": ("tokens.detach() if cfg.reference_trains_along", "tokens.detach() if True"),
}  # fmt: skip


def gap_closed(module, folder, **changes):
    """Share of the gap to the optimum that a brief training closes."""
    log, world = RunLog(folder, "D4"), token_world(1, num_symbols=5, length=2)
    log_probs = module.train_on_world(world, module.Config(**{**QUICK, **changes}), log, "test")
    log.close()
    return world.gap_closed(log_probs, module.Config().world_beta)


@pytest.fixture(scope="module")
def untrained():
    """A small model that has learnt nothing: it needs no cache."""
    recipe = review_recipe(1)
    tokenizer = make_tokenizer(recipe)
    torch.manual_seed(0)
    return LoadedModel(make_model(recipe, len(tokenizer)).eval(), tokenizer)


def small(**changes):
    return lesson.Config(num_pairs=24, batch_size=8, num_tokens=12, **{"learning_rate": 1e-3, **changes})


def test_soft_labels_reach_the_optimum_from_either_source(tmp_path):
    assert gap_closed(lesson, tmp_path) > 0.97
    assert gap_closed(lesson, tmp_path, pairs_from="uniform") > 0.97


@pytest.mark.parametrize("error", PLANTED)
def test_a_planted_error_keeps_it_from_the_optimum(error, tmp_path):
    assert gap_closed(plant(lesson, *PLANTED[error]), tmp_path) < 0.95


def test_the_same_seed_gives_the_same_policy(tmp_path):
    assert gap_closed(lesson, tmp_path) == gap_closed(lesson, tmp_path)


def test_pairs_of_reviews_are_ordered_and_share_their_prompt(untrained):
    cfg = small()
    pairs = lesson.review_pairs(untrained.model, untrained, cfg)
    columns = as_texts(pairs, untrained.tokenizer)
    chosen, rejected = (
        sentiment([prompt + text for prompt, text in zip(columns["prompt"], columns[side])])
        for side in ("chosen", "rejected")
    )
    assert (chosen > rejected).all()
    assert set(columns["prompt"]) <= set(PROMPTS)
    assert len(set(columns["prompt"])) > 5


def test_texts_for_trl_read_back_as_the_same_tokens(untrained):
    pairs = lesson.review_pairs(untrained.model, untrained, small())
    columns = as_texts(pairs, untrained.tokenizer)
    for row, prompt in enumerate(columns["prompt"]):
        for side, name in enumerate(("chosen", "rejected")):
            ids = untrained.tokenizer(prompt + columns[name][row])["input_ids"]
            start = pairs["prompt_ids"][row][pairs["prompt_mask"][row].bool()].tolist()
            assert ids[: len(start)] == start
            assert (
                ids[len(start) :]
                == pairs["completion_ids"][row, side][pairs["completion_mask"][row, side]].tolist()
            )
            assert ids[-1] == untrained.tokenizer.eos_token_id
            assert columns[name][row].endswith(untrained.tokenizer.eos_token)


@pytest.mark.parametrize("loss", ["dpo", "ipo"])
def test_training_widens_the_margin_and_leaves_the_reference_alone(loss, untrained, tmp_path):
    log, base, cfg = RunLog(tmp_path, "D4"), untrained.model, small(loss=loss, num_epochs=8)
    before = copy.deepcopy(base.state_dict())
    pairs = lesson.add_reference(lesson.review_pairs(base, untrained, cfg), base)
    policy = lesson.train(copy.deepcopy(base), pairs, cfg, log)
    margin = lesson.log_ratios(policy, pairs, cfg).detach() @ torch.tensor([1.0, -1.0])
    log.close()
    assert margin.mean() > 1.0
    assert (margin > 0).float().mean() > 0.8
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def test_number_of_groups_changes_nothing(untrained):
    cfg = small()
    pairs = lesson.add_reference(lesson.review_pairs(untrained.model, untrained, cfg), untrained.model)
    found = []
    for num_groups in (1, 5):
        policy = lesson.moved(untrained.model, cfg)
        loss, _ = lesson.pair_loss(policy, pairs, dataclasses.replace(cfg, num_groups=num_groups))
        loss.backward()
        found.append((loss.item(), policy.transformer.wte.weight.grad))
    assert np.isclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5)


def test_peak_memory_sees_what_is_gone_again():
    with PeakMemory() as small_peak:
        pass
    with PeakMemory() as peak:
        block = np.ones(40_000_000)
        for _ in range(3):
            block += 1.0
        del block
    assert peak.megabytes > small_peak.megabytes + 200


def test_silence_swallows_what_is_printed(capsys):
    with silence():
        print("loud")
    assert capsys.readouterr().out == ""
