"""D16: the policy is trained towards the proxy alone; what the evidence measures, on known cases."""

import copy
import dataclasses
import itertools
import types

import numpy as np
import pytest
import torch

from chapters.course import ledger
from chapters.course.catalog import find
from chapters.D_rlhf import D16_reward_overoptimization as lesson
from chapters.D_rlhf.evidence import D16 as evidence
from chapters.envs.token_world import token_world
from chapters.text.models import load_model
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog
from chapters.utils.lesson import RunOptions, execute


def test_fitted_weights_are_the_most_likely_ones():
    """The gradient of the penalised likelihood vanishes at the answer, for each of the fits."""
    generator = torch.Generator().manual_seed(11)
    differences = torch.randn(3, 40, 4, generator=generator, dtype=torch.float64)
    labels = (torch.rand(3, 40, generator=generator) < 0.5).double()
    for ridge in (0.5, 2.0):
        weights = evidence.fit_weights(differences, labels, ridge).requires_grad_()
        gaps = (differences * weights[:, None]).sum(-1)
        likelihood = (labels * gaps.sigmoid().log() + (1 - labels) * (-gaps).sigmoid().log()).sum()
        (slope,) = torch.autograd.grad(likelihood - 0.5 * ridge * weights.pow(2).sum(), weights)
        assert slope.abs().max() < 1e-8


def test_features_count_symbols_and_repeats():
    world = token_world(0)
    rows = [*range(40), *range(500, 540), *range(2700, 2801)]
    for sees in (False, True):
        found = evidence.symbol_features(world, sees)
        assert found.shape == (len(world.completion_ids), 8 + sees)
        for row in rows:
            written = [
                int(t) for t, real in zip(world.completion_ids[row], world.completion_mask[row]) if real
            ]
            expected = [written.count(symbol) for symbol in range(8)]
            expected += [sum(a == b for a, b in itertools.pairwise(written))] if sees else []
            assert found[row].tolist() == expected


def token_turn(seed, kind):
    """(gold at its peak, gold at the end) of the token world's curve, averaged over proxies."""
    gold = evidence.token_curves(token_world(seed), kind, 20, lesson.Config(seed=seed))["gold"].mean(dim=0)
    return float(gold.max()), float(gold[-1])


@pytest.mark.parametrize("seed", [4])
def test_blind_proxies_turn_and_a_seeing_one_does_not(seed):
    peak, end = token_turn(seed, "few")
    assert peak > end + 0.1
    peak, end = token_turn(seed, "sees")
    assert peak < end + 0.1


def test_a_turn_is_found_where_there_is_one_and_not_in_noise():
    """The peak is chosen on other proxies than the fall is measured on."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 30, generator=rng, dtype=torch.float64)
    tops = [evidence.turn(torch.randn(40, 30, generator=rng, dtype=torch.float64)) for _ in range(200)]
    assert np.mean(np.array(tops) > 2.0) < 0.07, "chance alone: about one in forty"
    shape = torch.linspace(0, 1, 30).double() * 4
    assert evidence.turn(noise + shape * (4 - shape)) > 3.0
    assert evidence.turn(noise + shape) < 0.5


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


class Stop(KeyboardInterrupt):
    """What ends a run in the middle of it."""


@pytest.mark.parametrize("num_updates", [1, 4, 8])
def test_the_peak_is_kept_as_it_was_before_its_update(num_updates, tmp_path, monkeypatch):
    """Also in a run that was stopped and goes on: it ends as if it had been left alone, to the bit."""
    base = load_model("tiny", review_recipe(20))
    cfg = dataclasses.replace(lesson.Config(), num_policy_updates=num_updates, num_tokens=2)
    worth = [0.0, 3.0, 1.0, 5.0, 2.0, 2.0, 1.0, 0.0][:num_updates]
    before, stop = [], None
    write_texts = lesson.write_texts

    def write(policy, *given):
        if len(before) == stop:
            raise Stop
        before.append(copy.deepcopy(policy.model))
        return write_texts(policy, *given)

    def main(cfg, log):
        scorer = lambda ids, mask: mask.sum(1).float()  # noqa: E731
        log.keep(found=lesson.maximise(scorer, base, cfg, log, num_prompts=2, group_size=2))

    def go(folder, resume=None):
        options = RunOptions(out=tmp_path / folder, resume=resume, save_every=0.0)
        log = execute(main, cfg, find("D16").path, options, print_claims=False)
        return *log.kept["found"], log.metrics

    monkeypatch.setattr(lesson, "write_texts", write)
    monkeypatch.setattr(lesson, "gold_reward", lambda texts: np.array(worth[len(before) - 1]))
    end, top, peak, metrics = go("alone")
    width = min(5, num_updates)
    means = [np.mean(worth[at : at + width]) for at in range(num_updates - width + 1)]
    assert peak == int(np.argmax(means)) + width // 2
    assert same(top, before[peak])
    if num_updates < 3:
        return
    alone, stop = before.copy(), num_updates // 2
    before.clear()
    with pytest.raises(Stop):
        go("stopped")
    stop = None
    *found, again = go("stopped", next((tmp_path / "stopped" / "D16").iterdir()))
    assert len(before) == num_updates
    assert all(map(same, before, alone))
    assert same(found[0], end)
    assert same(found[1], top)
    assert (found[2], again) == (peak, metrics)


def test_policy_is_trained_towards_the_proxy_alone(tmp_path):
    """A proxy that likes one word: the policy comes to write it, and the base model is left as it was."""
    base = load_model("tiny", review_recipe(20))
    word = base.tokenizer.convert_tokens_to_ids("the")
    before = [parameter.clone() for parameter in base.model.parameters()]
    cfg = dataclasses.replace(lesson.Config(), num_policy_updates=12, num_tokens=4)
    log = RunLog(tmp_path, "D16")
    end, top, peak = lesson.maximise(lambda ids, mask: (ids == word).sum(1).float(), base, cfg, log)
    log.close()
    proxy, kl = log.series("rloo_proxy")[1], log.series("rloo_kl")[1]
    assert np.mean(proxy[-3:]) > np.mean(proxy[:3]) + 0.1
    assert kl[-1] > abs(kl[0]) + 0.2
    assert abs(kl[0]) < 1e-4, "the first batch is the reference's own"
    assert all(torch.equal(a, b) for a, b in zip(before, base.model.parameters()))
    assert not same(end, base.model)
    assert 2 <= peak <= 9, "the middle of five updates"
    assert not same(top, end)


def test_judging_reads_the_policy_that_it_is_given(tmp_path):
    """Two sets of weights, two scores; the same set again, the same scores."""
    base = load_model("tiny", review_recipe(20))
    word = base.tokenizer.convert_tokens_to_ids("the")
    cfg = dataclasses.replace(lesson.Config(), num_policy_updates=12, num_tokens=4, num_judged=64)
    log = RunLog(tmp_path, "D16")

    def scorer(ids, mask):
        return (ids == word).sum(1).float()

    end, _, _ = lesson.maximise(scorer, base, cfg, log)
    log.close()
    first, again, last = (lesson.judge(model, scorer, base, cfg) for model in (base.model, base.model, end))
    assert np.array_equal(first["proxy"], again["proxy"])
    assert last["proxy"].mean() > first["proxy"].mean() + 0.1


def test_the_best_of_n_by_each_proxy_keeps_what_it_must(tmp_path, monkeypatch):
    """Texts worth 0, 1, 2, 10. All pairs teach their order, a quarter nothing, a sixteenth the opposite."""
    trained, gains = [], []

    def train(model, pairs, cfg, log):
        trained.append((pairs["ids"].shape[1], cfg.num_epochs))
        return quarter if pairs["ids"].shape[1] == 16 else sixteenth

    whole, quarter, sixteenth = (torch.nn.Linear(1, 1) for _ in range(3))
    sign = {whole: 1.0, quarter: 0.0, sixteenth: -1.0}
    monkeypatch.setattr(evidence.preferences, "train_reward_model", train)
    monkeypatch.setattr(evidence.preferences, "RewardModel", lambda *_: None)
    monkeypatch.setattr(evidence.preferences, "marks", lambda *_: (0, 1))
    monkeypatch.setattr(evidence, "write_texts", lambda base, prompts, *_: (["0", "1", "2", "3"], None))
    monkeypatch.setattr(evidence, "gold_reward", lambda pool: np.array([0.0, 1.0, 2.0, 10.0]))
    monkeypatch.setattr(
        evidence, "score_texts", lambda scorer, tokenizer, pool: sign[scorer] * np.arange(4.0) / 2.0
    )
    monkeypatch.setattr(evidence, "claim_choice", lambda found, log: gains.append(found))
    log = RunLog(tmp_path, "D16")
    base = types.SimpleNamespace(model=None, tokenizer=None)
    log.keep(base=base, tokens={"ids": torch.zeros(2, 64, 1)})
    cfg = dataclasses.replace(lesson.Config(), num_pairs=64, num_epochs=1, temperature=2.0)
    evidence.choose(whole, cfg, evidence.Config(pool_size=4), log)
    log.close()
    assert trained == [(4, 16), (16, 4)], "as many steps on a share of the pairs"
    two = 14 / 6 - 1.5  # the six pairs' larger ranks, less the mean
    larger, smaller = 35 / 6 - 3.25, 4 / 6 - 3.25  # and the same of what they are worth
    by_hand = {"gold_1": [0, larger, 6.75], "gold_16": [0, smaller, -3.25], "proxy_1": [0, two, 1.5]}
    by_hand |= {"proxy_16": [0, two, 1.5], "proxy_4": [0, 0, 0]}
    for name, gain in by_hand.items():
        assert gains[0][name] == pytest.approx(gain), name
    assert log.series("best_of_n_gold_1") == ([1, 2, 4], pytest.approx([0, larger, 6.75]))


def test_a_proxy_with_many_pairs_that_sees_all_is_the_gold_reward(monkeypatch):
    monkeypatch.setitem(evidence.WORLDS, "sees", (20_000, True, 1))
    world, generator = token_world(0, num_symbols=4, length=3), torch.Generator().manual_seed(0)
    features = evidence.symbol_features(world, True)
    log_probs = world.reference_log_probs()[0]
    gold = features @ torch.linspace(-1.0, 1.0, features.shape[1], dtype=torch.float64)
    gold = gold - (log_probs.exp() * gold).sum()
    proxies = evidence.fitted_proxies(world, log_probs, gold, "sees", 3, 2.0, generator)
    assert proxies.shape == (3, len(gold))
    assert (log_probs.exp() * proxies).sum(1).abs().max() < 1e-9
    for proxy in proxies:
        assert float((log_probs.exp() * (proxy - gold) ** 2).sum().sqrt()) < 0.1
    monkeypatch.setitem(evidence.WORLDS, "ensemble", (50, False, 5))
    doubtful = evidence.fitted_proxies(world, log_probs, gold, "ensemble", 40, 2.0, generator)
    assert doubtful.shape == (40, len(gold))


def test_the_slope_of_any_reward_is_its_covariance_with_the_proxy(monkeypatch):
    assert lesson.covariance_gap(token_world(3)) < 1e-6
    right = lesson.covariance
    monkeypatch.setattr(lesson, "covariance", lambda *args: -right(*args))
    assert lesson.covariance_gap(token_world(3)) > 1e-3


def test_the_text_says_of_promises_what_was_recorded():
    runs = [run["metrics"] for run in ledger.load(find("D16"))["runs"]]
    excess = {
        part: np.array([run[f"best_of_n_proxy_{part}"] - run[f"best_of_n_gold_{part}"] for run in runs])
        for part in (16, 4, 1)
    }
    assert excess[16].min() > 1.0, '"with a sixteenth it promises far more than it brings"'
    assert (excess[1] < 0).mean() >= 0.8, '"with all of them, mostly too little"'
