"""What can be known of a hidden state, and earned with it: the forward filter, and values of beliefs.

A hidden world is four tables. `P[s, a, s']` is the chance to land in s', `emission[s, o]` the chance to
observe o there, `start[s]` the chance to begin in s, `rewards[s, a]` what an action pays on average. A
*belief* is a distribution over states given all that was observed and done so far; a history tells no more
than that of what comes (kaelbling1998pomdp). Recordings have time first, then the world: `obs[t, n]` is
observed in world n at step t, `actions[t, n]` is done after it, and `first[t, n]` says that an episode begins
with this observation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

LARGEST_TREE = 20_000_000
"""Numbers in the widest level of a tree of histories: some 160 MB."""


def forward_filter(
    P: Float[np.ndarray, "S A S"],
    emission: Float[np.ndarray, "S O"],
    start: Float[np.ndarray, " S"],
    obs: Int[np.ndarray, "T N"],
    actions: Int[np.ndarray, "T N"],
    first: Bool[np.ndarray, "T N"],
) -> tuple[Float[np.ndarray, "T N O"], Float[np.ndarray, "T N S"]]:
    """(chances of each observation before it is seen, belief once it is seen), by Bayes (rabiner1989hmm).

    Whatever came before an episode's first observation is forgotten. Raises ValueError where an observation
    is impossible.
    """
    belief = np.tile(start, (obs.shape[1], 1))
    predictions, beliefs = [], []
    for t in range(len(obs)):
        if t:
            moved = np.einsum("ns,nsk->nk", belief, P[:, actions[t - 1]].transpose(1, 0, 2))
            belief = np.where(first[t][:, None], start, moved)
        predictions.append(belief @ emission)
        joint = belief * emission[:, obs[t]].T
        total = joint.sum(axis=1, keepdims=True)
        if not total.all():
            raise ValueError(f"step {t}: an observation that has no chance")
        belief = joint / total
        beliefs.append(belief)
    return np.stack(predictions), np.stack(beliefs)


def log_likelihood(
    predictions: Float[np.ndarray, "T N O"], obs: Int[np.ndarray, "T N"]
) -> Float[np.ndarray, "T N"]:
    """Log-probability, in nats, of each observation given all before it; the sum over time is that of all."""
    return np.log(np.take_along_axis(predictions, obs[..., None], axis=2)[..., 0])


def one_guess_bound(
    P: Float[np.ndarray, "S A S"],
    emission: Float[np.ndarray, "S O"],
    start: Float[np.ndarray, " S"],
    obs: Int[np.ndarray, "T N"],
    actions: Int[np.ndarray, "T N"],
    first: Bool[np.ndarray, "T N"],
) -> Float[np.ndarray, "T N"]:
    """The evidence lower bound of each observation, in nats, of a model without memory beside its states.

    It knows the world, and guesses each state from the guess before it and from what it observes now, as well
    as that can be done: q(s' | s, a, o) = P(s' | s, a) emission(o | s') / Z(s, a, o). The bound is the mean
    of log Z over guesses. A guess is one state, not a belief; what it leaves out is lost.
    """
    guess = np.tile(start, (obs.shape[1], 1))  # [N, S] chance of each guess
    bounds = []
    for t in range(len(obs)):
        fits = emission[:, obs[t]].T  # [N, S]
        fresh = start @ emission[:, obs[t]]  # [N] Z of an episode's first observation
        begun = start * fits / fresh[:, None]
        if t:
            step = P[:, actions[t - 1]].transpose(1, 0, 2)  # [N, S, S']
            Z = np.einsum("nsk,nk->ns", step, fits)
            went_on = np.einsum("ns,nsk,nk->nk", guess / Z, step, fits)
            bounds.append(np.where(first[t], np.log(fresh), (guess * np.log(Z)).sum(axis=1)))
            guess = np.where(first[t][:, None], begun, went_on)
        else:
            bounds.append(np.log(fresh))
            guess = begun
    return np.stack(bounds)


def belief_value(
    P: Float[np.ndarray, "S A S"],
    emission: Float[np.ndarray, "S O"],
    start: Float[np.ndarray, " S"],
    rewards: Float[np.ndarray, "S A"],
    horizon: int,
) -> float:
    """The highest expected sum of rewards in `horizon` steps there is without seeing states or rewards.

    Dynamic programming over all histories: each is a row of joint chances, Pr(history, s), a belief that was
    not divided by its sum, so that values of what may follow are added, not averaged. Raises ValueError where
    the tree is too wide.
    """
    _check_width(P, emission, horizon)

    def best(joint: Float[np.ndarray, "M S"], left: int) -> Float[np.ndarray, " M"]:
        """Value times chance of each history, an observation at its end."""
        worth = joint @ rewards
        if left > 1:
            after = _grow(joint, P, emission)
            worth = worth + best(after.reshape(-1, len(P)), left - 1).reshape(after.shape[:3]).sum(axis=2)
        return worth.max(axis=1)

    return float(best((start[:, None] * emission).T, horizon).sum())


def policy_value(
    P: Float[np.ndarray, "S A S"],
    emission: Float[np.ndarray, "S O"],
    start: Float[np.ndarray, " S"],
    rewards: Float[np.ndarray, "S A"],
    horizon: int,
    act: Callable[[Int[np.ndarray, "M t1"], Int[np.ndarray, "M t"]], Float[np.ndarray, "M A"]],
) -> float:
    """The expected sum of rewards in `horizon` steps of a policy that remembers what it has seen and done.

    act: chances of each action for each history, given its observations and the actions between them.
    """
    _check_width(P, emission, horizon)
    (_, num_actions, _), num_obs = P.shape, emission.shape[1]
    joint, total = (start[:, None] * emission).T, 0.0
    obs, actions = np.arange(num_obs)[:, None], np.zeros((num_obs, 0), dtype=int)
    for left in range(horizon, 0, -1):
        chances = act(obs, actions)
        total += float((chances * (joint @ rewards)).sum())
        if left > 1:
            joint = (_grow(joint, P, emission) * chances[:, :, None, None]).reshape(-1, len(P))
            done, seen = np.divmod(np.tile(np.arange(num_actions * num_obs), len(obs)), num_obs)
            obs, actions = (np.repeat(told, num_actions * num_obs, axis=0) for told in (obs, actions))
            obs, actions = np.column_stack([obs, seen]), np.column_stack([actions, done])
    return total


def _grow(
    joint: Float[np.ndarray, "M S"], P: Float[np.ndarray, "S A S"], emission: Float[np.ndarray, "S O"]
) -> Float[np.ndarray, "M A O S"]:
    """Each history, continued by each action and by each observation after it."""
    moved = np.einsum("ms,sak->mak", joint, P)
    return moved[:, :, None, :] * emission.T


def _check_width(P: np.ndarray, emission: np.ndarray, horizon: int) -> None:
    (num_states, num_actions, _), num_obs = P.shape, emission.shape[1]
    width = num_states * num_obs * (num_actions * num_obs) ** (horizon - 1)
    if horizon < 1 or width > LARGEST_TREE:
        raise ValueError(f"{horizon} steps: a tree of {width:,} numbers (allowed: {LARGEST_TREE:,})")
