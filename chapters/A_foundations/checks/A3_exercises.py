"""Exercises of A3: its functions, and what goes beyond them."""

import numpy as np

from chapters.A_foundations.checks.A3 import lookahead, near, rng_gamma, some_mdp, value_by_powers
from chapters.exact.mdp import MDP
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def shaped_rewards(mdp: MDP, potential: np.ndarray) -> np.ndarray:
    """R' [S, A], eq. (8): every step pays besides what it gains in potential [S], which counts 0 at ends."""
    potential = np.where(mdp.terminal, 0.0, potential)
    gain = mdp.gamma * mdp.P @ potential - potential[:, None]  # [S, A]
    return np.where(mdp.terminal[:, None], mdp.R, mdp.R + gain)


def check_shaped_rewards(shaped_rewards):
    for seed in range(5):
        rng, mdp = some_mdp(seed, gamma=rng_gamma(seed))
        potential = rng.normal(size=6)  # not zero at the ends
        found = shaped_rewards(mdp, potential.copy())
        phi = [0.0 if mdp.terminal[s] else potential[s] for s in range(6)]
        for s in range(6):
            for a in range(3):
                gain = mdp.gamma * sum(mdp.P[s, a, n] * phi[n] for n in range(6)) - phi[s]
                near(found[s, a], mdp.R[s, a] + gain)
        policy = rng.dirichlet(np.ones(3), size=6)
        before, after = value_by_powers(mdp, policy), value_by_powers(mdp._replace(R=found), policy)
        near(after, before - phi, 1e-9)  # every policy is worth the potential less


def sweep_in_place(mdp: MDP, V: np.ndarray) -> np.ndarray:
    """The values [S] after one sweep of (E1) from V [S]; V itself stays as it is."""
    newest = V.copy()
    for s in range(len(V)):
        worth = mdp.R[s] + mdp.gamma * mdp.P[s] @ (newest * ~mdp.terminal)  # [A]
        newest[s] = worth.max()
    return newest


def check_sweep_in_place(sweep_in_place):
    for seed in range(5):
        rng, mdp = some_mdp(seed, gamma=rng_gamma(seed))
        start = rng.normal(size=6)
        given = start.copy()
        found = sweep_in_place(mdp, given)
        assert (given == start).all(), "the values that came in must stay as they were"
        expected = start.copy()
        for s in range(6):
            expected[s] = max(lookahead(mdp, expected)[s])
        near(found, expected)


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write one step of lookahead, the exact value of a policy, and the best policy in turns, from (2), (4) and
section 4.
""",
        minutes=40,
        difficulty="medium",
        functions=("q_from_v", "evaluate_exactly", "policy_iteration"),
    ),
    "no_discount": Exercise(
        title="No discount",
        task="""
Set `gamma` to 1 in Example 3.5, which has no end. Predict what each solver does, then run it.
""",
        minutes=10,
        difficulty="easy",
        answer="""
The sums diverge. Value iteration, in NumPy and in JAX, says after all its sweeps that it is still moving. The
linear system has no solution, and `where_it_ends` sees it before: rewards are paid, and no end is reached.
""",
    ),
    "shaped_rewards": Exercise(
        title="The perfect potential",
        task=r"""
Write the rewards of (8). Then give the corridor the potential $\Phi = V^*$, that is 0.9, 1 and 0 from left to
right. What is left to earn, and what does a move to the left cost in the middle?
""",
        minutes=20,
        difficulty="easy",
        solution=shaped_rewards,
        check=check_shaped_rewards,
        hints=(
            "A step gains the discounted potential of where it leads, and loses that of where it began.",
            "With gamma = 1 and a potential of 1 everywhere on the floor, only a step into an end pays less.",
            "potential = np.where(mdp.terminal, 0.0, potential)",
        ),
        edits={
            "pays_for_being_near": Edit(
                function="shaped_rewards",
                old=" - potential[:, None]",
                new="",
                says="takes nothing back on leaving: walking back and forth earns without end",
            ),
            "gain_without_gamma": Edit(
                function="shaped_rewards",
                old="mdp.gamma * mdp.P @ potential",
                new="mdp.P @ potential",
                says="forgets gamma: along a path the additions no longer cancel",
            ),
            "ends_have_potential": Edit(
                function="shaped_rewards",
                old="np.where(mdp.terminal, 0.0, potential)",
                new="potential",
                says="leaves an end its potential: nobody pays it back, and the best policy may change",
            ),
        },
        answer=r"""
Nothing, since every good move pays 0; and 0.19 at once, $0 + 0.9 \cdot 0.9 - 1$: no detour waits for its
price. A learner with a good guess of $V^*$ as its potential has little left to find out.
""",
    ),
    "sweep_in_place": Exercise(
        title="In place",
        task=r"""
Value iteration computes all new values from the old ones. It may also write each value over the old one at
once, so that the states after it see it in the same sweep:

$$V(s) \leftarrow \max_a \Bigl[ R(s, a) + \gamma \sum_{s'} P(s' \mid s, a)\,
\bigl(1 - \text{terminal}(s')\bigr)\, V(s') \Bigr] \qquad \text{for } s = 0, 1, \dots, S - 1 \tag{E1}$$

Let `iterate` repeat it from 0 in Example 3.5. How many sweeps does it need, and value iteration? Is it always
faster?
""",
        minutes=25,
        difficulty="medium",
        solution=sweep_in_place,
        check=check_sweep_in_place,
        hints=(
            "One array holds it all: what one state writes, the states after it read.",
            "In the corridor `..G`, one sweep from 0 gives 0, 1, 0: state 0 comes before state 1.",
            "newest = V.copy()",
        ),
        edits={
            "reads_old_values": Edit(
                function="sweep_in_place",
                old="(newest * ~mdp.terminal)",
                new="(V * ~mdp.terminal)",
                says="reads the values from before the sweep: plain value iteration",
            ),
            "ends_count": Edit(
                function="sweep_in_place",
                old="(newest * ~mdp.terminal)",
                new="newest",
                says="counts what an end is guessed to be worth",
            ),
            "other_order": Edit(
                function="sweep_in_place",
                old="in range(len(V))",
                new="in reversed(range(len(V)))",
                says="goes from the last state to the first",
            ),
            "overwrites_argument": Edit(
                function="sweep_in_place",
                old="V.copy()",
                new="V",
                says="overwrites the values that it was given",
            ),
        },
        answer="""
50 sweeps and 241: news of a reward travels several cells within one sweep. It does so only in the order of
the states. In a corridor with its goal at the left end, two sweeps are enough; with the goal at the right
end, nothing is gained. The values are the same: each backup brings its own state within gamma times the
largest error, and after a sweep every state had its turn.
""",
    ),
}
