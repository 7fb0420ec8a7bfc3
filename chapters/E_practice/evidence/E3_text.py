"""PPO for tokens that watches itself, and its bugs: one of E3's other learners.

It lives in the token world of chapter D, where every completion can be listed and the best policy is known
(korbak2022bayesian). Policy and critic are tables with a row for each prefix, so a transition is a row, a
token and what followed; the updates are the lesson's own. Its sampler writes on behind an end of text, as a
batched generator does.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from chapters.diagnosis.quantities import note
from chapters.envs.on_policy import approx_kl
from chapters.envs.token_world import EOS, TabularPolicy, token_world
from chapters.text.ppo import token_rewards
from chapters.utils import seed_everything
from chapters.utils.edits import Edit

Rows = dict[str, list[tuple[int, float]]]
BETA = 0.5  # price of a nat of divergence from the reference
SETTINGS = {
    "num_updates": 60,
    "learning_rate": 3e-2,
    "num_envs": 512,  # completions in a batch
    "minibatch_size": 1_000_000,
    "reward_scale": 1.0,
    "check_every": 10,
}
"""In the lesson's Config."""


def first_end(completion_ids: Int[Tensor, "B L"]) -> Bool[Tensor, "B L"]:
    """True up to and including the first end of text."""
    ends = (completion_ids == EOS).long()
    return ends.cumsum(dim=1) - ends == 0


class TextAgent(nn.Module):
    """Tables for policy and critic; "obs" are the numbers of their rows."""

    def __init__(self, policy: TabularPolicy) -> None:
        super().__init__()
        self.policy = policy
        self.critic = nn.ParameterList([policy.value_table])

    def judge(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probability of the tokens, entropy of the policy there), [B] each."""
        log_probs = self.policy.table[obs].log_softmax(dim=-1)
        entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
        return log_probs.gather(1, actions[:, None])[:, 0], entropy

    def value(self, obs: Tensor) -> Tensor:
        """What the critic expects after each prefix."""
        return self.policy.value_table[obs]


class TextLearner:
    """An agent and its reference over the token world: writes, makes batches, is evaluated."""

    def __init__(self, cfg: Any, fresh_seed: int) -> None:
        self.cfg = cfg
        self.fresh_seed = fresh_seed  # what the operating system would hand to a generator nobody seeds
        self.world = token_world(cfg.seed)
        self.agent = TextAgent(self.world.reference())
        self.reference = self.world.reference()
        self.generator = torch.Generator().manual_seed(cfg.seed)

    def write(self, prompt_ids: Tensor, greedy: bool = False) -> Tensor:
        """Completions [B, L]."""
        text = prompt_ids
        for _ in range(self.world.length):
            logits = self.agent.policy(text).logits[:, -1, : self.world.num_symbols]
            probs = logits.softmax(dim=-1)  # [B, V]
            token = probs.argmax(1, True) if greedy else torch.multinomial(probs, 1, generator=self.generator)
            text = torch.cat([text, token], dim=1)
        return text[:, prompt_ids.shape[1] :]

    @torch.no_grad()
    def batch(self, rows: Rows, i: int) -> dict[str, Tensor]:
        """What the epochs learn from, one row a token; all of it constant."""
        cfg = self.cfg
        prompt_ids = self.world.prompt_ids.repeat(cfg.num_envs // self.world.num_prompts, 1)  # [B, 1]
        completion_ids = self.write(prompt_ids)  # [B, L]
        completion_mask = first_end(completion_ids)
        learned = completion_mask
        scores = cfg.reward_scale * self.world.reward(prompt_ids, completion_ids).float()  # [B]
        beta = BETA
        note(rows, i, **{"return": scores.mean()})

        prefixes = self.agent.policy.prefix_rows(torch.cat([prompt_ids, completion_ids], dim=1))[:, :-1]
        tokens = prefixes.flatten(), completion_ids.flatten()
        log_probs = self.agent.judge(*tokens)[0].view_as(prefixes)  # [B, L]
        ref_log_probs = TextAgent(self.reference).judge(*tokens)[0].view_as(prefixes)
        values = self.agent.value(prefixes)
        rewards = token_rewards(scores, log_probs - ref_log_probs, learned, beta)
        returns = rewards.flip(1).cumsum(1).flip(1)  # gamma = lambda = 1

        log_ratio = (ref_log_probs - log_probs)[completion_mask]
        note(rows, i, loss_tokens=learned.sum(), completion_tokens=completion_mask.sum())
        note(rows, i, kl_ref=approx_kl(log_ratio.exp()), kl_penalty=beta * log_ratio.mean())
        note(rows, i, return_bound=scores.abs().max())
        return {
            "obs": prefixes[learned],
            "actions": completion_ids[learned],
            "advantages": (returns - values)[learned],
            "values": values[learned],
            "returns": returns[learned],
        }

    def score(self) -> float:
        """Mean reward of the likeliest completions."""
        with torch.no_grad():
            completion_ids = self.write(self.world.prompt_ids, greedy=True)
            return self.world.reward(self.world.prompt_ids, completion_ids).mean().item()

    def gap_closed(self) -> float:
        """Share of the way from the reference to the best policy, by enumeration."""
        return self.world.gap_closed(self.world.log_probs(self.agent.policy), BETA)


def train(zoo: ModuleType, cfg: Any, rows: Rows, fresh_seed: int) -> TextLearner:
    """Train one learner by the updates of `zoo`, the lesson or an edit of it."""
    seed_everything(cfg.seed)
    learner = TextLearner(cfg, fresh_seed)
    zoo.learn(learner, cfg, rows)
    return learner


EDITS = {
    "unmasked_after_eos": Edit(
        "TextLearner",
        "learned = completion_mask\n",
        "learned = torch.ones_like(completion_mask)\n",
        "what stands behind the end is learned from too",
    ),
    "kl_sign": Edit("TextLearner", "beta = BETA", "beta = -BETA", "leaving the reference is paid for"),
    "trained_reference": Edit(
        "TextLearner",
        "self.reference = self.world.reference()",
        "self.reference = self.agent.policy",
        "the reference is a second name of the policy, not a copy",
    ),
    "noisy_evaluation": Edit(
        "TextLearner",
        "self.write(self.world.prompt_ids, greedy=True)",
        "self.write(self.world.prompt_ids)",
        "sampled, with training's own generator",
    ),
    "unseeded_environment": Edit(
        "TextLearner",
        "manual_seed(cfg.seed)",
        "manual_seed(fresh_seed)",
        "the sampler takes its seed from the operating system",
    ),
    "reward_scale": Edit(
        "TextLearner",
        "scores = cfg.reward_scale",
        "scores = 1000 * cfg.reward_scale",
        "beta then buys nothing",
    ),
}
