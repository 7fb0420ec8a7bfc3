"""D4's learner on a token world of 21 completions, whole, and wrong there once an error is made in it."""

import copy
import dataclasses
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from spies import watch_adam

from chapters.course import ledger
from chapters.course.catalog import find
from chapters.D_rlhf import D4_direct_preference_optimization as lesson
from chapters.D_rlhf.checks import D4 as checks
from chapters.D_rlhf.evidence import D4 as evidence
from chapters.D_rlhf.evidence.D4_trl import as_texts, dpo_gaps
from chapters.envs.reviews import PROMPTS, sentiment
from chapters.envs.token_world import token_world
from chapters.text import generation, pairs
from chapters.text.models import LoadedModel, make_model, make_tokenizer
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog, seed_everything
from chapters.utils.edits import Edit, edited
from chapters.utils.peers import aloud, silence
from chapters.utils.timing import PeakMemory


def gap_closed(module, folder, uniform=False, **changes):
    """Share of the gap to the optimum that a brief training closes."""
    seed_everything(0)  # one thread
    log, world = RunLog(folder, "D4"), token_world(1, num_symbols=5, length=2)
    weights = world.reference_log_probs().exp() ** (not uniform)
    draw = pairs.world_pairs(world, weights, 128)
    cfg = module.Config(**{**module.WORLD, "world_steps": 150, **changes})
    policy = module.train_on_world(world, draw, cfg, log, "test", 1)
    log.close()
    return world.gap_closed(world.log_probs(policy), cfg.beta)


@pytest.fixture(scope="module")
def untrained():
    """A small model that has learnt nothing: it needs no cache."""
    recipe = review_recipe(1)
    tokenizer = make_tokenizer(recipe)
    torch.manual_seed(0)
    return LoadedModel(make_model(recipe, len(tokenizer)).eval(), tokenizer)


def some_pairs(untrained):
    return pairs.review_pairs(untrained, num_pairs=24, num_tokens=12, seed=0)


def small(**changes):
    return lesson.Config(batch_size=8, **{"learning_rate": 1e-3, **changes})


def test_soft_labels_reach_the_optimum_from_either_source(tmp_path):
    assert gap_closed(lesson, tmp_path) > 0.97
    assert gap_closed(lesson, tmp_path, uniform=True) > 0.97


@pytest.mark.parametrize(
    "name",
    [
        "swapped",
        "no_reference",
        # the checks of their functions refuse these within milliseconds
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("no_beta", "hard_labels", "reference_trains_along", "mean_over_tokens", "no_step")
        ),
    ],
)
def test_an_error_keeps_it_from_the_optimum(name, tmp_path):
    assert gap_closed(edited(lesson, checks.EDITS[name]), tmp_path) < 0.95


def test_the_same_seed_gives_the_same_policy(tmp_path):
    brief = {"world_steps": 20}
    assert gap_closed(lesson, tmp_path, **brief) == gap_closed(lesson, tmp_path, **brief)


class TestRounds:
    """Training goes on until the implicit reward is right, each round twice as long."""

    def steps(self, folder, monkeypatch, errors):
        monkeypatch.setattr(lesson, "reward_error", lambda *_: next(errors))
        log = RunLog(folder, "D4")
        world = token_world(1, num_symbols=3, length=2)
        draw = pairs.world_pairs(world, world.reference_log_probs().exp(), 8)
        cfg = lesson.Config(world_steps=3)
        lesson.train_on_world(world, draw, cfg, log, "test")
        log.close()
        return log.series("token_gap_test")[0][-1], evidence.rounds_of(log, "test", cfg)

    def test_they_end_when_it_is_right(self, tmp_path, monkeypatch):
        assert self.steps(tmp_path, monkeypatch, iter([1.0, 0.5, 0.01])) == (21, 3)

    def test_they_end_when_it_never_is(self, tmp_path, monkeypatch):
        assert self.steps(tmp_path, monkeypatch, iter([1.0] * 10)) == (45, 4)


def check_world_pairs(world_pairs):
    world, num = token_world(3, num_symbols=3, length=2), 40_000
    weights = torch.rand(2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prompts = torch.arange(2).repeat_interleave(num // 2)
    for labels in ("soft", "hard", "sampled"):
        found = world_pairs(world, weights, num, labels)(torch.Generator().manual_seed(1))
        assert torch.equal(found["prompt_ids"], world.prompt_ids[prompts])
        rows = torch.stack([world.rows(found["completion_ids"][:, side]) for side in range(2)], dim=1)
        assert torch.equal(found["completion_mask"], world.completion_mask[rows])
        listed = world.reference_log_probs()[prompts[:, None], rows].float()
        assert torch.allclose(found["ref_log_probs"].sum(-1), listed, atol=1e-5)
        for prompt in range(2):
            joint = torch.zeros(7, 7).index_put_(
                tuple(rows[prompts == prompt].T), torch.tensor(2.0 / num), accumulate=True
            )
            share = weights[prompt] / weights[prompt].sum()
            assert (joint - share[:, None] * share[None]).abs().max() < 0.01, "two independent draws"
        gap = (world.rewards[prompts, rows[:, 0]] - world.rewards[prompts, rows[:, 1]]).float()
        if labels == "soft":
            assert torch.allclose(found["labels"], 1 / (1 + (-gap).exp()), atol=1e-6)
        elif labels == "hard":
            assert torch.equal(found["labels"], (1 + gap.sign()) / 2)
        else:
            assert set(found["labels"].tolist()) == {0.0, 1.0}
            for sign in (-1, 1):
                some = gap.sign() == sign
                error = found["labels"][some].mean() - (1 / (1 + (-gap[some]).exp())).mean()
                assert error.abs() < 0.02


WRONG = [
    ("torch.multinomial(weights, 2 * each", "torch.multinomial(world.reference_log_probs().exp(), 2 * each"),
    ("repeat_interleave(each)  # [B]", "repeat(each)  # [B]"),
    ("rows = rows.reshape(-1, 2)  # [B, 2]", "rows = rows.reshape(-1, 2).sort(dim=1).values"),
    ("chances = (first - second).sigmoid()", "chances = (second - first).sigmoid()"),
    ("(1 + (first - second).sign()) / 2", "(1 - (first - second).sign()) / 2"),
    ("(1 + (first - second).sign()) / 2", "(first >= second).float()"),
    ("torch.bernoulli(chances, generator", "torch.bernoulli(0 * chances + 0.5, generator"),
    ("prompts[:, None] * num_completions + rows", "rows"),
]  # fmt: skip


class TestData:
    def test_pairs_of_the_token_world(self):
        check_world_pairs(pairs.world_pairs)

    @pytest.mark.parametrize(("old", "new"), WRONG)
    def test_wrong_pairs_are_noticed(self, old, new):
        with pytest.raises((AssertionError, RuntimeError)):
            check_world_pairs(edited(pairs, Edit("world_pairs", old, new, "wrong")).world_pairs)

    def test_pairs_of_reviews_are_ordered_and_share_their_prompt(self, untrained):
        columns = as_texts(some_pairs(untrained), untrained.tokenizer)
        chosen, rejected = (
            sentiment([prompt + text for prompt, text in zip(columns["prompt"], columns[side])])
            for side in ("chosen", "rejected")
        )
        assert (chosen > rejected).all()
        assert set(columns["prompt"]) <= set(PROMPTS)
        assert len(set(columns["prompt"])) > 5

    def test_texts_for_trl_read_back_as_the_same_tokens(self, untrained):
        found = some_pairs(untrained)
        columns = as_texts(found, untrained.tokenizer)
        for row, prompt in enumerate(columns["prompt"]):
            for side, name in enumerate(("chosen", "rejected")):
                ids = untrained.tokenizer(prompt + columns[name][row])["input_ids"]
                start = found["prompt_ids"][row][found["prompt_mask"][row].bool()].tolist()
                assert ids[: len(start)] == start
                written = found["completion_ids"][row, side][found["completion_mask"][row, side]]
                assert ids[len(start) :] == written.tolist()
                assert ids[-1] == untrained.tokenizer.eos_token_id
                assert columns[name][row].endswith(untrained.tokenizer.eos_token)

    @pytest.mark.parametrize("num_groups", [1, 2, 4, 7])
    def test_groups_of_like_length_change_nothing(self, num_groups):
        toy, (found, plain) = checks.Toy(7), checks.random_pairs(7)
        text = (found["prompt_ids"], found["prompt_mask"])
        text += (found["completion_ids"][:, 0], found["completion_mask"][:, 0])
        log_probs = generation.log_probs_by_length(toy, *text, num_groups)
        for row, (prompt, sides, _) in zip(log_probs.tolist(), plain):
            padding = [0.0] * (checks.T - len(sides[0]))
            assert np.allclose(row, toy.log_probs(prompt, sides[0]) + padding, atol=1e-10)

    def test_counted_prompts_stand_before_their_completions(self):
        """The new completion is the old one behind all but the first token of the prompt."""
        found, plain = checks.random_pairs(11, padded=False)
        found = evidence.count_prompt(found)
        for b, (prompt, sides, _) in enumerate(plain):
            assert found["prompt_ids"][b].tolist() == prompt[:1]
            assert found["prompt_mask"][b].tolist() == [1]
            for side, completion in enumerate(sides):
                mask = found["completion_mask"][b, side]
                assert found["completion_ids"][b, side][mask].tolist() == prompt[1:] + completion

    def test_fixed_pairs_are_drawn_once(self):
        world = token_world(3, num_symbols=3, length=2)
        draw = pairs.world_pairs(world, world.reference_log_probs().exp(), 50, "sampled")
        again, generator = evidence.fixed_pairs(draw, 8), torch.Generator().manual_seed(0)
        batches = [again(generator) for _ in range(60)]
        seen = torch.cat([batch["completion_ids"].flatten(1) for batch in batches])
        assert len(seen.unique(dim=0)) <= 50
        assert all(len(batch["labels"]) == 8 for batch in batches)


@pytest.mark.parametrize("loss", ["dpo", "ipo"])
def test_training_widens_the_margin_and_leaves_the_reference_alone(loss, untrained, tmp_path):
    log, base, cfg = RunLog(tmp_path, "D4"), untrained.model, small(loss=loss, num_epochs=8)
    before = copy.deepcopy(base.state_dict())
    found = lesson.add_reference(some_pairs(untrained), base)
    policy = lesson.train(copy.deepcopy(base), found, cfg, log)
    margin = lesson.log_ratios(policy, found).detach() @ torch.tensor([1.0, -1.0])
    log.close()
    assert margin.mean() > 1.0
    assert (margin > 0).float().mean() > 0.8
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


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


@pytest.mark.filterwarnings("error")
def test_silence_swallows_warnings_and_no_longer_than_it_lasts():
    with silence():
        warnings.warn("an option of theirs is old", FutureWarning, stacklevel=1)
    with pytest.raises(FutureWarning):
        warnings.warn("heard", FutureWarning, stacklevel=1)


def test_what_the_course_itself_says_is_heard_in_a_silence(capsys):
    with silence():
        print("lost")
        with aloud():
            print("heard")
            with silence():
                print("lost")
            print("heard", file=sys.stderr)
        print("lost")
    with aloud():
        print("heard too")
    assert capsys.readouterr() == ("heard\nheard too\n", "heard\n")


def test_labels_may_be_smoothed():
    found = evidence.smoothed(lambda generator: {"labels": torch.tensor([0.0, 1.0, 0.5])}, 0.1)(
        torch.Generator()
    )
    assert found["labels"].tolist() == pytest.approx([0.1, 0.9, 0.5])


def test_config_names_do_not_clash():
    own = {field.name for field in dataclasses.fields(evidence.Config)}
    assert not own & {field.name for field in dataclasses.fields(lesson.Config)}


def test_what_the_texts_say_of_sampled_labels_is_what_was_measured():
    """D0, D4 and the book notes say in words what share of the gap labels of 0 and 1 close; by medians."""
    runs = ledger.load(find("D4"))["runs"]

    def closed(name):
        return np.median([run["metrics"][f"token_gap_{name}"] for run in runs])

    assert 0.85 < closed("sampled") < 0.95, "fresh pairs: about nine tenths"
    assert closed("fixed_once") >= 0.5, "fixed pairs, one pass: half or more"
    assert closed("fixed_twice") >= 0.5, "two passes: half or more"
    assert abs(closed("fixed")) < 0.1, "twenty passes: hardly anything"
    assert closed("hard") < 0.5, "the likelier answer every time: it misses"


# Glue


def test_pairs_are_taken_in_their_order_and_the_step_size_stays(untrained, tmp_path, monkeypatch):
    """Twenty pairs in eights, two passes: rows 0 to 7, 8 to 15, 16 to 19, and again."""
    steps = watch_adam(monkeypatch, lesson)
    seen = []
    update = lesson.update
    monkeypatch.setattr(
        lesson,
        "update",
        lambda policy, optimizer, batch, cfg: seen.append(batch) or update(policy, optimizer, batch, cfg),
    )
    base, log = untrained.model, RunLog(tmp_path, "D4")
    found = lesson.add_reference(some_pairs(untrained), base)
    found = {name: values[:20] for name, values in found.items()}
    lesson.train(copy.deepcopy(base), found, small(num_epochs=2), log)
    log.close()
    assert [len(batch["labels"]) for batch in seen] == [8, 8, 4] * 2
    once = torch.cat([batch["completion_ids"] for batch in seen[:3]])
    assert torch.equal(once, found["completion_ids"])
    assert torch.equal(seen[0]["completion_ids"], seen[3]["completion_ids"])
    assert [rate for rate, _ in steps] == [1e-3] * 6
    margins = [a - b for a, b in zip(log.series("dpo_chosen")[1], log.series("dpo_rejected")[1])]
    assert log.series("dpo_margin") == (list(range(6)), pytest.approx(margins))
    assert log.series("dpo_margin")[1][0] == pytest.approx(0.0, abs=1e-5), "it begins at the reference"


def test_in_each_round_the_step_size_falls_to_nothing(tmp_path, monkeypatch):
    """Three rounds of 4, 8 and 16 steps, and what is written stands at the sum of them."""
    steps = watch_adam(monkeypatch, lesson)
    monkeypatch.setattr(lesson, "reward_error", lambda *_: 1.0)
    world, log = token_world(1, num_symbols=3, length=2), RunLog(tmp_path, "D4")
    draw = pairs.world_pairs(world, world.reference_log_probs().exp(), 8)
    cfg = lesson.Config(**{**lesson.WORLD, "world_steps": 4, "learning_rate": 0.1})
    lesson.train_on_world(world, draw, cfg, log, "x", 3)
    log.close()
    expected = [0.1 * (1 - step / size) for size in (4, 8, 16) for step in range(size)]
    assert [rate for rate, _ in steps] == pytest.approx(expected)
    assert log.series("token_gap_x")[0][-1] == 28


# What the evidence makes of what it trains


class Trainer:
    """Stands for TRL's: its loss is ours times `factor` plus `extra`, its rewards are off by `off`."""

    def __init__(self, factor=1.0, extra=0.0, off=0.0):
        self.model, self.train_dataset = torch.nn.Linear(2, 1), [torch.tensor([1.0, 2.0])] * 3
        self.data_collator = torch.stack
        self.factor, self.extra, self.off = factor, extra, off
        self._metrics = {"train": {"rewards/chosen": [9.0, 1.0 + off], "rewards/rejected": [9.0, -1.0]}}

    def compute_loss(self, model, inputs):
        assert inputs.shape == (3, 2)
        assert self.loss_types == ["ipo"]
        return self.factor * ours(model)[0] + self.extra * model.bias.sum()


def ours(model):
    return model.weight.pow(2).sum() + 3.0 + 0.0 * model.bias.sum(), (1.0, -1.0)


def test_gaps_to_the_library_are_zero_only_where_it_agrees():
    assert dpo_gaps(Trainer(), "ipo", ours) == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)
    loss, rewards, gradient = dpo_gaps(Trainer(factor=2.0), "ipo", ours)
    assert (loss, rewards) == pytest.approx((0.5, 0.0))
    assert gradient == pytest.approx(0.5), "half of the library's largest"
    assert dpo_gaps(Trainer(off=0.25), "ipo", ours)[1] == pytest.approx(0.25)
    assert dpo_gaps(Trainer(off=-0.25), "ipo", ours)[1] == pytest.approx(0.25)
    trainer = Trainer(extra=7.0)
    largest = max(7.0, float(2 * trainer.model.weight.detach().abs().max()))
    assert dpo_gaps(trainer, "ipo", ours)[2] == pytest.approx(7.0 / largest)


@pytest.fixture
def known(tmp_path):
    """A log that keeps a small world, as the lesson's does."""
    log = RunLog(tmp_path, "D4")
    seed_everything(0)  # one thread
    log.keep(world=token_world(1, num_symbols=3, length=2))
    log.write(300, token_gap_soft=1.0)
    yield log
    log.close()


def test_rounds_are_counted_from_the_steps(known):
    for steps, rounds in ((100, 1), (300, 2), (700, 3)):
        known.write(steps, token_gap_x=0.0)
        assert evidence.rounds_of(known, "x", lesson.Config(world_steps=100)) == rounds


def test_the_worst_of_the_betas_is_the_least(known, monkeypatch):
    """At one beta half of the gap stays, in objective; at the others none."""
    world, drawn = known.kept["world"], []
    reference = world.reference_log_probs()
    monkeypatch.setattr(evidence, "world_pairs", lambda world, weights, num: drawn.append(weights))

    def learn(draw, cfg, log, name, rounds):
        return reference if cfg.beta == max(evidence.BETAS) else world.optimum(cfg.beta)

    monkeypatch.setattr(evidence, "learn", learn)
    assert evidence.worst_of_betas(lesson.Config(), known) == pytest.approx(0.0, abs=1e-9)
    monkeypatch.setattr(evidence, "learn", lambda draw, cfg, *_: world.optimum(cfg.beta))
    assert evidence.worst_of_betas(lesson.Config(), known) == pytest.approx(1.0)
    half = (reference.exp() + 1 / reference.shape[1]) / 2
    torch.testing.assert_close(drawn[0], half)


def test_each_kind_of_label_is_learnt_from_what_its_name_says(known, monkeypatch):
    world, learnt, gaps = known.kept["world"], {}, []
    usual = world.reference_log_probs().exp()
    monkeypatch.setattr(
        evidence, "world_pairs", lambda world, weights, num, labels="soft": (weights, num, labels)
    )
    monkeypatch.setattr(evidence, "smoothed", lambda draw: (*draw, "smoothed"))
    monkeypatch.setattr(evidence, "fixed_pairs", lambda draw, num: (*draw, num))

    def learn(draw, cfg, log, name, rounds, module=lesson):
        learnt[name] = draw, cfg, rounds, module
        return world.optimum(cfg.beta)

    monkeypatch.setattr(evidence, "learn", learn)
    monkeypatch.setattr(evidence, "worst_of_betas", lambda *_: 0.25)
    monkeypatch.setattr(evidence, "claim_gaps", lambda found, log: gaps.append(found))
    for name in ("claim_distances", "claim_displaced"):
        monkeypatch.setattr(evidence, name, lambda *_: None)
    cfg = lesson.Config(world_steps=100)
    evidence.claim_labels(cfg, evidence.Config(num_fixed_pairs=10 * lesson.WORLD_BATCH), known)
    for name, (draw, own, rounds, module) in learnt.items():
        weights, num, labels, *more = draw
        expected = torch.ones_like(usual) if name == "uniform" else usual
        assert torch.equal(weights, expected), name
        fixed = name.startswith("fixed")
        assert num == (10 if fixed else 1) * lesson.WORLD_BATCH
        kind = {"uniform": "soft", "mean": "soft", "along": "soft", "sampled": "sampled"}.get(name, "hard")
        assert labels == ("sampled" if fixed else kind), name
        assert more == {"smoothed": ["smoothed"]}.get(name, [lesson.WORLD_BATCH] if fixed else []), name
        assert rounds == (1 if fixed else lesson.MAX_ROUNDS if name == "uniform" else 2), name
        assert own.loss == ("ipo" if name == "ipo" else "dpo")
        assert own.world_steps == {"fixed_once": 10, "fixed_twice": 20}.get(name, 100)
        assert own.beta == lesson.WORLD["beta"]
        assert (module is lesson) == (name not in ("mean", "along"))
    (found,) = gaps
    assert found["hard"] == pytest.approx(1.0)
    assert found["beta"] == 0.25
    assert found["ipo"] < 1.0, "IPO's optimum is another"
    assert known.last("token_rounds_soft") == 2
    assert known.last("token_optimum_kl") == pytest.approx(float(world.kl(world.optimum(0.5))))


def test_the_race_trains_ours_by_the_lesson_and_the_others_by_the_library(tmp_path, monkeypatch):
    """Each from the base, on the same pairs; claims beside TRL come after our time was taken."""
    done, linear = [], torch.nn.Linear(2, 1)

    def train(policy, pairs, cfg, log, name):
        done.append((name, pairs, cfg.loss))
        return policy

    def trainer(model, pairs, tokenizer, cfg, folder, precomputed):
        done.append(("trl", pairs, precomputed))
        return SimpleNamespace(model=copy.deepcopy(linear), train=lambda: None)

    monkeypatch.setattr(evidence, "review_pairs", lambda *_: "pairs")
    monkeypatch.setattr(evidence, "copy_of_base", lambda log: copy.deepcopy(linear))
    monkeypatch.setattr(evidence, "dpo_trainer", trainer)
    monkeypatch.setattr(lesson, "add_reference", lambda pairs, model: f"{pairs} with reference")
    monkeypatch.setattr(lesson, "train", train)
    monkeypatch.setattr(evidence, "claim_prompt", lambda pairs, cfg, log: done.append(("prompt", pairs)))
    monkeypatch.setattr(evidence, "claim_parity", lambda pairs, cfg, log: done.append(("parity", pairs)))
    log = RunLog(tmp_path, "D4")
    log.keep(lm=SimpleNamespace(model=linear, tokenizer=None))
    policies, costs = evidence.race(lesson.Config(), log)
    log.close()
    assert done == [
        ("raced", "pairs with reference", lesson.Config().loss), ("prompt", "pairs"),
        ("parity", "pairs with reference"), ("trl", "pairs", False), ("trl", "pairs", True),
        ("ipo", "pairs with reference", "ipo"),
    ]  # fmt: skip
    assert list(costs) == ["ours", "trl", "trl_precomputed"]
    assert set(policies) == {*costs, "ipo"}
