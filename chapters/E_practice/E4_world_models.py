# %% [markdown]
r"""
# E4 · World models: learning what will happen from what was seen

**Question.** An agent sees too little to know where it is. Can a network learn, from recordings alone, all
that can be known of it? And what must it be asked for: to draw what it sees, to tell it apart, or to foresee
a vector that stands for it?

**Before this:** B7 (a model by counts), D10 (beliefs), C4 (JAX). **Changes from B7:** the state is hidden, so
the model needs a memory, and nothing can be counted. **Next:** E5, acting in it.

**Time.** 60 s on 2 cores; with all evidence 150 s.

References: `rabiner1989hmm`, `kaelbling1998pomdp`, `ha2018worldmodels`, `hafner2019planet`,
`hafner2021dreamerv2`, `hafner2025dreamer`, `zhang2023storm`, `kingma2014vae`, `oord2018cpc`,
`grill2020byol`, `cho2014gru`, `krause2017mlstm`, `bengio2013estimating`.

Symbols: $o_t$ what is observed, $a_t$ the action after it, $b_t(s)$ the belief; $h_t$ the memory before $o_t$
is seen, $z_t$ a code of $o_t$, $x_t$ code and action; in shapes `T` steps, `N` recordings, `D` numbers seen,
`H` of memory, `E` of a vector to compare, `G` x `C` = `Z` of a code, `J` objectives, `K` colours.
"""

# %%
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from chapters.envs.jax_memory import Arrays, Weights, gru, how_to_compile, linear, random_layers, train
from chapters.envs.ring_world import END, Batch, Recording, as_batch, record, ring
from chapters.exact.beliefs import forward_filter, log_likelihood
from chapters.exact.heads import fit_net, later_half, read
from chapters.utils import RunLog, in_range, plotting, run_lesson

OBJECTIVES = ("reconstruction", "contrast", "latent")
Codes = Float[Arrays, "*B G C"]  # log-probabilities of a code, by groups
Grid = Float[Arrays, "T N"]  # a number for each step of each recording


@dataclass(frozen=True)
class Config:
    """Recurrent latent models of a ring seen through noise, one for each objective."""

    seed: int = 0
    """Seed of the recordings and of the first weights."""
    num_steps: Annotated[int, in_range(2, 1000)] = 24
    """T: steps of a recording."""
    batch_size: Annotated[int, in_range(2, 10_000)] = 16
    """N: recordings in one update, all of them new."""
    num_updates: Annotated[int, in_range(5, 10**6)] = 4500
    """Updates of each model; over the second half of them step sizes fall to nothing."""
    learning_rate: Annotated[float, in_range(1e-6, 1.0)] = 1e-2
    """Adam's largest step size: of .003, .01 and .02 the best for each objective, or nearly."""
    width: Annotated[int, in_range(1, 4096)] = 48
    """H: numbers in the memory."""
    num_features: Annotated[int, in_range(1, 4096)] = 16
    """E: numbers in a vector that stands for an observation."""
    num_groups: Annotated[int, in_range(1, 256)] = 1
    """G: one-hot vectors in a code."""
    num_classes: Annotated[int, in_range(2, 256)] = 8
    """C: classes of each."""
    posterior_weight: Annotated[float, in_range(0.0, 1.0)] = 0.1
    """How much the posterior is pulled to the prior; the prior is pulled to the posterior by 1."""
    rate: Annotated[float, in_range(0.0, 1.0)] = 0.02
    """Weight of the newest parameters in the running average that makes the targets of (5)."""
    num_tests: Annotated[int, in_range(2, 10**6)] = 384
    """Recordings that are measured on; heads are fitted to as many others."""


SMOKE = {"num_updates": 5, "batch_size": 4, "num_steps": 8, "num_tests": 16}

# %% [markdown]
r"""
## 1. What can be known

Twelve cells in a ring, each painted in one of three colours. The agent steps to the left or to the right,
stays where it is one time in ten, and sees the colour of its cell, one time in twenty a wrong one. All that a
past tells of the future is the **belief**, the chance of each cell given what was seen and done
(`kaelbling1998pomdp`). It moves with the world, then Bayes' rule weighs it with what is seen
(`rabiner1989hmm`); $E(o \mid s)$ is the chance to see $o$ in $s$:

$$\hat b_t(s') = \sum_s b_{t-1}(s)\, P(s' \mid s, a_{t-1}), \qquad
p(o_t \mid o_{<t}, a_{<t}) = \sum_s \hat b_t(s)\, E(o_t \mid s), \qquad
b_t(s) = \frac{\hat b_t(s)\, E(o_t \mid s)}{p(o_t \mid o_{<t}, a_{<t})} \tag{1}$$

The middle term is the best prediction there is: nothing that knows only the past loses less, on average, than
its $-\log p$, in **nats** (a bit is 0.69). The filter needs $P$ and $E$; a model has recordings only.

```python
>>> move = np.array([[0.0, 1.0], [1.0, 0.0]])  # two cells, and a step that always changes the cell
>>> chance, belief = bayes_step(np.array([0.9, 0.1]), move, np.array([0.8, 0.4]))  # seen: likelier in cell 0
>>> round(chance, 3), belief.round(3).tolist()  # .1 x .8 + .9 x .4; .08 / .44 and .36 / .44
(0.44, [0.182, 0.818])
```
"""


# %%
def bayes_step(
    belief: Float[np.ndarray, " S"], move: Float[np.ndarray, "S S"], fits: Float[np.ndarray, " S"]
) -> tuple[float, Float[np.ndarray, " S"]]:
    """(chance of what is observed, belief after it); fits: the chance to observe this in each state."""
    predicted = belief @ move
    joint = predicted * fits
    chance = joint.sum()
    return float(chance), joint / chance  # eq. (1)


# %% [markdown]
r"""
## 2. A memory, and a code

The model is the *recurrent state-space model* of the Dreamer family (`hafner2019planet`, `hafner2025dreamer`;
`ha2018worldmodels` before it). A gated recurrent unit (GRU, `cho2014gru`) carries a memory $h$, and what is
observed enters it through a code $z$, one-hot like a token:

$$h_t = \mathrm{GRU}\bigl(h_{t-1} \odot (1 + W x_{t-1}),\; x_{t-1}\bigr), \quad
x_t = z_t \otimes a_t, \qquad
\text{prior } p(z_t \mid h_t), \quad \text{posterior } q(z_t \mid o_t) \tag{2}$$

Why the product? The filter (1) *multiplies* the belief by how well each cell fits what is seen, then moves it
by a table that depends on the action. A plain GRU adds what it is told, and needs more updates to learn that.
So code and action, as a pair ($\otimes$), first weigh each number of the memory (as in `krause2017mlstm`).

The prior guesses the code before the observation is seen; who imagines samples it (E5). Dreamer's
posterior reads $h_t$ too; ours, like that of `zhang2023storm`, the observation alone. Where episodes begin,
memory, code and action are 0. Picking a class has no gradient, so the backward pass takes that of the
probabilities (*straight through*, `bengio2013estimating`).

*Why a memory beside the codes?* Without it all must pass through one guess at a time, and a guess is no
belief. The evidence gives such a model the ring's own tables: it predicts worse than an even guess.
"""


# %%
class Seen(NamedTuple):
    """What a model makes of recordings, time first."""

    memory: Float[Arrays, "T N H"]  # h, before the observation of its step
    code: Float[Arrays, "T N Z"]  # z, its G one-hot vectors end to end
    prior: Codes
    posterior: Codes
    features: Float[Arrays, "T N E"]  # a vector for each observation


def start_weights(num_obs: int, cfg: Config) -> Weights:
    """First weights; memory enters each of the layers that read it."""
    H, E, Z = cfg.width, cfg.num_features, cfg.num_groups * cfg.num_classes
    sizes = {"encode": (num_obs, E), "posterior": (E, Z), "prior": (H, Z), "decode": (H + Z, num_obs)}
    sizes |= {"weigh": (2 * Z, H), "input": (2 * Z, 3 * H), "memory": (H, 3 * H)}
    sizes |= {"match": (H, E), "foresee": (H, E)}
    return random_layers(np.random.default_rng((cfg.seed, 0)), sizes)


def encode(weights: Weights, obs: Float[Arrays, "*B D"]) -> Float[Arrays, "*B E"]:
    """The vector e(o) that stands for an observation."""
    return jnp.tanh(linear(weights["encode"], obs))


def observe(weights: Weights, batch: Batch, drawn: Float[Arrays, ""] | float) -> Seen:
    """Memory and codes along recordings; codes are drawn if `drawn` is 1, the likeliest ones if it is 0."""
    obs, actions, first, gumbel = batch
    features = encode(weights, obs)
    posterior = jax.nn.log_softmax(linear(weights["posterior"], features).reshape(gumbel.shape))
    picked = jax.nn.one_hot((posterior + drawn * gumbel).argmax(axis=-1), gumbel.shape[-1])
    probs = jnp.exp(posterior)
    code = (probs + lax.stop_gradient(picked - probs)).reshape(*first.shape, -1)  # straight through
    pairs = (code[..., None] * actions[..., None, :]).reshape(*first.shape, -1)
    before = jnp.concatenate([jnp.zeros_like(pairs[:1]), pairs[:-1]])  # what led to each observation

    def step(h, x):
        told, goes_on = x
        weighed = h * (1.0 + linear(weights["weigh"], told))
        h = gru(weights, goes_on * weighed, goes_on * told)  # eq. (2)
        return h, h

    start = jnp.zeros((first.shape[1], weights["prior"][0].shape[0]))
    _, memory = lax.scan(step, start, (before, 1.0 - first[..., None]))
    prior = jax.nn.log_softmax(linear(weights["prior"], memory).reshape(gumbel.shape))
    return Seen(memory, code, prior, posterior, features)


# %% [markdown]
r"""
## 3. Draw what is seen

How likely does a model find a recording? It would have to sum over all codes. The **evidence lower bound**
(ELBO, `kingma2014vae`) samples them from the posterior instead and is, on average, never above that:

$$\log p(o_{1:T}) \ge \mathbb E_q \sum_t \bigl[ \log p(o_t \mid h_t, z_t)
- \mathrm{KL}\bigl(q(z_t \mid o_t) \,\Vert\, p(z_t \mid h_t)\bigr) \bigr] \tag{3}$$

Draw the observation from the code, and let the code tell no more than the prior foresees. Nobody predicts
better than the filter: the bound lies below its log-likelihood. The Kullback–Leibler (KL) divergence pulls
prior and posterior to each other; but at first the prior knows nothing, and a code that gives in is empty. So
the pull on the code counts a tenth (*KL balancing*, `hafner2021dreamerv2`); `elbo` measures (3) as it is.

## 4. Or tell it apart

**Contrast** (`oord2018cpc`) draws nothing. The memory must find what will be seen among what all $N$
recordings show at that step, by a score $f_{nm} = (W h_{tn}) \cdot e(o_{tm})$, with $e$ the encoder:

$$\mathcal L_\text{contrast} = -\frac1{TN} \sum_{t, n} \log \frac{\exp f_{nn}}{\sum_m \exp f_{nm}} \tag{4}$$

At the lowest point $f = \log \bigl( p(o \mid h) / p(o) \bigr)$, up to a term that is the same for all $o$.

## 5. Or foresee a vector of it

The **latent** objective (`grill2020byol`, here for what comes next) has the memory foresee a vector of the
observation (not $z$). A running average $\bar e$ of the encoder makes it and sends no gradient back, so that
none asks for a vector which is always the same. (Under (4) and (5) no prior learns; to dream needs one.)

$$\mathcal L_\text{latent} = \frac1{TN} \sum_{t, n} \Vert W' h_{tn} - \bar e(o_{tn}) \Vert^2 \tag{5}$$

```python
>>> scores = jnp.log(jnp.array([[[3.0, 1.0], [1.0, 3.0]]]))  # two recordings, told apart at odds of 3 to 1
>>> round(float(contrastive_loss(scores)), 3)  # log(4/3)
0.288
```
"""


# %%
def code_kl(log_q: Codes, log_p: Codes) -> Float[Arrays, "*B"]:
    """KL(q || p) of whole codes: groups are independent, so theirs add up."""
    return (jnp.exp(log_q) * (log_q - log_p)).sum(axis=(-1, -2))


def drawn_chance(weights: Weights, seen: Seen, obs: Float[Arrays, "T N D"]) -> Grid:
    """Log-probability of one-hot observations, given memory and code."""
    logits = linear(weights["decode"], jnp.concatenate([seen.memory, seen.code], axis=-1))
    return (jax.nn.log_softmax(logits) * obs).sum(axis=-1)


def elbo(log_chance: Grid, posterior: Codes, prior: Codes) -> Grid:
    """The bound's part of each step; `log_chance` is that of the observation given memory and code."""
    return log_chance - code_kl(posterior, prior)  # eq. (3)


def reconstruction_loss(
    log_chance: Grid, posterior: Codes, prior: Codes, posterior_weight: float
) -> Float[Arrays, ""]:
    """Less the bound, with the posterior's pull weighed down; at weight 1 its gradient is the bound's."""
    stop = lax.stop_gradient
    pulls = code_kl(stop(posterior), prior) + posterior_weight * code_kl(posterior, stop(prior))
    return (pulls - log_chance).mean()


def contrastive_loss(scores: Float[Arrays, "T N N"]) -> Float[Arrays, ""]:
    """`scores[t, n, m]`: how well the memory of recording n suits what recording m shows."""
    return -jnp.diagonal(jax.nn.log_softmax(scores, axis=2), axis1=1, axis2=2).mean()  # eq. (4)


def latent_loss(foreseen: Float[Arrays, "T N E"], target: Float[Arrays, "T N E"]) -> Float[Arrays, ""]:
    return ((foreseen - lax.stop_gradient(target)) ** 2).sum(axis=-1).mean()  # eq. (5)


def losses(weights: Weights, average: Weights, obs: Arrays, seen: Seen, cfg: Config) -> Float[Arrays, "3"]:
    """All objectives of one model, in the order of OBJECTIVES; it is trained by one of them."""
    drawn = drawn_chance(weights, seen, obs)
    scores = jnp.einsum("tnd,tmd->tnm", linear(weights["match"], seen.memory), seen.features)
    foreseen = linear(weights["foresee"], seen.memory)
    return jnp.stack([
        reconstruction_loss(drawn, seen.posterior, seen.prior, cfg.posterior_weight),
        contrastive_loss(scores),
        latent_loss(foreseen, encode(average, obs)),
    ])  # fmt: skip


# %% [markdown]
r"""
## 6. One measure for all three

The objectives' own numbers cannot be compared. Each memory is frozen, and a small **head** is fitted to it.
With $p_i$ the filter's prediction and $\hat p_i$ the head's, on recordings new to memory and head:

$$\text{nats above the filter} = \frac1M \sum_i \mathrm{KL}(p_i \,\Vert\, \hat p_i) \tag{6}$$

To remember nothing costs half a nat; nobody gets below 0. What is missing must be missing in the memory, not
in the instrument. Sampled codes are now and then wrong, so here codes are the likeliest. A head fitted to
what was seen has noise of its own, so it is fitted to the filter's predictions. A linear one reads logarithms
where (5) teaches chances, so it has a hidden layer. The models share weights at first, recordings, sizes,
updates and a step size: of three, tried on seeds 0 and 201, the best for each, or nearly.
"""


# %%
def nats_above(exact: Float[np.ndarray, "M K"], log_probs: Float[np.ndarray, "M K"]) -> float:
    """Mean KL of predicted from exact chances, in nats."""
    logs = np.log(np.where(exact > 0, exact, 1.0))
    return float((exact * (logs - log_probs)).sum(axis=1).mean())  # eq. (6)


def objective(
    weights: Weights, average: Weights, choice: Float[Arrays, " J"], batch: Batch, cfg: Config
) -> Float[Arrays, ""]:
    """What one model is trained by; `choice` is 1 for its own objective, 0 for others."""
    seen = observe(weights, batch, drawn=choice[0])  # only the bound asks for drawn codes
    return choice @ losses(weights, average, batch.obs, seen, cfg)


# %% [markdown]
r"""
## 7. Look, break, write

![What three memories lack of the belief, against updates](results/E4.png)

From recordings alone all three learn to filter: they lack a hundredth of a nat at most, of the half that a
memory is worth. It then takes a hundred steps to gather one nat of evidence that a prediction is not the
filter's. What is left follows a slip or a wrong colour: rare, so learnt last.

![The exact belief along one recording, and what a probe reads from a memory](results/E4_belief.png)

A linear probe of memory and code, fitted to true cells, reads the *belief*, of which no model is told.

![What four memories keep of a ball, a wallpaper and snow](results/E4_pictures.png)

The evidence turns the ring into pictures: a ball that hides now and then, a wallpaper that stays through an
episode, snow that is new in each picture. Who *draws* keeps some of each, even of snow. Who *tells
recordings apart* keeps the wallpaper, which does that alone, and drops the ball; among other times of one
recording (the fourth memory) the ball is what tells. Who *foresees* keeps what can be foreseen.

**The verdict.** Recordings are enough to learn the filter, to a hundredth of a nat; on the bare ring each of
the three objectives will do. Where other things are seen, the objective decides: ask what else satisfies it.

<!-- results: E4 -->

`rl run E4`: 52 s; with `--evidence`: 93 s, 861 MB; with `--smoke --evidence`: 12 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (94 % interval), 5 seeds | bound | holds |
| --- | --- | --- | --- |
| bound_below_filter         | 0.0233 (0.0157 to 0.0292)       | ≥ 0     | 5/5 |
| nats_reconstruction        | 0.00552 (0.00546 to 0.00567)    | ≤ 0.01  | 5/5 |
| nats_contrast              | 0.00512 (0.00484 to 0.00624)    | ≤ 0.01  | 5/5 |
| nats_latent                | 0.00663 (0.00629 to 0.00721)    | ≤ 0.01  | 5/5 |
| filter_is_exact *          | 4.44e-16 (1.11e-16 to 8.88e-16) | ≤ 1e-09 | 5/5 |
| one_guess_at_a_time *      | 1.64 (1.63 to 1.66)             | ≥ 1.099 | 5/5 |
| belief_read *              | 0.0686 (0.0666 to 0.0765)       | ≤ 0.25  | 5/5 |
| state_named *              | 0.98 (0.976 to 0.989)           | ≥ 0.9   | 5/5 |
| contrast_drops_ball *      | 0.123 (0.0904 to 0.273)         | ≤ 0.5   | 5/5 |
| contrast_keeps_wallpaper * | 0.999 (0.995 to 1)              | ≥ 0.95  | 5/5 |
| others_keep_ball *         | 0.934 (0.926 to 0.946)          | ≥ 0.8   | 5/5 |
| drawing_keeps_snow *       | 0.296 (0.233 to 0.329)          | ≥ 0.1   | 5/5 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `bound_below_filter`: the reconstruction model's evidence lower bound lies below the filter's log-likelihood
  (nats a step)
- `nats_reconstruction`: the memory of reconstruction tells what will be seen nearly as well as the belief
  (nats a step above the exact filter)
- `nats_contrast`: the memory of contrast tells what will be seen nearly as well as the belief (nats a step
  above the exact filter)
- `nats_latent`: the memory of latent tells what will be seen nearly as well as the belief (nats a step above
  the exact filter)
- `filter_is_exact`: the filter's log-likelihood is that of all hidden paths together, and eq. (1) gives it
  too (nats, largest difference)
- `one_guess_at_a_time`: who knows the tables, but passes on one guess of the cell, predicts worse than who
  knows nothing (nats a step)
- `belief_read`: the whole belief is read from each memory: a linear probe of the cell lacks little of it
  (nats, the worst of three)
- `state_named`: a linear probe names the cell nearly as often as the filter's best guess is right (of the
  filter's rate, the lowest of three)
- `contrast_drops_ball`: where a wallpaper tells recordings apart, contrast between recordings drops the ball
  (of the filter's rate)
- `contrast_keeps_wallpaper`: and keeps the wallpaper, which no action ever changes (of its pixels named)
- `others_keep_ball`: the ball is kept by drawing, by foreseeing a code, and by contrast with a recording's
  other times (of the filter's rate, the lowest of three)
- `drawing_keeps_snow`: who draws pictures keeps more of the snow than any who foresees: it cannot be foreseen
  (of its pixels named, difference)
</details>

<!-- /results -->

**Break it.** `rl break E4 only_adds`: a plain GRU. `rl break E4 acts_late`: an action arrives a step late.
`rl break E4 any_pair`: contrast that praises every pair.

**Exercises.**

<!-- exercises: E4 -->

*E4.1 · What can be known* (20 minutes, easy). Write the step of the filter, (1), and the measure (6) of all
that falls short of it. `rl exercise E4.bayes_step`, `rl exercise E4.nats_above`.

*E4.2 · Three things to ask for* (35 minutes, medium). Write the divergence of two codes, the bound (3), its
balanced loss, (4) and (5). `rl exercise E4.code_kl`, `rl exercise E4.elbo`, `rl exercise
E4.reconstruction_loss`, `rl exercise E4.contrastive_loss`, `rl exercise E4.latent_loss`.

*E4.3 · A memory that knows when to forget* (40 minutes, hard). Write the model's way through recordings, (2):
codes that let a gradient back, and a memory that begins anew where an episode does. `rl exercise E4.observe`.

*E4.4 · Wise after the event* (30 minutes, medium). The belief knows the past. Once an episode is over, later
observations tell where the agent *was*: the chance of $s_t$ given all of it is proportional to the forward
belief times

$$\beta_t(s) = \sum_{s'} P(s' \mid s, a_t)\, E(o_{t+1} \mid s')\, \beta_{t+1}(s'),
\qquad \beta_T(s) = 1 \tag{E1}$$

(`rabiner1989hmm`). Write it. A posterior that knew this would make the bound (3) of a model of codes
alone tight. Why may a world model that acts not use it? `rl exercise E4.smooth`.

<details><summary>Answer</summary>

At step $t$ it does not have $o_{t+1}$ yet. A code that tells of what comes cannot be foreseen from the
past, so the prior would never match it, and in imagination nobody could draw it. (It may be used to
*learn* $P$ and $E$ from recordings: that is the Baum-Welch algorithm.)
</details>

*E4.5 · What tells recordings apart* (10 minutes, medium). In the pictures, each recording has a wallpaper of
its own, and the contrastive memory keeps that and loses the ball. Which score would it need for the ball as
well, and why does it not get there? What do negatives from other times of the same recording change, and what
would they lose in a world where something matters that never changes within an episode?

<details><summary>Answer</summary>

The wallpaper alone names the right recording among 16 nearly always, so the loss is almost 0 and no
gradient asks for more; a ball would only tell apart the few recordings that share a wallpaper. At other
times of the same recording the wallpaper is the same and tells nothing, so what moves must be known. By
the same reasoning such a memory has no reason to keep what never changes within an episode: which map one
is on, or what the goal is.
</details>

*E4.6 · Find the bug* (10 minutes). `rl exercise E4.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def main(cfg: Config, log: RunLog) -> None:
    world = ring()

    def film(num: int, rng: np.random.Generator) -> tuple[Recording, Batch]:
        recording = record(world, cfg.num_steps, num, END, rng)
        return recording, as_batch(recording, world, (cfg.num_groups, cfg.num_classes), rng)

    tests, batch = film(2 * cfg.num_tests, np.random.default_rng((cfg.seed, 1)))
    predictions, beliefs = forward_filter(*world[:3], *tests[1:])
    see = jax.jit(observe, compiler_options=how_to_compile(cfg.num_updates))

    def measure(models: list[Weights], step: int) -> None:
        for weights, name in zip(models, OBJECTIVES):
            said = read(see(weights, batch, 0.0).memory, predictions, fit_net)
            log.write(step, **{f"nats_{name}": nats_above(later_half(predictions), said)})

    start = start_weights(world.emission.shape[1], cfg)
    models = train(objective, start, np.eye(3), lambda *asked: film(*asked)[1], cfg, log, measure, 5)
    seen = see(models[0], batch, 1.0)  # the bound asks for drawn codes
    bound = elbo(drawn_chance(models[0], seen, batch.obs), seen.posterior, seen.prior)
    log.claim(
        "bound_below_filter",
        "the reconstruction model's evidence lower bound lies below the filter's log-likelihood",
        (log_likelihood(predictions, tests.obs) - np.asarray(bound)).mean(),
        at_least=0.0,
        unit="nats a step",
        source="Jensen's inequality; the filter is exact",
        always=True,
    )
    for name in OBJECTIVES:
        log.claim(
            f"nats_{name}",
            f"the memory of {name} tells what will be seen nearly as well as the belief",
            log.last(f"nats_{name}"),
            at_most=0.01,
            unit="nats a step above the exact filter",
            source="the filter is exact: 0; at .01 a hundred steps tell the two apart by one nat",
        )
    log.keep(see=see, models=models, tests=tests, batch=batch, predictions=predictions, beliefs=beliefs)
    draw_nats([log.metrics], log)


def draw_nats(runs: list[dict], log: RunLog) -> None:
    """Nats above the filter against updates, for each objective."""
    figure, ax = plotting.new_figure(width=7.2)
    for name, color in zip(OBJECTIVES, plotting.COLOURS):
        curves = np.array([run[f"nats_{name}"] for run in runs])
        plotting.seed_band(ax, curves[0, :, 0], curves[:, :, 1], name, color)
    ax.axhline(0.01, label="a hundredth of a nat", **plotting.REFERENCE)
    ax.set(title="What the memory lacks of the belief", ylim=(0, 0.02))
    ax.set(xlabel="updates", ylabel="nats a step above the exact filter")
    ax.legend()
    log.figure(figure)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
