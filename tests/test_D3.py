"""D3's learner, whole: it finds a preference that is there, and errors planted in it show."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from spies import watch_adam, weights

from chapters.D_rlhf import D3_reward_model as lesson
from chapters.D_rlhf.checks.D3 import EDITS
from chapters.D_rlhf.evidence import D3 as evidence
from chapters.D_rlhf.evidence import D3_trl
from chapters.D_rlhf.evidence.D3 import gradient_gap
from chapters.envs.reviews import POSITIVE, gold_reward, sentiment
from chapters.text import preferences
from chapters.text.models import LoadedModel, make_model, make_tokenizer
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog, seed_everything
from chapters.utils.edits import edited

NUM_IDS, PREFERRED = 8, 3  # the text with more of this token is liked better


class Sums(torch.nn.Module):
    """A causal body that remembers what it has read: the mean embedding of the tokens so far."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=NUM_IDS)
        self.embedding = torch.nn.Embedding(NUM_IDS, NUM_IDS)

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask, position_ids):
        seen = (self.embedding(input_ids) * attention_mask[..., None]).cumsum(1)
        # padding is read as a text of its own: whoever scores it sees nothing
        return SimpleNamespace(last_hidden_state=seen * attention_mask[..., None])


class Language(torch.nn.Module):
    """A language model with nothing but a body."""

    def __init__(self, body):
        super().__init__()
        self.base_model = body


def random_pairs(seed, num_pairs=400, length=6):
    """Texts padded on the right; the chosen one has more of the preferred token, but in one pair of five."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, NUM_IDS, size=(2, num_pairs, length))
    mask = np.zeros((2, num_pairs, length), int)
    for side, row in np.ndindex(2, num_pairs):
        mask[side, row, : rng.integers(2, length + 1)] = 1
    ids = np.where(mask == 1, ids, 0)
    liked = (ids == PREFERRED).sum(-1)
    swap = (liked[0] < liked[1]) ^ (rng.random(num_pairs) < 0.2)
    ids[:, swap], mask[:, swap], liked[:, swap] = ids[::-1, swap], mask[::-1, swap], liked[::-1, swap]
    return {"ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}


def accuracy(module, folder):
    """How often the trained model prefers the text with more of the preferred token, where one has."""
    torch.manual_seed(0)
    log = RunLog(folder, "D3")
    cfg = module.Config(num_epochs=4, learning_rate=0.05, batch_size=16)
    model = module.RewardModel(Language(Sums()), 0, 0)
    module.train_reward_model(model, random_pairs(0), cfg, log)
    log.close()
    fresh = random_pairs(1)
    with torch.no_grad():
        scores = model(fresh["ids"].flatten(0, 1), fresh["mask"].flatten(0, 1)).reshape(2, -1)
    liked = (fresh["ids"] == PREFERRED).sum(-1)
    differ = liked[0] != liked[1]
    return float(((scores[0] > scores[1]) == (liked[0] > liked[1]))[differ].float().mean())


def test_reward_model_finds_the_preference(tmp_path):
    assert accuracy(lesson, tmp_path) > 0.9


@pytest.mark.parametrize("name", ["wrong_sign", "last_column", "no_step", "first_token"])
def test_an_edit_shows(name, tmp_path):
    assert accuracy(edited(lesson, EDITS[name]), tmp_path) < 0.8


def test_gradient_gap_tells_a_wrong_gradient():
    weights = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def loss():
        return (weights[0] ** 2 * weights[1]).sum()

    before = [weight.detach().clone() for weight in weights]
    assert gradient_gap(loss, weights, 0) < 1e-6
    assert all(torch.allclose(a, b) for a, b in zip(before, weights))

    def detached():  # its gradient forgets a factor
        return (weights[0] * weights[0].detach() * weights[1]).sum()

    assert gradient_gap(detached, weights, 0) > 1e-3


def test_the_reader_likes_warm_reviews_up_to_a_point():
    """Against the reader's rule, written out one word at a time."""
    texts = [
        " ".join([*POSITIVE[:k], "and", *["dull"] * bad]) + " ." for k in range(8) for bad in (0, 1, 2, 5)
    ]
    texts += [
        "joy joy joy joy joy .",
        "i . . . . . .",
        "the plot and the plot was the plot of the plot in the plot .",
    ]
    found, plain = gold_reward(texts), sentiment(texts)
    for text, value, base in zip(texts, found, plain):
        seen, echoes, praise = set(), 0, 0
        for word in text.split():
            praise += word in POSITIVE
            echoes += word in seen
            seen |= {word} - {"the", "was", "a", ".", "it", "this", "is", "and"}
        assert math.isclose(value, base - 1.5 * max(0, praise - 3) - max(0, echoes - 3)), text


# Glue


class Scores(torch.nn.Module):
    """A score for each first token, a thousand times its weight: gradients far beyond the bound."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(NUM_IDS))

    def forward(self, ids, mask):
        return 1000.0 * self.weights[ids[:, 0]]


@pytest.mark.parametrize("module", [lesson, preferences], ids=["D3-lesson", "D3-copy"])
def test_the_step_size_rises_and_falls_and_gradients_are_clipped(module, tmp_path, monkeypatch):
    """Ten pairs in batches of four, five passes: two steps a pass, ten in all, of which one rises."""
    steps = watch_adam(monkeypatch, module)
    log, found = RunLog(tmp_path, "D3"), random_pairs(0, num_pairs=10)
    cfg = lesson.Config(batch_size=4, num_epochs=5, learning_rate=1e-9)
    module.train_reward_model(Scores(), found, cfg, log)
    log.close()
    rates = [rate / 1e-9 for rate, _ in steps]
    assert rates == pytest.approx([0.0] + [(10 - step) / 9 for step in range(1, 10)])
    assert max(norm for _, norm in steps) == pytest.approx(1.0, rel=1e-3)


def test_held_out_pairs_have_a_seed_of_their_own_and_models_the_same_first_weights(tmp_path, monkeypatch):
    asked = []
    collect = lesson.collect_pairs
    monkeypatch.setattr(
        lesson,
        "collect_pairs",
        lambda base, num, seed, *rest: asked.append(seed) or collect(base, 16, seed, *rest),
    )
    first = []
    monkeypatch.setattr(
        lesson, "train_reward_model", lambda model, *rest: first.append(weights(model)) or model
    )
    log = RunLog(tmp_path, "D3", smoke=True)
    cfg = lesson.Config(**{**lesson.SMOKE, "seed": 3})
    lesson.main(cfg, log)
    log.close()
    assert asked == [3, 1_000_003]
    assert torch.equal(first[0], weights(lesson.new_model(log.kept["base"], cfg)))
    assert set(log.kept["found"]) == {"accuracy", "bins", "ece", "slope"}


def test_judging_by_hand(monkeypatch):
    """Ten pairs, one a bin, whose differences are twice what they should be: the slope is a half."""
    first = np.linspace(4.0, -3.0, 10)
    sides = iter([first + 5.0, np.full(10, 5.0)])
    monkeypatch.setattr(lesson, "score_texts", lambda *_: next(sides))
    truth = 1 / (1 + np.exp(-first / 2))
    found = lesson.judge(lambda: None, None, {"texts": [[], []], "probability": truth})
    assert found["slope"] == pytest.approx(0.5, abs=1e-6)
    assert found["accuracy"] == pytest.approx(np.maximum(truth, 1 - truth).mean())
    forecast = 1 / (1 + np.exp(-first))
    np.testing.assert_allclose(found["bins"], [forecast[::-1], truth[::-1]])
    assert found["ece"] == pytest.approx(np.abs(forecast - truth).mean())


def untrained() -> LoadedModel:
    """The review model as it is before its training."""
    seed_everything(0)
    recipe = review_recipe(1)
    tokenizer = make_tokenizer(recipe)
    return LoadedModel(make_model(recipe, len(tokenizer)).eval(), tokenizer)


def test_the_library_trained_on_our_pairs_ends_where_ours_does(tmp_path):
    """Ten pairs in fours, two passes in their order; and both know nothing of padding."""
    base = untrained()
    sides = [[f"i adored it {'. it is' * (i % 3)}" for i in range(10)], ["the plot was dull ."] * 10]
    found = preferences.as_tokens({"texts": sides, "labels": np.arange(10) % 3 > 0}, base.tokenizer)
    cfg = lesson.Config(batch_size=4, num_epochs=1, learning_rate=1e-3)
    model, log = lesson.new_model(base, cfg), RunLog(tmp_path, "D3")
    scorer, seconds, megabytes = D3_trl.train_trl(model.body, model.score, base.tokenizer, found, cfg)
    before = weights(model)
    ours = lesson.train_reward_model(model, found, cfg, log)
    log.close()
    assert not torch.equal(weights(ours), before)
    ids, mask = preferences.encode(base.tokenizer, ["the story was dull .", "i adored it ."])
    torch.testing.assert_close(scorer(ids, mask), ours(ids, mask), atol=1e-5, rtol=1e-4)
    assert seconds > 0
    assert megabytes > 50


def test_the_librarys_loss_of_a_padded_batch_is_ours():
    base = untrained()
    sides = [[f"i adored it {'. it is' * i}" for i in range(4)], ["the plot was dull ."] * 4]
    batch = preferences.as_tokens({"texts": sides, "labels": np.arange(4) % 2 > 0}, base.tokenizer)
    model = lesson.new_model(base, lesson.Config())
    chosen, rejected = model(*(values.flatten(0, 1) for values in batch.values())).chunk(2)
    ours = lesson.bradley_terry_loss(chosen, rejected).item()
    assert D3_trl.trl_loss(model.body, model.score, base.tokenizer, batch, lesson.Config()) == pytest.approx(
        ours
    )


def test_fewer_pairs_are_fewer_and_the_steps_as_many(tmp_path, monkeypatch):
    seen = []

    def train(model, tokens, cfg, log):
        seen.append((tokens["chosen"].shape[1], cfg.num_epochs * tokens["chosen"].shape[1]))
        assert torch.equal(tokens["chosen"], tokens["rejected"]), "cut alike"
        return model

    found = [{"accuracy": a, "ece": 0.1, "slope": a, "bins": np.full((2, 1), a)} for a in (0.6, 0.7, 0.8)]
    judged = iter(found)
    monkeypatch.setattr(lesson, "new_model", lambda base, cfg: base)
    monkeypatch.setattr(lesson, "train_reward_model", train)
    monkeypatch.setattr(lesson, "judge", lambda *_: next(judged))
    cfg, rows = lesson.Config(num_pairs=64, num_epochs=3), torch.arange(2 * 64).view(2, 64, 1)
    log = RunLog(tmp_path, "D3")
    tokens = {"chosen": rows, "rejected": rows}
    few, most, _, _ = evidence.fewer_pairs(LoadedModel(None, None), tokens, {}, cfg, log)
    log.close()
    assert seen == [(4, 3 * 64), (16, 3 * 64), (64, 3 * 64)]
    assert (few["accuracy"], most["accuracy"]) == (0.6, 0.8)
    assert log.series("accuracy") == ([4, 16, 64], [0.6, 0.7, 0.8])
