"""Definition checks of D6: each function against its meaning, one text and one number at a time."""

import copy
import math
import sys

import numpy as np
import torch

from chapters.envs.rewriter import draw_requests, encode_prompts
from chapters.text.models import pretrained
from chapters.text.recipes import rewriter_recipe
from chapters.text.rewriting import Pairs, RewardModel
from chapters.utils import RunLog
from chapters.utils.edits import Edit


def check_label(label):
    """Each text is chosen as often as its probability says, and never mixed up with another request's."""
    compared = sys.modules[label.__module__].Comparisons(
        requests=["r0", "r1", "r2"], first=["a0", "a1", "a2"], second=["b0", "b1", "b2"],
        probs=np.array([0.0, 1.0, 0.3]),
    )  # fmt: skip
    rng, wins = np.random.default_rng(3), 0
    for _ in range(4000):
        pairs = label(compared, rng)
        assert list(pairs.requests) == compared.requests
        for row, texts in enumerate(zip(pairs.chosen, pairs.rejected)):
            assert sorted(texts) == [f"a{row}", f"b{row}"]
        assert pairs.chosen[:2] == ["b0", "a1"]
        wins += pairs.chosen[2] == "a2"
    assert abs(wins / 4000 - 0.3) < 0.025


def check_minibatches(minibatches):
    for num_pairs, num_human, size, share in ((50, 0, 8, 0.5), (50, 7, 8, 0.25), (30, 3, 10, 1.0)):
        rng = np.random.default_rng(6)
        parts = list(minibatches(num_pairs, num_human, size, share, rng))
        assert len(parts) == math.ceil(num_pairs / size)
        judged = [int(row) for rows, _ in parts for row in rows]
        assert len(set(judged)) == len(judged), "no pair of the judge's comes twice in one epoch"
        assert set(judged) <= set(range(num_pairs))
        for rows, own in parts:
            assert len(own) == (round(share * size) if num_human else 0)
            assert all(0 <= row < num_human for row in own)
            assert len(rows) + len(own) <= size
        if not num_human:
            assert sorted(judged) == list(range(num_pairs))
            assert judged != sorted(judged), "in random order"
        else:
            assert len({int(row) for _, own in parts for row in own}) > num_human / 2, "not only the first"


def small_model():
    """The smoke run's tiny model, half-trained on office notes, and 12 prompts."""
    lm = pretrained(rewriter_recipe(20))
    requests = [request.text for request in draw_requests(np.random.default_rng(7), 12)]
    return lm, requests


def check_imitation_loss(imitation_loss):
    """The mean over all tokens of all rewrites, EOS included, one rewrite at a time without padding."""
    lm, requests = small_model()
    rewrites = [" ".join(request.split()[: 1 + row % 4]) for row, request in enumerate(requests)]
    found = imitation_loss(lm.model, lm, requests, rewrites)
    assert found.shape == ()
    total, count = 0.0, 0
    for request, rewrite in zip(requests, rewrites):
        prompt = lm.tokenizer(f"{request} =>", return_tensors="pt")["input_ids"][0]
        end = torch.tensor([lm.tokenizer.eos_token_id])
        ids = torch.cat([prompt, lm.tokenizer(rewrite, return_tensors="pt")["input_ids"][0], end])
        with torch.no_grad():
            log_probs, _ = alone(lm.model, ids, len(prompt))
        total -= float(log_probs.sum())
        count += len(log_probs)
    assert math.isclose(found.item(), total / count, rel_tol=1e-4)


class Forgetful(RunLog):
    """Takes what a lesson logs and keeps none of it."""

    def __init__(self):
        pass

    def write(self, step, **metrics):
        pass

    def track(self, steps, unit, show=None):
        return iter(steps)


def check_fit_reward_model(fit_reward_model):
    """Polite or curt: anybody can tell. Learnt from 12 pairs; 0 on average; and it learns no more."""
    lesson, (lm, _) = sys.modules[fit_reward_model.__module__], small_model()
    requests = draw_requests(np.random.default_rng(0), 12)
    polite = [f"please {request.core} , thank you ." for request in requests]
    pairs = Pairs(
        [request.text for request in requests], polite, [f"{request.core} now ." for request in requests]
    )
    cfg = lesson.Config(rm_epochs=12)
    model = fit_reward_model(lm.model, lm, pairs, Pairs([], [], []), cfg, Forgetful(), "check")
    chosen, rejected = (rewards.detach() for rewards in model.margins(lm, pairs))
    assert (chosen > rejected).all(), "the chosen text is the better one"
    assert abs(torch.cat([chosen, rejected]).mean()) < 1e-4, "0 on average over the pairs"
    assert not any(parameter.requires_grad for parameter in model.parameters())


def batch_for(function):
    """(config, policy that has moved on, reward model, model, requests, a batch of 12 rewrites)."""
    lesson, (lm, requests) = sys.modules[function.__module__], small_model()
    cfg = lesson.Config(num_tokens=10, gae_lambda=0.9, beta=0.3)
    torch.manual_seed(9)
    policy, reward_model = lesson.PolicyWithValue(copy.deepcopy(lm.model)), RewardModel(lm.model)
    with torch.no_grad():
        for parameter in (*policy.parameters(), reward_model.score.weight):
            parameter += 0.05 * torch.randn_like(parameter)
        policy.model.base_model.wte.weight[lm.tokenizer.eos_token_id] *= 3.0
    generator = torch.Generator().manual_seed(3)
    batch = function(policy, lm.model, reward_model, lm, requests, generator, cfg)
    return cfg, policy, reward_model, lm, requests, batch


def alone(policy, ids, start):
    """(log-probability, value) of each token from column `start` on, of one text without padding."""
    out = policy(input_ids=ids[None])
    log_probs = out.logits[0].log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]
    values = out.values[0, start - 1 : -1] if hasattr(policy, "value_head") else None
    return log_probs[start - 1 :], values


def check_collect(collect):
    cfg, policy, reward_model, lm, requests, batch = batch_for(collect)
    prompt_ids, prompt_mask = batch["prompt_ids"], batch["prompt_mask"]
    completion_ids, completion_mask = batch["completion_ids"], batch["completion_mask"]
    again = encode_prompts(lm.tokenizer, requests)
    assert torch.equal(prompt_ids, again[0])
    assert torch.equal(prompt_mask, again[1])
    assert (completion_mask.sum(1) < cfg.num_tokens).any(), "some texts end early, or this proves little"
    assert not any(tensor.requires_grad for tensor in batch.values())
    expected = []  # [(advantages, returns)] before whitening
    for row in range(len(requests)):
        prompt = prompt_ids[row][prompt_mask[row].bool()]
        completion = completion_ids[row][completion_mask[row]]
        ids = torch.cat([prompt, completion])
        with torch.no_grad():
            log_probs, values = alone(policy, ids, len(prompt))
            ref, _ = alone(lm.model, ids, len(prompt))
            score = reward_model(ids[None], torch.ones_like(ids)[None])[0]
        size = len(completion)
        assert torch.isclose(batch["scores"][row], score, atol=1e-4)
        assert torch.allclose(batch["old_log_probs"][row, :size], log_probs, atol=1e-4)
        assert torch.isclose(batch["log_ratio"][row].sum(), (log_probs - ref).sum(), atol=1e-4)
        rewards = -cfg.beta * (log_probs - ref)
        rewards[-1] += score
        following = torch.cat([values[1:], torch.zeros(1)])
        deltas = (rewards + following - values).tolist()
        advantages = [sum(cfg.gae_lambda ** (k - t) * deltas[k] for k in range(t, size)) for t in range(size)]
        expected.append(torch.tensor(advantages))
        assert torch.allclose(batch["returns"][row, :size], expected[-1] + values, atol=1e-4)
        assert batch["advantages"][row, size:].abs().sum() == 0, "nothing happens behind the end"
    tokens = torch.cat(expected)
    whitened = torch.cat([batch["advantages"][row, : len(one)] for row, one in enumerate(expected)])
    assert torch.allclose(whitened, (tokens - tokens.mean()) / tokens.std(), atol=1e-3)


EDITS = {
    "sign_of_imitation": Edit(
        function="imitation_loss",
        old="return -masked_mean(log_probs, completion_mask)",
        new="return masked_mean(log_probs, completion_mask)",
        says="makes people's rewrites less likely",
    ),
    "padding_imitated": Edit(
        function="imitation_loss",
        old="masked_mean(log_probs, completion_mask)",
        new="log_probs.mean()",
        says="averages over the padding too",
    ),
    "mean_of_means": Edit(
        function="imitation_loss",
        old="-masked_mean(log_probs, completion_mask)",
        new="-(log_probs.sum(dim=1) / completion_mask.sum(dim=1)).mean()",
        says="each rewrite weighs the same, not each token",
    ),
    "prefers_rejected": Edit(
        function="label",
        old="(a, b) if win else (b, a)",
        new="(b, a) if win else (a, b)",
        says="the worse text of a pair is called the chosen one",
        fails=("win_rate", "polite"),
    ),
    "no_luck": Edit(
        function="label",
        old="rng.random(len(compared.probs)) < compared.probs",
        new="compared.probs > 0.5",
        says="a judge who never wavers",
    ),
    "nobody_is_read": Edit(
        function="minibatches",
        old="if num_human else 0",
        new="if num_human else 1",
        says="answers are read although nobody gave any",
    ),
    "on_top": Edit(
        function="minibatches",
        old="rows[: batch_size - ours]",
        new="rows",
        says="your answers come on top",
    ),
    "only_the_first": Edit(
        function="minibatches",
        old="rng.integers(max(1, num_human), size=ours)",
        new="rng.integers(1, size=ours)",
        says="only your first answer is read",
    ),
    "loss_upside_down": Edit(
        function="fit_reward_model",
        old="bradley_terry_loss(*reward_model.margins(lm, Pairs(*mixed)))",
        new="-bradley_terry_loss(*reward_model.margins(lm, Pairs(*mixed)))",
        says="the loss is raised",
    ),
    "not_centred": Edit(
        function="fit_reward_model",
        old="reward_model.score.bias -= torch",
        new="0.0 * torch",
        says="the constant stays where it ended",
    ),
    "trains_on": Edit(
        function="fit_reward_model",
        old="return reward_model.requires_grad_(False)",
        new="return reward_model",
        says="the reward model could train along with the policy",
    ),
    "old_of_the_reference": Edit(
        function="collect",
        old='batch["old_log_probs"], values = ppo.log_probs_and_values(policy, batch)',
        new="values = ppo.log_probs_and_values(policy, batch)[1]\n    "
        'batch["old_log_probs"] = token_log_probs(reference, *prompts, *completions)',
        says="old log-probabilities are read off the reference",
        fails=("first_ratio_gap",),
    ),
    "padding_counted": Edit(
        function="collect",
        old='mask = batch["completion_mask"]',
        new='mask = torch.ones_like(batch["completion_mask"])',
        says="tokens after the end are counted",
    ),
    "unpacked": Edit(
        function="collect",
        old="reward_model(*pack(*prompts, *completions))",
        new="reward_model(ids := torch.cat([prompts[0], completions[0]], dim=1), torch.ones_like(ids))",
        says="the reward model reads the padding too",
    ),
    "no_kl": Edit(
        function="collect",
        old='batch["log_ratio"], mask, cfg.beta)',
        new='batch["log_ratio"], mask, 0.0)',
        says="nothing is paid for divergence",
        fails=("win_rate",),
    ),
    "kl_sign": Edit(
        function="collect",
        old='batch["log_ratio"], mask, cfg.beta)',
        new='batch["log_ratio"], mask, -cfg.beta)',
        says="divergence is paid for",
    ),
    "value_lost": Edit(
        function="collect",
        old="advantages + values * mask",
        new="advantages",
        says="the value is lost from the critic's target",
    ),
    "whitened_target": Edit(
        function="collect",
        old='batch["returns"] = advantages + values * mask',
        new='advantages = ppo.whiten(advantages, mask)\n    batch["returns"] = advantages + values * mask',
        says="the critic's target is made of whitened advantages",
    ),
    "reference_moves": Edit(
        function="train",
        old="PolicyWithValue(copy.deepcopy(reference))",
        new="PolicyWithValue(reference)",
        says="the reference trains along",
    ),
}
