"""Definition checks of D3: each function against its equation, written out one pair or text at a time."""

import math
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from chapters.utils import RunLog
from chapters.utils.edits import Edit


def check_preference_probability(preference_probability):
    rng = np.random.default_rng(0)
    for temperature in (0.3, 1.0, 4.0):
        first, second = 2.0 * rng.normal(size=(2, 9))
        found = preference_probability(first, second, temperature)
        for a, b, p in zip(first, second, found):
            odds = math.exp(a / temperature) / math.exp(b / temperature)
            assert math.isclose(p, odds / (1 + odds), rel_tol=1e-9)
        swapped = preference_probability(second, first, temperature)
        assert np.allclose(found + swapped, 1.0)


def check_expected_accuracy(expected_accuracy):
    """Every pair and both of its labels, one at a time."""
    rng = np.random.default_rng(1)
    differences, probability = rng.normal(size=50), rng.random(50)
    differences[:5] = 0.0  # a tie is a guess
    total = 0.0
    for d, p in zip(differences, probability):
        for first_wins, weight in ((True, p), (False, 1 - p)):
            total += weight * (0.5 if d == 0 else float((d > 0) == first_wins))
    assert math.isclose(expected_accuracy(differences, probability), total / 50)
    ceiling = expected_accuracy(probability - 0.5, probability)
    assert math.isclose(ceiling, sum(max(p, 1 - p) for p in probability) / 50)
    assert ceiling >= expected_accuracy(differences, probability)


def check_bradley_terry_loss(bradley_terry_loss):
    torch.manual_seed(2)
    for size in (1, 5, 32):
        chosen, rejected, margins = torch.randn(3, size, dtype=torch.float64)
        for margin in (0.0, 0.7, margins):
            chosen.requires_grad_()
            found = bradley_terry_loss(chosen, rejected, margin)
            each = margin.tolist() if isinstance(margin, torch.Tensor) else [margin] * size
            gaps = [a - b - m for a, b, m in zip(chosen.tolist(), rejected.tolist(), each)]
            assert math.isclose(
                found.item(), sum(math.log(1 + math.exp(-gap)) for gap in gaps) / size, rel_tol=1e-9
            )
            (slope,) = torch.autograd.grad(found, chosen)
            for gap, s in zip(gaps, slope.tolist()):
                assert math.isclose(s, -1 / (1 + math.exp(gap)) / size, rel_tol=1e-9)
            chosen = chosen.detach()
    far = torch.tensor([-200.0], requires_grad=True)
    loss = bradley_terry_loss(far, torch.zeros(1))
    loss.backward()
    assert math.isclose(loss.item(), 200.0, rel_tol=1e-5)
    assert math.isclose(far.grad.item(), -1.0, rel_tol=1e-5)


def masks(rng, num_texts, length):
    """Masks of texts of random length, padded on the left, on the right, or not at all."""
    rows = []
    for _ in range(num_texts):
        size = int(rng.integers(1, length + 1))
        side = rng.random() < 0.5
        rows.append([0] * (length - size) + [1] * size if side else [1] * size + [0] * (length - size))
    return torch.tensor(rows)


def check_last_token(last_token):
    rng = np.random.default_rng(3)
    for num_texts, length in ((1, 1), (6, 4), (30, 9)):
        mask, scores = masks(rng, num_texts, length), torch.randn(num_texts, length)
        found = last_token(scores, mask)
        for row in range(num_texts):
            real = [column for column in range(length) if mask[row, column]]
            assert found[row] == scores[row, real[-1]]


class Language(torch.nn.Module):
    """A language model with nothing but a body."""

    def __init__(self, body):
        super().__init__()
        self.base_model = body


class Body(torch.nn.Module):
    """A body whose hidden state says which token stands there, at which position, after how many others."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=3)
        self.embedding = torch.nn.Embedding(10, 1)
        self.embedding.weight.data = torch.arange(10.0)[:, None]

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask, position_ids):
        tokens = self.embedding(input_ids)[..., 0]
        seen = (tokens * attention_mask).cumsum(1)
        return SimpleNamespace(last_hidden_state=torch.stack([tokens, position_ids.float(), seen], dim=-1))


def check_RewardModel(RewardModel):
    body = Body()
    model = RewardModel(Language(body), 1, 6)
    assert body.embedding.weight.flatten().tolist() == list(range(10)), "the language model stays as it is"
    (copied,) = (part for part in model.modules() if isinstance(part, Body))
    assert copied.embedding.weight.flatten().tolist() == [0, 6, *range(2, 10)], "EOS starts as a full stop"
    inside = {id(weights) for weights in copied.parameters()}
    heads = [weights for weights in model.parameters() if id(weights) not in inside]
    assert [head.numel() for head in heads] == [3], "one weight for each hidden unit"
    weights = heads[0].detach().flatten()
    texts = [[5, 3, 9], [2], [7, 7, 7, 7, 4]]
    for side in ("left", "right"):
        ids, mask = torch.full((3, 6), 8), torch.zeros(3, 6, dtype=torch.long)
        for row, text in enumerate(texts):
            place = slice(6 - len(text), 6) if side == "left" else slice(len(text))
            ids[row, place], mask[row, place] = torch.tensor(text), 1
        for text, score in zip(texts, model(ids, mask)):
            hidden = torch.tensor([text[-1], len(text) - 1, sum(text)]).float()
            assert torch.isclose(score, weights @ hidden, atol=1e-5)


def check_step_size(step_size):
    for num_steps, share in ((10, 0.3), (100, 0.1), (8, 0.5)):
        warmup = round(share * num_steps)  # a whole number: how to round is not asked
        for step in range(num_steps + 1):
            expected = step / warmup if step < warmup else (num_steps - step) / (num_steps - warmup)
            found = step_size(step, num_steps, share)
            assert math.isclose(found, expected, abs_tol=1e-9), (
                f"step {step} of {num_steps}, warm-up {share}: expected {expected:.6g}, found {found:.6g}"
            )


def check_train_reward_model(train_reward_model):
    """Steps move the head against the loss's slope; each pass takes every pair once, in another order."""
    lesson = sys.modules[train_reward_model.__module__]
    seen = []

    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.zeros(20))

        def forward(self, ids, mask):
            assert mask[:, -1].any(), "no column of padding only"
            seen.append(ids[:, 0].tolist())
            return self.weights[ids[:, 0]]

    ids = torch.arange(16).reshape(2, 8, 1).repeat(1, 1, 5)  # chosen 0 to 7, rejected 8 to 15
    mask = torch.ones_like(ids)
    mask[..., 2:] = 0
    settings = {"seed": 0, "batch_size": 4, "num_epochs": 3, "learning_rate": 0.1}
    cfg = getattr(lesson, "Config", SimpleNamespace)(**settings)
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(Path(folder), "D3")
        trained = train_reward_model(Head(), {"ids": ids, "mask": mask}, cfg, log).weights
        log.close()
    assert (trained[:8] > 0).all()
    assert (trained[8:16] < 0).all()
    assert (trained[16:] == 0).all()
    texts = [text for ids in seen for text in ids]
    assert len(texts) == 48, "3 passes over 8 pairs"
    passes = []
    for k in range(0, 48, 8):  # a step: 4 pairs, in one call or in two
        chosen = [text for text in texts[k : k + 8] if text < 8]
        rejected = [text - 8 for text in texts[k : k + 8] if text >= 8]
        assert sorted(chosen) == sorted(rejected), "the texts of a pair go together"
        passes.append(chosen)
    orders = [first + second for first, second in zip(passes[::2], passes[1::2])]
    assert all(sorted(order) == list(range(8)) for order in orders), "each pass takes every pair once"
    assert not orders[0] == orders[1] == orders[2], "later passes are shuffled"


def check_reliability(reliability):
    rng = np.random.default_rng(4)
    predicted, probability = rng.random(40), rng.random(40)
    found = reliability(predicted, probability, 8)
    ranked = sorted(range(40), key=lambda i: predicted[i])
    for k in range(8):
        members = ranked[5 * k : 5 * k + 5]
        assert math.isclose(found[0, k], sum(predicted[i] for i in members) / 5)
        assert math.isclose(found[1, k], sum(probability[i] for i in members) / 5)


def check_calibration_error(calibration_error):
    rng = np.random.default_rng(5)
    predicted, probability = rng.random(60), rng.random(60)
    ranked, total = sorted(range(60), key=lambda i: predicted[i]), 0.0
    for k in range(6):
        members = ranked[10 * k : 10 * k + 10]
        total += abs(sum(predicted[i] - probability[i] for i in members)) / 10
    assert math.isclose(calibration_error(predicted, probability, 6), total / 6)
    assert calibration_error(predicted, predicted) < 1e-12


def check_calibration_slope(calibration_slope):
    rng = np.random.default_rng(6)
    truth = 3.0 * rng.normal(size=400)
    for factor in (0.5, 1.0, 2.5):  # scores too far apart by a factor ask for its inverse
        found = calibration_slope(factor * truth, 1 / (1 + np.exp(-truth)))
        assert math.isclose(found, 1 / factor, rel_tol=1e-6)
    differences, probability = rng.normal(size=100), rng.random(100)
    probability = np.where(rng.random(100) < 0.7, (differences > 0) * 0.9 + 0.05, probability)

    def likelihood(a):
        return sum(
            p * -math.log1p(math.exp(-a * d)) + (1 - p) * -math.log1p(math.exp(a * d))
            for d, p in zip(differences, probability)
        )

    best = calibration_slope(differences, probability)
    assert likelihood(best) > max(likelihood(0.98 * best), likelihood(1.02 * best))
    assert calibration_slope(-truth, 1 / (1 + np.exp(-truth))) < 1e-6, "the wrong way round: no slope helps"


EDITS = {
    "sign_difference": Edit(
        function="preference_probability",
        old="-(first - second) / temperature",
        new="(first - second) / temperature",
        says="sign of the difference",
    ),
    "no_temperature": Edit(
        function="preference_probability",
        old="-(first - second) / temperature",
        new="-(first - second)",
        says="no temperature",
    ),
    "labels_swapped": Edit(
        function="expected_accuracy",
        old="np.where(differences > 0, probability,",
        new="np.where(differences < 0, probability,",
        says="labels swapped",
    ),
    "tie_right": Edit(
        function="expected_accuracy",
        old="np.where(differences == 0, 0.5, right)",
        new="np.where(differences == 0, 1.0, right)",
        says="a tie is right",
    ),
    "wrong_sign": Edit(
        function="bradley_terry_loss",
        old="chosen - rejected - margin",
        new="rejected - chosen - margin",
        says="pushes the chosen score down and the rejected one up",
        fails=("share_of_ceiling", "calibration_error"),
    ),
    "margin_ignored": Edit(
        function="bradley_terry_loss",
        old="chosen - rejected - margin",
        new="chosen - rejected",
        says="margin ignored",
    ),
    "margin_wrong_way": Edit(
        function="bradley_terry_loss",
        old="chosen - rejected - margin",
        new="chosen - rejected + margin",
        says="margin the wrong way",
    ),
    "sum_instead_mean": Edit(
        function="bradley_terry_loss",
        old="margin).mean()  # eq. (3)",
        new="margin).sum()  # eq. (3)",
        says="sum instead of mean",
    ),
    "logarithm_sigmoid": Edit(
        function="bradley_terry_loss",
        old="nn.functional.logsigmoid(chosen - rejected - margin)",
        new="(chosen - rejected - margin).sigmoid().log()",
        says="logarithm of a sigmoid",
    ),
    "last_column": Edit(
        function="last_token",
        old="(columns * mask).argmax(dim=1)",
        new="columns[-1:].expand(len(mask))",
        says="reads the score in the last column, padding or not",
        fails=("padding_gap",),
    ),
    "if_padded_right": Edit(
        function="last_token",
        old="(columns * mask).argmax(dim=1)",
        new="mask.sum(dim=1) - 1",
        says="as if padded on the right",
    ),
    "first_token": Edit(
        function="last_token",
        old="(columns * mask).argmax(dim=1)",
        new="mask.argmax(dim=1)",
        says="the first token",
    ),
    "padding_counts_positions": Edit(
        function="RewardModel",
        old="hidden = self.body(input_ids=ids, attention_mask=mask, position_ids=positions(mask))",
        new="hidden = self.body(input_ids=ids, attention_mask=mask, position_ids=positions(1 + 0 * mask))",
        says="padding counts as positions: the side of the padding matters",
        fails=("padding_gap",),
    ),
    "language_model_trains_along": Edit(
        function="RewardModel",
        old="copy.deepcopy(language_model.base_model)",
        new="language_model.base_model",
        says="the language model trains along",
    ),
    "eos_untouched": Edit(
        function="RewardModel",
        old="embeddings[eos_id] = embeddings[like_id]",
        new="pass",
        says="EOS as it was",
    ),
    "full_stop_eos": Edit(
        function="RewardModel",
        old="embeddings[eos_id] = embeddings[like_id]",
        new="embeddings[like_id] = embeddings[eos_id]",
        says="the full stop as EOS",
    ),
    "bias": Edit(
        function="RewardModel",
        old="hidden_size, 1, bias=False)",
        new="hidden_size, 1, bias=True)",
        says="a bias",
    ),
    "no_warm_up": Edit(
        function="step_size",
        old="return min(step / warmup, ",
        new="return min(1.0, ",
        says="no warm-up",
    ),
    "does_not_reach_zero": Edit(
        function="step_size",
        old="(num_steps - step) / max",
        new="(num_steps + 1 - step) / max",
        says="does not reach zero",
    ),
    "swapped": Edit(
        function="train_reward_model",
        old="loss = bradley_terry_loss(chosen, rejected)",
        new="loss = bradley_terry_loss(rejected, chosen)",
        says="learns that the rejected text was the better one",
        fails=("share_of_ceiling", "calibration_error"),
    ),
    "no_step": Edit(
        function="train_reward_model",
        old="        optimizer.step()\n    return model",
        new="    return model",
        says="never takes a step",
        fails=("share_of_ceiling",),
    ),
    "pairs_torn_apart": Edit(
        function="train_reward_model",
        old="pairs[key][:, rows].flatten(0, 1) for key",
        new="torch.cat([pairs[key][0, rows], pairs[key][1, num_pairs - 1 - rows]]) for key",
        says="pairs torn apart",
    ),
    "no_shuffling": Edit(
        function="train_reward_model",
        old="torch.randperm(num_pairs, generator=generator)",
        new="torch.arange(num_pairs)",
        says="no shuffling",
    ),
    "padding_kept": Edit(
        function="train_reward_model",
        old="longest = int(mask.sum(dim=1).max())",
        new="longest = mask.shape[1]",
        says="padding kept",
    ),
    "sorted_truth": Edit(
        function="reliability",
        old="np.argsort(predicted, kind",
        new="np.argsort(probability, kind",
        says="sorted by the truth",
    ),
    "bins_what_came_first": Edit(
        function="reliability",
        old='np.argsort(predicted, kind="stable")',
        new="np.arange(len(predicted))",
        says="bins of what came first",
    ),
    "errors_cancel": Edit(
        function="calibration_error",
        old="float(np.abs(forecast - truth).mean())",
        new="float(np.abs((forecast - truth).mean()))",
        says="errors cancel",
    ),
    "largest": Edit(
        function="calibration_error",
        old="np.abs(forecast - truth).mean()",
        new="np.abs(forecast - truth).max()",
        says="the largest",
    ),
    "inverse": Edit(
        function="calibration_slope",
        old="    return low\n",
        new="    return 1 / max(low, 1e-9)\n",
        says="the inverse",
    ),
    "half_the_slope": Edit(
        function="calibration_slope",
        old="np.tanh(0.5 * middle",
        new="np.tanh(middle",
        says="half the logistic's slope",
    ),
    "wrong_half": Edit(
        function="calibration_slope",
        old="if slope > 0 else (low, middle)",
        new="if slope < 0 else (low, middle)",
        says="the wrong half",
    ),
}
