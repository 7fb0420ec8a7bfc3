"""A language so small that every completion can be listed: the exact answers for chapter D.

After a one-token prompt a policy writes up to `length` tokens out of `num_symbols`, one of which ends the
text. All M completions are enumerated once, so expectations are sums: the reward and the KL divergence of
any policy, the best achievable value of E[reward] - beta KL, and the policy that attains it,
pi_ref(y) exp(r(y) / beta) / Z (korbak2022bayesian), are known to machine precision.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

EOS = 0
"""The token that ends a completion; tokens 1 to num_symbols - 1 are ordinary symbols."""
NEVER = -1e4
"""Logit of the ids that are never written (padding and prompts): probability exactly 0 in floating point."""


class TabularPolicy(nn.Module):
    """One row of logits and one value for each prefix: any distribution over completions can be written so.

    Called like a transformers model, so that code written for one runs on the other unchanged. The cache of
    a tabular policy is simply the text so far.
    """

    def __init__(self, num_prompts: int, num_symbols: int, length: int, dtype=torch.float32) -> None:
        super().__init__()
        self.num_prompts, self.num_symbols, self.length = num_prompts, num_symbols, length
        self.offsets = [sum(num_symbols**k for k in range(depth)) for depth in range(length + 1)]
        rows = num_prompts * self.offsets[-1]
        self.table = nn.Parameter(torch.zeros(rows, num_symbols, dtype=dtype))  # [S, V]
        self.value_table = nn.Parameter(torch.zeros(rows, dtype=dtype))  # [S]

    @property
    def pad_id(self) -> int:
        return self.num_symbols

    @property
    def device(self) -> torch.device:
        return self.table.device

    def prefix_rows(self, input_ids: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """The table's row after each token of `input_ids`, whose first column is the prompt.

        Positions from `length` on predict nothing and share the last level's rows.
        """
        symbols = input_ids[:, 1:].clamp(max=self.num_symbols - 1)  # padding: any row, it is masked anyway
        code = torch.zeros_like(input_ids[:, 0])
        rows = [code]
        for depth in range(1, min(input_ids.shape[1], self.length)):
            code = code * self.num_symbols + symbols[:, depth - 1]
            rows.append(self.offsets[depth] + code)
        rows += [rows[-1]] * (input_ids.shape[1] - len(rows))
        prompts = input_ids[:, 0] - self.num_symbols - 1
        return torch.stack(rows, dim=1) + (prompts * self.offsets[-1])[:, None]

    def forward(
        self, input_ids: Int[Tensor, "B T"], past_key_values: Tensor | None = None, **_: Any
    ) -> SimpleNamespace:
        """`.logits` [B, T, V + 1 + num_prompts], `.values` [B, T], `.past_key_values` (the text so far)."""
        new = input_ids.shape[1]
        text = input_ids if past_key_values is None else torch.cat([past_key_values, input_ids], dim=1)
        rows = self.prefix_rows(text)[:, -new:]
        written = self.table[rows]
        never = written.new_full((*rows.shape, 1 + self.num_prompts), NEVER)
        logits = torch.cat([written, never], dim=-1)
        return SimpleNamespace(logits=logits, values=self.value_table[rows], past_key_values=text)


@dataclass(frozen=True)
class TokenWorld:
    """The enumerated world: N prompts, M completions of up to L tokens. Made by `token_world`."""

    num_symbols: int
    length: int
    completion_ids: Int[Tensor, "M L"]
    """Every completion, filled up with `pad_id` after its end."""
    completion_mask: Bool[Tensor, "M L"]
    """True for the tokens that were written, the ending one included."""
    rewards: Float[Tensor, "N M"]
    """Reward of each completion after each prompt, float64; standardised under the reference."""
    reference_table: Float[Tensor, "S V"]
    """The reference policy's logits."""

    @property
    def num_prompts(self) -> int:
        return self.rewards.shape[0]

    @property
    def pad_id(self) -> int:
        return self.num_symbols

    @property
    def prompt_ids(self) -> Int[Tensor, "N 1"]:
        """One token a prompt, different from every symbol."""
        return torch.arange(self.num_prompts)[:, None] + self.num_symbols + 1

    def reference(self, dtype=torch.float32) -> TabularPolicy:
        """A new policy that equals the reference, ready to be trained or frozen."""
        policy = TabularPolicy(self.num_prompts, self.num_symbols, self.length, dtype)
        with torch.no_grad():
            policy.table.copy_(self.reference_table)
        return policy

    @functools.cached_property
    def _codes(self) -> tuple[Int[Tensor, " L"], Int[Tensor, " M"], Int[Tensor, " M"]]:
        """(what each place counts in a completion's code, all codes in order, whose they are)."""
        powers = (self.num_symbols + 1) ** torch.arange(self.length)
        codes = (self.completion_ids * powers).sum(1)
        order = codes.argsort()
        return powers, codes[order], order

    def rows(self, completion_ids: Int[Tensor, "B T"]) -> Int[Tensor, " B"]:
        """The number (0 to M - 1) of each completion; what stands behind an EOS is ignored."""
        ended = (completion_ids == EOS).long().cumsum(1) - (completion_ids == EOS).long() > 0
        ids = completion_ids.masked_fill(ended, self.pad_id)
        powers, codes, order = self._codes
        return order[torch.searchsorted(codes, (ids * powers).sum(1))]

    def reward(
        self, prompt_ids: Int[Tensor, "B 1"], completion_ids: Int[Tensor, "B T"]
    ) -> Float[Tensor, " B"]:
        """Reward of sampled completions."""
        return self.rewards[prompt_ids[:, 0] - self.num_symbols - 1, self.rows(completion_ids)]

    def log_probs(self, policy: nn.Module) -> Float[Tensor, "N M"]:
        """Log-probability of every completion under `policy`, in float64; gradients flow."""
        num = len(self.completion_ids)
        prompts = self.prompt_ids.repeat_interleave(num, dim=0)  # [N M, 1]
        text = torch.cat([prompts, self.completion_ids.repeat(self.num_prompts, 1)], dim=1)
        logits = policy(input_ids=text).logits[:, :-1].double()
        chosen = logits.log_softmax(-1).gather(-1, text[:, 1:, None])[..., 0]  # [N M, L]
        mask = self.completion_mask.repeat(self.num_prompts, 1)
        return chosen.masked_fill(~mask, 0.0).sum(1).reshape(self.num_prompts, num)

    @functools.cached_property
    def _reference_log_probs(self) -> Float[Tensor, "N M"]:
        with torch.no_grad():
            return self.log_probs(self.reference(torch.float64))

    def reference_log_probs(self) -> Float[Tensor, "N M"]:
        """Log-probability of every completion under the reference, worked out once."""
        return self._reference_log_probs

    def expected_reward(self, log_probs: Float[Tensor, "N M"]) -> Float[Tensor, ""]:
        """E[r], prompts weighted equally."""
        return (log_probs.exp() * self.rewards).sum(1).mean()

    def kl(self, log_probs: Float[Tensor, "N M"]) -> Float[Tensor, ""]:
        """KL(policy || reference) of whole completions in nats, averaged over prompts."""
        ratio = log_probs - self.reference_log_probs()
        return (log_probs.exp() * ratio.masked_fill(log_probs == -torch.inf, 0.0)).sum(1).mean()

    def objective(self, log_probs: Float[Tensor, "N M"], beta: float) -> Float[Tensor, ""]:
        """E[r] - beta KL: what RLHF maximises."""
        return self.expected_reward(log_probs) - beta * self.kl(log_probs)

    def optimum(self, beta: float) -> Float[Tensor, "N M"]:
        """Log-probabilities of the best policy, pi_ref exp(r / beta) / Z; at 0 only the best are left."""
        tilt = self.rewards / beta
        if not tilt.isfinite().all():
            best = self.rewards == self.rewards.amax(1, keepdim=True)
            tilt = torch.zeros_like(tilt).masked_fill(~best, -torch.inf)
        return (self.reference_log_probs() + tilt).log_softmax(1)

    def gap_closed(self, log_probs: Float[Tensor, "N M"], beta: float) -> float:
        """Share of the way from the reference's objective (0) to the optimum's (1)."""
        start, best = (self.objective(lp, beta) for lp in (self.reference_log_probs(), self.optimum(beta)))
        return float((self.objective(log_probs.detach(), beta) - start) / (best - start))

    def frontier(self, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(KL, reward) of the optimum at each beta: no policy has more reward at the same KL."""
        best = [self.optimum(float(beta)) for beta in betas]
        return np.array([float(self.kl(lp)) for lp in best]), np.array(
            [float(self.expected_reward(lp)) for lp in best]
        )

    def best_reward(self, kl: float) -> float:
        """The most expected reward that any policy has at this divergence (nats) from the reference.

        For every beta no policy has more of E[r] - beta KL than the optimum, which has beta log Z. So the
        reward is at most beta (KL + log Z), and the optimum that has this divergence attains it.
        """
        low, high = -7.0, 7.0  # log of beta: the larger it is, the less the optimum moves
        for _ in range(60):
            middle = 0.5 * (low + high)
            moves_further = float(self.kl(self.optimum(float(np.exp(middle))))) > kl
            low, high = (middle, high) if moves_further else (low, middle)
        beta = float(np.exp(high))
        log_z = torch.logsumexp(self.reference_log_probs() + self.rewards / beta, dim=1).mean()
        return beta * (kl + float(log_z))

    def best_of_n(self, n: int) -> Float[Tensor, "N M"]:
        """Log-probabilities of the best of n reference samples, ties broken at random (D13 teaches it).

        P(best = y) = (F(y)^n - F_below(y)^n) pi_ref(y) / (F - F_below), with F the reference's cumulative
        distribution of the reward. Exact, unlike the usual KL estimate log n - (n - 1) / n.
        """
        probs = self.reference_log_probs().exp()
        out = []
        for reward, prob in zip(self.rewards, probs):
            _, level = reward.unique(return_inverse=True)  # ties share a level
            mass = torch.zeros(int(level.max()) + 1, dtype=torch.float64).index_add(0, level, prob)
            upto = mass.cumsum(0)
            below = (upto - mass).clamp(min=0.0)
            out.append(((upto**n - below**n) / mass)[level] * prob)
        return torch.stack(out).clamp(min=0.0).log()


@functools.lru_cache(maxsize=16)  # a run makes the same world for each of its learners, and none changes it
def token_world(
    seed: int = 0, num_symbols: int = 8, length: int = 4, spreads: tuple[float, ...] = (1.0, 0.5)
) -> TokenWorld:
    """Draw a world: reference logits N(0, 0.8^2); rewards from weights of symbols and of neighbouring pairs.

    One prompt for each entry of `spreads`, which is the standard deviation of its rewards under the
    reference (their mean is 0): samples after the first prompt differ more in reward than after the second.
    """
    rng = np.random.default_rng([seed, 77])
    completions = [
        (*head, EOS)
        for size in range(length)
        for head in itertools.product(range(1, num_symbols), repeat=size)
    ]
    completions += list(itertools.product(range(1, num_symbols), repeat=length))
    blank = (num_symbols,) * length
    ids = torch.tensor([(*completion, *blank)[:length] for completion in completions])
    mask = ids != num_symbols
    offsets = sum(num_symbols**k for k in range(length))
    table = torch.from_numpy(rng.normal(0.0, 0.8, size=(len(spreads) * offsets, num_symbols)))
    scores = []
    for _ in spreads:
        single = np.append(rng.normal(size=num_symbols), 0.0)
        pair = np.pad(rng.normal(size=(num_symbols, num_symbols)), (0, 1))  # padding is worth nothing
        scores.append(single[ids].sum(1) + pair[ids[:, :-1], ids[:, 1:]].sum(1))
    world = TokenWorld(num_symbols, length, ids, mask, torch.from_numpy(np.array(scores)), table)
    probs = world.reference_log_probs().exp()
    centred = world.rewards - (probs * world.rewards).sum(1, keepdim=True)
    spread = (probs * centred**2).sum(1, keepdim=True).sqrt()
    rewards = centred / spread * torch.tensor(spreads, dtype=torch.float64)[:, None]
    return TokenWorld(num_symbols, length, ids, mask, rewards, table)


class TokenWorldEnv(gym.Env):
    """The same world as a Gymnasium environment: one token a step, the reward when the text ends.

    Observation: the prompt and the tokens so far, filled up with padding, [1 + length] ids. A text that
    reaches its full length is complete: that is terminated, not truncated.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 — gymnasium's own form

    def __init__(self, seed: int = 0) -> None:
        self.world = token_world(seed)
        ids = self.world.num_symbols + 1 + self.world.num_prompts
        self.observation_space = gym.spaces.MultiDiscrete([ids] * (1 + self.world.length))
        self.action_space = gym.spaces.Discrete(self.world.num_symbols)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.prompt = int(self.np_random.integers(self.world.num_prompts)) + self.world.num_symbols + 1
        self.tokens: list[int] = []
        return self._obs(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.tokens.append(int(action))
        ended = self.tokens[-1] == EOS or len(self.tokens) == self.world.length
        reward = 0.0
        if ended:
            completion = torch.from_numpy(self._obs()[None, 1:])
            reward = float(self.world.reward(torch.tensor([[self.prompt]]), completion)[0])
        return self._obs(), reward, ended, False, {}

    def _obs(self) -> np.ndarray:
        blank = [self.world.pad_id] * (self.world.length - len(self.tokens))
        return np.array([self.prompt, *self.tokens, *blank], dtype=np.int64)
