# %% [markdown]
r"""
# E6 · Short branches off real states

**Question.** A model learnt from a few hundred steps of the world is wrong, and the more so the further it
looks ahead. How long may one trust it, and how many steps in the world does that save?

**Before this:** B7 (practice in a model, in tables), C6 (soft actor-critic, SAC). **Changes from C6:** SAC
learns from imagined steps alone; real ones train the model. **Next:** E9, worlds in which others learn too.

**Time.** 60 s on 2 cores; with all evidence 240 s.

References: `janner2019mbpo`, `chua2018pets`, `asadi2018lipschitz`, `kearns2002simulation`,
`oza2001bagging`, `chen2021redq`.

Symbols: `C` members, `B` transitions, `D` numbers of an observation, `A` of an action, `O` = `D` + 1; $f_c$ a
member, $n_{ic}$ how often transition $i$ counts for it, $u$ disagreement, $k$ steps of a branch, $\epsilon_P$
the model's error in chances, $\epsilon$ in distance, $L$ the factor by which a step can pull states apart.
"""

# %%
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float
from torch import Tensor

from chapters.envs import evaluate, make_envs, true_next_obs
from chapters.envs.ensembles import Ensemble
from chapters.envs.replay import ReplayBuffer
from chapters.envs.soft_actor import SoftActor, descend, squash
from chapters.exact import straying
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

GOAL = -200.0  # the course's goal for Pendulum-v1, as in C6
KEPT = 24  # rounds whose branches are kept: values of states that the policy has left are not forgotten
FAR = 40  # steps along which branches are followed to see how far they stray
States = Float[Tensor, "B D"]
Actions = Float[Tensor, "B A"]
Numbers = Float[Tensor, " B"]
Outputs = Float[Tensor, "C B O"]  # of each member for each transition
ManyStates, ManyNumbers = Float[Tensor, "C B D"], Float[Tensor, "C B"]


@dataclass(frozen=True)
class Config:
    """Model-based policy optimisation on Pendulum."""

    seed: int = 0
    """Seed of torch, numpy and the environments."""
    num_envs: Annotated[int, in_range(1, 1024)] = 10
    """Environments stepped in parallel: so many real steps a round, and so many starts to learn from."""
    num_env_steps: Annotated[int, in_range(1, 10_000_000)] = 1080
    """Real steps of training, those of the warm-up included."""
    num_warmup_steps: Annotated[int, in_range(2, 10_000_000)] = 400
    """Real steps of random actions before the first model is fitted."""
    num_members: Annotated[int, in_range(1, 64)] = 5
    """C: models in the ensemble."""
    fit_every: Annotated[int, in_range(1, 10_000_000)] = 40
    """Real steps between fits of the model."""
    num_fits: Annotated[int, in_range(1, 10_000_000)] = 60
    """Gradient steps of a fit; the first has six times as many."""
    num_branches: Annotated[int, in_range(1, 65_536)] = 750
    """Branches after each round, off as many states of the past."""
    branch_length: Annotated[int, in_range(1, 1000)] = 15
    """k: imagined steps of a branch."""
    num_updates: Annotated[int, in_range(1, 1000)] = 60
    """SAC's gradient steps after each round."""
    minibatch_size: Annotated[int, in_range(1, 65_536)] = 256
    """B: transitions per gradient step."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 64
    """Units in each of the two hidden layers of actor, critics and models."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 3e-3
    """Adam's step size, for all that learns."""
    gamma: Annotated[float, in_range(0.0, 0.9999)] = 0.98
    """Discount factor, C6's."""
    target_rate: Annotated[float, in_range(0.0, 1.0)] = 0.04
    """How fast the slow critics follow."""
    eval_every: Annotated[int, in_range(1, 10_000_000)] = 60
    """Real steps between evaluations, of 100 episodes without noise."""


SMOKE = {
    "num_envs": 4, "num_env_steps": 96, "num_warmup_steps": 80, "num_branches": 20, "minibatch_size": 32,
    "num_fits": 3, "fit_every": 8, "num_updates": 1, "branch_length": 3, "eval_every": 48, "hidden_size": 16,
}  # fmt: skip

# %% [markdown]
r"""
## 1. A model: what changes, and what it pays

To learn a *model* is supervised learning: state and action go in, the next state and the reward come out. A
step changes little, so "all stays as it is" is nearly right, and useless: what an action does lies in the
small rest. So a network $f$ foresees the **change** and the reward, their mean and deviation taken out:

$$y = (s' - s,\; r), \qquad f(s, a) \approx (y - \bar y) / \sigma_y \tag{1}$$

Where a few hundred steps say nothing, a network makes something up, and a policy that looks for high rewards
goes just there. So we train an **ensemble** (`chua2018pets`): $C$ networks with different first weights. Each
counts transition $i$ a number of times of its own, $n_{ic} = 0, 1, 2, \dots$, drawn once from a Poisson
distribution of mean 1: a *bootstrap*, which imitates $C$ data sets (`oza2001bagging`). The loss is

$$\mathcal L = \sum_c \tfrac1B \sum_i n_{ic}\, \tfrac1O
\bigl| f_c(s_i, a_i) - (y_i - \bar y) / \sigma_y \bigr|^2 \tag{2}$$

What was seen often, all members say alike. Elsewhere each makes up something else, and how far apart they are
tells where nothing is known. With $\Delta_c$ for the change that member $c$ foresees, in the state's own
units, their **disagreement** is the root mean square distance to their mean $\hat s$:

$$\hat s_c = s + \Delta_c(s, a), \quad u(s, a)^2 = \tfrac1C \textstyle\sum_c | \hat s_c - \hat s |^2 \tag{3}$$

*By hand*: from 1 one member foresees a change of 0.2, another none. They say 1.2 and 1.0, each 0.1 off 1.1.

```python
>>> outputs = torch.tensor([[[0.2, -3.0]], [[0.0, -4.0]]])  # member, state, (change, reward)
>>> next_obs, rewards = successors(outputs, torch.tensor([[1.0]]))
>>> [round(x, 2) for x in next_obs.flatten().tolist()], round(disagreement(next_obs).item(), 2)
([1.2, 1.0], 0.1)
```
"""


# %%
def targets_of(obs: States, rewards: Numbers, next_obs: States) -> Float[Tensor, "B O"]:
    """What a model is to foresee: by how much each number of the observation changes, then the reward."""
    return torch.cat([next_obs - obs, rewards.unsqueeze(1)], dim=1)  # y of eq. (1)


def weighted_error(outputs: Outputs, targets: Float[Tensor, "B O"], counts: Float[Tensor, "B C"]) -> Tensor:
    """The members' squared errors, each transition weighted by how often it counts for the member."""
    errors = (outputs - targets).pow(2).mean(dim=2)  # [C, B]
    return (counts.T * errors).mean(dim=1).sum()  # eq. (2)


def successors(outputs: Outputs, obs: States) -> tuple[ManyStates, ManyNumbers]:
    """(next observations, rewards) that the members foresee; `outputs` in the world's units."""
    return obs + outputs[..., :-1], outputs[..., -1]  # eq. (3), left


def disagreement(next_obs: ManyStates) -> Numbers:
    """How far the members are from their mean."""
    apart = next_obs - next_obs.mean(dim=0)
    return apart.pow(2).sum(dim=2).mean(dim=0).sqrt()  # eq. (3), right


class Model:
    """The ensemble, its units and its optimiser."""

    def __init__(self, num_obs: int, num_actions: int, cfg: Config) -> None:
        sizes = [num_obs + num_actions, cfg.hidden_size, cfg.hidden_size, num_obs + 1]
        self.networks = Ensemble(cfg.num_members, sizes)
        self.optimizer = Adam(self.networks.parameters(), lr=cfg.learning_rate)
        self.mean, self.std = torch.zeros(num_obs + 1), torch.ones(num_obs + 1)
        self.rng = np.random.default_rng([cfg.seed, 2])

    def measure_units(self, batch: dict[str, Tensor]) -> None:
        """Mean and deviation in (1), once: with other units the same outputs would mean something else."""
        targets = targets_of(batch["obs"], batch["rewards"], batch["next_obs"])
        self.mean, self.std = targets.mean(dim=0), targets.std(dim=0).clamp(min=1e-6)

    def fit(self, real: ReplayBuffer, num_fits: int, size: int) -> None:
        """Gradient steps on minibatches of real transitions."""
        for _ in range(num_fits):
            batch = real.sample(size, self.rng)
            targets = targets_of(batch["obs"], batch["rewards"], batch["next_obs"])
            outputs = self.networks(torch.cat([batch["obs"], batch["actions"]], dim=1))
            loss = weighted_error(outputs, (targets - self.mean) / self.std, batch["counts"])
            descend(loss, self.optimizer)

    def predict(self, obs: States, actions: Actions) -> tuple[ManyStates, ManyNumbers]:
        """(next observations, rewards) as each member foresees them."""
        outputs = self.networks(torch.cat([obs, actions], dim=1))
        return successors(outputs * self.std + self.mean, obs)

    def imagine(self, obs: States, actions: Actions) -> tuple[States, Numbers]:
        """(next observations, rewards), for each row as one member foresees them, drawn at every call."""
        next_obs, rewards = self.predict(obs, actions)
        which, rows = torch.randint(len(next_obs), (len(obs),)), torch.arange(len(obs))
        return next_obs[which, rows], rewards[which, rows]


# %% [markdown]
r"""
## 2. How long to trust it: two bounds

A **branch** begins in a state that was really met and takes $k$ steps in the model, with today's policy. A
value stands for the rest. How wrong is the sum, if values and rewards are exact? Each step misleads with
chance $\epsilon_P$ at most (the total variation between $\hat P$ and $P$). At stake is a future worth between
0 and $r_\text{max} / (1 - \gamma)$:

$$\Bigl| \mathbb E_{\hat P} \Bigl[ \sum_{i < k} \gamma^i r_i + \gamma^k V^\pi(s_k) \Bigr] - V^\pi(s) \Bigr|
\;\le\; \sum_{i < k} \gamma^{i + 1} \epsilon_P \frac{r_\text{max}}{1 - \gamma}
= \gamma\, \epsilon_P\, r_\text{max}\, \frac{1 - \gamma^k}{(1 - \gamma)^2} \tag{4}$$

For $k \to \infty$ this is (1) of E2. `janner2019mbpo` have a like bound. By it one would never use a model,
since it is lowest at $k = 0$. It charges the worst case at each step; most models do better (section 4).

And where the world rolls no dice (4) is empty: next states that differ by a hair are different outcomes, so
$\epsilon_P = 1$. There one asks how *far* a branch strays (`asadi2018lipschitz`). Let no imagined step miss
by more than $\epsilon$, and no step of the world pull two states more than $L$ times as far apart. Then the
distance $e_t$ from where the same actions lead in the world grows at most so:

$$e_{t+1} \le L e_t + \epsilon, \qquad e_k \le \epsilon\, (1 + L + \dots + L^{k-1}) \tag{5}$$

```python
>>> [round(value_bound(0.1, k, max_reward=1.0, gamma=0.9), 2) for k in (0, 1, 2, 1000)]
[0.0, 0.9, 1.71, 9.0]
>>> [round(stray_bound(0.01, k, stretch=2.0), 2) for k in (0, 1, 2, 3)]  # 1, 1 + 2, 1 + 2 + 4 misses
[0.0, 0.01, 0.03, 0.07]
```

## 3. Branches for SAC

**Model-based policy optimisation** (MBPO, `janner2019mbpo`) is Dyna (B7) with an ensemble, for SAC. After
each round, a step in each of ten environments, it draws states from *all* that were met, branches $k$ steps
off each, and takes many gradient steps on what it imagined. A member is drawn anew for each step: no branch
can build on one's error. Branches of 24 rounds are kept, lest critics forget where the policy was.

$$\hat s_0 \sim \text{replay}, \quad a_t \sim \pi(\cdot \mid \hat s_t), \quad (\hat s_{t+1}, \hat r_t) =
\text{what a random member foresees}, \quad t < k \tag{6}$$

A branch that stops at $k$ has not *ended*: its last state's value counts, as behind any time limit. What ends
an episode is known, a function `ends`, as in the paper; on Pendulum nothing does. The paper's members foresee
a spread, too, for worlds that roll dice, and some real transitions join each minibatch; we do without both.
"""


# %%
def value_bound(model_error: float, length: int, max_reward: float, gamma: float) -> float:
    """By how much a branch, with exact values behind it, may miss the value of its first state."""
    return gamma * model_error * max_reward * (1 - gamma**length) / (1 - gamma) ** 2  # eq. (4)


def stray_bound(step_error: float, length: int, stretch: float) -> float:
    """How far a branch may be from where the same actions lead in the world."""
    return step_error * sum(stretch**i for i in range(length))  # eq. (5)


def never(obs: States) -> Bool[Tensor, " B"]:
    """Pendulum has no state that ends an episode."""
    return torch.zeros(len(obs), dtype=torch.bool)


def branch(imagine: Callable, act: Callable, starts: States, length: int, ends: Callable = never) -> dict:
    """Imagined transitions: the first step of all branches, then the second, and so on.

    imagine(obs, actions) -> (next_obs, rewards); act(obs) -> actions; ends(next_obs) -> terminated.
    """
    rows, obs = [], starts
    for _ in range(length):  # eq. (6)
        actions = act(obs)
        next_obs, rewards = imagine(obs, actions)
        terminated = ends(next_obs)
        rows.append((obs, actions, rewards, next_obs, terminated))
        obs = next_obs[~terminated]  # behind an end there is nothing to imagine
    names = ("obs", "actions", "rewards", "next_obs", "terminated")
    return {name: torch.cat(parts) for name, parts in zip(names, zip(*rows))}


class Learner:
    """SAC, the model, what was met and what was imagined."""

    def __init__(self, envs: VectorEnv, cfg: Config) -> None:
        self.agent = SoftActor(envs, cfg)
        self.model = Model(len(self.agent.obs_unit), len(self.agent.limit), cfg)
        self.real = ReplayBuffer(cfg.num_env_steps + envs.num_envs)
        self.imagined = ReplayBuffer(KEPT * cfg.num_branches * cfg.branch_length)
        self.rng = np.random.default_rng([cfg.seed, 1])  # not the stream that the environments draw from

    @torch.no_grad()
    def act(self, obs: States) -> Actions:
        """A sample of the policy's actions."""
        return self.agent.act(obs)[0]


def collect(learner: Learner, envs: VectorEnv, obs: np.ndarray, cfg: Config) -> np.ndarray:
    """One real step in each environment; returns the observations [N, D] to act on next."""
    agent = learner.agent
    seen = (obs / agent.obs_unit).astype(np.float32)  # [N, D]
    if len(learner.real) < cfg.num_warmup_steps:
        actions = squash(torch.randn(len(obs), len(agent.limit)), agent.limit)
    else:
        actions = learner.act(torch.from_numpy(seen))
    next_obs, rewards, terminated, truncated, infos = envs.step(actions.numpy() + agent.centre)
    successor = (true_next_obs(next_obs, terminated | truncated, infos) / agent.obs_unit).astype(np.float32)
    counts = learner.rng.poisson(1.0, (len(obs), cfg.num_members)).astype(np.float32)  # n of eq. (2)
    step = {"obs": seen, "actions": actions.numpy(), "rewards": rewards.astype(np.float32)}
    learner.real.add(**step, next_obs=successor, counts=counts)
    return next_obs


def fit_model(learner: Learner, cfg: Config) -> None:
    """After the warm-up, and again every so many real steps."""
    since = len(learner.real) - cfg.num_warmup_steps
    if since < cfg.num_envs:
        learner.model.measure_units(learner.real.sample(cfg.num_warmup_steps, learner.rng))
        learner.model.fit(learner.real, 6 * cfg.num_fits, cfg.minibatch_size)
    elif since % cfg.fit_every < cfg.num_envs:
        learner.model.fit(learner.real, cfg.num_fits, cfg.minibatch_size)


def update(learner: Learner, cfg: Config, ends: Callable = never) -> None:
    """Branches off states of the past, then SAC's gradient steps on what was imagined."""
    starts = learner.real.sample(cfg.num_branches, learner.rng)["obs"]
    with torch.no_grad():
        rows = branch(learner.model.imagine, learner.act, starts, cfg.branch_length, ends)
    learner.imagined.add(**{name: values.numpy() for name, values in rows.items()})
    for _ in range(cfg.num_updates):
        batch = learner.imagined.sample(cfg.minibatch_size, learner.rng)
        learner.agent.update(batch, cfg.gamma, cfg.target_rate)


def train(
    cfg: Config, log: RunLog, envs: VectorEnv | None = None, ends: Callable = never, name: str = "mbpo"
) -> Learner:
    """Train on Pendulum, or without evaluations on environments that are passed in."""
    seed_everything(cfg.seed)
    evaluated = envs is None
    envs = envs or make_envs("Pendulum-v1", cfg.num_envs)
    obs, _ = envs.reset(seed=cfg.seed)
    learner = Learner(envs, cfg)
    num_rounds = max(1, cfg.num_env_steps // envs.num_envs)
    for i in log.track(range(1, num_rounds + 1), f"rounds of {name}", f"{name}_return"):
        step = i * envs.num_envs
        obs = collect(learner, envs, obs, cfg)
        if step >= cfg.num_warmup_steps:
            fit_model(learner, cfg)
            update(learner, cfg, ends)
        if evaluated and step % cfg.eval_every < envs.num_envs:
            log.write(step, **{f"{name}_return": score(learner.agent.greedy, cfg, 10_000)})
    return learner


def score(policy: Callable, cfg: Config, seed: int) -> float:
    """Mean return of 100 episodes from the starts that `seed` names, C6's; training never sees them."""
    return float(evaluate(policy, "Pendulum-v1", seed=cfg.seed + seed).mean())


# %% [markdown]
r"""
## 4. Look, break, write

![Left: MBPO reaches the goal long before C6's SAC; right: branches stray, under the bound](results/E6.png)

*Left.* With the same seeds MBPO needs at most a third of the real steps of C6's SAC. Is it the model? SAC
with MBPO's gradient steps on *real* transitions comes between, nearer to MBPO: most of what C6's lacks is
practice, and old transitions do for it (`chen2021redq`). Imagination saves a further part. Orange, seed 0:
one model of the 400 random steps, never fitted again, is trusted for 100 steps. Its policy stays poor.

*Right.* Half of the branches stay below the blue line, 19 of 20 below the orange one. Upright, where the
pendulum is unstable, a miss doubles within four steps ($L = 1.21$). (5) holds with much room: most steps miss
by far less than the worst.

![Left: what a branch misses, beside (4); right: how wrong a gradient through it is](results/E6_bounds.png)

*Left.* A model in which a sound world may break meets (4) at one step; counted models of random worlds stay
far below. *Right.* On C6's linear system the ensemble's slopes are nearly the system's, and a plan made with
them is nearly the best. A gradient through branches also needs the reward's slopes: it is far less exact.

**The verdict.** Trust a model for as many steps as its misses stay small; disagreement tells where they do
not. MBPO saves over two thirds of C6's real steps, most of them by practice, some by imagination.

<!-- results: E6 -->

`rl run E6`: 56 s; with `--evidence`: 114 s, 789 MB; with `--smoke --evidence`: 17 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| mbpo_return          | -153 (-170 to -145)          | ≥ -200        | 5/5 |
| strays_within_bound  | 0.554 (0.363 to 0.982)       | ≤ 1.000001    | 5/5 |
| mbpo_regret *        | 15.6 (7.51 to 25.4)          | ≤ 62.2        | 5/5 |
| disagreement_tells * | 6.32 (4.24 to 7.42)          | ≥ 1           | 5/5 |
| value_bound *        | 0.0596 (0.0431 to 0.0668)    | ≤ 1.000000001 | 5/5 |
| bound_is_met *       | 1                            | 1 ± 1e-09     | 5/5 |
| slope_error *        | 0.00234 (0.00209 to 0.00518) | ≤ 0.05        | 5/5 |
| planned_cost *       | 1                            | ≤ 1.05        | 5/5 |
| real_steps *         | 0.232 (0.197 to 0.25)        | ≤ 0.3333      | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `mbpo_return`: MBPO swings the pendulum up and holds it, on fresh episodes (mean return of 100 episodes)
- `strays_within_bound`: no branch strays further from the world's own path than (5) allows (of the bound, the
  worst step)
- `mbpo_regret`: from the same starts MBPO stays behind the computed optimum by no more than that goal does
  (of return, mean of 100 episodes)
- `disagreement_tells`: in the tenth of steps on which members disagree most the model misses by more than in
  the least (times the miss)
- `value_bound`: no branch in a counted model misses its first state's value by more than (4) (largest miss /
  bound)
- `bound_is_met`: where a model takes a sound world for one that may break, a branch of one step meets (4)
  (miss / bound)
- `slope_error`: on a linear system the slope of what the ensemble foresees is the system's own (largest
  difference, of the largest number)
- `planned_cost`: a gain that is planned in the model costs hardly more in the world than Riccati's (of the
  least cost, mean over states)
- `real_steps`: MBPO holds -200 after at most a third of the real steps of C6's SAC (of SAC's real steps, the
  same seed)
</details>

<!-- /results -->

**Break it.** `rl break E6 nothing_to_add_to` takes changes for states; `rl break E6 real_only` imagines none.

**Exercises.**

<!-- exercises: E6 -->

*E6.1 · A model and its branches* (30 minutes, medium). Write what a model is to foresee (1), its loss (2),
and the branches of (6). `rl exercise E6.targets_of`, `rl exercise E6.weighted_error`, `rl exercise
E6.branch`.

*E6.2 · What tells how far* (20 minutes, easy). Write the disagreement of (3) and both bounds, (4) and (5).
`rl exercise E6.disagreement`, `rl exercise E6.value_bound`, `rl exercise E6.stray_bound`.

*E6.3 · As long as they agree* (15 minutes, easy). A fixed $k$ is too long in some places and too short in
others. Let each branch go on as long as its members agree. With $u_t$ for the disagreement about step $t$ and
a limit $\bar u$, step $t$ is learnt from if

$$\max_{i \le t} u_i \le \bar u \tag{E1}$$

Write it for many branches at once. Why is it the largest up to now that must be below the limit, and not the
disagreement of the step itself? `rl exercise E6.trusted`.

<details><summary>Answer</summary>

Behind a step about which nothing was known, members may agree as much as they like: the state that they talk
about was made up.
</details>

*E6.4 · A bound that says nothing* (10 minutes, easy). Pendulum's reward lies between about $-16$ and 0, and
$\gamma = 0.98$. Let the model miss each next state by a millionth of a radian, never less. What does (4) say
of a branch of one step? What does (5), with $L = 1.21$?

<details><summary>Answer</summary>

Shift rewards by 16, so that they lie between 0 and 16. Every next state is missed, so $\epsilon_P = 1$, and
(4) allows $0.98 \cdot 16 / 0.02 = 784$: as much as any two values can differ one step later. It says nothing.
(5) allows a millionth of a radian after one step, and after 10 some 27 millionths. Chances do not know what
is near; distances do.
</details>

*E6.5 · What saved the steps?* (10 minutes, medium). `rl break E6 real_only` makes as many gradient steps on
what was really met, and none on what was imagined. Does it need more real steps? Name two cases in which a
model would still be worth its price.

<details><summary>Answer</summary>

On Pendulum it does, on most seeds not many: most of what C6's learner lacked was practice, and old
transitions will do for that. A model is worth more where a policy must learn of actions that nobody tried in
a state: replay has nothing to say of them, and a critic makes it up. And where the task changes: a new
reward, or a new discount, needs no new step in the world if the model is at hand.
</details>

*E6.6 · Find the bug* (10 minutes). `rl exercise E6.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    learner = train(cfg, log)
    source, unit = "the course's goal for Pendulum-v1", "mean return of 100 episodes"
    says = "MBPO swings the pendulum up and holds it, on fresh episodes"
    earned = score(learner.agent.greedy, cfg, 20_000)
    log.claim("mbpo_return", says, earned, at_least=GOAL, unit=unit, source=source)
    with torch.no_grad():
        starts = learner.real.sample(400, learner.rng)["obs"]
        strays = straying.follow(learner.model.predict, disagreement, learner.act, starts, FAR)
    bounds = [stray_bound(strays.missed.max(), k, straying.STRETCH) for k in range(1, FAR + 1)]
    says = "no branch strays further from the world's own path than (5) allows"
    source, unit = "(5) with the largest miss of all steps; rounding allowed", "of the bound, the worst step"
    worst = (strays.strayed.max(axis=1) / bounds).max()
    log.claim("strays_within_bound", says, worst, at_most=1 + 1e-6, unit=unit, source=source, always=True)
    log.keep(learner=learner, strays=strays, bounds=bounds)
    plotting.learning_curve(log, "mbpo_return", threshold=GOAL, title="MBPO on Pendulum", xlabel="real steps")


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
