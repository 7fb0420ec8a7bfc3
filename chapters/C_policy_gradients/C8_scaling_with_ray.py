# %% [markdown]
r"""
# C8 · Past one machine, with Ray

**Question.** Which parts of a learner can be given to other machines, why do its numbers come out the same
wherever they are computed and whatever dies on the way, and from how many workers on is one more a loss?

**Before this:** C3, a learner that one core trains in seconds. **Changes from C3:** no gradient, parts that
hardly talk, and an engine for them, Ray. **Next:** `rl sweep C3 --on ray`, the same for any lesson.

**Extra.** `scale`: `uv sync --inexact --compile-bytecode --extra scale` adds Ray. No exercise needs it.

**Time.** 30 s on 2 cores; with all evidence 180 s.

References: `moritz2018ray`, `salimans2017es`, `graham1969bounds`, `amdahl1967validity`.

Symbols: $m$ members, `B` of them at one place, `D` weights of a policy; $W$ workers, $n$ tasks.
"""

# %%
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from chapters import cluster
from chapters.envs.cartpole import linear_returns
from chapters.utils import RunLog, in_range, plotting, run_lesson

SOLVED = 475.0  # the threshold registered for CartPole-v1
NUM_WEIGHTS = 4  # of a linear policy: one for each number that CartPole shows
SIGMAS = (0.03, 0.1, 0.3)  # the settings that are swept: sizes of the noise
RETRIES = 5  # how often a task may be run again when its node has died
Weights, Noises = Float[np.ndarray, " D"], Float[np.ndarray, "B D"]
Members = Int[np.ndarray, " B"]  # their numbers in the population
Returns = Float[np.ndarray, " B"]
Seconds = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Config:
    """A sweep of an evolution strategy on CartPole, in this process and on a cluster of two nodes."""

    seed: int = 0
    """Which `num_seeds` seeds are swept: 0 to 3 with 0, 4 to 7 with 1, so that no two sweeps share one."""
    num_seeds: Annotated[int, in_range(1, 1000)] = 4
    """Seeds of each setting."""
    num_iterations: Annotated[int, in_range(1, 10_000)] = 20
    """Steps of each learner."""
    num_members: Annotated[int, in_range(4, 100_000)] = 32
    """m: policies played in each step."""
    learning_rate: Annotated[float, in_range(1e-6, 100.0)] = 0.3
    """Step size."""
    num_eval_episodes: Annotated[int, in_range(1, 10_000)] = 100
    """Episodes by which a learner's last policy is judged."""


SMOKE = {"num_seeds": 1, "num_iterations": 2, "num_members": 8, "num_eval_episodes": 5}

# %% [markdown]
r"""
## 1. Chance with an address

An *evolution strategy* (`salimans2017es`) climbs without a gradient. It plays $m$ *members*, policies with
the weights $\theta + \sigma\epsilon_i$, and moves $\theta$ towards the noise of those that did well, (1), by
a step size $\alpha$. How much a member's noise counts, $f_i$, comes from the rank of its return among all,
from 0 to $m - 1$, (2). Ties share the mean of their ranks:

$$\theta \leftarrow \theta + \frac{\alpha}{m\,\sigma} \sum_{i=1}^{m} f_i\, \epsilon_i \tag{1}$$

$$f_i = \frac{\text{rank}_i}{m - 1} - \frac12 \tag{2}$$

No member needs another, so they can be played anywhere, if one thing is right: **chance must depend on what
is computed, not on who computes it.** Here it follows from an *address*: seed, iteration, and which pair (of
members with opposite noise). A worker makes a member's noise itself, the driver again; only returns travel.

*By hand.* Returns 10, 30, 30, 20 have the ranks 0, 2½, 2½, 1 and count −½, ⅓, ⅓, −⅙.

```python
>>> centred_ranks(np.array([10.0, 30.0, 30.0, 20.0])).round(2).tolist()
[-0.5, 0.33, 0.33, -0.17]
>>> alone, among_others = noises(7, 3, np.arange(2, 4)), noises(7, 3, np.arange(6))
>>> bool((alone == among_others[2:4]).all())
True
```
"""


# %%
def noises(seed: int, iteration: int, members: Members) -> Noises:
    """Each member's noise, from its address alone; member 2k + 1 is the mirror image of member 2k."""
    rows = [np.random.default_rng([seed, iteration, i // 2]).standard_normal(NUM_WEIGHTS) for i in members]
    return np.where(members % 2, -1.0, 1.0)[:, None] * np.array(rows)


def play(policies: Noises, seed: int, iteration: int, members: Members) -> Returns:
    """The return of one episode of each policy; where it starts has an address too."""
    rngs = [np.random.default_rng([seed, iteration, i // 2, 1]) for i in members]
    return linear_returns(policies, starts=np.array([rng.uniform(-0.05, 0.05, 4) for rng in rngs]))


def centred_ranks(returns: Returns) -> Returns:
    """From -1/2 for the worst to 1/2 for the best; ties share the mean of their ranks."""
    return (rankdata(returns) - 1) / (len(returns) - 1) - 0.5  # eq. (2)


def improved(theta: Weights, noise: Noises, returns: Returns, sigma: float, learning_rate: float) -> Weights:
    """The weights after one step."""
    return theta + learning_rate / (len(returns) * sigma) * centred_ranks(returns) @ noise  # eq. (1)


# %% [markdown]
r"""
## 2. Tasks: a sweep

A sweep trains a learner for every setting and seed. To Ray such a job is a *task*: a call that may run on
any free core of any node, and at once returns a *reference* to what will come of it. `ray.wait` tells which
values are there, `ray.get` fetches one. Small ones travel with the answer; large ones stay in the *object
store* of the node that made them, memory that its processes share, until somebody asks.

Where a machine dies, Ray runs the task elsewhere (`max_retries`). **That is right only because a task depends
on its arguments alone and changes nothing but its result.** One that adds a line to a file adds it twice.
"""


# %%
class Job(NamedTuple):
    """What is to be computed: all that its result depends on."""

    cfg: Config
    sigma: float
    seed: int


class Done(NamedTuple):
    """What came of it, and where and when that was."""

    theta: tuple[float, ...]
    score: float
    node: str
    begun: float
    ended: float
    cpu_seconds: float


def returns_of(job: Job, theta: Weights, iteration: int, members: Members) -> Returns:
    """What some members of the population earn."""
    policies = theta + job.sigma * noises(job.seed, iteration, members)
    return play(policies, job.seed, iteration, members)


def learn(job: Job, everyones_returns: Callable | None = None) -> Weights:
    """Train one learner, its members played here or by `everyones_returns(theta, iteration)`."""
    theta, everyone = np.zeros(NUM_WEIGHTS), np.arange(job.cfg.num_members)
    for i in range(job.cfg.num_iterations):
        returns = everyones_returns(theta, i) if everyones_returns else returns_of(job, theta, i, everyone)
        theta = improved(theta, noises(job.seed, i, everyone), returns, job.sigma, job.cfg.learning_rate)
    return theta


def run(job: Job, node: str = "here") -> Done:
    """The whole task: learn, then judge the last weights on episodes of their own."""
    begun, cpu = time.time(), time.process_time()
    theta = learn(job)
    fresh = 2 * np.arange(job.cfg.num_eval_episodes)  # members 2k and 2k + 1 start alike: one of each
    score = play(np.tile(theta, (len(fresh), 1)), job.seed, job.cfg.num_iterations, fresh).mean()
    return Done(tuple(theta.tolist()), float(score), node, begun, time.time(), time.process_time() - cpu)


def run_there(job: Job) -> Done:
    """The task as a worker of Ray does it, which knows the name of its node."""
    import ray

    return run(job, ray.get_runtime_context().get_node_id())


def sweep_on_ray(jobs: list[Job], after: Callable[[int], object] = lambda num_done: None) -> dict[Job, Done]:
    """Every job as a task; `after` is called as they end. What is lost is missing in the answer."""
    import ray

    remote = ray.remote(num_cpus=1, max_retries=RETRIES)(run_there)
    waiting, found = {remote.remote(job): job for job in jobs}, {}
    while waiting:
        (reference,), _ = ray.wait(list(waiting))
        job = waiting.pop(reference)
        with contextlib.suppress(ray.exceptions.RayError):  # its node has died once too often
            found[job] = ray.get(reference)
            after(len(found))
    return found


# %% [markdown]
r"""
## 3. Actors: one learner on several workers

A task forgets. An *actor* is a process that keeps what it was made with and answers calls, one after another.
So one learner can be spread too: each actor plays its share of the members, and a step waits for all of them.
`ray.put` places $\theta$ in the object store once, and the workers of a node read one copy. Returns are put
together in the order of the *members*, not of the answers: each must meet its own noise in (1).
"""


# %%
class Player:
    """Keeps a job, and plays the members that it is told to."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def returns(self, theta: Weights, iteration: int, members: Members) -> Returns:
        return returns_of(self.job, theta, iteration, members)


def learn_with_actors(job: Job, num_workers: int) -> tuple[Weights, list[float]]:
    """(the weights, seconds of each step) of one learner whose members are played by actors."""
    import ray

    players = [ray.remote(num_cpus=1)(Player).remote(job) for _ in range(num_workers)]
    shares = np.array_split(np.arange(job.cfg.num_members), num_workers)
    seconds = []

    def everyones_returns(theta: Weights, iteration: int) -> Returns:
        start = time.perf_counter()
        stored = ray.put(theta)
        parts = [player.returns.remote(stored, iteration, share) for player, share in zip(players, shares)]
        returns = np.concatenate(ray.get(parts))
        seconds.append(time.perf_counter() - start)
        return returns

    theta = learn(job, everyones_returns)
    for player in players:
        ray.kill(player)
    return theta, seconds


# %% [markdown]
r"""
## 4. What it costs

**A sweep.** A driver hands out a task every $d$ seconds; the next free worker takes it. How long do tasks of
$c_1, \dots, c_n$ seconds take on $W$ workers? No less than all work shared evenly, the longest task, or
handing all out. And not much more (`graham1969bounds`): the task that ends last is handed out by $n\,d$, and
until it begins no worker is idle: it waits at most as long as the others take, shared evenly. So

$$\max\Bigl(\tfrac1W \textstyle\sum_i c_i,\; \max_i c_i,\; n\,d\Bigr) \;\le\; T_W \;\le\;
n\,d + \tfrac1W \sum_i c_i + \bigl(1 - \tfrac1W\bigr) \max_i c_i \tag{3}$$

**One learner.** A step takes $u$ seconds that cannot be spread, $e$ of members' play, which can, and $g$ for
each worker's call. The first two are Amdahl's law (`amdahl1967validity`); the third makes one $W$ the best:

$$t(W) = u + e / W + g\,W, \qquad W^\ast = \sqrt{e / g} \tag{4}$$

*By hand.* Tasks of 3, 3, 2 and 2 seconds, two workers, no dispatch: 5 s. Play worth 8 s, half a second a
call: with 4 workers a step takes 2 + 2 s, with one or sixteen 8.5.

```python
>>> makespan(np.array([3.0, 3.0, 2.0, 2.0]), num_workers=2, dispatch=0.0)
5.0
>>> [step_seconds(w, fixed=0.0, members=8.0, call=0.5) for w in (1, 4, 16)], best_workers(8.0, 0.5)
([8.5, 4.0, 8.5], 4.0)
```

**Assumed:** workers alike, and as fast together as alone; one driver; results travel in no time; nothing
fails; start-up left out. Each is too kind: the model says what a cluster can do at best.
"""


# %%
def makespan(durations: Seconds, num_workers: int, dispatch: float) -> float:
    """Seconds until the last task has ended; they are handed out in order, one each `dispatch` seconds."""
    free = np.zeros(num_workers)  # when each worker is done with what it has
    for i, seconds in enumerate(durations):
        first = free.argmin()
        free[first] = max(free[first], (i + 1) * dispatch) + seconds
    return float(free.max())


def bounds(durations: Seconds, num_workers: int, dispatch: float) -> tuple[float, float]:
    """What such a sweep takes at least and at most."""
    shared, longest, handed = durations.sum() / num_workers, durations.max(), len(durations) * dispatch
    most = handed + shared + (1 - 1 / num_workers) * longest
    return float(max(shared, longest, handed)), float(most)  # eq. (3)


def step_seconds(num_workers: int, fixed: float, members: float, call: float) -> float:
    """One step of one learner; `members` is what all of them take on one core."""
    return fixed + members / num_workers + call * num_workers  # eq. (4)


def best_workers(members: float, call: float) -> float:
    """How many workers make a step the shortest, as a real number."""
    return float(np.sqrt(members / call))  # eq. (4)


# %%
def num_different(found: dict[Job, Done], here: dict[Job, Done]) -> int:
    """How many jobs of a sweep are missing, or differ in any digit from what this process computed."""
    return sum(job not in found or found[job][:2] != here[job][:2] for job in here)


def draw(found: dict[Job, Done], when: float, log: RunLog) -> None:
    """Which node did which task, and when one of them died."""
    figure, ax = plotting.new_figure(width=7.5, height=3.0)
    start = min(done.begun for done in found.values())
    ends = {done.node: done.ended for done in sorted(found.values(), key=lambda done: done.ended)}
    nodes = sorted(ends, key=ends.get, reverse=True)  # the one that lives comes first
    for done in found.values():
        row = nodes.index(done.node)
        bar = {"width": done.ended - done.begun, "left": done.begun - start, "edgecolor": "white"}
        ax.barh(row, **bar, color=plotting.COLOURS[row])
    ax.axvline(when - start, label="node 2 is killed", **plotting.REFERENCE)
    ax.set_yticks(range(2), ["node 1", "node 2"])
    ax.set(xlabel="seconds", title="A sweep that loses a node and no run", ylim=(-0.6, 1.6))
    ax.legend(loc="upper right")
    log.figure(figure)


def main(cfg: Config, log: RunLog) -> None:
    cluster.load()  # where Ray is missing, this says so before anything else is done
    seeds = [cfg.seed * cfg.num_seeds + i for i in range(cfg.num_seeds)]
    jobs = [Job(cfg, sigma, seed) for seed in seeds for sigma in SIGMAS]
    here = {job: run(job) for job in log.track(jobs, "runs")}
    scores = {sigma: np.mean([here[job].score for job in jobs if job.sigma == sigma]) for sigma in SIGMAS}
    log.write(0, **{f"score_sigma_{sigma}": score for sigma, score in scores.items()})
    log.claim(
        "best_setting",
        "the setting that the sweep finds best keeps the pole up",
        max(scores.values()),
        at_least=SOLVED,
        unit="mean return of its seeds' last policies",
        source="the threshold registered for CartPole-v1",
    )
    none = {"at_most": 0, "source": "a task depends on its arguments alone", "always": True, "seeds": "10/10"}
    when = []

    def pull_the_plug(num_done: int) -> None:
        if num_done == (len(jobs) + 2) // 3:
            when.append(time.time())
            nodes[1].kill()

    with cluster.nodes(1, 1) as nodes:
        different = num_different(sweep_on_ray(jobs), here)
        log.claim("same_numbers", "runs of a sweep that differ on two nodes, in any digit", different, **none)
        theta, _ = learn_with_actors(jobs[1], num_workers=2)
        gap = np.abs(theta - np.array(here[jobs[1]].theta)).max()
        log.claim("actors_gap", "between weights learnt with two actors and on one core", gap, **none)
        killed = sweep_on_ray(jobs, after=pull_the_plug)
    lost = num_different(killed, here)
    log.claim("nothing_lost", "runs lost or changed when a node is killed amid a sweep", lost, **none)
    draw(killed, when[0], log)


# %% [markdown]
r"""
## 5. Look, break, write

![The tasks that each of two nodes did; after one is killed, the other does the rest](results/C8.png)

Both nodes are on your machine. A bar is a task that came to its end; what node 2 had under way is run again
once its silence, of some seconds, is noticed. Not a digit differs. Are two workers twice as fast as one? The
wall clock tells too how busy other programs are. So we add up the *CPU seconds* of tasks, and for what the
engine adds the median gap between two tasks of a worker. Start-up and waiting for a core are left out. Plain
processes are counted alike. From measured costs `makespan` and (4) draw what more workers bring:

![Seconds of one sweep on one worker and on two, of Ray and of plain processes](results/C8_race.png)

![Times as fast as one core against workers, for sweeps and for one learner](results/C8_model.png)

RLlib is a library of learners on Ray. At the settings of C3 (proximal policy optimisation, PPO) and C7, for
as many steps, it takes several times the CPU seconds. PPO ends as high; IMPALA scatters, theirs and ours:

![CPU seconds and final returns of C3's PPO and C7's IMPALA, and of RLlib's](results/C8_rllib.png)

**The verdict.** Whole runs can go anywhere: they talk to nobody, and because chance has an address and a task
changes nothing else, they can even be done twice. So $W$ workers do a sweep nearly $W$ times as fast, until
its longest run or its one driver is the limit. One learner must talk at every step. This one is so small that
one core is best; were its play a thousand times as long, some dozens of workers would be, and more are a
loss. A humanoid's play is long: there 80 times the cores were 66 times as fast (`salimans2017es`). Before you
ask for a cluster, measure $e$ and $g$.

<!-- results: C8 -->

`rl run C8`: 18 s; with `--evidence`: 179 s, 1196 MB; with `--smoke --evidence`: 48 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| best_setting       | 500                             | ≥ 475   | 5/5    |
| same_numbers       | 0                               | ≤ 0     | 5/5    |
| actors_gap         | 0                               | ≤ 0     | 5/5    |
| nothing_lost       | 0                               | ≤ 0     | 5/5    |
| within_bounds *    | 7.11e-15 (3.55e-15 to 7.11e-15) | ≤ 1e-09 | 5/5    |
| two_workers *      | 1.84 (1.6 to 2.02)              | ≥ 1.7   | 4/5    |
| two_processes *    | 1.88 (1.72 to 1.91)             | ≥ 1     | 5/5    |
| sweep_ledgers *    | 1                               | ≤ 1     | 5/5    |
| sweep_lost *       | 0                               | ≤ 0     | 5/5    |
| two_workers_wall * | 1.7                             | ≥ 1.7   | pooled |
| faster_ppo *       | 4.64                            | ≥ 1     | pooled |
| faster_impala *    | 10.1                            | ≥ 1     | pooled |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `best_setting`: the setting that the sweep finds best keeps the pole up (mean return of its seeds' last
  policies)
- `same_numbers`: runs of a sweep that differ on two nodes, in any digit
- `actors_gap`: between weights learnt with two actors and on one core
- `nothing_lost`: runs lost or changed when a node is killed amid a sweep
- `within_bounds`: how far the simulated time of a random sweep lies outside the bounds (3), at worst (of a
  task's mean length)
- `two_workers`: two of Ray's workers do a sweep so many times as fast as one, without start-up and other
  programs (times: CPU seconds of tasks and the gaps between, median of the rounds)
- `two_processes`: two plain processes are as much faster than one: what this machine has to give, in the same
  rounds (times, in the same way)
- `sweep_ledgers`: different ledgers of one `rl sweep` by one process, two, and a cluster that loses a node
  (contents, compared byte by byte)
- `sweep_lost`: runs of these sweeps that are missing, or there twice, or half-made (runs)
- `two_workers_wall`: two of Ray's workers do a sweep so many times as fast as one, by the clock on the wall
  (times, median of the seeds)
- `faster_ppo`: RLlib's PPO takes more CPU seconds than C3's for as many steps at its settings (times ours,
  medians)
- `faster_impala`: RLlib's IMPALA takes more CPU seconds than C7's for as many steps (times ours, medians)
</details>

<!-- /results -->

**Break it.** `rl break C8 chance_by_process`: noise that depends on who draws it. `rl break C8 no_retries`: a
task whose node dies is gone. `rl break C8 order_of_answers`: returns meet the noise of other members.

**Exercises.**

<!-- exercises: C8 -->

*C8.1 · The heart of it* (35 minutes, medium). Write the noise that has an address, the weights (2), and the
simulated sweep of section 4. `rl exercise C8.noises`, `rl exercise C8.centred_ranks`, `rl exercise
C8.makespan`.

*C8.2 · How long may a task be?* (25 minutes, medium). A node dies after an exponential time, $\lambda$ times
a second on average, and a task that was under way on it starts anew, at once and elsewhere. A task of $c$
seconds then takes on average

$$\mathbb E = \int_0^c (t + \mathbb E)\, \lambda e^{-\lambda t}\, dt + c\, e^{-\lambda c} \tag{E1}$$

seconds: either its node dies after $t$ of them and all begins again, or it lives. Solve for $\mathbb E$, and
mind $\lambda = 0$. *By hand*, $\lambda = \ln 2$ and $c = 1$: half of all tries succeed, and it takes
$1 / \ln 2 = 1.44$ s. `rl exercise C8.seconds_with_failures`.

<details><summary>Answer</summary>

It grows exponentially with the length: ten tasks of a minute lose little where one of ten minutes may never
end. Hence sweeps of many short runs, and checkpoints in long ones.
</details>

*C8.3 · Everybody waits for the slowest* (15 minutes, easy). A step of one learner ends when its *last* worker
has answered. Let each take an exponential time with mean $\mu$. With $k$ of them still at it, the next answer
comes after $\mu / k$ on average. So all have answered after

$$\mathbb E \max_{i \le W} X_i = \mu \sum_{k=1}^{W} \frac1k \tag{E2}$$

Write it. *By hand*: three workers of 6 s on average, $6 + 3 + 2 = 11$ s. What becomes of
(4)'s $e / W$? `rl exercise C8.slowest`.

<details><summary>Answer</summary>

A share takes $e / W$ on average and the step about $(e / W) \ln W$: the best number of workers is smaller.
</details>

*C8.4 · Which of these may be done twice?* (10 minutes, easy). A task (a) writes its result to
`results/seed7.json`; (b) adds a line to `results.csv`; (c) draws from `np.random.default_rng()`; (d) renames
its finished folder to its name. Which survive `max_retries`?

<details><summary>Answer</summary>

(a) does, if nobody reads the file half-written: the second run writes the same one. (b) leaves two lines.
(c) gives another result, so what the sweep says depends on what died. (d) does, and nobody ever sees half a
folder: that is how `rl sweep` keeps its runs.
</details>

*C8.5 · Find the bug* (10 minutes). `rl exercise C8.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""

# %%
if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
