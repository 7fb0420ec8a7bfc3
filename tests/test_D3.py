"""D3's learner, whole: it finds a preference that is there, and errors planted in it show."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chapters.course.planting import plant
from chapters.D_rlhf import D3_reward_model as lesson
from chapters.D_rlhf.evidence.D3_tools import gradient_gap
from chapters.utils import RunLog

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


PLANTED = {
    "sign of the difference": ("chosen - rejected - margin", "rejected - chosen - margin"),
    "score read at the padding": ("(columns * mask).argmax(dim=1)", "columns[-1:].expand(len(mask))"),
    "no gradient step": ("        optimizer.step()\n    return model", "    return model"),
    "only the first token is read": ("(columns * mask).argmax(dim=1)", "mask.argmax(dim=1)"),
}


def test_reward_model_finds_the_preference(tmp_path):
    assert accuracy(lesson, tmp_path) > 0.9


@pytest.mark.parametrize("error", PLANTED)
def test_planted_error_shows(error, tmp_path):
    assert accuracy(plant(lesson, *PLANTED[error]), tmp_path) < 0.8


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


def token_turn(module, seed, kind):
    """(gold at its peak, gold at the end) of the token world's curve, averaged over proxies."""
    cfg = module.Config(seed=seed)
    gold = module.token_curves(module.token_world(seed), kind, cfg)["gold"].mean(dim=0)
    return float(gold.max()), float(gold[-1])


@pytest.mark.parametrize("seed", [4])
def test_blind_proxies_turn_and_a_seeing_one_does_not(seed):
    peak, end = token_turn(lesson, seed, "few")
    assert peak > end + 0.1
    peak, end = token_turn(lesson, seed, "sees")
    assert peak < end + 0.1


def test_repeats_are_what_turns_it():
    """Without the price of repeats the same proxies keep most of what they gain."""
    kind = plant(lesson, "gold = reward - repeats", "gold = reward - 0 * repeats")
    (peak, end), (free_peak, free_end) = token_turn(lesson, 1, "few"), token_turn(kind, 1, "few")
    assert peak - end > 2 * (free_peak - free_end)


def test_policy_is_trained_towards_the_proxy_alone(tmp_path):
    """A proxy that likes one word: the policy comes to write it, and the base model is left as it was."""
    base = lesson.load_model("tiny", lesson.review_recipe(20))
    word = base.tokenizer.convert_tokens_to_ids("the")
    before = [parameter.clone() for parameter in base.model.parameters()]
    cfg = dataclasses.replace(lesson.Config(), num_policy_updates=12, num_tokens=4)
    log = RunLog(tmp_path, "D3")
    lesson.maximise(lambda ids, mask: (ids == word).sum(1).float(), base, cfg, log)
    log.close()
    proxy, kl = log.series("rloo_proxy")[1], log.series("rloo_kl")[1]
    assert np.mean(proxy[-3:]) > np.mean(proxy[:3]) + 0.1
    assert kl[-1] > abs(kl[0]) + 0.2
    assert abs(kl[0]) < 1e-4, "the first batch is the reference's own"
    assert all(torch.equal(a, b) for a, b in zip(before, base.model.parameters()))
