# %% [markdown]
r"""
# E10 · Learning from a log

**Question.** Nobody may try anything: there is only a log of what others did. Can a better policy be learnt
from it than by copying, what goes wrong, and can one know how good it is before it is ever let loose?

**Before this:** B4 (deep Q-networks, DQN), A3 (values by a linear solve), E11 (cloning). **Changes from B4:**
no new data ever come to correct a wrong value. **Next:** E2, what else may be missing.

**Time.** 30 s on 2 cores; with all evidence 120 s.

References: `levine2020offline`, `ernst2005tree`, `fujimoto2019bcq`, `kumar2020cql`, `kostrikov2022iql`,
`peng2019awr`, `le2019fqe`, `fu2020d4rl`.

Symbols: `B` transitions in a minibatch, `D` size of an observation, `S` states, `A` actions; $\pi_\beta$ the
policy that wrote the log; $\alpha$ weight of the pessimism, $c$ a price, $\chi^2$ how far policies differ;
$\tau$ which expectile, $m$ the expectile, $u$ an error; $\eta$ a temperature, $w$ a weight.
"""

# %%
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from chapters.envs import evaluate
from chapters.envs.bench import NUM_MACHINES, machines, record
from chapters.envs.replay import ReplayBuffer, move_average
from chapters.exact.mdp import MDP, evaluate_exactly, q_from_v, random_mdp
from chapters.utils import RunLog, in_range, plotting, run_lesson, seed_everything
from chapters.utils.optim import Adam

SOLVED = 475.0  # the threshold registered for CartPole-v1
MAX_WEIGHT = 100.0  # of an action in IQL's cloning
Numbers = Float[Tensor, " B"]  # one for each transition
Table = Float[np.ndarray, "S A"]
Policy = Callable[[Tensor], Tensor]  # observations [B, D] to actions [B]
Batch = dict[str, Tensor]  # obs, actions, rewards, next_obs, terminated


@dataclass(frozen=True)
class Config:
    """Four learners, each on two logs of CartPole."""

    seed: int = 0
    """Seed of the logs, of the networks and of what is drawn."""
    num_steps: Annotated[int, in_range(100, 10**6)] = 5000
    """Transitions in a log."""
    num_good: Annotated[int, in_range(0, NUM_MACHINES)] = 2
    """Of the ten machines that wrote the misleading log, how many were wired rightly."""
    num_updates: Annotated[int, in_range(1, 10**6)] = 800
    """Gradient steps of each learner."""
    minibatch_size: Annotated[int, in_range(1, 65_536)] = 128
    """B: transitions of one gradient step."""
    hidden_size: Annotated[int, in_range(1, 4096)] = 64
    """Units in each of the two hidden layers."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 3e-3
    """Adam's step size."""
    gamma: Annotated[float, in_range(0.0, 0.9999)] = 0.95
    """Discount factor."""
    target_rate: Annotated[float, in_range(0.0, 1.0)] = 0.05
    """How fast the target network follows; 1 is at once."""
    alpha: Annotated[float, in_range(0.0, 100.0)] = 0.1
    """CQL: weight of the pessimism."""
    tau: Annotated[float, in_range(0.01, 0.99)] = 0.7
    """IQL: which expectile; 0.5 is the mean."""
    temperature: Annotated[float, in_range(1e-3, 100.0)] = 0.07
    """IQL: by how much an advantage must grow for e times the weight."""


SMOKE = {"num_steps": 200, "num_updates": 4, "hidden_size": 8}

# %% [markdown]
r"""
## 1. A maximum over what the log lacks

A log is a fixed set of transitions $(s, a, r, s', \text{terminated})$. DQN can be trained on it as on a
replay buffer that nobody adds to: *fitted Q-iteration* (`ernst2005tree`). Its target asks, at $s'$, for the
best of all actions, also of those that the log seldom or never took there:

$$y = r + \gamma\,(1 - \text{terminated})\; v(s'), \qquad v(s') = \max_a Q_{\theta^-}(s', a) \tag{1}$$

A network has an answer for those too, made up from what lies near. Where it is too high the maximum picks it,
and by (1) it spreads. In B4 the agent would now go there, and learn better. Here nobody goes. This is
*extrapolation error* (`fujimoto2019bcq`); `levine2020offline` surveys the field, `fu2020d4rl` its tasks.

We pay $1 - \gamma$ a step, so a pole that never falls is worth 1, and **no policy is worth more**. Our first
log is a good controller's on CartPole: one push in twenty is wrong, none falls. Every step pays and none ends
(a time limit is no end), so *the same 1 for both pushes, everywhere*, solves (1): $1 = 1 - \gamma + \gamma$.
All that speaks for a push is that the controller did it. The second log is from a test bench, where attempts
begin anywhere: two machines are wired rightly, eight do the opposite of what is good four times in five.

## 2. Pessimism: CQL

**Conservative Q-learning** (CQL, `kumar2020cql`) pulls down what the network likes and pushes up what the log
did, beside half the squared error of (1):

$$L = \tfrac12 \bigl(Q(s, a) - y\bigr)^2 + \alpha \Bigl( \log \sum_{b} e^{Q(s, b)} - Q(s, a) \Bigr) \tag{2}$$

You know the bracket: a language model's cross-entropy, with $Q(s, \cdot)$ for logits and the logged action
for the label. CQL is cloning and (1) in one network; $\alpha = 0$ is DQN.

*Where does it end?* Take a table, evaluate a fixed $\pi$, and pull down in proportion to $\pi$. In each cell
the slope of the loss, $\pi_\beta (Q - y) + \alpha (\pi - \pi_\beta)$, is 0 where $Q$ lies below its backup
$y$ by a price, as if each action *cost* something:

$$\hat Q(s, a) = R(s, a) - \alpha\, c(s, a) + \gamma \sum_{s', b} P(s' \mid s, a)\, \pi(b \mid s')\,
\hat Q(s', b), \qquad c(s, a) = \frac{\pi(a \mid s)}{\pi_\beta(a \mid s)} - 1 \tag{3}$$

What $\pi$ does more often than the log is dear; what it does less often is *subsidised*, so a single
$\hat Q(s, a)$ may lie above the truth. But averaged over $\pi$ the price cannot be negative,

$$\sum_a \pi(a \mid s)\, c(s, a) = \sum_a \frac{\bigl(\pi(a \mid s) - \pi_\beta(a \mid s)\bigr)^2}
{\pi_\beta(a \mid s)} = \chi^2(s) \ge 0, \tag{4}$$

so **$\hat V(s) = \sum_a \pi(a \mid s) \hat Q(s, a)$ is a lower bound in every state** (theorem 3.2 there),
too low by $\alpha$ times the discounted sum of the $\chi^2$ that $\pi$ will meet. Without the push upwards
$c$ is $\pi / \pi_\beta \ge 0$: then each *action* is bounded too (theorem 3.1), and $\hat V$ is lower still.

*By hand.* The log acts by (0.8, 0.2) and $\pi$ by (0.5, 0.5): the mean of its prices, (4), is 0.5625.

```python
>>> prices(np.array([[0.5, 0.5]]), np.array([[0.8, 0.2]])).round(3)
array([[-0.375,  1.5  ]])
```

All this is for exact backups and a $\pi$ that stands still. But (2) pulls down by the softmax of $Q$, and (1)
takes a maximum. There the bound asks that the policy change slowly (theorem 3.3), and we promise nothing.

Chapter D's Kullback–Leibler (KL) penalty is the same pessimism with another distance: a policy pays, in each
state that it meets, for leaving the one that wrote the data. Direct preference optimisation (D4) learns from
a log under it, and like (2) it knows only states of the log.
"""


# %%
def pick(q_values: Float[Tensor, "B A"], actions: Int[Tensor, " B"]) -> Numbers:
    """The value of each row's action."""
    return q_values.gather(1, actions.unsqueeze(1)).squeeze(1)


def conservative_penalty(q_values: Float[Tensor, "B A"], actions: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """What CQL adds, before its weight: all that the network likes, less what the log did."""
    return (q_values.logsumexp(dim=1) - pick(q_values, actions)).mean()  # eq. (2), the bracket


def prices(policy: Table, behaviour: Table) -> Table:
    """c(s, a): what an action costs, in units of alpha; the behaviour takes every action now and then."""
    return policy / behaviour - 1  # eq. (3), right


def priced_q(mdp: MDP, policy: Table, costs: Table) -> Table:
    """What a policy's actions are worth if each also costs something: the fixed point of (3), exactly."""
    priced = mdp._replace(R=mdp.R - costs)
    return q_from_v(priced, evaluate_exactly(priced, policy))  # eq. (3), left


# %% [markdown]
r"""
## 3. Never ask for what is not there: IQL

**Implicit Q-learning** (IQL, `kostrikov2022iql`) takes no maximum at all. A second network $V$ is fitted to
the values of actions *in the log* by a lopsided square, (5). In a table it finds their **expectile** $m$,
(6): a mean that leans to the upper side.

$$\ell_\tau(u) = \bigl|\tau - \mathbf 1[u < 0]\bigr|\, u^2, \qquad u = Q(s, a) - V(s) \tag{5}$$

$$m = \frac{\sum_a p_a\, Q(s, a)}{\sum_a p_a}, \qquad
p_a = \pi_\beta(a \mid s)\, \bigl|\tau - \mathbf 1[Q(s, a) < m]\bigr| \tag{6}$$

At $\tau = 0.5$ it is the mean; as $\tau \to 1$ it nears the best value *in the log*. *By hand:* two actions
worth 0 and 1, the better one taken once in four times, $\tau = 0.9$. They count $0.75 \cdot 0.1 = 0.075$ and
$0.25 \cdot 0.9 = 0.225$, so by (6) $m = 0.225 / 0.3 = 0.75$, three times the mean.

$Q$ then learns by (1), with $v = V$. Why not lean in (1) at once, without $V$? One must lean over *actions*,
which one can choose, and never over where luck leads; $Q$ averages luck out first. Last, the policy is a
clone for which good actions count more (`peng2019awr`), up to a limit:

$$L_\pi = -w\, \log \pi(a \mid s), \qquad w = \min\bigl(e^{u / \eta},\; w_{\max}\bigr) \tag{7}$$

## 4. How good is it, before it acts?

**Fitted Q evaluation** (`le2019fqe`) is (1) with the action that the policy in question would take, whoever
wrote the log: $v(s') = Q_{\theta^-}(s', \pi(s'))$. It needs no maximum, and no ratios of chances as in B5.
"""


# %%
def expectile_loss(errors: Numbers, tau: float) -> Float[Tensor, ""]:
    """A square that counts errors below 0 by 1 - tau, and others by tau."""
    return ((tau - (errors < 0).float()).abs() * errors**2).mean()  # eq. (5)


def advantage_weights(advantages: Numbers, temperature: float) -> Numbers:
    """How much each logged action counts in cloning."""
    return torch.exp(advantages / temperature).clamp(max=MAX_WEIGHT)  # eq. (7), right


class Network(nn.Sequential):
    """Observations, in units of a log's spread, to some numbers; two hidden layers."""

    def __init__(self, obs: Float[np.ndarray, "n D"], num_outputs: int, size: int):
        first, second = nn.Linear(obs.shape[1], size), nn.Linear(size, size)
        super().__init__(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(size, num_outputs))
        self.mean = torch.from_numpy(obs.mean(axis=0))
        self.spread = torch.from_numpy(obs.std(axis=0).clip(min=1e-3))

    def forward(self, obs: Tensor) -> Tensor:
        return super().forward((obs - self.mean) / self.spread)


class Learner:
    """Networks, of which a loss uses those that it needs: q, value, the policy's logits, and slow copies."""

    def __init__(self, obs: Float[np.ndarray, "n D"], cfg: Config):
        nets = [Network(obs, num_outputs, cfg.hidden_size) for num_outputs in (2, 1, 2)]
        self.q, self.value, self.policy = nets
        self.target, self.slow_policy = copy.deepcopy(self.q), copy.deepcopy(self.policy)
        self.optimizer = Adam((weights for net in nets for weights in net.parameters()), cfg.learning_rate)


def td_loss(learner: Learner, batch: Batch, next_values: Numbers, cfg: Config) -> Tensor:
    """Half the squared error of (1), for rewards of 1 - gamma."""
    rewards = (1 - cfg.gamma) * batch["rewards"]
    targets = rewards + cfg.gamma * ~batch["terminated"] * next_values.detach()  # eq. (1), left
    return 0.5 * mse_loss(pick(learner.q(batch["obs"]), batch["actions"]), targets)


def clone_loss(learner: Learner, batch: Batch, cfg: Config) -> Tensor:
    """Behaviour cloning: what would the log do?"""
    return cross_entropy(learner.policy(batch["obs"]), batch["actions"])


def dqn_loss(learner: Learner, batch: Batch, cfg: Config) -> Tensor:
    """Q-learning: the best of all actions, logged or not."""
    next_values = learner.target(batch["next_obs"]).amax(dim=1)  # eq. (1), right
    return td_loss(learner, batch, next_values, cfg)


def cql_loss(learner: Learner, batch: Batch, cfg: Config) -> Tensor:
    """Q-learning, with pessimism."""
    penalty = conservative_penalty(learner.q(batch["obs"]), batch["actions"])
    return dqn_loss(learner, batch, cfg) + cfg.alpha * penalty  # eq. (2)


def iql_loss(learner: Learner, batch: Batch, cfg: Config) -> Tensor:
    """V by expectiles, Q by (1) with it, and a clone for which good actions count more."""
    logged = pick(learner.target(batch["obs"]), batch["actions"]).detach()
    errors = logged - learner.value(batch["obs"]).squeeze(1)
    next_values = learner.value(batch["next_obs"]).squeeze(1)
    weights = advantage_weights(errors.detach(), cfg.temperature)
    surprise = cross_entropy(learner.policy(batch["obs"]), batch["actions"], reduction="none")
    cloned = (weights * surprise).mean()  # eq. (7), left
    return expectile_loss(errors, cfg.tau) + td_loss(learner, batch, next_values, cfg) + cloned


def fitted_loss(learner: Learner, batch: Batch, cfg: Config, policy: Policy) -> Tensor:
    """Fitted Q evaluation: the action that the policy would take next."""
    next_values = pick(learner.target(batch["next_obs"]), policy(batch["next_obs"]))
    return td_loss(learner, batch, next_values, cfg)


METHODS = {"clone": clone_loss, "dqn": dqn_loss, "cql": cql_loss, "iql": iql_loss}


def train(loss: Callable, log: ReplayBuffer, cfg: Config) -> Learner:
    """So many gradient steps on minibatches of a log that stays as it is."""
    seed_everything(cfg.seed)
    rng = np.random.default_rng((cfg.seed, 2))
    learner = Learner(log.arrays["obs"][: len(log)], cfg)
    for _ in range(cfg.num_updates):
        learner.optimizer.zero_grad()
        loss(learner, log.sample(cfg.minibatch_size, rng), cfg).backward()
        learner.optimizer.step()
        move_average(learner.target, learner.q, cfg.target_rate)
        move_average(learner.slow_policy, learner.policy, cfg.target_rate)
    return learner


def policy_of(method: str, learner: Learner) -> Policy:
    """The likeliest action if it has a policy, else the best; by slow copies, which flicker less (B4)."""
    network = learner.slow_policy if method in ("clone", "iql") else learner.target
    return lambda obs: network(torch.as_tensor(obs)).argmax(dim=-1)


# %% [markdown]
r"""
## 5. Look, break, write

![Returns of four learners on two logs: DQN falls on the good one, the clone on the other](results/E10.png)

On the good log DQN lets the pole fall at once. Its values, made up, run far beyond 1. With (2), or (5) to
(7), the same network holds the pole, as the clone does. On the other log the clone does what was done most;
the others saw what came of it, and earn more. DQN earns most, on all seeds but one: pessimism has a price. No
log says how much is right: we tried in the world, and half of our $\alpha$ fell short of 475 on some seeds.

![Returns against the share of machines that are wired rightly](results/E10_share.png)

How much of the log must be good? Some of it: where no machine shows how it is done both learners fail. But at
each share that we tried between none and all CQL earns more than the clone.

![Forecasts of fitted evaluation against measured values](results/E10_fitted.png)

From the bench's log, which shows falls of every kind, forecasts lie near what was measured. From the good log
the forecast of a policy whose pushes it lacks runs off (crosses): no method learns what a log does not show.

In a random table whose log lacks an action in each state, IQL's values rise with $\tau$ to the dashed line:
![IQL's values rise with tau to the best policy within the log's actions](results/E10_expectiles.png)

**The verdict.** Yes, where the log shows what goes wrong: there Q-learning beats a copy. Where it shows only
what goes right, a maximum over all actions makes up the rest, and pessimism brings the learner back to the
copy, the best that can be had. A forecast is good as far as the log covers what the policy does.

<!-- results: E10 -->

`rl run E10`: 26 s; with `--evidence`: 57 s, 792 MB; with `--smoke --evidence`: 9 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| value_above           | -1.12 (-4.86 to -0.352)         | ≤ 1e-12    | 5/5    |
| good_dqn              | 0.0186 (0.0181 to 0.019)        | ≤ 0.5      | 5/5    |
| good_cql              | 500 (482 to 500)                | ≥ 475      | 5/5    |
| good_iql              | 500 (490 to 500)                | ≥ 475      | 5/5    |
| cql_over_clone        | 182 (101 to 260)                | ≥ 0        | 5/5    |
| fixed_point *         | 1.41e-08 (8.46e-09 to 2.46e-08) | ≤ 1e-06    | 5/5    |
| values_above *        | -0.657 (-0.995 to -0.439)       | ≤ 1e-12    | 5/5    |
| chi_squared *         | 1.78e-15 (1.78e-15 to 2.22e-15) | ≤ 1e-10    | 5/5    |
| some_action_above *   | 0.0128 (0.00394 to 0.017)       | ≥ 0        | 5/5    |
| actions_above *       | -1.55 (-1.87 to -1.35)          | ≤ 1e-12    | 5/5    |
| expectile_gap *       | 7.36e-08                        | ≤ 1e-05    | 5/5    |
| half_is_the_log *     | 4.44e-15 (1.78e-15 to 7.11e-15) | ≤ 1e-09    | 5/5    |
| rises_with_tau *      | 0.0193 (0.00636 to 0.0201)      | ≥ -1e-12   | 5/5    |
| best_in_data *        | 0.0165 (0.0141 to 0.027)        | ≤ 1        | 5/5    |
| counted_world *       | 4.44e-16 (1.67e-16 to 9.99e-16) | ≤ 1e-09    | 5/5    |
| fitted_slope *        | -0.527 (-0.532 to -0.507)       | -0.5 ± 0.1 | 5/5    |
| forecast_error *      | 0.0184 (0.0161 to 0.0252)       | ≤ 0.1      | 5/5    |
| belief *              | 31,147 (14.4 to 149,047)        | ≥ 1        | 5/5    |
| blind_forecast *      | 18,796 (690 to 52,105)          | ≥ 0.25     | 5/5    |
| dqn_over_clone *      | 203 (125 to 340)                | ≥ 0        | 5/5    |
| ahead_at_each_share * | 90.8                            | ≥ 0        | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `value_above`: in a random world CQL's value of a policy lies above the true one in no state (largest
  difference over the states)
- `good_dqn`: on the good log DQN keeps less than half of the clone's return (DQN's return / the clone's)
- `good_cql`: on the same log CQL holds the threshold (mean return of 100 episodes)
- `good_iql`: on the same log IQL holds the threshold (mean return of 100 episodes)
- `cql_over_clone`: where most of the log is wrong, CQL earns more than the clone (difference of mean returns)
- `fixed_point`: CQL's loss, minimised backup after backup, ends at the closed form (3) (largest difference of
  a value)
- `values_above`: in no state of any of these worlds is a value of CQL's above the true one (largest
  difference over states and worlds)
- `chi_squared`: what is missing is alpha times the discounted chi squared that the policy meets (largest
  difference over states and worlds)
- `some_action_above`: but where nothing follows, the value of some action is above the true one in every
  state (largest difference over the actions, smallest over states and worlds)
- `actions_above`: without the push upwards no action's value is (largest difference over pairs and worlds)
- `expectile_gap`: of two actions the lopsided square finds the expectile of (6) (largest difference)
- `half_is_the_log`: at tau 0.5 IQL's values are those of the policy that wrote the log (largest difference
  over states and worlds)
- `rises_with_tau`: with tau the values rise in every state (smallest rise over states, steps and worlds)
- `best_in_data`: as tau goes to 1 they come to the best policy that takes only actions of the log (distance
  at tau 0.9999 / what one step's error allows)
- `counted_world`: in a table fitted evaluation ends at the exact values of the counted world (largest
  difference of a value)
- `fitted_slope`: its error against the true values falls as one over the root of the log's length (slope,
  log-log)
- `forecast_error`: forecasts from the misleading log miss the measured values of four policies by little
  (mean difference, of a most of 1)
- `belief`: on the good log DQN believes in more than any policy can be worth (mean of the best action's
  value)
- `blind_forecast`: from the good log, which lacks what DQN's policy does, a forecast of it is worth nothing
  (forecast against measured value, difference, of a most of 1)
- `dqn_over_clone`: where most of the log is wrong, DQN earns more than the clone, too (difference of mean
  returns)
- `ahead_at_each_share`: at each share of good machines but none and all, CQL earns more than the clone,
  median of the seeds (difference of mean returns, smallest of the shares)
</details>

<!-- /results -->

**Break it.** `rl break E10 only_logged`: the sum in (2) runs over logged actions alone.
`rl break E10 asks_for_the_best`: IQL with DQN's maximum. `rl break E10 plain_clone`: all actions count alike.

**Exercises.**

<!-- exercises: E10 -->

*E10.1 · Two ways to be careful* (25 minutes, easy). Write CQL's penalty (2) and its price (3), IQL's lopsided
square (5) and its weights (7). `rl exercise E10.conservative_penalty`, `rl exercise E10.prices`, `rl exercise
E10.expectile_loss`, `rl exercise E10.advantage_weights`.

*E10.2 · Four targets* (35 minutes, medium). Write the squared error of (1), and around it the losses of CQL,
IQL and fitted evaluation. Which network may each of them move? `rl exercise E10.td_loss`, `rl exercise
E10.cql_loss`, `rl exercise E10.iql_loss`, `rl exercise E10.fitted_loss`.

*E10.3 · Fitted evaluation in a table* (25 minutes, medium). In a table each sweep of fitted evaluation sets a
pair's value to the mean of its targets, over all transitions $i$ of the log that begin with it:

$$Q(s, a) \leftarrow \frac{1}{n(s, a)} \sum_i \Bigl( r_i + \gamma\, (1 - \text{terminated}_i)
\sum_b \pi(b \mid s'_i)\, Q(s'_i, b) \Bigr) \tag{E1}$$

Write it. To the values of which world do the sweeps converge?
And how does their error fall as the log grows? `rl exercise E10.fitted_table`.

<details><summary>Answer</summary>

To those of the *counted* world, whose chances are the log's frequencies (and a pair that never came is worth
0). Its error against the true world's values falls as one over the root of the log's length, as that of any
mean; the evidence measures both.
</details>

*E10.4 · A forecast, or a logit?* (10 minutes, hard). On the good log the network of CQL holds values above 1,
which no policy can be worth. It is called conservative, and (4) promised a lower bound. What is wrong?

<details><summary>Answer</summary>

Nothing. We ask the network about actions that the log took, and those it *pushes up*: by (3) their price is
negative as long as the log takes them more often than the softmax of $Q$ does, and all that come later are
subsidised too. On average over that softmax the price is a $\chi^2$, as ever; on average over what is done,
the best action, it is not. Use CQL's values to choose, and fitted evaluation to forecast.
</details>

*E10.5 · Find the bug* (10 minutes). `rl exercise E10.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    mdp = random_mdp(rng, num_states=6, num_actions=3, gamma=0.9)
    policy, behaviour = rng.dirichlet(np.ones(3), size=(2, 6))
    believed = (policy * priced_q(mdp, policy, cfg.alpha * prices(policy, behaviour))).sum(axis=1)
    log.claim(
        "value_above",
        "in a random world CQL's value of a policy lies above the true one in no state",
        (believed - evaluate_exactly(mdp, policy)).max(),
        at_most=1e-12,
        unit="largest difference over the states",
        source="kumar2020cql, theorem 3.2; exact values",
        always=True,
    )
    good = record(machines(NUM_MACHINES), cfg.num_steps, cfg.seed)
    bench = record(machines(cfg.num_good), cfg.num_steps, cfg.seed, anywhere=True)
    log.keep(good=good, bench=bench)
    for method, loss in METHODS.items():
        for name, data in (("good", good), ("bench", bench)):
            learner = train(loss, data, cfg)
            returns = evaluate(policy_of(method, learner), "CartPole-v1", seed=cfg.seed + 10_000)
            log.write(0, **{f"{name}_{method}": returns.mean()})
            log.keep(**{f"{name}_{method}": learner})
    draw([log.metrics], log)
    log.claim(
        "good_dqn",
        "on the good log DQN keeps less than half of the clone's return",
        log.last("good_dqn") / log.last("good_clone"),
        at_most=0.5,
        unit="DQN's return / the clone's",
        source="fujimoto2019bcq: off-policy learners fail on an expert's data",
    )
    for method in ("cql", "iql"):
        log.claim(
            f"good_{method}",
            f"on the same log {method.upper()} holds the threshold",
            log.last(f"good_{method}"),
            at_least=SOLVED,
            unit="mean return of 100 episodes",
            source="the threshold registered for CartPole-v1",
        )
    log.claim(
        "cql_over_clone",
        "where most of the log is wrong, CQL earns more than the clone",
        log.last("bench_cql") - log.last("bench_clone"),
        at_least=0.0,
        unit="difference of mean returns",
        source="the clone of the same log, on the same episodes",
    )


def draw(runs: list[dict], log: RunLog) -> None:
    """Returns on both logs: a dot for each run."""
    figure, axes = plotting.new_figure(1, 2, width=4.4, height=3.4)
    for ax, kind, title in ((axes[0], "good", "A good log"), (axes[1], "bench", "A misleading log")):
        rows = {method: [run[f"{kind}_{method}"][-1][1] for run in runs] for method in METHODS}
        rows = {name if name == "clone" else name.upper(): values for name, values in rows.items()}
        plotting.dot_rows(ax, rows, plotting.COLOURS)
        ax.axvline(SOLVED, label="solved (475)", **plotting.REFERENCE)
        ax.set(xlim=(0, 510), xlabel="return, mean of 100 episodes", title=title)
    axes[0].legend(loc="upper center")
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
