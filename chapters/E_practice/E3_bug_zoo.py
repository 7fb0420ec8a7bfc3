# %% [markdown]
r"""
# E3 · The bug zoo

**Question.** A learner runs, prints numbers and does not learn, or learns less than it should. Nothing
crashes. Which of its own metrics say what is wrong?

**Before this:** B4 (DQN), C0 (REINFORCE), C3 (PPO), D2 (PPO for text). **Changes from those:** nothing new is
learned; the same learners, small and whole, each with a switch that plants one wrong line. **Next:** E0 tells
how to work with this, and `rl diagnose RUN` does it to your own runs.

**Time budget.** 300 s on 2 cores.

<!-- results: E3 -->

`rl run E3`: 73 s, 936 MB. `rl run E3 --smoke`: 10 s.
(CPU seconds of the whole process on Linux x86_64, 2 cores.)

| claim | median (range), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| gae_identity        | 4.37e-17 (4.09e-17 to 5.09e-17) | ≤ 1e-07 | 5/5    |
| only_at_limits      | 4.54e-17 (4.25e-17 to 4.67e-17) | ≤ 1e-07 | 5/5    |
| dqn_solves          | 200                             | ≥ 195   | 5/5    |
| reinforce_solves    | 200                             | ≥ 195   | 5/5    |
| ppo_solves          | 200                             | ≥ 195   | 5/5    |
| text_gap_closed     | 0.962 (0.931 to 0.967)          | ≥ 0.85  | 5/5    |
| healthy_identities  | 1.41e-07 (1.27e-07 to 2.25e-07) | ≤ 0.001 | 5/5    |
| named_first         | 1                               | ≥ 0.8   | 5/5    |
| has_its_symptom     | 1                               | ≥ 0.9   | 5/5    |
| false_alarms        | 0                               | ≤ 0     | 5/5    |
| probes_passed       | 1                               | ≥ 1     | 5/5    |
| probes_fail_as_told | 1 (0.917 to 1)                  | ≥ 0.9   | 5/5    |
| pooled_named        | 1                               | ≥ 0.8   | pooled |
| worth_logging       | 0.746                           | ≥ 0     | pooled |
| pooled_alarms       | 0                               | ≤ 0     | pooled |

<!-- /results -->

References: `henderson2018matters`, `huang2022details`, `engstrom2020implementation`, `pardo2018timelimits`,
`schulman2016gae`, `schulman2017ppo`, `schulman2020kl`, `mnih2015dqn`, `korbak2022bayesian`.

Symbols: `T` steps, `N` parallel environments, `B` transitions (or texts), `L` tokens of a text.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.diagnosis.quantities import alignment, explained_variance, gae_residual, gaps, note
from chapters.diagnosis.rules import CATALOGUE, USUAL, diagnose
from chapters.E_practice.evidence import E3_zoo as zoo
from chapters.envs import evaluate, make_envs, true_next_obs
from chapters.envs.cartpole import BatchedCartPole
from chapters.envs.probes import ANSWERS
from chapters.envs.token_world import EOS, token_world
from chapters.utils import RunLog, UsageError, in_range, plotting, run_lesson
from chapters.utils.networks import in_numpy, tanh_mlp
from chapters.utils.seeding import seed_everything

Grid, Flags = Float[Tensor, "T N"], Bool[Tensor, "T N"]  # a number, or a flag, for each step and environment
Numbers, Tokens = Float[Tensor, "*B"], Float[Tensor, "B L"]
Rows = dict[str, list[tuple[int, float]]]  # a run's metrics, as they go to metrics.jsonl
ZOO = {  # which bugs live where
    learner: tuple(bug for bug, entry in CATALOGUE.items() if learner in entry.homes)
    for learner in ("dqn", "reinforce", "ppo", "text")
}
PAIRS = [(learner, bug) for learner, bugs in ZOO.items() for bug in bugs]
HEALTHY = [(learner, "none") for learner in ZOO]
BUGS = tuple(CATALOGUE)


# %%
@dataclass(frozen=True)
class Config:
    """Four small learners, healthy and with one bug at a time, and a diagnosis of each from its metrics."""

    seed: int = 0
    """Seed of torch, numpy, the environments and the token world."""
    learner: Literal["all", "dqn", "reinforce", "ppo", "text"] = "all"
    """Run the whole zoo, or one learner, whose diagnostics then are the run's metrics (see `rl diagnose`)."""
    bug: Literal["none", *BUGS] = "none"
    """The bug to plant in that one learner."""
    run_length: Annotated[float, in_range(0.01, 10.0)] = 1.0
    """Updates of every learner, as a multiple of its recipe's."""
    step_size: Annotated[float, in_range(1e-6, 1e6)] = 1.0
    """Learning rate of every learner, as a multiple of its recipe's."""


SMOKE = {"run_length": 0.03}


@dataclass(frozen=True)
class Recipe:
    """What a learner is made of. The bug is part of it, and read on the line that it breaks."""

    learner: str = "ppo"
    bug: str = "none"
    seed: int = 0
    num_updates: int = 30
    learning_rate: float = 5e-3
    num_envs: int = 16  # N; for text, completions in a batch
    num_steps: int = 64  # T
    num_epochs: int = 4
    minibatch_size: int = 256  # B
    gamma: float = 0.98
    gae_lambda: float = 0.95
    reward_scale: float = 0.1  # returns then are at most 0.1 / (1 - gamma)
    beta: float = 0.5  # price of a nat of divergence from the reference
    sync_every: int = 25  # updates between copies into the target network
    explore_for: int = 450  # updates over which epsilon falls to 0.05
    check_every: int = 5  # updates between evaluations; 0 is never


RECIPES = {
    "dqn": Recipe("dqn", num_updates=1500, learning_rate=1e-3, minibatch_size=128, num_steps=1, gamma=0.95,
                  check_every=150),
    "reinforce": Recipe("reinforce", num_steps=200, num_epochs=1, minibatch_size=10**6, gae_lambda=1.0),
    "ppo": Recipe(),
    "text": Recipe("text", num_updates=60, learning_rate=3e-2, num_envs=512, minibatch_size=512,
                   reward_scale=1.0, check_every=10),
}  # fmt: skip

# %% [markdown]
r"""
## 1. Targets and advantages

All four learners bootstrap or sum rewards, and all can get the ends wrong. The one-step target, and GAE's
weighted sum of its errors (C3):

$$y_t = r_t + \gamma\,(1 - \text{terminated}_t)\,V(s_{t+1}), \qquad \delta_t = y_t - V(s_t) \tag{1}$$

$$\hat A_t = \delta_t + \gamma\lambda\,(1 - \text{done}_t)\,\hat A_{t+1} \tag{2}$$

Read (2) from right to left, and it is an *identity* that any program's advantages must meet, however they
were computed: $\hat A_t - \gamma\lambda(1-\text{done}_t)\hat A_{t+1}$ must be $\delta_t$. A learner can
check that on its own batch (`gae_residual`), and *where* it fails says why: at time limits, at true ends, or
everywhere.
"""


# %%
def td_target(
    rewards: Numbers, next_values: Numbers, terminated: Bool[Tensor, "*B"], gamma: float
) -> Numbers:
    """What a value should be, given that of the true successor (pardo2018timelimits, mnih2015dqn)."""
    return rewards + gamma * next_values * ~terminated  # eq. (1)


# same-as: C3.gae
def gae(
    rewards: Grid, values: Grid, next_values: Grid, terminated: Flags, truncated: Flags,
    gamma: float, gae_lambda: float,
) -> Grid:  # fmt: skip
    """Advantages; `next_values[t]` is V of the true successor, also at an end."""
    deltas = td_target(rewards, next_values, terminated, gamma) - values
    advantages, running = torch.zeros_like(rewards), torch.zeros_like(rewards[0])  # [T, N], [N]
    for t in reversed(range(len(rewards))):
        running = deltas[t] + gamma * gae_lambda * running * ~(terminated | truncated)[t]  # eq. (2)
        advantages[t] = running
    return advantages


# %% [markdown]
r"""
## 2. What a learner can say about itself

*Does the critic know anything?* The share of its targets' variance that it explains; a constant explains 0:

$$\text{explained variance} = 1 - \frac{\mathrm{Var}(\hat R_t - V(s_t))}{\mathrm{Var}(\hat R_t)} \tag{3}$$

*How far did an update move the policy?* With $w_t$ the ratio of new to old probability (`schulman2020kl`):

$$\widehat{\mathrm{KL}} = \tfrac1B \textstyle\sum_t \bigl[(w_t - 1) - \log w_t\bigr] \tag{4}$$

*Did it move the right way?* To first order a gradient step changes the objective by the step size times a
squared norm, so what went better than expected must on average have become likelier:

$$\text{alignment} = \mathrm{corr}\bigl(\hat R_t - V(s_t),\; \log w_t\bigr) > 0 \tag{5}$$
"""


# %%
# same-as: C3.approx_kl
def approx_kl(ratio: Numbers) -> Float[Tensor, ""]:
    """How far the policy has moved since the samples were drawn."""
    return ((ratio - 1.0) - ratio.log()).mean()  # eq. (4)


# %% [markdown]
r"""
## 3. Three policy-gradient learners, one loss

REINFORCE with a learned baseline raises $\log\pi(a_t \mid s_t)\,\hat A_t$, once for each batch of whole
episodes ($\lambda = 1$). PPO raises the clipped surrogate (`schulman2017ppo`), in several passes:

$$L_t = \min\bigl(w_t \hat A_t,\; \mathrm{clip}(w_t,\, 1-\epsilon_\text{clip},\, 1+\epsilon_\text{clip})\,
\hat A_t\bigr), \qquad \mathcal L = -\bar L + \tfrac12\,\overline{(V - \hat R)^2} \tag{6}$$

PPO for text does so for tokens. The reward comes at the end, and each token pays for leaving the reference:

$$r_t = -\beta\,\bigl[\log \pi(a_t \mid s_t) - \log \pi_\text{ref}(a_t \mid s_t)\bigr]
+ [t \text{ is last}]\; r(\text{text}) \tag{7}$$

The mean of these penalties is $-\beta$ times a divergence: below 0, but for noise. From here on the line that
a bug breaks stands beside the right one, under an `if`.
"""


# %%
# same-as: C3.clipped_surrogate
def clipped_surrogate(ratio: Numbers, advantages: Numbers, clip_eps: float) -> Numbers:
    """PPO's objective of each transition, to be raised."""
    clipped = ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)
    return torch.min(ratio * advantages, clipped * advantages)  # eq. (6)


def first_end(completion_ids: Int[Tensor, "B L"]) -> Bool[Tensor, "B L"]:
    """True up to and including the first end of text."""
    ends = (completion_ids == EOS).long()
    return ends.cumsum(dim=1) - ends == 0


def token_rewards(
    log_probs: Tokens, ref_log_probs: Tokens, scores: Numbers, mask: Bool[Tensor, "B L"], beta: float
) -> Tokens:
    """Each token's penalty, and the text's score on its last one; nothing behind that."""
    penalties = -beta * (log_probs - ref_log_probs) * mask
    return penalties.scatter_add(1, mask.sum(dim=1, keepdim=True) - 1, scores[:, None])  # eq. (7)


def policy_loss(log_prob: Tensor, values: Tensor, mini: dict[str, Tensor], r: Recipe) -> tuple:
    """(loss, ratio, how many of the loss's constants carry a gradient)."""
    old_log_probs, advantages, mask = mini["old_log_probs"], mini["advantages"], mini["mask"]  # [B] or [B, L]
    if r.bug == "missing_detach" and r.learner == "reinforce":
        advantages = mini["returns"] - values  # bug: not detached, so the policy's loss bends the critic
    elif r.bug == "missing_detach":
        old_log_probs = log_prob  # bug: not detached, so the ratio is 1 and its gradient 0, for ever
    constants = advantages.requires_grad + old_log_probs.requires_grad
    advantages = (advantages - advantages[mask].mean()) / (advantages[mask].std() + 1e-8)
    if r.bug == "wrong_sign":
        advantages = -advantages  # bug: V - R for R - V
    ratio = (log_prob - old_log_probs).exp()
    gain = log_prob * advantages if r.learner == "reinforce" else clipped_surrogate(ratio, advantages, 0.2)
    value_loss = (values - mini["returns"])[mask].pow(2).mean()
    if r.bug == "dead_critic":
        value_loss = value_loss.detach()  # bug: it is logged, and reaches no weight
    return -gain[mask].mean() + 0.5 * value_loss, ratio.detach(), float(constants)


def improve(learner, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], r: Recipe) -> dict:
    """Passes over one batch in minibatches; returns what its first minibatch says."""
    seen: dict[str, float] = {}
    for _ in range(r.num_epochs):
        for rows in torch.randperm(len(batch["mask"])).split(r.minibatch_size):
            mini = {name: values[rows] for name, values in batch.items()}
            loss, ratio, constants = policy_loss(*learner.judge(mini)[:2], mini, r)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(learner.parameters, 0.5)
            optimizer.step()
            if not seen:  # until now the policy was the one that sampled the batch
                with torch.no_grad():
                    after = policy_loss(*learner.judge(mini)[:2], mini, r)[0]
                gap = (ratio - 1)[mini["mask"]].abs().mean()
                seen = {"first_ratio_gap": gap, "descended": after < loss, "constants_with_grad": constants,
                        "grad_norm": norm}  # fmt: skip
    return seen


# %% [markdown]
r"""
## 4. The learners

CartPole's limit is 200 steps (that of the old CartPole-v0), so that a good policy is cut often. PPO for text
lives in the token world of chapter D, where every text can be listed and the best policy is known
(`korbak2022bayesian`); its policy and critic are tables with a row for each prefix, and its sampler writes on
behind an end of text, as a batched generator does. DQN's target is (1) with
$V(s') = \max_a Q_{\theta^-}(s', a)$, from a copy $\theta^-$ that follows every so many updates (B4).
"""


# %%
class World:
    """Environments that remember where they stand, and what is asked of them in training and evaluation."""

    def __init__(self, r: Recipe, envs: gym.vector.VectorEnv, fresh_seed: int):
        self.r, self.envs, self.running = r, envs, np.zeros(envs.num_envs)
        self.sizes = envs.single_observation_space.shape[0], int(envs.single_action_space.n)
        seed = r.seed
        if r.bug == "unseeded_environment":
            seed = fresh_seed  # bug: reset() without a seed, which asks the operating system for one
        self.obs, _ = envs.reset(seed=seed)

    def walk(self, act: Callable, rows: Rows, i: int) -> dict[str, np.ndarray]:
        """`num_steps` steps in each environment, [T, N, ...]."""
        names, finished = ("obs", "actions", "rewards", "next_obs", "terminated", "truncated"), []
        kept: dict[str, list] = {name: [] for name in names}
        for _ in range(self.r.num_steps):
            actions = act(self.obs)
            next_obs, rewards, terminated, truncated, infos = self.envs.step(actions)
            done = terminated | truncated
            self.running += rewards
            finished += [*self.running[done]]
            self.running[done] = 0
            rewards = self.r.reward_scale * rewards.astype(np.float32)
            if self.r.bug == "reward_scale":
                rewards = 1000 * rewards  # bug: millimetres for metres
            successors = true_next_obs(next_obs, done, infos)
            for name, value in zip(names, (self.obs, actions, rewards, successors, terminated, truncated)):
                kept[name].append(value)
            self.obs = next_obs
        if finished:
            note(rows, i, **{"return": np.mean(finished)})
        return {name: np.stack(values) for name, values in kept.items()}

    def play(self, act: Callable) -> float:
        """Mean return of one episode in each of 20 environments, on seeds that training does not see."""
        return float(evaluate(act, envs=BatchedCartPole(20, 200), seed=self.r.seed + 10_000).mean())


class GymLearner(World):
    """REINFORCE or PPO: actor, critic, and the steps that they learn from."""

    def __init__(self, r: Recipe, envs: gym.vector.VectorEnv, fresh_seed: int):
        super().__init__(r, envs, fresh_seed)
        obs_size, num_actions = self.sizes
        self.actor = tanh_mlp([obs_size, 64, 64, num_actions], 0.01)
        self.critic = tanh_mlp([obs_size, 64, 64, 1], 1.0)
        self.critic_weights = [*self.critic.parameters()]
        self.parameters = [*self.actor.parameters(), *self.critic_weights]
        self.rng, self.previous = np.random.default_rng(r.seed), copy.deepcopy(self.actor)

    def judge(self, mini: dict[str, Tensor], actor: nn.Module | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(log-probability of the actions, values, entropy), [B] each."""
        log_probs = (actor or self.actor)(mini["obs"]).log_softmax(dim=-1)
        entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
        return log_probs.gather(1, mini["actions"][:, None])[:, 0], self.critic(mini["obs"])[:, 0], entropy

    def act(self, obs: np.ndarray, greedy: bool = False) -> np.ndarray:
        """An action for each observation: the likeliest, or a sample (Gumbel's trick, as in C3)."""
        logits = in_numpy(self.actor)(obs)  # [N, A]
        return (logits if greedy else logits + self.rng.gumbel(size=logits.shape)).argmax(axis=1)

    @torch.no_grad()
    def batch(self, rows: Rows, i: int) -> dict[str, Tensor]:
        """What the epochs learn from, one row a transition; all of it constant."""
        r = self.r
        if r.learner == "reinforce":  # whole episodes
            self.obs, self.running = self.envs.reset()[0], np.zeros(r.num_envs)
        rollout = {name: torch.from_numpy(values) for name, values in self.walk(self.act, rows, i).items()}
        rewards, terminated, truncated = (rollout[name] for name in ("rewards", "terminated", "truncated"))
        values, next_values = (self.critic(rollout[name])[..., 0] for name in ("obs", "next_obs"))  # [T, N]
        ended, successors, done = terminated, next_values, terminated | truncated
        if r.bug == "merged_time_limit":
            ended = done  # bug: a time limit is taken for an end
        if r.bug == "bootstraps_past_the_end":
            ended = torch.zeros_like(done)  # bug: even a fallen pole has a future
        if r.bug == "off_by_one":
            successors = next_values.roll(-1, 0)  # bug: the value of the state after next
        advantages = gae(rewards, values, successors, ended, done, r.gamma, r.gae_lambda)
        residual = gae_residual(
            advantages, rewards, values, next_values, terminated, truncated, r.gamma, r.gae_lambda
        )
        unit = td_target(rewards, next_values, terminated, r.gamma).square().mean().sqrt()
        note(rows, i, **gaps(residual, unit, terminated, truncated))
        note(rows, i, return_bound=rewards.abs().max() / (1 - r.gamma))
        batch = {name: rollout[name].flatten(0, 1) for name in ("obs", "actions")}  # [T N, ...]
        batch |= {"advantages": advantages.flatten(), "values": values.flatten()}
        batch["returns"] = batch["advantages"] + batch["values"]  # the critic's target
        batch["mask"] = torch.ones_like(batch["values"], dtype=torch.bool)
        return remember_policy(self, batch, self.actor)

    def score(self) -> float:
        greedy = self.r.bug != "noisy_evaluation"  # bug: evaluated with training's own noise
        return self.play(lambda obs: self.act(obs, greedy))


def remember_policy(learner, batch: dict[str, Tensor], policy: nn.Module) -> dict[str, Tensor]:
    """Add the log-probabilities of the policy that acted, which is still the policy."""
    batch["log_probs"] = batch["old_log_probs"] = learner.judge(batch)[0]
    if learner.r.bug == "stale_log_probs":
        batch["old_log_probs"] = learner.judge(batch, learner.previous)[0]  # bug: those of an update ago
    learner.previous = copy.deepcopy(policy)
    return batch


def train_policy(learner, r: Recipe, rows: Rows) -> None:
    """REINFORCE, PPO or PPO for text: gather, improve, and note what can be said about it."""
    optimizer = torch.optim.Adam(learner.parameters, lr=r.learning_rate, eps=1e-5, fused=True)
    for i in range(r.num_updates):
        batch = learner.batch(rows, i)
        before = nn.utils.parameters_to_vector(learner.critic_weights).detach()
        note(rows, i, **improve(learner, optimizer, batch, r))
        mask, values, returns = (batch[name] for name in ("mask", "values", "returns"))
        with torch.no_grad():
            log_prob, _, entropy = learner.judge(batch)
            log_ratio = (log_prob - batch["log_probs"])[mask]
            note(
                rows, i, entropy=entropy[mask].mean(), approx_kl=approx_kl(log_ratio.exp()),
                clip_fraction=((log_ratio.exp() - 1).abs() > 0.2).float().mean(),
                alignment=alignment((returns - values)[mask], log_ratio),  # eq. (5)
                explained_variance=explained_variance(values[mask], returns[mask]),  # eq. (3)
                value_loss=(values - returns)[mask].square().mean(),
                critic_change=(nn.utils.parameters_to_vector(learner.critic_weights) - before).norm(),
            )  # fmt: skip
        check(learner, r, rows, i)


def check(learner, r: Recipe, rows: Rows, i: int) -> None:
    """Now and then, evaluate twice."""
    if r.check_every and ((i + 1) % r.check_every == 0 or i + 1 == r.num_updates):
        note(rows, i, eval_return=learner.score(), eval_return_again=learner.score())


class TextLearner:
    """Policy, critic and reference over the token world, and the texts that they learn from."""

    def __init__(self, r: Recipe, fresh_seed: int):
        self.r, self.world = r, token_world(r.seed)
        self.policy, self.reference = self.world.reference(), self.world.reference()
        if r.bug == "trained_reference":
            self.reference = self.policy  # bug: a second name, not a copy
        self.critic_weights = [self.policy.value_table]
        self.parameters, self.previous = [*self.policy.parameters()], copy.deepcopy(self.policy)
        seed = r.seed
        if r.bug == "unseeded_environment":
            seed = fresh_seed  # bug: the sampler takes its seed from the operating system
        self.generator = torch.Generator().manual_seed(seed)

    def write(self, prompt_ids: Tensor, greedy: bool) -> Tensor:
        """Completions [B, L]."""
        text = prompt_ids
        for _ in range(self.world.length):
            probs = self.policy(text).logits[:, -1, : self.world.num_symbols].softmax(dim=-1)  # [B, V]
            token = probs.argmax(1, True) if greedy else torch.multinomial(probs, 1, generator=self.generator)
            text = torch.cat([text, token], dim=1)
        return text[:, prompt_ids.shape[1] :]

    def judge(
        self, mini: dict[str, Tensor], policy: nn.Module | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(log-probability of each token, its prefix's value, the entropy there), [B, L] each."""
        out = (policy or self.policy)(mini["text"])
        log_probs = out.logits[:, :-1].log_softmax(dim=-1)
        entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
        return log_probs.gather(2, mini["text"][:, 1:, None])[..., 0], out.values[:, :-1], entropy

    @torch.no_grad()
    def batch(self, rows: Rows, i: int) -> dict[str, Tensor]:
        """What the epochs learn from, one row a text; all of it constant."""
        r = self.r
        prompt_ids = self.world.prompt_ids.repeat(r.num_envs // self.world.num_prompts, 1)  # [B, 1]
        completion_ids = self.write(prompt_ids, greedy=False)  # [B, L]
        completion_mask = mask = first_end(completion_ids)
        if r.bug == "unmasked_after_eos":
            mask = torch.ones_like(mask)  # bug: what stands behind the end is learned from too
        scores = r.reward_scale * self.world.reward(prompt_ids, completion_ids).float()  # [B]
        note(rows, i, **{"return": scores.mean()})
        if r.bug == "reward_scale":
            scores = 1000 * scores  # bug: beta now buys nothing
        batch = {"text": torch.cat([prompt_ids, completion_ids], dim=1), "mask": mask}
        log_probs, values, _ = self.judge(batch)
        ref_log_probs, beta = self.judge(batch, self.reference)[0], r.beta
        if r.bug == "kl_sign":
            beta = -beta  # bug: leaving the reference is paid for, not charged
        rewards = token_rewards(log_probs, ref_log_probs, scores, mask, beta)
        batch |= {"values": values, "returns": rewards.flip(1).cumsum(1).flip(1)}  # gamma = lambda = 1
        batch["advantages"] = batch["returns"] - values
        log_ratio = (ref_log_probs - log_probs)[completion_mask]
        note(rows, i, loss_tokens=mask.sum(), completion_tokens=completion_mask.sum(),
             kl_ref=approx_kl(log_ratio.exp()), kl_penalty=beta * log_ratio.mean(),
             return_bound=scores.abs().max())  # fmt: skip
        return remember_policy(self, batch, self.policy)

    def score(self) -> float:
        greedy = self.r.bug != "noisy_evaluation"  # bug: sampled, with training's own generator
        prompt_ids = self.world.prompt_ids
        with torch.no_grad():
            return self.world.reward(prompt_ids, self.write(prompt_ids, greedy)).mean().item()


class Dqn(World):
    """Two networks and a replay buffer."""

    def __init__(self, r: Recipe, envs: gym.vector.VectorEnv, fresh_seed: int):
        super().__init__(r, envs, fresh_seed)
        obs_size, num_actions = self.sizes
        self.online, self.memory = tanh_mlp([obs_size, 64, 64, num_actions], 0.1), {}
        self.target, self.first = copy.deepcopy(self.online), copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=r.learning_rate, fused=True)
        self.rng, self.epsilon = np.random.default_rng([r.seed, 1]), 1.0

    def act(self, obs: np.ndarray, epsilon: float) -> np.ndarray:
        """Epsilon-greedy."""
        q_values = in_numpy(self.online)(obs)  # [N, A]
        anything, explore = self.rng.integers(q_values.shape[1], size=len(obs)), self.rng.random(len(obs))
        return np.where(explore < epsilon, anything, q_values.argmax(axis=1))

    def learn(self, rows: Rows, i: int) -> None:
        """One gradient step, and now and then a look at it."""
        r, size = self.r, self.r.minibatch_size
        t, n = self.rng.integers(i + 1, size=size), self.rng.integers(r.num_envs, size=size)
        batch = {name: torch.from_numpy(values[t, n]) for name, values in self.memory.items()}
        ended = batch["terminated"]
        if r.bug == "merged_time_limit":
            ended = ended | batch["truncated"]  # bug: a time limit is taken for an end
        if r.bug == "bootstraps_past_the_end":
            ended = torch.zeros_like(ended)  # bug: even a fallen pole has a future
        with torch.no_grad():
            next_values = self.target(batch["next_obs"]).amax(dim=1)  # [B]
            targets = td_target(batch["rewards"], next_values, ended, r.gamma)
        q_values = self.online(batch["obs"]).gather(1, batch["actions"][:, None])[:, 0]  # [B]
        loss = nn.functional.smooth_l1_loss(q_values, targets)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        if (i + 1) % r.sync_every == 0 and r.bug != "frozen_target":  # bug: the copy is never renewed
            self.target.load_state_dict(self.online.state_dict())
        if i % 10 == 0:
            note(rows, i, value_loss=loss, grad_norm=norm, constants_with_grad=float(targets.requires_grad))
            self.report(rows, i, batch, next_values, targets, q_values.detach())

    @torch.no_grad()
    def report(self, rows: Rows, i: int, batch: dict, next_values: Tensor, targets: Tensor, q_values: Tensor):
        """The identities of a target, and the usual curves."""
        terminated, loss = batch["terminated"], nn.functional.smooth_l1_loss
        right = td_target(batch["rewards"], next_values, terminated, self.r.gamma)
        note(rows, i, **gaps(targets - right, right.square().mean().sqrt(), terminated, batch["truncated"]))
        again = self.online(batch["obs"]).gather(1, batch["actions"][:, None])[:, 0]
        note(
            rows, i, descended=loss(again, targets) < loss(q_values, targets), q_mean=q_values.mean(),
            explained_variance=explained_variance(q_values, targets),
            return_bound=batch["rewards"].abs().max() / (1 - self.r.gamma),
        )  # fmt: skip
        if i >= 4 * self.r.sync_every:  # by now the target has moved
            now, then = (nn.utils.parameters_to_vector(net.parameters()) for net in (self.target, self.first))
            note(rows, i, target_change=(now - then).norm())

    def score(self) -> float:
        epsilon = self.epsilon if self.r.bug == "noisy_evaluation" else 0.0  # bug: evaluated while exploring
        return self.play(lambda obs: self.act(obs, epsilon))


def train_dqn(learner: Dqn, r: Recipe, rows: Rows) -> None:
    """A step in each environment, a step of learning, and so on."""
    for i in range(r.num_updates):
        learner.epsilon = max(0.05, 1.0 - i / r.explore_for)
        for name, values in learner.walk(lambda obs: learner.act(obs, learner.epsilon), rows, i).items():
            room = np.zeros((r.num_updates, *values.shape[1:]), values.dtype)  # nothing is thrown away
            learner.memory.setdefault(name, room)[i] = values[0]
        if i >= 10:
            learner.learn(rows, i)
        check(learner, r, rows, i)


# %% [markdown]
r"""
## 5. A run, its repetition, and the probes

A second run with the same seed must begin like the first. The probes (`chapters/envs/probes.py`) are worlds
so small that the right values are known: a learner that fails in one of them has one kind of bug.
"""


# %%
def train(r: Recipe, rows: Rows, fresh_seed: int = 1, envs: gym.vector.VectorEnv | None = None):
    """Train one learner; `fresh_seed` is what the operating system would hand to an unseeded generator."""
    seed_everything(r.seed)
    envs = BatchedCartPole(r.num_envs, 200) if envs is None else envs
    if r.learner == "dqn":
        learner = Dqn(r, envs, fresh_seed)
        train_dqn(learner, r, rows)
    else:
        learner = TextLearner(r, fresh_seed) if r.learner == "text" else GymLearner(r, envs, fresh_seed)
        train_policy(learner, r, rows)
    return learner


def recipe(cfg: Config, learner: str, bug: str) -> Recipe:
    """A learner's recipe with one bug in it. A step size too high is no line of code, but a number."""
    base = RECIPES[learner]
    rate = base.learning_rate * cfg.step_size
    if bug == "learning_rate_too_high":
        rate *= 100  # bug: 0.5 for 0.005
    num_updates = max(2, round(base.num_updates * cfg.run_length))
    return replace(base, bug=bug, seed=cfg.seed, learning_rate=rate, num_updates=num_updates)


def run_one(cfg: Config, learner: str, bug: str = "none") -> tuple[Rows, float]:
    """(a run's metrics; its last greedy return, or for text the share of the way to the optimum)."""
    r, rows, again = recipe(cfg, learner, bug), {}, {}
    trained = train(r, rows, fresh_seed=2 * cfg.seed + 1)
    few = min(r.num_updates, 40 if learner == "dqn" else 2)
    train(replace(r, num_updates=few, check_every=0), again, fresh_seed=2 * cfg.seed + 2)
    differences = [abs(a - b) for name in again for (_, a), (_, b) in zip(rows.get(name, ()), again[name])]
    note(rows, 0, repeat_gap=np.nansum(differences))
    if learner != "text":
        return rows, rows["eval_return"][-1][1]
    return rows, trained.world.gap_closed(trained.world.log_probs(trained.policy), r.beta)


def fails(cfg: Config, learner: str, bug: str, probe: str) -> bool:
    """Whether a learner misses a probe's values or best actions."""
    r, dqn = recipe(cfg, learner, bug), learner == "dqn"
    r = replace(r, num_envs=8, num_steps=min(r.num_steps, 16), num_epochs=2, minibatch_size=128, gamma=0.9,
                learning_rate=2 * r.learning_rate, explore_for=200, check_every=0,
                num_updates=max(4, round(cfg.run_length * (400 if dqn else 60))))  # fmt: skip
    trained = train(r, {}, envs=make_envs(probe, r.num_envs))
    obs = torch.tensor([[o] for answer in ANSWERS[probe] for o in answer])  # [B, 1]
    with torch.no_grad():
        outputs = trained.online(obs) if dqn else trained.actor(obs)  # [B, A]
        values = outputs.amax(dim=1) if dqn else trained.critic(obs)[:, 0]  # [B]
    return zoo.misses(values.tolist(), outputs.argmax(1).tolist(), ANSWERS[probe], r.gamma, r.reward_scale)


# %% [markdown]
r"""
## 6. Run, look, break

*The diagnosis* (`chapters/diagnosis/rules.py`) is a list of rules over metric names. It sees no code, no
other run, and not the bug's name. *Identities* hold for every right program on every task (the first ratio is
1, two runs with one seed are equal, (2)); one violation is proof. *Bounds* come from theory or a stated
convention (an alignment below 0, action values far above $r_\max/(1-\gamma)$). *Symptoms* are read off the
usual curves and have several causes. Evidence is ranked in that order.

*The figure* counts over all recorded seeds what was named first: left with all diagnostics, right with the
curves alone that most libraries log. `symptoms` draws for each bug one metric beside the healthy run's,
`cost` how silent each is, and `probes` in which of the small worlds a broken learner fails. What the
operating system would hand to an unseeded generator is a number that `run_one` makes up, so that even the run
that cannot be repeated can be repeated here.

**Break it.** `rl run E3 --learner ppo --bug stale_log_probs`, then `rl diagnose E3`. The score may look fine;
the first ratio does not.

**Exercises.** (1) `--learner ppo --step-size 5`: from where on is a step size too high for the rules, and
from where on for the return? (2) Plant a bug that no rule knows, say the first observation after a reset in
place of the true successor. What is it taken for? (3) Log `alignment` in a learner of yours, and flip a sign.
"""

# %%
NAMES = ("none", *BUGS)
ZERO = ("gap_inside", "gap_truncated", "gap_terminated", "first_ratio_gap", "repeat_gap")
GOAL = "the course's goal for a diagnosis"


def claim_identities(cfg: Config, log: RunLog) -> None:
    """On random episodes: right advantages leave no residual, merged ones leave it at time limits alone."""
    torch.manual_seed(cfg.seed)
    data = torch.randn(3, 50, 8, dtype=torch.float64)  # rewards, values, next_values
    terminated, truncated = torch.rand(2, 50, 8) < 0.1
    truncated, done, found = truncated & ~terminated, terminated | truncated, []
    for ended in (terminated, done):
        advantages = gae(*data, ended, done, 0.9, 0.8)
        residual = gae_residual(advantages, *data, terminated, truncated, 0.9, 0.8)
        found.append(gaps(residual, data.new_ones(()), terminated, truncated))
    exact = {"at_most": 1e-7, "always": True, "seeds": "5/5", "source": "schulman2016gae, eq. (16)"}
    worst, elsewhere = max(found[0].values()), max(found[1]["gap_inside"], found[1]["gap_terminated"])
    log.claim("gae_identity", "right advantages meet their identity at every kind of step", worst, **exact)
    log.claim("only_at_limits", "a merged time limit breaks it at time limits alone", elsewhere, **exact)


def run_zoo(cfg: Config, log: RunLog) -> dict[tuple[str, str], Rows]:
    """Every learner, healthy and with each of its bugs; the metrics of each run."""
    found = {}
    for learner, bug in log.track([*HEALTHY, *PAIRS], "runs"):
        found[learner, bug], result = run_one(cfg, learner, bug)
        findings = diagnose(found[learner, bug])
        usual = diagnose({name: rows for name, rows in found[learner, bug].items() if name in USUAL})
        outcome = {"named": zoo.first_suspect(findings, NAMES), "usual": zoo.first_suspect(usual, NAMES),
                   "seen": any(suspect.bug == bug for suspect in findings), "result": result}  # fmt: skip
        log.write(0, **{f"{name}_{learner}_{bug}": value for name, value in outcome.items()})
    return found


def claim_zoo(found: dict[tuple[str, str], Rows], tables: dict[str, np.ndarray], log: RunLog) -> None:
    for learner in ("dqn", "reinforce", "ppo"):
        log.claim(
            f"{learner}_solves", f"healthy {learner.upper()} solves CartPole with a limit of 200 steps",
            max(value for _, value in found[learner, "none"]["eval_return"]), at_least=195.0,
            unit="best mean return of 20 greedy episodes", source="the threshold registered for CartPole-v0",
        )  # fmt: skip
    log.claim(
        "text_gap_closed", "healthy PPO for text goes most of the way from the reference to the optimum",
        log.last("result_text_none"), at_least=0.85, unit="of the way", source="enumeration, in the lesson",
    )  # fmt: skip
    worst = max(abs(value) for pair in HEALTHY for name in ZERO for _, value in found[pair].get(name, []))
    log.claim(
        "healthy_identities", "healthy learners meet every identity that they can check", worst,
        at_most=1e-3, always=True, seeds="5/5", source="what must be 0, but for 32-bit rounding",
    )  # fmt: skip
    seen = np.mean([log.last(f"seen_{learner}_{bug}") for learner, bug in PAIRS])
    goal = {"unit": f"of {len(PAIRS)} broken runs", "source": GOAL}
    first, alarms = zoo.share_right(tables["named"]), zoo.false_alarms(tables["named"])
    log.claim("named_first", "the planted bug is the first suspect", first, at_least=0.8, **goal)
    log.claim("has_its_symptom", "the planted bug is among the suspects", seen, at_least=0.9, **goal)
    goal |= {"unit": f"of {len(HEALTHY)} healthy runs", "seeds": "5/5"}
    log.claim("false_alarms", "healthy runs raise no alarm", alarms, at_most=0, **goal)


def run_probes(cfg: Config, log: RunLog) -> None:
    """PPO and DQN, healthy and with each bug, on every probe."""
    pairs, failed = [(learner, bug) for learner in ("ppo", "dqn") for bug in ("none", *ZOO[learner])], {}
    for learner, bug in log.track(pairs[:2] if log.smoke else pairs, "rows of probes"):
        failed[learner, bug] = [fails(cfg, learner, bug, probe) for probe in ANSWERS]
    healthy = np.mean([row for (_, bug), row in failed.items() if bug == "none"])
    made_for = {bug: [*ANSWERS].index(CATALOGUE[bug].probe) for bug in BUGS if CATALOGUE[bug].probe}
    told = [row[made_for[bug]] for (_, bug), row in failed.items() if bug in made_for]
    log.claim(
        "probes_passed", "healthy PPO and DQN find the exact values and actions of every probe", 1 - healthy,
        at_least=1.0, unit="of 12 probes", source="the probes' exact answers",
    )  # fmt: skip
    log.claim(
        "probes_fail_as_told", "a broken PPO or DQN fails in the probe that was made for its bug",
        np.mean(told), at_least=0.9, unit=f"of {len(told)} broken learners", source="what the probes are for",
    )  # fmt: skip
    log.figure(zoo.probes(failed, [*ANSWERS]), "probes")


def single(cfg: Config, log: RunLog) -> None:
    """One learner whose diagnostics are the run's own metrics: for `rl diagnose`."""
    if cfg.bug not in ("none", *ZOO.get(cfg.learner, ())):
        homes = ", ".join(learner for learner in ZOO if cfg.bug in ZOO[learner])
        raise UsageError(f"--bug {cfg.bug} --learner {cfg.learner}: no such pair (allowed learners: {homes})")
    rows = run_one(cfg, cfg.learner, cfg.bug)[0]
    for step in sorted({step for series in rows.values() for step, _ in series}):
        log.write(step, **{name: dict(series)[step] for name, series in rows.items() if step in dict(series)})
    log.claim(
        "named_first", "the planted bug is the first suspect; without one there is none",
        zoo.first_suspect(diagnose(rows), NAMES) == NAMES.index(cfg.bug), at_least=1.0, source=GOAL,
    )  # fmt: skip
    plotting.learning_curve(log, "eval_return", title=f"{cfg.learner}, bug: {cfg.bug.replace('_', ' ')}")


def main(cfg: Config, log: RunLog) -> None:
    claim_identities(cfg, log)
    if (cfg.learner, cfg.bug) != ("all", "none"):
        single(cfg, log)
        return
    found = run_zoo(cfg, log)
    claim_zoo(found, zoo.report([log.metrics], HEALTHY, PAIRS, NAMES, log), log)
    run_probes(cfg, log)
    if not log.smoke:
        log.figure(zoo.symptoms(found, {bug: CATALOGUE[bug].shown for bug in BUGS}), "symptoms")


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: the diagnosis as a classifier."""
    tables = zoo.report([run["metrics"] for run in runs], HEALTHY, PAIRS, NAMES, log)
    first, usual = (zoo.share_right(tables[kind]) for kind in ("named", "usual"))
    alarms, goal = zoo.false_alarms(tables["named"]), {"source": GOAL}
    unit = f"of {len(runs) * len(PAIRS)} broken runs"
    log.claim("pooled_named", "the planted bug is the first suspect", first, at_least=0.8, unit=unit, **goal)
    why = {"unit": unit, "source": "a rule without its metric is silent"}
    log.claim("worth_logging", "the usual curves alone name fewer", first - usual, at_least=0.0, **why)
    unit = f"of {len(runs) * len(HEALTHY)} healthy runs"
    log.claim("pooled_alarms", "healthy runs raise no alarm", alarms, at_most=0, unit=unit, **goal)


# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
