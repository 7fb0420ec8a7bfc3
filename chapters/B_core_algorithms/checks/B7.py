"""B7's functions against definitions written out in loops, and its named edits."""

import math

import numpy as np

from chapters.exact.mdp import MDP, grid_mdp
from chapters.utils.edits import Edit


def check_q_update(q_update):
    """One entry of each agent's table moves, and only that; several agents, step sizes and discounts."""
    rng = np.random.default_rng(0)
    for num_agents, alpha, gamma in ((1, 1.0, 0.9), (4, 0.3, 0.5), (3, 0.1, 1.0)):
        q = rng.normal(size=(num_agents, 5, 3))
        expected = q.copy()
        obs, next_obs = rng.integers(5, size=(2, num_agents))
        actions, rewards = rng.integers(3, size=num_agents), rng.normal(size=num_agents)
        terminated = np.arange(num_agents) % 2 == 1
        for i in range(num_agents):
            rest = 0.0 if terminated[i] else gamma * max(q[i, next_obs[i]])
            old = expected[i, obs[i], actions[i]]
            expected[i, obs[i], actions[i]] = (1 - alpha) * old + alpha * (rewards[i] + rest)
        q_update(q, (obs, actions, rewards, next_obs, terminated), alpha, gamma)
        np.testing.assert_allclose(q, expected, rtol=1e-9, atol=1e-12)


def some_steps(rng, num_steps, num_agents, num_states, num_actions):
    """Random steps; the last state is never left."""
    for _ in range(num_steps):
        obs = rng.integers(num_states - 1, size=num_agents)
        actions, next_obs = (
            rng.integers(num_actions, size=num_agents),
            rng.integers(num_states, size=num_agents),
        )
        yield obs, actions, rng.normal(size=num_agents), next_obs, rng.random(num_agents) < 0.3


def check_Memory(Memory):
    """What is imagined is the last outcome of a pair, plus the bonus; drawn as often as it should be."""
    rng = np.random.default_rng(1)
    num_agents, num_states, num_actions, time = 2, 9, 3, 10
    memory = Memory((num_agents, num_states, num_actions))
    last = [{} for _ in range(num_agents)]
    for t, step in enumerate(some_steps(rng, time, num_agents, num_states, num_actions), start=1):
        memory.store(step, t)
        for i, (s, a, *outcome) in enumerate(zip(*step)):
            last[i][s, a] = (*outcome, t)
    assert list(memory.imagine(0, time, 0.0, rng)) == []
    num = 6000
    for kappa in (0.0, 0.7):
        counts = np.zeros((num_agents, num_states, num_actions))
        for obs, actions, rewards, next_obs, terminated in memory.imagine(num, time + 5, kappa, rng):
            for i in range(num_agents):
                s, a = int(obs[i]), int(actions[i])
                counts[i, s, a] += 1
                assert kappa or (s, a) in last[i], f"imagines action {a} in state {s}, which was never tried"
                reward, successor, end, t = last[i].get((s, a), (0.0, s, False, 0))
                pair, found = f"action {a} in state {s}", (int(next_obs[i]), bool(terminated[i]))
                paid = reward + kappa * math.sqrt(time + 5 - t)
                assert math.isclose(rewards[i], paid, abs_tol=1e-9), (
                    f"{pair} is imagined to pay {rewards[i]:.4g}, expected {paid:.4g} (kappa = {kappa})"
                )
                assert found == (successor, bool(end)), (
                    f"{pair} is imagined to lead to (state, terminated) {found}, "
                    f"expected {(int(successor), bool(end))}"
                )
        for i in range(num_agents):
            met = {s for s, _ in last[i]}
            for s in range(num_states):
                share = 1 / len(met) if s in met else 0.0
                assert abs(counts[i, s].sum() / num - share) < 0.04, f"state {s} is drawn too often or seldom"
                actions = [a for a in range(num_actions) if kappa or (s, a) in last[i]]
                for a in actions:
                    assert abs(counts[i, s, a] / num - share / len(actions)) < 0.04, (
                        f"action {a} in state {s} is drawn too often or seldom"
                    )


def random_world(seed, gamma=0.9, num_states=6, num_actions=3):
    """Random arrays; two states are terminal, and what stands in their rows must not matter to the others."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(num_states, 0.5), size=(num_states, num_actions))
    P[P < 0.05] = 0.0
    P /= P.sum(axis=2, keepdims=True)
    terminal = np.isin(np.arange(num_states), [0, num_states - 1])
    return MDP(P, rng.normal(size=(num_states, num_actions)), terminal, gamma)


def errors(mdp, q):
    """Equation (3), in loops."""
    found = np.zeros_like(q)
    for s, a in np.ndindex(*q.shape):
        future = sum(mdp.P[s, a, n] * max(q[n]) for n in range(len(q)) if not mdp.terminal[n])
        found[s, a] = mdp.R[s, a] + mdp.gamma * future - q[s, a]
    return found


def check_prioritised_sweeping(prioritised_sweeping):
    """Every backup is of a pair with the largest error, to the end; in a maze each pair comes once."""
    for mdp in (*map(random_world, range(4)), random_world(4, gamma=0.5, num_states=4, num_actions=2)):
        q, order = prioritised_sweeping(mdp, 1e-3)
        assert len(order) < 1000
        replayed = np.zeros_like(mdp.R)
        for pair in order:
            gaps = errors(mdp, replayed)
            largest = np.abs(gaps).max()
            assert abs(abs(gaps[tuple(pair)]) - largest) <= 1e-9, (
                f"{pair} comes before pairs with larger errors"
            )
            assert largest > 1e-3, f"{pair} comes although no error is above theta"
            replayed[tuple(pair)] += gaps[tuple(pair)]
        np.testing.assert_allclose(q, replayed, rtol=0, atol=1e-9)
        left = np.abs(errors(mdp, q)).max()
        assert left <= 1e-3 + 1e-12, f"stops with an error of {left:.3g} left"
    maze = grid_mdp(("..#.", ".S..", "#..G"), gamma=0.9)
    q, order = prioritised_sweeping(maze, 1e-9)
    inside = [tuple(pair) for pair in order]
    assert len(inside) == len(set(inside)) == maze.R[~maze.terminal].size
    assert np.abs(errors(maze, q)).max() <= 1e-9


EDITS = {
    "past_the_end": Edit(
        function="q_update",
        old="gamma * (1 - terminated) * q",
        new="gamma * q",
        says="bootstraps through a terminal state; harmless where its row stays 0, as in these mazes",
    ),
    "moves_away": Edit(
        function="q_update",
        old="alpha * (targets - q[where])",
        new="alpha * (q[where] - targets)",
        says="moves away from the target",
    ),
    "present_maximum": Edit(
        function="q_update",
        old="q[agents, next_obs].max",
        new="q[agents, obs].max",
        says="bootstraps from the state that was left, not from the one that was reached",
    ),
    "mean_of_actions": Edit(
        function="q_update",
        old="q[agents, next_obs].max",
        new="q[agents, next_obs].mean",
        says="the mean over the next actions in place of the best: as if it would always act at random",
    ),
    "undiscounted": Edit(
        function="q_update",
        old="rewards + gamma * (",
        new="rewards + (",
        says="leaves gamma out: what comes later counts in full",
    ),
    "no_bonus": Edit(
        function="Memory",
        old=" + kappa * np.sqrt(time - self.last_tried[where])",
        new="",
        says="no bonus: it imagines untried actions, and sees no reason to try them",
        fails=("plus_takes_shortcut",),
    ),
    "no_square_root": Edit(
        function="Memory",
        old="kappa * np.sqrt(time - self.last_tried[where])",
        new="kappa * (time - self.last_tried[where])",
        says="a bonus without its square root",
    ),
    "bonus_for_all": Edit(
        function="Memory",
        old="np.sqrt(time - self.last_tried[where])",
        new="np.sqrt(time)",
        says="the same bonus for every pair, however lately it was tried",
    ),
    "tried_only": Edit(
        function="Memory",
        old=" | (kappa > 0)",
        new=" | (kappa < 0)",
        says="curious about what it has tried before, and never about what it has not",
        fails=("plus_takes_shortcut",),
    ),
    "imagines_untried": Edit(
        function="Memory",
        old="| (kappa > 0)",
        new="| True",
        says="imagines actions that were never tried also without a bonus",
    ),
    "keeps_the_first": Edit(
        function="Memory",
        old="        self.rewards[where], self.next_obs[where], self.terminated[where] = "
        "rewards, next_obs, terminated\n",
        new="        first = self.last_tried[where] == 0\n"
        "        where = (agents[first], obs[first], actions[first])\n"
        "        self.rewards[where], self.next_obs[where] = rewards[first], next_obs[first]\n"
        "        self.terminated[where] = terminated[first]\n"
        "        where = (agents, obs, actions)\n",
        says="keeps the first outcome of a pair for ever: no later step corrects it",
    ),
    "forgets_the_end": Edit(
        function="Memory",
        old="self.next_obs[where], self.terminated[where] = rewards, next_obs, terminated",
        new="self.next_obs[where] = rewards, next_obs",
        says="does not remember which steps ended an episode",
    ),
    "one_for_all": Edit(
        function="Memory",
        old="obs = self.met[agents, (rng",
        new="obs = self.met[0, (rng",
        says="draws all agents' states from what the first agent has met",
    ),
    "first_actions": Edit(
        function="Memory",
        old="(allowed * rng.random(allowed.shape)).argmax",
        new="allowed.argmax",
        says="always the first action that it may imagine, none of the others",
    ),
    "signed_errors": Edit(
        function="prioritised_sweeping",
        old="heapq.heappush(queue, (-abs(error(before)), before))",
        new="heapq.heappush(queue, (-error(before), before))",
        says="puts in line only what would rise: bad news is never told",
    ),
    "out_of_date": Edit(
        function="prioritised_sweeping",
        old="if -priority != abs(error(pair)):",
        new="if abs(error(pair)) <= theta:",
        says="goes by errors that are out of date, and takes pairs before others that would change more",
    ),
    "tells_nobody": Edit(
        function="prioritised_sweeping",
        old="np.argwhere(mdp.P[:, :, state] > 0).tolist()",
        new="[]",
        says="tells nobody that a value has changed: each pair is looked at once, at the beginning",
        fails=("one_backup_each",),
    ),
    "worth_after_the_end": Edit(
        function="prioritised_sweeping",
        old="q[state].max() * (not mdp.terminal[state])",
        new="q[state].max()",
        says="gives terminal states a value",
    ),
    "sweeps_the_mean": Edit(
        function="prioritised_sweeping",
        old="q[state].max() *",
        new="q[state].mean() *",
        says="a state is worth the mean of its actions: the plan of one who acts at random",
    ),
    "small_first": Edit(
        function="prioritised_sweeping",
        old="heapq.heappush(queue, (-abs(error(before)), before))",
        new="queue.append((-abs(error(before)), before))",
        says="puts pairs at the end of the line, whatever their error",
    ),
    "never_plans": Edit(
        function="learn",
        old="memory.imagine(n, len(earned)",
        new="memory.imagine(0, len(earned)",
        says="never plans: plain Q-learning, whatever n",
        fails=("planning_saves_episodes",),
    ),
    "merged": Edit(
        function="learn",
        old="true_next_obs(next_obs, done, infos), terminated)",
        new="true_next_obs(next_obs, done, infos), done)",
        says="takes a time limit for the end of the world, in life and in memory",
    ),
    "next_episode": Edit(
        function="learn",
        old="rewards, true_next_obs(next_obs, done, infos), terminated)",
        new="rewards, next_obs, terminated)",
        says="takes the first observation of the next episode for the successor",
    ),
    "dreams_only": Edit(
        function="learn",
        old="q_update(q, step, alpha, cfg.gamma)  # learn",
        new="pass",
        says="learns from what it imagines, never from the step itself",
    ),
    "always_now": Edit(
        function="learn",
        old="memory.store(step, time=len(earned))",
        new="memory.store(step, time=1)",
        says="remembers every step as its first: nothing is ever recent",
    ),
}
