"""E11's functions against definitions written out in loops and walk by walk, and its named edits."""

import itertools
import math
from dataclasses import replace

import numpy as np

from chapters.E_practice.E11_imitation_and_inverse import BACK, FOG, NUM_STEPS, OFF, Config
from chapters.exact.gardens import World
from chapters.utils.edits import Edit


def check_expected_cost(expected_cost):
    """The chain's two states written out by every sequence of being on and off the road."""
    for error, recovery, horizon in (
        (0.1, 0.0, 3),
        (0.3, 1.0, 6),
        (0.2, 0.4, 5),
        (0.0, 0.5, 4),
        (0.5, 0.5, 1),
    ):
        expected = 0.0
        for path in itertools.product((0, 1), repeat=horizon - 1):  # off or not, after the first step
            chance, before = 1.0, 0
            for off in path:
                to_off = 1 - recovery if before else error
                chance *= to_off if off else 1 - to_off
                before = off
            expected += chance * sum(path)
        found = expected_cost(error, recovery, horizon)
        assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12), (
            f"error {error}, recovery {recovery}, {horizon} steps: expected {expected:.4f}, found {found:.4f}"
        )


def check_chances(chances):
    for policy, fog in itertools.product(itertools.product(range(3), repeat=4), (0.0, 0.3, 1.0)):
        wrong = 0.0
        for bend in (0, 1):
            wrong += 0.5 * ((1 - fog) * (policy[bend] != bend) + fog * (policy[FOG] != bend))
        error, recovery = chances(np.array(policy), fog)
        assert math.isclose(error, wrong, abs_tol=1e-12), f"{policy}: error {error:.3f}, expected {wrong:.3f}"
        assert recovery == (policy[OFF] == BACK), f"{policy}: does it come back?"


def check_fit(fit):
    rng = np.random.default_rng(0)
    for size, kinds in ((3, 2), (60, 4), (200, 3), (1, 1)):
        obs, labels = rng.integers(kinds, size=size), rng.integers(3, size=size)
        labels[: size // 2] = 1
        found = fit(obs, labels)
        for kind in range(4):
            told = [int(label) for label, one in zip(labels, obs) if one == kind] or labels.tolist()
            most = max(told.count(action) for action in range(3))
            best = [action for action in range(3) if told.count(action) == most]
            assert int(found[kind]) in best, (
                f"observation {kind}: one of {best} expected, found {found[kind]}"
            )


def check_drive(drive):
    """Labels, costs and observations of each step must fit together, and the weather must be as it should."""
    num_episodes, horizon = 400, 6
    for fog, policy in (
        (0.0, None),
        (0.4, None),
        (0.4, (0, 1, 0, 2)),
        (0.0, (0, 0, 0, 2)),
        (0.3, (0, 1, 1, 1)),
    ):
        table = None if policy is None else np.array(policy)
        obs, labels, costs = drive(table, num_episodes, horizon, fog, np.random.default_rng(1))
        obs, labels = obs.reshape(horizon, num_episodes), labels.reshape(horizon, num_episodes)
        off = obs == OFF
        assert not off[0].any(), "an episode begins on the road"
        assert (costs == off.sum(axis=0)).all(), "the cost counts the steps that begin off the road"
        assert (labels[off] == BACK).all(), "off the road the expert would go back"
        assert (labels[~off] < 2).all(), "on the road the expert steers"
        assert (labels == obs)[~off & (obs != FOG)].all(), "a bend that is seen is the expert's label"
        actions = labels if table is None else table[obs]
        assert (off[1:] == (actions != labels)[:-1]).all(), (
            "a wrong action, and only that, leads off or stays off"
        )
        hidden = (obs == FOG)[~off].mean()
        assert abs(hidden - fog) < 0.08, f"{hidden:.2f} of the bends are hidden, expected {fog}"
        assert 0.42 < labels[~off].mean() < 0.58, "half of the bends are to the right, in fog too"
        if fog and policy is None:
            assert 0.3 < labels[obs == FOG].mean() < 0.7, "the expert sees through the fog"


def few(**settings) -> Config:
    return replace(Config(), **settings)


def check_clone(clone):
    """Of the road it knows all, of what lies off it nothing."""
    policy = clone(10, few(fog=0.3, num_labels=400, num_rounds=3), np.random.default_rng(0))
    assert policy[:2].tolist() == [0, 1]
    assert policy[OFF] != BACK, "the expert never left the road: where does it know the way back from?"
    known = [
        clone(1, few(fog=0.0, num_labels=1, num_rounds=6), np.random.default_rng(seed)) for seed in range(40)
    ]
    share = np.mean([policy[:2].tolist() == [0, 1] for policy in known])
    assert share > 0.85, f"6 rounds of one label show both bends to {share:.2f} of learners, expected 0.97"


def check_dagger(dagger):
    """It knows the way back; what the first rounds showed is not forgotten; as many rounds as asked for."""
    policy = dagger(10, few(fog=0.3, num_labels=400, num_rounds=2), np.random.default_rng(0))
    assert policy[:2].tolist() == [0, 1]
    assert policy[OFF] == BACK, "the learner went off the road and was told the way back"
    known = [
        dagger(1, few(fog=0.0, num_labels=1, num_rounds=6), np.random.default_rng(seed)) for seed in range(40)
    ]
    share = np.mean([policy[:2].tolist() == [0, 1] for policy in known])
    assert share > 0.85, f"6 rounds of one label show both bends to {share:.2f} of learners, expected 0.97"
    alone = [
        dagger(10, few(fog=0.3, num_labels=400, num_rounds=1), np.random.default_rng(seed)) for seed in (0, 1)
    ]
    assert all(policy[OFF] != BACK for policy in alone), "in the first round the expert drives"


def small_world(seed: int, num_states: int = 3, num_actions: int = 2, num_features: int = 2) -> World:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
    features = rng.normal(size=(num_states, num_features))
    return World(P, features, rng.dirichlet(np.ones(num_states)))


def some_policy(seed: int, num_steps: int, num_states: int, num_actions: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(num_actions), size=(num_steps, num_states))


def walks(P: np.ndarray, policy: np.ndarray, start: np.ndarray):
    """(chance, states, actions) of every walk."""
    num_steps, num_states, num_actions = policy.shape
    for states in itertools.product(range(num_states), repeat=num_steps + 1):
        for actions in itertools.product(range(num_actions), repeat=num_steps):
            chance = start[states[0]]
            for t, a in enumerate(actions):
                chance *= policy[t, states[t], a] * P[states[t], a, states[t + 1]]
            yield chance, states, actions


def soft_in_loops(P: np.ndarray, rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    num_steps, num_states, num_actions = rewards.shape
    V, policy = np.zeros((num_steps + 1, num_states)), np.zeros(rewards.shape)
    for t in range(num_steps - 1, -1, -1):
        for s in range(num_states):
            Q = [
                rewards[t, s, a] + sum(P[s, a, n] * V[t + 1, n] for n in range(num_states))
                for a in range(num_actions)
            ]
            V[t, s] = max(Q) + math.log(sum(math.exp(q - max(Q)) for q in Q))
            policy[t, s] = [math.exp(q - V[t, s]) for q in Q]
    return V, policy


def check_rewards_of(rewards_of):
    world, weights = small_world(0), np.array([0.7, -1.3])
    found = rewards_of(world, weights, 4)
    assert found.shape == (4, 3, 2)
    for t, s, a in np.ndindex(*found.shape):
        paid = sum(world.P[s, a, n] * world.features[n, k] * weights[k] for n in range(3) for k in range(2))
        assert math.isclose(found[t, s, a], paid, abs_tol=1e-12), f"step {t}, state {s}, action {a}"
    assert len(rewards_of(world, weights)) == NUM_STEPS


def check_soft_plan(soft_plan):
    """Loops; and where nothing is random, e to the return of every walk, summed."""
    rng = np.random.default_rng(2)
    for num_steps, num_states, num_actions in ((3, 3, 2), (1, 2, 3), (5, 4, 2)):
        P = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
        rewards = rng.normal(size=(num_steps, num_states, num_actions))
        V, policy = soft_plan(P, rewards)
        expected = soft_in_loops(P, rewards)
        np.testing.assert_allclose(V, expected[0], atol=1e-9, err_msg="soft values")
        np.testing.assert_allclose(policy, expected[1], atol=1e-9, err_msg="policy")
    P = np.eye(3)[rng.integers(3, size=(3, 2))]  # each action leads to one state
    rewards = rng.normal(size=(3, 3, 2))
    V, policy = soft_plan(P, rewards)
    for first in range(3):
        total = 0.0
        for chance, states, actions in walks(P, np.ones((3, 3, 2)), np.eye(3)[first]):
            if chance:
                paid = math.exp(sum(rewards[t, states[t], a] for t, a in enumerate(actions)))
                own = math.prod(policy[t, states[t], a] for t, a in enumerate(actions))
                total += paid
                assert math.isclose(own, paid / math.exp(V[0, first]), rel_tol=1e-9), "chance of a walk"
        assert math.isclose(V[0, first], math.log(total), rel_tol=1e-9), "log of the sum over all walks"
    V, _ = soft_plan(P, 1000 * np.ones((2, 3, 2)))
    assert np.allclose(V[0], 2000 + 2 * math.log(2)), "large rewards must not overflow"


def check_occupancies(occupancies):
    for seed, shape in enumerate(((3, 3, 2), (1, 2, 2), (4, 2, 2))):
        world, policy = small_world(seed, *shape[1:]), some_policy(seed, *shape)
        expected = np.zeros(shape)
        for chance, states, actions in walks(world.P, policy, world.start):
            for t, a in enumerate(actions):
                expected[t, states[t], a] += chance
        np.testing.assert_allclose(occupancies(world.P, policy, world.start), expected, atol=1e-9)


def counts_of_walks(world: World, policy: np.ndarray) -> np.ndarray:
    return sum(
        chance * world.features[list(states[1:])].sum(axis=0)
        for chance, states, _ in walks(world.P, policy, world.start)
    )


def check_feature_counts(feature_counts):
    for seed, shape in enumerate(((3, 3, 2), (2, 2, 3))):
        world, policy = small_world(seed, *shape[1:]), some_policy(seed, *shape)
        np.testing.assert_allclose(feature_counts(world, policy), counts_of_walks(world, policy), atol=1e-9)


def value_in_loops(weights: np.ndarray, counts: np.ndarray, world: World, ridge: float) -> float:
    paid = np.einsum("san,nk,k->sa", world.P, world.features, weights)
    V, _ = soft_in_loops(world.P, np.stack([paid] * NUM_STEPS))
    return sum(weights * counts) - sum(world.start * V[0]) - ridge / 2 * sum(weights**2)


def slopes(weights: np.ndarray, counts: np.ndarray, world: World, ridge: float) -> np.ndarray:
    """Central differences of L."""
    sides = [
        [value_in_loops(weights + sign * row, counts, world, ridge) for sign in (1, -1)]
        for row in 1e-5 * np.eye(len(weights))
    ]
    return np.array([above - below for above, below in sides]) / 2e-5


def check_dual(dual):
    rng = np.random.default_rng(3)
    for seed, ridge in ((0, 0.0), (1, 0.5), (2, 0.0)):
        world, weights, counts = small_world(seed), rng.normal(size=2), 3 * rng.normal(size=2)
        value, gradient = dual(weights, counts, world, ridge)
        expected = value_in_loops(weights, counts, world, ridge)
        assert math.isclose(value, expected, rel_tol=1e-9), f"L: expected {expected:.4f}, found {value:.4f}"
        np.testing.assert_allclose(gradient, slopes(weights, counts, world, ridge), atol=1e-6)


def check_recover(recover):
    """At what it finds L is level; from exact counts it finds the weights."""
    for seed, ridge in ((0, 0.0), (1, 0.1), (2, 1.0)):
        world, weights = small_world(seed, num_actions=3), np.array([0.8, -0.5])
        counts = -slopes(weights, np.zeros(2), world, 0.0)  # of the soft policy for these weights
        found = recover(counts, world, ridge)
        assert np.abs(slopes(found, counts, world, ridge)).max() < 1e-5, "L is not level there"
        if not ridge:
            np.testing.assert_allclose(found, weights, atol=1e-4)


def check_shaped(shaped):
    rng = np.random.default_rng(4)
    P, rewards = small_world(5).P, rng.normal(size=(4, 3, 2))
    potential = rng.normal(size=(5, 3))
    potential[-1] = 0.0
    found = shaped(P, rewards.copy(), potential)
    for t, s, a in np.ndindex(*rewards.shape):
        paid = rewards[t, s, a] + sum(P[s, a, n] * potential[t + 1, n] for n in range(3)) - potential[t, s]
        assert math.isclose(found[t, s, a], paid, abs_tol=1e-9), f"step {t}, state {s}, action {a}"
    potential[-1, 1] = 1e-3
    try:
        shaped(P, rewards, potential)
    except ValueError:
        return
    raise AssertionError("a potential that is not 0 at the end is refused with a ValueError")


EDITS = {
    "counts_the_end": Edit(
        function="expected_cost",
        old="        total += off\n        off = (1 - off) * error + off * (1 - recovery)  # eq. (1)\n",
        new="        off = (1 - off) * error + off * (1 - recovery)\n        total += off\n",
        says="counts where each step ends, not where it begins: one mistake more in every episode",
    ),
    "never_back": Edit(
        function="expected_cost",
        old="off * (1 - recovery)",
        new="off",
        says="nobody ever comes back, whatever the recovery",
    ),
    "errs_off_the_road": Edit(
        function="expected_cost",
        old="(1 - off) * error",
        new="error",
        says="errs with the same chance off the road too, as if one could leave it twice",
    ),
    "fog_is_always_wrong": Edit(
        function="chances",
        old="fog * hidden",
        new="fog",
        says="takes every bend in the fog for a mistake; half of the guesses are right",
    ),
    "fog_on_top": Edit(
        function="chances",
        old="(1 - fog) * seen",
        new="seen",
        says="counts bends as seen that the fog hides",
    ),
    "any_way_back": Edit(
        function="chances",
        old="policy[OFF] == BACK",
        new="policy[OFF] != BACK",
        says="takes for a way back what is none",
    ),
    "counts_once": Edit(
        function="fit",
        old="np.add.at(counts, (obs, labels), 1)",
        new="counts[obs, labels] += 1",
        says="counts each pair once, however often it came: += adds to each place of an array once",
    ),
    "least_frequent": Edit(
        function="fit",
        old="counts.argmax(axis=1)",
        new="counts.argmin(axis=1)",
        says="takes the rarest label",
        fails=("clone_slope",),
    ),
    "first_action": Edit(
        function="fit",
        old="counts.sum(axis=0).argmax()",
        new="0",
        says="does always the first action where it knows nothing",
    ),
    "no_way_back": Edit(
        function="drive",
        old="off = actions != labels[-1]",
        new="off = off | (actions != labels[-1])",
        says="nothing leads back on to the road: no expert's word can help",
        fails=("dagger_slope",),
    ),
    "expert_in_the_fog": Edit(
        function="drive",
        old="np.where(off, BACK, bend))  #",
        new="np.where(off, BACK, np.where(hidden, 0, bend)))  #",
        says="the expert sees no more than the learner: it says left in the fog, and nobody ever errs",
        fails=("clone_slope",),
    ),
    "fog_off_the_road": Edit(
        function="drive",
        old="np.where(off, OFF, np.where(hidden, FOG, bend))",
        new="np.where(hidden, FOG, np.where(off, OFF, bend))",
        says="fog hides from the learner that it left the road",
    ),
    "costs_a_step_late": Edit(
        function="drive",
        old="        costs += off\n        off = actions != labels[-1]\n",
        new="        off = actions != labels[-1]\n        costs += off\n",
        says="counts where each step ends, not where it begins",
    ),
    "one_round": Edit(
        function="clone",
        old="cfg.num_rounds * (cfg.num_labels // horizon)",
        new="cfg.num_labels // horizon",
        says="gets the labels of one round only, a fraction of what DAgger gets",
    ),
    "expert_drives": Edit(
        function="dagger",
        old="drive(policy, cfg",
        new="drive(None, cfg",
        says="the expert always drives: cloning by another name",
        fails=("dagger_slope",),
    ),
    "own_labels": Edit(
        function="dagger",
        old="labels.append(told)",
        new="labels.append(told if policy is None else policy[met])",
        says="learns from what it did itself: nobody told it anything",
        fails=("dagger_slope",),
    ),
    "forgets": Edit(
        function="dagger",
        old="fit(np.concatenate(obs), np.concatenate(labels))",
        new="fit(met, told)",
        says="is fitted to the last round alone, and forgets all before it",
    ),
    "not_averaged": Edit(
        function="rewards_of",
        old="world.P @ (world.features @ weights)",
        new="np.tile((world.features @ weights)[:, None], (1, world.P.shape[1]))",
        says="pays for where one stands, not for where one lands",
        fails=("gradient_gap", "weights_gap"),
    ),
    "best_for_soft": Edit(
        function="soft_plan",
        old="np.logaddexp.reduce(Q, axis=1)",
        new="Q.max(axis=1)",
        says="the best action's value in place of the soft one: what it does no longer adds up to 1",
        fails=("gradient_gap", "weights_gap"),
    ),
    "mean_for_soft": Edit(
        function="soft_plan",
        old="        policy[t] = np.exp(Q - V[t][:, None])  # eq. (2)\n",
        new="        policy[t] = np.exp(Q - V[t][:, None])\n        V[t] = (policy[t] * Q).sum(axis=1)\n",
        says="leaves out the entropy: the value of the soft policy, not the soft value",
        fails=("gradient_gap", "weights_gap"),
    ),
    "short_sighted": Edit(
        function="soft_plan",
        old="rewards[t] + P @ V[t + 1]",
        new="rewards[t]",
        says="does not look beyond the next step",
        fails=("gradient_gap", "weights_gap"),
    ),
    "first_reward": Edit(
        function="soft_plan",
        old="Q = rewards[t] + P",
        new="Q = rewards[0] + P",
        says="takes the first step's reward at every step",
    ),
    "chances_alone": Edit(
        function="occupancies",
        old="reached[:, None] * policy[t]",
        new="policy[t]",
        says="takes the chance of an action where one is, not how often one is there",
        fails=("gradient_gap", "weights_gap"),
    ),
    "always_at_the_start": Edit(
        function="occupancies",
        old='reached = np.einsum("sa,san->n", d[t], P)',
        new="reached = start",
        says="begins anew at each step",
        fails=("gradient_gap", "weights_gap"),
    ),
    "backwards_in_time": Edit(
        function="occupancies",
        old='np.einsum("sa,san->n", d[t], P)',
        new='np.einsum("na,san->s", d[t], P)',
        says="goes against the arrow: from the next state to the one before",
        fails=("gradient_gap", "weights_gap"),
    ),
    "counts_where_it_stands": Edit(
        function="feature_counts",
        old='np.einsum("tsa,san->n", occupancies(world.P, policy, world.start), world.P)',
        new="occupancies(world.P, policy, world.start).sum(axis=(0, 2))",
        says="counts the cells that are left, not those that are entered",
        fails=("gradient_gap", "weights_gap"),
    ),
    "last_step_only": Edit(
        function="feature_counts",
        old="occupancies(world.P, policy, world.start), world.P)",
        new="occupancies(world.P, policy, world.start)[-1:], world.P)",
        says="counts what the last step collects",
        fails=("gradient_gap", "weights_gap"),
    ),
    "learner_less_expert": Edit(
        function="dual",
        old="counts - feature_counts(world, policy) - ridge * weights",
        new="feature_counts(world, policy) - counts - ridge * weights",
        says="the difference the wrong way round: it climbs away from the expert",
        fails=("gradient_gap", "weights_gap"),
    ),
    "expert_alone": Edit(
        function="dual",
        old="weights @ counts - world.start @ V[0] -",
        new="weights @ counts -",
        says="only what the expert is paid: without the soft value weights grow for ever",
        fails=("gradient_gap", "weights_gap"),
    ),
    "every_start_counts": Edit(
        function="dual",
        old="world.start @ V[0]",
        new="V[0].sum()",
        says="adds the soft values of all first states, likely or not",
        fails=("gradient_gap", "weights_gap"),
    ),
    "flat_prior": Edit(
        function="dual",
        old=" - ridge / 2 * weights @ weights",
        new="",
        says="the ridge is in the gradient, not in the value",
    ),
    "prior_upwards": Edit(
        function="dual",
        old=" - ridge * weights  # eq. (5)",
        new=" + ridge * weights",
        says="the ridge pushes weights away from 0",
    ),
    "ignores_the_prior": Edit(
        function="recover",
        old="dual(weights, counts, world, ridge)",
        new="dual(weights, counts, world)",
        says="leaves the ridge out",
    ),
    "climbs_down": Edit(
        function="recover",
        old="return -value, -gradient",
        new="return value, gradient",
        says="looks for the lowest point of L, and there is none",
        fails=("weights_gap", "changed_garden"),
    ),
    "gains_at_once": Edit(
        function="shaped",
        old="P @ potential[t + 1] -",
        new="P @ potential[t] -",
        says="takes the potential of the next state at the present time",
    ),
    "never_pays_back": Edit(
        function="shaped",
        old=" - potential[t][:, None]",
        new="",
        says="pays for the potential of where one lands, and never takes it back",
    ),
    "any_end": Edit(
        function="shaped",
        old="potential[-1].any()",
        new="False",
        says="lets the potential stand when the time is up: what is left of it is a reward",
    ),
}
