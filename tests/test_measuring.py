"""What claims are measured with, on cases whose answer is known: worked out by hand, or seen by a spy."""

import itertools
import math
import platform
from datetime import datetime
from types import SimpleNamespace
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

from chapters.C_policy_gradients.evidence.C3_sb3 import train_sb3_ppo
from chapters.course import goals, ledger, predictions, progress
from chapters.course.catalog import find, lessons
from chapters.course.parts import exercises_of
from chapters.envs import arithmetic, evaluate, on_policy, reviews, rewriter
from chapters.envs.token_world import token_world
from chapters.exact.chain import Chain
from chapters.text import pairs, preferences, tasks
from chapters.text.models import LoadedModel
from chapters.utils import RunLog
from chapters.utils.claims import Claim
from chapters.utils.networks import tanh_mlp

# Playing and scoring


class Countdown(gym.vector.VectorEnv):
    """Copy i ends after i + 1 steps, every second one by a time limit; a step pays 1, and 100 afterwards."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs, self.closed_down = num_envs, False
        self.seeds: list[int] = []

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.steps = 0
        return np.zeros((self.num_envs, 1), dtype=np.float32), {}

    def step(self, actions):
        self.steps += 1
        lengths = np.arange(self.num_envs) + 1
        rewards = np.where(self.steps <= lengths, 1.0, 100.0) * actions
        ends, even = self.steps == lengths, np.arange(self.num_envs) % 2 == 0
        return np.zeros((self.num_envs, 1), dtype=np.float32), rewards, ends & even, ends & ~even, {}

    def close_extras(self, **kwargs):
        self.closed_down = True


def test_evaluation_plays_one_episode_in_each_copy_and_no_step_more():
    envs = Countdown(5)
    returns = evaluate(lambda obs: np.full(len(obs), 2.0), envs=envs, seed=12)
    assert returns.tolist() == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert (envs.steps, envs.seeds, envs.closed_down) == (5, [12], True)


def test_evaluation_repeats_by_its_seed_and_differs_between_seeds():
    def play(seed):
        return evaluate(lambda obs: (obs[:, 2] > 0).astype(int), "CartPole-v1", episodes=20, seed=seed)

    np.testing.assert_array_equal(play(1), play(1))
    assert not np.array_equal(play(1), play(2))


def test_wins_and_preferences_have_the_sign_of_the_better_one():
    assert rewriter.wins(np.array([2.0, 1.0, 3.0]), np.array([1.0, 2.0, 3.0])).tolist() == [1.0, 0.0, 0.5]
    request = "send the old report today now"
    good, bad = "please send the old report today , thank you .", "send it now"
    assert rewriter.prefers(request, good, bad) > 0 > rewriter.prefers(request, bad, good)
    assert rewriter.prefers(request, bad, bad) == 0.0


def test_the_judge_by_hand():
    """Courtesy at most 2, four for the content kept, less what was invented, is too long or breaks off."""
    request = "send the old report today now"
    found = rewriter.judge([request] * 3, ["please send the old report today .", "send report", ""])
    assert found.content.tolist() == [1.0, 0.5, 0.0]
    assert found.polite.tolist() == [1.0, 0.0, 0.0]
    assert found.invented.tolist() == [0.0, 0.0, 0.0]
    assert found.length.tolist() == [6.0, 2.0, 0.0]
    assert found.score.tolist() == [5.0, 1.0, -1.0]
    again = rewriter.judge([request], ["please send the old report today " + "please " * 8 + "send ."])
    assert again.invented.tolist() == [1.0], "said twice is one too many"
    assert again.score.tolist() == [1 + 4 - 1 - 0.25 * 3]


def test_sums_are_graded_by_their_digits_from_behind():
    assert arithmetic.verify(["07+35=", "07+35=", "04+04="], ["24", "42", "8"]).tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="zip"):
        arithmetic.verify(["07+35="], [])


def test_one_content_in_eight_is_kept_for_testing_whatever_frame_it_stands_in():
    contents = list(itertools.product(rewriter.VERBS, ("", *rewriter.KINDS), rewriter.PAPERS, rewriter.TIMES))
    held = [{rewriter.Request(*content, frame).held_out for frame in rewriter.BLUNT} for content in contents]
    assert all(len(answers) == 1 for answers in held)
    assert abs(np.mean([answers == {True} for answers in held]) - 1 / 8) < 4 * (0.11 / len(held)) ** 0.5


def test_the_split_keeps_a_fifth_of_the_sums_and_no_pair_stands_on_both_sides():
    sides = [{frozenset(pair) for pair in arithmetic.operands(held).tolist()} for held in (False, True)]
    assert not sides[0] & sides[1]
    assert [len(side) for side in sides] == [1020, 255], "of 50 * 51 / 2 pairs"
    counts = [len(arithmetic.operands(held)) for held in (False, True)]
    assert sum(counts) == 2500
    assert len(arithmetic.all_prompts()) == counts[1]


def test_written_sums_are_those_of_their_part_and_come_with_their_answers():
    texts = arithmetic.write_problems(np.random.default_rng(0), 300, held_out=True)
    asked = arithmetic.write_prompts(np.random.default_rng(0), 300, held_out=True)
    assert asked == [text[: text.index("=") + 1] for text in texts]
    assert set(asked) <= set(arithmetic.all_prompts(held_out=True))
    for text in texts:
        a, b, answer = int(text[:2]), int(text[3:5]), text[6:]
        assert text[2] + text[5] == "+="
        assert int(answer[::-1]) == a + b


def test_reviews_follow_their_mood_three_words_in_four_and_balance_over_all():
    rng = np.random.default_rng(0)
    for mood in (1, 0, -1):
        drawn = np.array([reviews._leaning(rng, mood) for _ in range(6000)])
        shares = [(drawn == word).mean() for word in (1, 0, -1)]
        assert shares == pytest.approx(
            [0.75 + 1 / 12 if word == mood else 1 / 12 for word in (1, 0, -1)], abs=0.03
        )
    texts = reviews.write_reviews(rng, 3000)
    scores = reviews.sentiment(texts)
    assert abs(scores.mean()) < 0.12, "praise and blame balance"
    assert scores.std() > 1.0
    counts = [text.count(".") for text in texts]
    assert set(counts) == {1, 2, 3}
    assert all(text.endswith(" .") and "  " not in text for text in texts)
    assert {word for text in texts for word in text.split()} <= set(reviews.vocabulary())


def test_sentiment_and_gold_by_hand():
    good, bad = reviews.POSITIVE[0], reviews.NEGATIVE[0]
    texts = [f"{good} {good} {bad}", " ".join([good] * 5), " ".join([bad] * 5), "the film"]
    assert reviews.sentiment(texts).tolist() == [1.0, 3.0, -3.0, 0.0]
    assert reviews.sentiment(texts, cap=math.inf).tolist() == [1.0, 5.0, -5.0, 0.0]
    # five words of praise: two too many at 3/2 each; four echoes, of which three are free
    assert reviews.gold_reward([" ".join([good] * 5)]).tolist() == [3.0 - 1.5 * 2 - 1.0]


# Padding never moves a number


class Letters(torch.nn.Module):
    """A language model whose next token depends on the last one alone; what is masked it never looks at."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(size, size, generator=torch.Generator().manual_seed(0)))

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.table[input_ids], past_key_values=None)


def batch_of(completions: list[list[int]], width: int, filling: int) -> dict[str, torch.Tensor]:
    """A batch with the prompt 1, 2 and these completions, padded with any token."""
    ids = torch.tensor([[*row, *[filling] * (width - len(row))] for row in completions])
    mask = torch.arange(width)[None] < torch.tensor([[len(row)] for row in completions])
    prompts = torch.tensor([[1, 2]]).repeat(len(completions), 1)
    return {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": ids,
        "completion_mask": mask,
    }


def test_padding_moves_no_log_probability_and_no_mean():
    model, written = Letters(), [[3], [4, 5, 3], [5, 4]]
    log_probs = model.table.log_softmax(-1).detach()
    for width, filling in ((3, 0), (7, 5)):
        found = tasks.log_probs_of(model, batch_of(written, width, filling)).detach()
        by_hand = [sum(log_probs[a, b] for a, b in zip([2, *row], row)).item() for row in written]
        assert found.sum(1).tolist() == pytest.approx(by_hand, abs=1e-5)


def test_surprise_of_a_batch_is_a_mean_over_words_that_were_written():
    from chapters.D_rlhf.evidence import D2 as evidence

    for width in (3, 9):
        batch = batch_of([[3], [4, 5, 3]], width, 0)
        mask = batch["completion_mask"]
        old = torch.where(mask, -1.0, 0.0)
        batch |= {"old_log_probs": old, "log_ratio": torch.where(mask, 1.0, 0.0)}
        batch["scores"] = torch.tensor([2.0, -1.0])
        tokenizer = SimpleNamespace(batch_decode=lambda ids, skip_special_tokens: ["a  b", "a b"])
        found, texts = evidence.read(batch, tokenizer)
        assert texts == ["a b", "a b"]
        # four words, each one nat likelier under the policy than under the reference
        assert found == pytest.approx(
            {"reward": 0.5, "positive": 0.5, "kl": 2.0, "surprise": 2.0, "distinct": 0.5}
        )


def test_reviews_are_judged_beside_those_of_the_model_after_the_same_prompts(monkeypatch):
    """Two texts, of one word and of three: sums over texts for KL, over words for the perplexity."""
    good, bad = reviews.POSITIVE[0], reviews.NEGATIVE[0]
    seeds = []

    def write(policy, tokenizer, num, num_tokens, seed):
        seeds.append(seed)
        texts = [good, f"{good} {good} film"] if policy is ours else [bad, f"{good} {good}"]
        return batch_of([[3], [4, 5, 3]], 5, 0), texts

    ours, base = Letters(), Letters()
    with torch.no_grad():
        ours.table.zero_()  # each of six words equally likely
        base.table.zero_()[:, 3] = math.log(5.0)  # word 3 in five of ten cases
    monkeypatch.setattr(pairs, "write_reviews", write)
    found, texts = pairs.judge(ours, LoadedModel(base, None), 2, 5, seed=1)
    assert len(set(seeds)) == 2, "their chance is not ours"
    assert texts[0] == good
    base_log_probs = [math.log(0.5), 2 * math.log(0.1) + math.log(0.5)]
    assert found == pytest.approx(
        {
            "win_rate": 0.75,  # one better, one alike
            "kl": np.mean([-math.log(6) - base_log_probs[0], -3 * math.log(6) - base_log_probs[1]]),
            "sentiment": 1.5,
            "positive": 1.0,
            "perplexity": math.exp(-sum(base_log_probs) / 4),
            "distinct": 1.0,
            "length": 2.0,
        },
        rel=1e-5,
    )


def test_scores_of_texts_come_back_in_their_order():
    """More texts than go together, of any length; the score is the length."""
    texts = ["a" * (1 + i % 7) + " b" * (i % 5) for i in range(300)]

    def encode(closed, **_):
        lengths = [len(text.removesuffix(" <eos>")) for text in closed]
        return {"input_ids": torch.tensor(lengths)[:, None], "attention_mask": torch.ones(len(closed), 1)}

    encode.eos_token = "<eos>"
    found = preferences.score_texts(lambda ids, mask: ids[:, 0].double(), encode, texts)
    assert found.tolist() == [float(len(text)) for text in texts]


def test_labels_choose_the_side_and_follow_the_probability(monkeypatch):
    """The side with more praise is labelled first as often as Bradley and Terry say."""
    good = reviews.POSITIVE[0]
    sides = iter([[f"{good} {good}"] * 512, ["film"] * 512] * 8)
    monkeypatch.setattr(
        preferences, "write_texts", lambda base, prompts, *_: (next(sides)[: len(prompts)], None)
    )
    found = preferences.collect_pairs(
        LoadedModel(Letters(), None), 4000, seed=3, num_tokens=4, temperature=2.0
    )
    assert [len(side) for side in found["texts"]] == [4000, 4000]
    chance = 1 / (1 + math.exp(-2 / 2.0))
    np.testing.assert_allclose(found["probability"], chance)
    assert found["labels"].mean() == pytest.approx(chance, abs=0.03)
    tokenizer = SimpleNamespace()
    monkeypatch.setattr(
        preferences, "encode", lambda tokenizer, texts: (torch.tensor([[len(t)] for t in texts]),) * 2
    )
    few = {"texts": [["a", "bb"], ["ccc", "dddd"]], "labels": np.array([True, False])}
    assert preferences.as_tokens(few, tokenizer)["ids"].flatten().tolist() == [1, 4, 3, 2]


def test_best_of_n_draws_and_passes_by_enumeration():
    scores = [0.5, -1.0, 2.0]
    exact = np.mean([max(a, b, c) for a in scores for b in scores for c in scores])
    assert tasks.best_of(torch.tensor(scores), 3) == pytest.approx(exact)
    assert tasks.best_of(torch.tensor(scores), 1) == pytest.approx(0.5)


def test_a_measurement_of_the_token_world_stands_at_its_step(tmp_path):
    world, log = token_world(0, num_symbols=3, length=2), RunLog(tmp_path, "X0")
    watch = tasks.gap_watcher("_a", world, 0.5, 10, log, every=4)
    best = world.reference(torch.float64)
    for step in range(1, 11):
        watch(best, step)
    log.close()
    assert log.series("token_gap_a")[0] == [4, 8, 10]
    assert log.last("token_gap_a") == pytest.approx(0.0, abs=1e-9)
    assert log.last("token_kl_a") == pytest.approx(0.0, abs=1e-9)
    assert log.last("token_reward_a") == pytest.approx(0.0, abs=1e-9), "centred under the reference"


def test_two_seeds_are_two_worlds_and_one_seed_is_one():
    for make in (lambda seed: token_world(seed).rewards.numpy(), lambda seed: Chain(seed).critic):
        np.testing.assert_array_equal(make(4), make(4))
        assert not np.allclose(make(4), make(5))
    tables = [token_world(seed).reference_table for seed in (4, 5)]
    assert not torch.allclose(*tables)


# Networks, and what learners share


def test_the_last_layers_gain_is_applied_and_the_others_have_root_two():
    torch.manual_seed(0)
    net = tanh_mlp([8, 8, 8, 3], last_gain=0.01)
    kinds = [type(layer).__name__ for layer in net]
    assert kinds == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]
    for layer, gain in zip(net[::2], (2**0.5, 2**0.5, 0.01)):
        size = min(layer.weight.shape)
        square = (
            layer.weight @ layer.weight.T if layer.out_features == size else layer.weight.T @ layer.weight
        )
        torch.testing.assert_close(square, gain**2 * torch.eye(size), atol=1e-5, rtol=1e-4)
        assert (layer.bias == 0).all()


def test_moved_ratios_by_hand():
    """(2 - 1) - ln 2 and (1/2 - 1) + ln 2, averaged."""
    assert on_policy.approx_kl(torch.tensor([2.0, 0.5])).item() == pytest.approx(0.25)
    assert on_policy.approx_kl(torch.ones(3)).item() == 0.0


def test_the_library_is_checked_after_updates_at_multiples_and_stops_when_told():
    steps, seconds = [], []

    def check(step, spent, policy):
        steps.append(step)
        seconds.append(spent)
        assert policy(np.zeros((3, 4), dtype=np.float32)).shape == (3,)
        return len(steps) == 3

    small = {"n_steps": 16, "batch_size": 32, "n_epochs": 1}
    train_sb3_ppo("CartPole-v1", 0, 1000, 64, check, num_envs=2, **small)
    assert steps == [64, 128, 192], "a rollout is 32 steps; every second ends on a multiple of 64"
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_the_latest_value_of_a_metric(tmp_path):
    log = RunLog(tmp_path, "X0")
    assert math.isnan(log.last("loss"))
    log.write(0, loss=3.0)
    log.write(5, loss=1.0, other=9.0)
    log.write(2, loss=2.0)
    log.close()
    assert log.last("loss") == 2.0
    assert log.last("other") == 9.0
    assert log.series("loss") == ([0, 5, 2], [3.0, 1.0, 2.0])


# The ledger believes nothing that is stored


class TestTheLedger:
    @pytest.fixture
    def item(self):
        return lessons()[0]

    def test_a_pooled_claim_is_judged_anew(self, item):
        book = ledger.load(item)
        pooled = {"name": "all", "statement": "Over all seeds.", "value": 0.4, "at_least": 0.5, "holds": True}
        book["pooled"] = [pooled]
        before = ledger.verify(item, {**book, "pooled": []}, book["config"], book["evidence_config"])
        problems = ledger.verify(item, book, book["config"], book["evidence_config"])
        assert [told for told in problems if told not in before] == ["all = 0.4 over all seeds, needs ≥ 0.5"]
        held, made = ledger.verdict({**book, "pooled": []})
        assert ledger.verdict(book) == (held, made + 1)
        assert ledger.verdict({**book, "pooled": [{**pooled, "value": 0.6}]}) == (held + 1, made + 1)

    @pytest.mark.parametrize(
        ("factor", "differs"), [(1.0, False), (1.0005, False), (1.002, True), (0.998, True)]
    )
    def test_two_thousandths_are_a_difference(self, factor, differs):
        def found(value):
            return {"metrics": {"loss": {"count": 2, "mean": value, "last": 1.0}}, "claims": {}}

        assert bool(ledger.compare_fingerprints(found(3.0), found(3.0 * factor))) is differs

    def test_a_ledger_names_the_packages_that_were_there_and_counts_what_held(self, item, monkeypatch):
        claims = [Claim("gap", "It is small.", value, at_most=1.0) for value in (0.5, 2.0)]
        runs = [
            {"claims": [claim], "config": {}, "cpu_seconds": 5.0, "lesson_cpu_seconds": 3.0}
            for claim in claims
        ]
        monkeypatch.setattr(ledger, "PACKAGES", ("numpy", "no-such-package"))
        monkeypatch.setattr(ledger, "_seed_entry", lambda run: {})
        book = ledger._compose(item, runs, {"cpu_seconds": 1.0}, {}, [])
        assert book["versions"] == {"python": platform.python_version(), "numpy": np.__version__}
        assert (book["claims"]["gap"]["held"], book["evidence_seconds"]) == ("1/2", 2.0)

    def test_rounding_is_none_and_a_missing_number_is_one(self):
        def found(value):
            return {"metrics": {"gap": {"last": value}}, "claims": {}}

        assert ledger.compare_fingerprints(found(1e-16), found(3e-16)) == []
        assert ledger.compare_fingerprints(found(0.0), found(1e-4))
        assert ledger.compare_fingerprints(found(None), found(None)) == []
        assert ledger.compare_fingerprints(found(None), found(1.0))
        assert ledger.compare_fingerprints(found(1.0), found(None))
        assert ledger.compare_fingerprints(found(1.0), {"metrics": {"gap": {}}, "claims": {}})

    def test_times_are_medians_over_seeds(self):
        runs = [{"lesson_cpu_seconds": a, "cpu_seconds": b} for a, b in ((1, 10), (9, 30), (2, 20))]
        assert ledger.times({"runs": runs}) == (2, 20)
        assert ledger.times({"runs": [{"cpu_seconds": 7}]}) == (7, 7)

    def test_a_fingerprint_counts_rows_averages_and_keeps_the_last(self, tmp_path):
        log = RunLog(tmp_path, "X0")
        log.write(0, loss=1.0, train_seconds=5.0)
        log.claim("own", "Own.", 0.5, near=(0.4, 0.2))
        (tmp_path / "run.json").write_text('{"lesson_rows": 1}')
        log.in_evidence = True
        log.write(1, loss=4.0)
        log.claim("fast", "Fast.", 3.0, at_least=1.0, timed=True)
        log.close()
        assert ledger.fingerprint(tmp_path) == {
            "metrics": {"loss": {"count": 2, "mean": 2.5, "last": 4.0}},
            "claims": {
                "own": {"value": 0.5, "near": {"target": 0.4, "tolerance": 0.2}},
                "fast": {"at_least": 1.0},
            },
        }
        assert ledger.fingerprint(tmp_path, lesson_only=True) == {
            "metrics": {"loss": {"count": 1, "mean": 1.0, "last": 1.0}},
            "claims": {"own": {"value": 0.5, "near": {"target": 0.4, "tolerance": 0.2}}},
        }

    @pytest.mark.parametrize(
        ("text", "seeds"), [("0:3", [0, 1, 2]), ("200:202", [200, 201]), ("1,7,9", [1, 7, 9])]
    )
    def test_seeds_are_counted_as_in_python(self, text, seeds):
        assert ledger.parse_seeds(text) == seeds

    @pytest.mark.parametrize("text", ["", "3:3", "a", "1:2:3", "-1,2"])
    def test_no_seeds(self, text):
        with pytest.raises(ValueError, match="not a range of seeds"):
            ledger.parse_seeds(text)


# What one's own runs show


class TestOwnRuns:
    GOAL = goals.Goal(1, "", "I can", False, "claim", (("B1", "success_4x4"), ("B1", "success_8x8")))
    BOTH: ClassVar = {"success_4x4": 0.9, "success_8x8": 0.9}

    def test_a_later_failure_undoes_no_pass(self, course):
        own = {claim.name: 1.0 for claim in predictions.claims_ahead(find("B1"))}
        course.run("B1/20260101-000000-seed0", {**own, **self.BOTH})
        course.run("B1/20260102-000000-seed0", dict.fromkeys({**own, **self.BOTH}, 0.1), status="failed")
        assert progress.own_status(find("B1"), course.runs) == "passed"
        assert goals.state(self.GOAL, course.runs) == (goals.MET, "B1/20260101-000000-seed0")

    def test_a_run_that_lacks_a_claim_meets_no_goal(self, course):
        course.run("B1/20260101-000000-seed0", {"success_4x4": 0.9})
        assert goals.state(self.GOAL, course.runs)[0] == goals.NOT_YET
        course.run("B1/20260102-000000-seed0", {"other": 0.9})
        assert goals.state(self.GOAL, course.runs)[0] == goals.NOT_YET
        course.run("B1/20260103-000000-seed0", self.BOTH)
        assert goals.state(self.GOAL, course.runs)[0] == goals.MET

    def test_without_a_pass_the_latest_full_run_says_how_it_stands(self, course):
        assert progress.own_status(find("B1"), course.runs) == ""
        course.run("B1/20260101-000000-seed0", smoke=True)
        assert progress.own_status(find("B1"), course.runs) == "smoke only"
        course.run("B1/20260102-000000-seed0", status="failed")
        assert progress.own_status(find("B1"), course.runs) == "failed"
        course.run("B1/20260103-000000-seed0", status="crashed")
        assert progress.own_status(find("B1"), course.runs) == "crashed"

    def test_an_exercise_is_done_once_all_its_functions_passed(self, course):
        for number, one in enumerate(exercises_of(find("C3")).values(), 1):
            names = [*one.functions, *([one.solution.__name__] if one.solution else [])]
            goal = goals.Goal(1, "", "I can", False, "exercise", (("C3", str(number)),))
            book = {f"C3.{name}": {"passed": "2026-01-01"} for name in names}
            done = goals.state(goal, course.runs, book)[0] == goals.OWN
            assert done == bool(names)
            for name in names:
                less = {**book, f"C3.{name}": {"tried": 1}}
                assert goals.state(goal, course.runs, less)[0] == goals.YOURS
        beyond = goals.Goal(1, "", "I can", False, "exercise", (("C3", "99"),))
        assert goals.state(beyond, course.runs, {"C3.gae": {"passed": "2026-01-01"}})[0] == goals.YOURS

    def test_a_score_is_a_mean_over_claims_however_many_a_prediction_has(self):
        made = predictions.Prediction("B1", datetime(2026, 1, 1), {})
        one = predictions.Score(made, outcomes={"a": (1.0, False)})
        three = predictions.Score(made, outcomes=dict.fromkeys("abc", (1.0, True)))
        assert predictions.brier([one, three, predictions.Score(made)]) == (0.25, 4)
        assert predictions.brier([one]) == (1.0, 1)


# Seconds and rates, by a clock that the test holds


class Clock:
    """Counts a second for each piece of work."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


def test_seconds_are_those_of_the_best_round(monkeypatch):
    from chapters.utils import timing

    clock, costs = Clock(), iter([9.0, 1.0, 2.0, 2.0, 7.0, 7.0])
    monkeypatch.setattr(timing.time, "process_time", clock)
    assert timing.seconds_of(lambda: clock.work(next(costs)), calls=2, rounds=3) == 2.0
    one = timing.CpuClock()
    for seconds in (3.0, 4.0):
        clock.work(100.0)
        with one:
            clock.work(seconds)
    assert one.seconds == 7.0


def test_a3_takes_the_fastest_of_at_least_three_calls_and_solves_ever_larger_worlds(tmp_path, monkeypatch):
    from chapters.A_foundations import A3_mdp_and_bellman as lesson
    from chapters.A_foundations.evidence import A3 as evidence

    clock, costs = Clock(), iter([5.0, 3.0, 4.0, 1.0])
    monkeypatch.setattr(evidence.time, "perf_counter", clock)
    assert evidence.seconds(lambda: clock.work(next(costs))) == 3.0
    assert next(costs) == 1.0, "three calls that are slow enough, no fourth"
    sizes, discounts = [], set()

    def solve(seconds):
        def solver(mdp, *_):
            sizes.append(mdp.R.shape[0])
            discounts.add(mdp.gamma)
            clock.work(seconds)

        return solver

    monkeypatch.setattr(evidence, "solve_in_one_program", solve(1.0))
    monkeypatch.setattr(lesson, "value_iteration", solve(2.0))
    monkeypatch.setattr(lesson, "policy_iteration", solve(4.0))
    log = RunLog(tmp_path, "A3")
    evidence.time_solvers(lesson.Config(), evidence.Config(largest=32), log)
    log.close()
    names = ("value_iteration_jax", "value_iteration_numpy", "policy_iteration_numpy")
    assert [log.series(f"{name}_seconds") for name in names] == [([16, 32], [s, s]) for s in (1.0, 2.0, 4.0)]
    assert log.series("jax_first_call_seconds")[1] == [1.0, 1.0]
    assert set(sizes) == {16, 32}
    assert all(0 < gamma < 1 for gamma in discounts), "there is something to converge to"


def test_a3_errors_are_distances_whichever_side_is_larger(monkeypatch):
    from chapters.A_foundations import A3_mdp_and_bellman as lesson
    from chapters.A_foundations.evidence import A3 as evidence

    mdp = evidence.random_mdp(np.random.default_rng(0), 5, 3, 0.9)
    best, policy, _ = lesson.policy_iteration(mdp)
    assert max(evidence.errors_on(mdp, policy, 1e-10).values()) < 1e-8
    monkeypatch.setattr(lesson, "value_iteration", lambda mdp, tolerance: (best - 3.0, 1))
    monkeypatch.setattr(lesson, "evaluate_iteratively", lambda mdp, policy, tolerance: (best - 2.0, 1))
    found = evidence.errors_on(mdp, policy, 1e-10)
    assert found == pytest.approx({"evaluation": 2.0, "control": 3.0, "jax": 3.0}, abs=1e-6)


@pytest.mark.parametrize("num_envs", [None, 4])
def test_a4_counts_steps_of_all_copies_a_second_and_begins_anew_after_an_end(num_envs, monkeypatch):
    """A step takes a second in the first round, half in the second, two in the third."""
    from chapters.A_foundations.evidence import A4 as evidence
    from chapters.utils import timing

    clock = Clock()
    monkeypatch.setattr(timing.time, "process_time", clock)

    class World(gym.Env):
        steps = resets = 0

        def reset(self, seed=None):
            self.resets += 1

        def step(self, action):
            assert np.shape(action) == (() if num_envs is None else (num_envs,))
            clock.work((1.0, 0.5, 2.0)[self.steps // 20])
            self.steps += 1
            return None, 0.0, self.steps % 10 == 0, self.steps % 10 == 5, {}

    world = World()
    if num_envs:
        world.num_envs = num_envs
    rate = evidence.steps_per_second(world, 20 * (num_envs or 1))
    assert rate == pytest.approx(2.0 * (num_envs or 1))
    assert world.steps == 60
    assert world.resets == (13 if num_envs is None else 1)


def test_c3_counts_two_operations_for_each_product(monkeypatch):
    from chapters.C_policy_gradients.evidence import C3_profile as evidence

    monkeypatch.setattr(evidence, "seconds_of", lambda work, calls: 0.5 if work().shape == (8, 8) else 0.0)
    assert evidence.matmul_rate(8) == pytest.approx(2 * 8**3 / 0.5 / 1e9)


def test_c3_counts_the_products_of_a_forward_and_a_backward_pass(monkeypatch):
    """Output and gradient of the weights for each layer, and of its input unless that is the observation."""
    from chapters.C_policy_gradients.evidence import C3_profile as evidence

    seen = []
    monkeypatch.setattr(evidence, "seconds_of", lambda work: seen.extend(work()) or 0.25)
    layers = [torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)]
    gflop, seconds = evidence.product_cost(layers, num_rows=16, obs_size=4)
    assert gflop == pytest.approx(2e-9 * 16 * (2 * 4 * 8 + 3 * 8 * 2))
    assert [tuple(one.shape) for one in seen] == [(16, 8), (8, 4), (16, 2), (2, 8), (16, 8)]
    assert seconds == 0.25
