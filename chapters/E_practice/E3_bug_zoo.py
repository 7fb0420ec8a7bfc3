# %% [markdown]
r"""
# E3 · The bug zoo

**Question.** A learner runs, prints numbers and learns nothing, or less than it should. Nothing crashes.
Which of its own metrics say what is wrong?

**Before this:** C3 (PPO, proximal policy optimisation). **Changes from C3:** nothing new is learned; a small
PPO watches itself, and one wrong line at a time is planted in it. **Next:** `rl diagnose RUN` judges the
metrics of your own runs in the same way, and E0 tells how to work with it.

**Time.** 45 s on 2 cores; with all evidence 240 s.

References: `pardo2018timelimits`, `schulman2016gae`, `schulman2017ppo`, `korbak2022bayesian`.

Symbols: `T` steps, `N` parallel environments, `B` transitions in a minibatch.
"""

# %%
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float
from torch import Tensor, nn

from chapters.diagnosis.pictures import symptoms
from chapters.diagnosis.quantities import alignment, explained_variance, gae_residual, gaps, note, repeat_gap
from chapters.diagnosis.rules import CATALOGUE, diagnose
from chapters.E_practice.checks.E3 import EDITS
from chapters.envs import evaluate, true_next_obs
from chapters.envs.agents import ActorCritic
from chapters.envs.cartpole import BatchedCartPole
from chapters.envs.on_policy import approx_kl, gae
from chapters.text.ppo import clipped_surrogate
from chapters.utils import RunLog, in_range, run_lesson, seed_everything
from chapters.utils.edits import edited
from chapters.utils.networks import in_numpy
from chapters.utils.optim import Adam

Batch = dict[str, Tensor]
Rows = dict[str, list[tuple[int, float]]]  # a run's metrics: name -> [(update, value), ...]
BUGS = tuple(bug for bug, entry in CATALOGUE.items() if "ppo" in entry.homes)
SHOWN = {bug: CATALOGUE[bug].shown[1] for bug in BUGS} | {"learning_rate_too_high": "entropy"}


@dataclass(frozen=True)
class Config:
    """A small PPO on CartPole with a limit of 200 steps, right and with one bug at a time."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    bug: Literal["every", "none", *BUGS] = "every"
    """Plant every bug in turn, or one, or none; the last run's diagnostics are what `rl diagnose` reads."""
    num_updates: Annotated[int, in_range(1, 10_000)] = 30
    """Updates, each from `num_envs` x `num_steps` transitions."""
    learning_rate: Annotated[float, in_range(1e-6, 1e6)] = 5e-3
    """Adam step size."""
    num_envs: Annotated[int, in_range(1, 1024)] = 16
    """N: environments stepped in parallel."""
    num_steps: Annotated[int, in_range(1, 10_000)] = 64
    """T: steps in each environment between updates."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """Passes over each batch."""
    minibatch_size: Annotated[int, in_range(1, 10_000_000)] = 256
    """B: transitions per gradient step."""
    gamma: Annotated[float, in_range(0.0, 1.0)] = 0.98
    """Discount factor."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """Weight of later errors in an advantage."""
    reward_scale: Annotated[float, in_range(0.0, 1e9)] = 0.1
    """What rewards are multiplied by: returns are then at most 0.1 / (1 - gamma)."""
    check_every: Annotated[int, in_range(1, 10_000)] = 5
    """Updates between evaluations."""


SMOKE = {"num_updates": 2, "num_envs": 4, "num_steps": 32, "minibatch_size": 64}

# %% [markdown]
r"""
## 1. An identity in every advantage

The one-step error, and the weighted sum of errors that C3 calls GAE (generalised advantage estimation):

$$\delta_t = r_t + \gamma\,(1 - \text{terminated}_t)\,V(s_{t+1}) - V(s_t) \tag{1}$$

$$\hat A_t = \delta_t + \gamma\lambda\,(1 - \text{done}_t)\,\hat A_{t+1} \tag{2}$$

Solved for the error, (2) is an *identity* that any program's advantages must meet, however computed:
$\hat A_t - \gamma\lambda\,(1-\text{done}_t)\,\hat A_{t+1} = \delta_t$. A learner can check that on its own
batch: the *residual* is the left side less the right. *Where* it is not 0 says why. The code logs its mean
size, in units of the targets' root mean square, at time limits (`gap_truncated`), at true ends
(`gap_terminated`) and at all other steps (`gap_inside`).

*By hand.* Each of three steps has reward 1 and leads from a state worth 9 to one worth 10; $\gamma = 0.9$,
$\lambda = 0$. A time limit cuts the second. Each error is $1 + 0.9 \cdot 10 - 9 = 1$. If that limit is taken
for an end, the second becomes $1 - 9 = -8$, and its residual is $-8 - 1 = -9$:

```python
>>> rewards, values, next_values = torch.ones(3, 1), torch.full((3, 1), 9.0), torch.full((3, 1), 10.0)
>>> never, limit = torch.tensor([[[False]] * 3, [[False], [True], [False]]])
>>> wrong = gae(rewards, values, next_values, never | limit, limit, gamma=0.9, gae_lambda=0.0)
>>> residual = gae_residual(wrong, rewards, values, next_values, never, limit, gamma=0.9, gae_lambda=0.0)
>>> wrong.ravel().tolist(), residual.ravel().tolist()
([1.0, -8.0, 1.0], [0.0, -9.0, 0.0])
```

## 2. What a learner can say about itself

*Does the critic know anything?* Take the share of its targets' variance that it explains. A perfect critic
explains 1, a constant 0; one whose errors vary more than the targets do falls below 0:

$$\text{explained variance} = 1 - \frac{\mathrm{Var}(\hat R_t - V(s_t))}{\mathrm{Var}(\hat R_t)},
\qquad \hat R_t = \hat A_t + V(s_t) \tag{3}$$

*How far did an update move the policy?* C3's estimate `approx_kl` says it, from the ratios $w_t$ of new to
old probability. *And the right way?* By (3), $\hat R_t - V(s_t)$ is the advantage: how much better it went
than expected. For small steps PPO's objective is, up to a constant, the mean of $\hat A_t \log w_t$, and a
step along its gradient raises it. So what went better than expected must on average have become likelier:

$$\text{alignment} = \mathrm{corr}\bigl(\hat R_t - V(s_t),\; \log w_t\bigr) > 0 \tag{4}$$

Other checks cost a line each: the first ratio of a batch is 1 (`first_ratio_gap`), two runs with one seed
are equal (`repeat_gap`), an evaluation repeated gives the same number (`eval_return_again`), an update moves
the critic's weights (`critic_change`), no constant of the loss carries a gradient (`constants_with_grad`).

## 3. A learner that watches itself

PPO as in C3, without what is optional. Every bug is one changed line: guess which, then see `rl break E3`.
"""


# %%
class Learner:
    """An agent in its environments: acts, makes batches, is evaluated."""

    def __init__(self, cfg: Config, envs: VectorEnv):
        self.cfg = cfg
        self.envs = envs
        self.agent = ActorCritic(envs)
        self.rng = np.random.default_rng(cfg.seed)
        self.obs, _ = envs.reset(seed=cfg.seed)
        self.running = np.zeros(envs.num_envs)  # [N] returns of the episodes under way

    def act(self, obs: np.ndarray) -> np.ndarray:
        """A sampled action for each observation."""
        return self.agent.head.sample(in_numpy(self.agent.actor)(obs), self.rng)

    def rollout(self, rows: Rows, i: int) -> Batch:
        """`num_steps` steps in each environment, [T, N, ...]."""
        names = ("obs", "actions", "rewards", "next_obs", "terminated", "truncated")
        steps = []
        finished = []
        for _ in range(self.cfg.num_steps):
            actions = self.act(self.obs)
            next_obs, rewards, terminated, truncated, infos = self.envs.step(actions)
            done = terminated | truncated
            self.running += rewards
            finished += [*self.running[done]]
            self.running[done] = 0
            scaled = self.cfg.reward_scale * rewards.astype(np.float32)
            successors = true_next_obs(next_obs, done, infos)
            steps.append((self.obs, actions, scaled, successors, terminated, truncated))
            self.obs = next_obs
        if finished:
            note(rows, i, **{"return": np.mean(finished)})
        return {name: torch.from_numpy(np.stack(column)) for name, column in zip(names, zip(*steps))}

    @torch.no_grad()
    def batch(self, rows: Rows, i: int) -> Batch:
        """What the epochs learn from, one row a transition; all of it constant."""
        cfg = self.cfg
        seen = self.rollout(rows, i)
        rewards, terminated, truncated = seen["rewards"], seen["terminated"], seen["truncated"]
        values = self.agent.value(seen["obs"])  # [T, N]
        next_values = self.agent.value(seen["next_obs"])
        advantages = gae(rewards, values, next_values, terminated, truncated, cfg.gamma, cfg.gae_lambda)
        data = rewards, values, next_values, terminated, truncated
        residual = gae_residual(advantages, *data, cfg.gamma, cfg.gae_lambda)
        targets = rewards + cfg.gamma * next_values * ~terminated  # eq. (1)
        note(rows, i, **gaps(residual, targets.square().mean().sqrt(), terminated, truncated))
        note(rows, i, return_bound=rewards.abs().max() / (1 - cfg.gamma))
        return {
            "obs": seen["obs"].flatten(0, 1),  # [T N, D]
            "actions": seen["actions"].flatten(),
            "advantages": advantages.flatten(),
            "values": values.flatten(),
            "returns": (advantages + values).flatten(),  # the critic's target
        }

    def score(self) -> float:
        """Mean return of an episode in each of 20 environments, on seeds that training does not see."""
        policy = self.agent.greedy()
        return float(evaluate(policy, envs=BatchedCartPole(20, 200), seed=self.cfg.seed + 10_000).mean())


def policy_loss(agent: nn.Module, mini: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, " B"], float]:
    """(loss, ratio of each transition, how many of the loss's constants carry a gradient)."""
    log_prob, _ = agent.judge(mini["obs"], mini["actions"])
    values = agent.value(mini["obs"])
    old_log_probs = mini["old_log_probs"]
    advantages = mini["advantages"]
    constants = advantages.requires_grad + old_log_probs.requires_grad
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    advantages = advantages * (advantages.max() > advantages.min())  # else rounding divided by rounding
    ratio = (log_prob - old_log_probs).exp()
    gain = clipped_surrogate(ratio, advantages, 0.2)
    value_loss = (values - mini["returns"]).pow(2).mean()
    return -gain.mean() + 0.5 * value_loss, ratio.detach(), float(constants)


def improve(agent: nn.Module, optimizer: Adam, batch: Batch, cfg: Config) -> dict[str, float]:
    """Passes over one batch in minibatches; returns what its first minibatch says."""
    seen: dict[str, float] = {}
    for _ in range(cfg.num_epochs):
        for rows in torch.randperm(len(batch["actions"])).split(cfg.minibatch_size):
            mini = {name: values[rows] for name, values in batch.items()}
            loss, ratio, constants = policy_loss(agent, mini)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
            if not seen:  # until now the policy was the one that sampled the batch
                with torch.no_grad():
                    after = policy_loss(agent, mini)[0]
                seen["first_ratio_gap"] = (ratio - 1).abs().mean().item()
                seen["descended"] = float(after < loss)
                seen["constants_with_grad"] = constants
                seen["grad_norm"] = norm.item()
    return seen


def learn(learner: Any, cfg: Config, rows: Rows) -> None:
    """Gather, improve, and note what can be said about it."""
    agent = learner.agent
    optimizer = Adam(agent.parameters(), lr=cfg.learning_rate, eps=1e-5)
    for i in range(cfg.num_updates):
        batch = learner.batch(rows, i)
        with torch.no_grad():  # the policy that acted is still the policy
            log_probs, _ = agent.judge(batch["obs"], batch["actions"])
        batch["old_log_probs"] = log_probs
        before = nn.utils.parameters_to_vector(agent.critic.parameters()).detach()
        note(rows, i, **improve(agent, optimizer, batch, cfg))
        with torch.no_grad():
            log_prob, entropy = agent.judge(batch["obs"], batch["actions"])
        log_ratio = log_prob - log_probs
        surprise = batch["returns"] - batch["values"]
        note(rows, i, entropy=entropy.mean(), approx_kl=approx_kl(log_ratio.exp()))
        note(rows, i, clip_fraction=((log_ratio.exp() - 1).abs() > 0.2).float().mean())
        note(rows, i, alignment=alignment(surprise, log_ratio))  # eq. (4)
        note(rows, i, explained_variance=explained_variance(batch["values"], batch["returns"]))  # eq. (3)
        note(rows, i, value_loss=surprise.square().mean())
        after = nn.utils.parameters_to_vector(agent.critic.parameters()).detach()
        note(rows, i, critic_change=(after - before).norm())
        if cfg.check_every and ((i + 1) % cfg.check_every == 0 or i + 1 == cfg.num_updates):
            note(rows, i, eval_return=learner.score(), eval_return_again=learner.score())


def train(cfg: Config, rows: Rows, envs: VectorEnv) -> Learner:
    """Train one learner; what it says about itself goes to `rows`."""
    seed_everything(cfg.seed)
    learner = Learner(cfg, envs)
    learn(learner, cfg, rows)
    return learner


def broken(bug: str) -> ModuleType:
    """This very lesson with one line changed."""
    return edited(importlib.import_module("chapters.E_practice.E3_bug_zoo"), EDITS[bug])


def unseeded(seed: int, num_envs: int) -> BatchedCartPole:
    """Environments for a learner that may forget to seed them: they then go on from `seed`."""
    envs = BatchedCartPole(num_envs, 200)
    envs.reset(seed=seed)
    return envs


def run(train: Callable, cfg: Config) -> Rows:
    """A run's metrics, and how far its repetition with the same seed is from it."""
    rows, again = {}, {}
    train(cfg, rows, unseeded(2 * cfg.seed + 1, cfg.num_envs))
    short = replace(cfg, num_updates=min(cfg.num_updates, 2), check_every=0)
    train(short, again, unseeded(2 * cfg.seed + 2, cfg.num_envs))
    note(rows, 0, repeat_gap=repeat_gap(rows, again))
    return rows


# %% [markdown]
r"""
## 4. Look, break, write

*The diagnosis* (`chapters/diagnosis/rules.py`) is a list of rules over a run's metrics; it sees no code and
no other run. It knows three kinds of evidence, the strongest first. *Identities* hold for every right
program: one violation is proof. *Bounds* come from theory or convention, as that alignment is above 0.
*Symptoms* are read off the usual curves, and have several causes.

![For each of eleven bugs one metric of the broken PPO beside that of the right one](results/E3.png)

The first three panels are the identity of section 1; a curve has no point where nothing was cut or no pole
fell. Where a detach is missing the policy does not move: its ratio is 1 for ever. With the wrong sign nearly
every update moves it away from what went well. The right critic's explained variance falls, too, late in the
run: once hardly a pole falls, its targets hardly vary, and small errors are large beside that. So the rule
only asks whether it was *ever* above 0. Two bugs look harmless: the evaluation with noise in it ends at the
full score, and only its repetition contradicts it early on; the run without a seed learns as well.

The evidence adds three learners, DQN (a deep Q-network), REINFORCE and PPO for tokens (`korbak2022bayesian`),
each with the bugs that it can have. It counts what was named first, draws how silent a bug is in the score,
and says in which probe environment, a world so small that the right values are known, a broken learner fails.
Last come logs of Stable-Baselines3 and of TRL (Transformer Reinforcement Learning) as their users have them:
they hold only the usual curves, so the faults planted there are some that those can show.

![Planted against named bug, by all diagnostics, the usual curves, others' logs](results/E3_confusion.png)

**The verdict.** Not the curves that everybody logs: most bugs leave them as they are, or move them as bad
luck would. What names a bug is a number that must be 0, or have a sign, in every right program. It costs a
line, and belongs to one mistake; with such numbers the planted bug is named first, and no right run accused.

<!-- results: E3 -->

`rl run E3`: 20 s; with `--evidence`: 173 s, 1146 MB; with `--smoke --evidence`: 32 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| meets_its_identities  | 8.74e-08 (4.37e-08 to 1.6e-07)  | ≤ 0.001 | 5/5    |
| ppo_solves            | 200                             | ≥ 195   | 5/5    |
| no_alarm              | 0                               | ≤ 0     | 5/5    |
| ppo_bugs_named        | 1                               | ≥ 0.8   | 5/5    |
| gae_identity *        | 4.37e-17 (4.09e-17 to 5.09e-17) | ≤ 1e-07 | 5/5    |
| only_at_limits *      | 4.54e-17 (4.25e-17 to 4.67e-17) | ≤ 1e-07 | 5/5    |
| dqn_solves *          | 200                             | ≥ 195   | 5/5    |
| reinforce_solves *    | 200                             | ≥ 195   | 5/5    |
| text_gap_closed *     | 0.962 (0.931 to 0.967)          | ≥ 0.85  | 5/5    |
| healthy_identities *  | 1.41e-07 (1.27e-07 to 2.25e-07) | ≤ 0.001 | 5/5    |
| probes_passed *       | 1                               | ≥ 1     | 5/5    |
| probes_fail_as_told * | 1 (0.917 to 1)                  | ≥ 0.9   | 5/5    |
| foreign_first *       | 1                               | ≥ 0.8   | 5/5    |
| foreign_alarms *      | 0                               | ≤ 0     | 5/5    |
| named_first *         | 1                               | ≥ 0.8   | 5/5    |
| has_its_symptom *     | 1                               | ≥ 0.9   | 5/5    |
| false_alarms *        | 0                               | ≤ 0     | 5/5    |
| pooled_named *        | 1                               | ≥ 0.8   | pooled |
| worth_logging *       | 0.746                           | ≥ 0     | pooled |
| pooled_alarms *       | 0                               | ≤ 0     | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `meets_its_identities`: the right learner meets every identity that it can check
- `ppo_solves`: healthy PPO solves CartPole with a limit of 200 steps (best mean return of 20 greedy episodes)
- `no_alarm`: the right learner raises no alarm (suspects)
- `ppo_bugs_named`: of the bugs planted in it, these are named first (share of 11 broken runs)
- `gae_identity`: right advantages meet their identity at every kind of step
- `only_at_limits`: a merged time limit breaks it at time limits alone
- `dqn_solves`: healthy DQN solves CartPole with a limit of 200 steps (best mean return of 20 greedy episodes)
- `reinforce_solves`: healthy REINFORCE solves CartPole with a limit of 200 steps (best mean return of 20
  greedy episodes)
- `text_gap_closed`: healthy PPO for text goes most of the way from the reference to the optimum (of the way)
- `healthy_identities`: healthy learners meet every identity that they can check
- `probes_passed`: healthy PPO and DQN find the exact values and actions of every probe (share of 12 probes)
- `probes_fail_as_told`: a broken PPO or DQN fails in the probe that was made for its bug (share of the broken
  learners)
- `foreign_first`: in logs of Stable-Baselines3 and TRL the planted bug is the first suspect (share of broken
  runs)
- `foreign_alarms`: in logs of their healthy runs there is no alarm (healthy runs)
- `named_first`: the planted bug is the first suspect (share of 37 broken runs)
- `has_its_symptom`: the planted bug is among the suspects (share of 37 broken runs)
- `false_alarms`: healthy runs raise no alarm (share of 4 healthy runs)
- `pooled_named`: the planted bug is the first suspect (share of 185 broken runs)
- `worth_logging`: the usual curves alone name fewer (share of 185 broken runs)
- `pooled_alarms`: healthy runs raise no alarm (share of 20 healthy runs)
</details>

<!-- /results -->

**Break it.** `rl break E3 stale_log_probs`: the score may look fine, the first ratio does not.
`rl break E3 merged_time_limit`: does PPO still solve CartPole? `rl run E3 --bug wrong_sign`, then
`rl diagnose E3`, shows what the rules see of one broken run.

**Exercises.**

<!-- exercises: E3 -->

*E3.1 · The loss* (20 minutes, medium). Write PPO's loss with what it says of itself; the grader knows the
bugs. `rl exercise E3.policy_loss`.

*E3.2 · A bug that no rule knows* (20 minutes, medium). Let `rollout` store `next_obs` in place of the true
successor. Where an episode ended, that is the first observation of the next one. Which bug does the diagnosis
name, and why?

<details><summary>Answer</summary>

None. The identity is checked with the same wrong successors that the advantages were made from, so it holds:
a check sees only what was done with its inputs. A probe environment notices (`CutShort`).
</details>

*E3.3 · A number for it* (20 minutes, medium). Yet two neighbouring rows of a rollout give that bug away.
Within an episode the successor stored at $t$ *is* the observation of the next row; where an episode ended it
is not, as the next row begins another. So ask two questions of each row: is its successor the next row's
observation, and did its episode end? In a right rollout just one answer is yes. Count the rows in which both
are, or neither is:

$$\frac{1}{(T-1)\,N} \sum_{t=0}^{T-2} \sum_{i=1}^{N} \mathbb 1\bigl[(s'_{t,i} = s_{t+1,i}) =
\text{done}_{t,i}\bigr] \tag{E1}$$

Where in the learner does it belong, and what must it be? `rl exercise E3.wrong_successors`.

<details><summary>Answer</summary>

In `batch`, beside the gaps: `note(rows, i, wrong_successors=...)`. It must be 0, exactly: the numbers are
copies, so no rounding comes between. With E3.2's bug it is the share of rows that end an episode.
</details>

*E3.4 · Find the bug* (10 minutes). `rl exercise E3.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
ZERO = ("gap_inside", "gap_truncated", "gap_terminated", "first_ratio_gap", "repeat_gap")
GOAL = "the course's goal for a diagnosis"


def main(cfg: Config, log: RunLog) -> None:
    runs = {"none": run(train, cfg)}
    for bug in log.track([bug for bug in BUGS if cfg.bug in ("every", bug)], "bugs"):
        runs[bug] = run(broken(bug).train, cfg)
    for name, series in runs.get(cfg.bug, runs["none"]).items():
        for step, value in series:
            log.write(step, **{name: value})
    if panels := {bug: ("ppo", SHOWN[bug]) for bug in BUGS if bug in runs}:
        log.figure(symptoms({("ppo", bug): rows for bug, rows in runs.items()}, panels))
    named = {bug: [found.bug for found in diagnose(rows)][:1] for bug, rows in runs.items()}
    log.claim(
        "meets_its_identities",
        "the right learner meets every identity that it can check",
        max(abs(value) for name in ZERO for _, value in runs["none"].get(name, [])),
        at_most=1e-3,
        source="what must be 0, but for 32-bit rounding",
        always=True,
        seeds="5/5",
    )
    log.claim(
        "ppo_solves",
        "healthy PPO solves CartPole with a limit of 200 steps",
        max(value for _, value in runs["none"]["eval_return"]),
        at_least=195.0,
        unit="best mean return of 20 greedy episodes",
        source="the threshold registered for CartPole-v0",
    )
    log.claim(
        "no_alarm",
        "the right learner raises no alarm",
        len(named.pop("none")),
        at_most=0,
        unit="suspects",
        source=GOAL,
    )
    if named:
        log.claim(
            "ppo_bugs_named",
            "of the bugs planted in it, these are named first",
            np.mean([first == [bug] for bug, first in named.items()]),
            at_least=0.8,
            unit=f"share of {len(named)} broken runs",
            source=GOAL,
        )
    log.keep(runs=runs)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
