"""B2's functions against their definitions, and its named edits."""

import math

import numpy as np

from chapters.utils.edits import Edit


def check_discounted_returns(discounted_returns):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (6, 3), (4, 7)):
        rewards = rng.normal(size=shape)
        for gamma in (0.0, 0.9, 1.0):
            returns = discounted_returns(rewards, gamma)
            for t, i in np.ndindex(shape):
                definition = sum(gamma ** (k - t) * rewards[k, i] for k in range(t, shape[0]))
                np.testing.assert_allclose(
                    returns[t, i], definition, atol=1e-12, err_msg=f"step {t} of {shape[0]}, gamma {gamma}"
                )


def check_first_visits(first_visits):
    rng = np.random.default_rng(1)
    for num_steps, num_episodes, num_states in ((1, 1, 1), (9, 5, 3), (20, 4, 7), (6, 30, 2)):
        visited = rng.integers(num_states, size=(num_steps, num_episodes))
        lengths = rng.integers(1, num_steps + 1, num_episodes)
        visited[np.arange(num_steps)[:, None] >= lengths] = -1
        mask = first_visits(visited)
        for t, i in np.ndindex(visited.shape):
            expected = visited[t, i] >= 0 and visited[t, i] not in visited[:t, i]
            assert mask[t, i] == expected, f"step {t} of the episode {visited[:, i].tolist()}: {mask[t, i]}"


def check_visit_sums(visit_sums):
    rng = np.random.default_rng(2)
    for ended in (0.0, 0.5):  # what follows an end has the state -1, and is never counted
        visited, returns = rng.integers(4, size=(6, 5)), rng.normal(size=(6, 5))
        counted = rng.random((6, 5)) < 0.6
        visited[~counted & (rng.random((6, 5)) < ended)] = -1
        sums = visit_sums(visited, returns, counted, 6)
        for state in range(6):
            seen = [returns[at] for at in np.ndindex(6, 5) if counted[at] and visited[at] == state]
            np.testing.assert_allclose(
                sums[:, state],
                [len(seen), sum(seen), sum(x * x for x in seen)],
                atol=1e-12,
                err_msg=f"count, sum and sum of squares of state {state}",
            )


def check_n_step_parts(n_step_parts):
    rng = np.random.default_rng(9)
    for num_steps, n in ((1, 1), (7, 1), (7, 3), (7, 7), (7, 12)):
        lengths = rng.integers(1, num_steps + 1, 5)
        rewards = rng.normal(size=(num_steps, 5)) * (np.arange(num_steps)[:, None] < lengths)
        for gamma in (0.9, 1.0):
            sums, weights = n_step_parts(rewards, lengths, n, gamma)
            for i in range(5):
                for t in range(int(lengths[i])):
                    stop = min(t + n, int(lengths[i]))
                    definition = sum(gamma ** (k - t) * rewards[k, i] for k in range(t, stop))
                    where = f"step {t} of {lengths[i]}, n {n}, gamma {gamma}"
                    np.testing.assert_allclose(
                        sums[t, i], definition, atol=1e-12, err_msg=f"sum of rewards at {where}"
                    )
                    weight = gamma**n if t + n < lengths[i] else 0.0
                    np.testing.assert_allclose(
                        weights[t, i], weight, atol=1e-12, err_msg=f"weight of the value at {where}"
                    )


def check_n_step_td(n_step_td):
    """Against the printed algorithm, run by run and step by step (suttonbarto2018, section 7.1)."""
    rng = np.random.default_rng(10)
    num_states, num_runs, alphas = 5, 3, np.array([0.1, 0.6])
    episodes = []
    for _ in range(3):
        paths = []
        for _ in range(num_runs):
            path = [3]
            while path[-1] not in (0, 6):
                path.append(path[-1] + int(rng.choice([-1, 1])))
            paths.append(path)
        longest = max(map(len, paths))
        walk = np.array([path + [path[-1]] * (longest - len(path)) for path in paths]).T
        lengths = np.array([len(path) - 1 for path in paths])
        rewards = np.zeros((longest - 1, num_runs))
        for run, path in enumerate(paths):
            rewards[len(path) - 2, run] = 1.0 if path[-1] == 6 else -1.0
        episodes.append((walk, rewards, lengths))
    true_values = np.arange(1, 6) / 3 - 1
    for n in (1, 2, 4, 0):
        errors = n_step_td(episodes, n, alphas, num_states)
        for a, alpha in enumerate(alphas):
            for run in range(num_runs):
                values = np.zeros(7)
                for e, (walk, rewards, lengths) in enumerate(episodes):
                    end, ahead = int(lengths[run]), n or 10**6
                    for tau in range(end):
                        target = rewards[tau : min(tau + ahead, end), run].sum()
                        if tau + ahead < end:
                            target += values[walk[tau + ahead, run]]
                        values[walk[tau, run]] += alpha * (target - values[walk[tau, run]])
                    rms = math.sqrt(np.mean((values[1:-1] - true_values) ** 2))
                    np.testing.assert_allclose(
                        errors[e, a, run], rms, rtol=1e-9, err_msg=f"episode {e}, alpha {alpha}, n {n}"
                    )


EDITS = {
    "off_by_one": Edit(
        function="discounted_returns",
        old="        returns[t] = following\n",
        new="        returns[t - 1] = following\n",
        says="each return stands one step too early",
        fails=("error_slope", "control_loss"),
    ),
    "discounts_the_reward": Edit(
        function="discounted_returns",
        old="rewards[t] + gamma * following",
        new="gamma * (rewards[t] + following)",
        says="discounts the step's own reward as well",
    ),
    "no_discount": Edit(
        function="discounted_returns",
        old="rewards[t] + gamma * following",
        new="rewards[t] + following",
        says="forgets the discount",
    ),
    "last_visits": Edit(
        function="first_visits",
        old="        mask[t] &= (states[:t] != states[t]).all(axis=0)\n",
        new="        mask[t - 1] &= (states[t:] != states[t - 1]).all(axis=0)\n",
        says="marks last visits, not first ones",
    ),
    "every_visit": Edit(
        function="first_visits",
        old="    for t in range(1, len(states)):\n        mask[t] &= (states[:t] != states[t]).all(axis=0)\n",
        new="",
        says="marks every visit",
    ),
    "counts_after_the_end": Edit(
        function="first_visits",
        old="mask = states >= 0",
        new="mask = states >= -1",
        says="marks what follows the end of an episode too",
    ),
    "first_over_all_episodes": Edit(
        function="first_visits",
        old="(states[:t] != states[t]).all(axis=0)",
        new="~np.isin(states[t], states[:t])",
        says="first among all episodes, not within each",
    ),
    "ignores_the_mask": Edit(
        function="visit_sums",
        old="states[counted], returns[counted]",
        new="states.ravel(), returns.ravel()",
        says="counts every visit, whatever the mask says",
    ),
    "no_squares": Edit(
        function="visit_sums",
        old="for power in (0, 1, 2)",
        new="for power in (0, 1, 1)",
        says="sums of returns where sums of squares belong: the intervals come out wrong",
    ),
    "rewards_for_returns": Edit(
        function="evaluate_policy",
        old="returns = discounted_returns(rewards, gamma=1.0)",
        new="returns = rewards",
        says="averages the next reward, not the return: only a hand's last step is ever paid",
        fails=("error_slope",),
    ),
    "no_exploring": Edit(
        function="control",
        old="        first_actions = rng.integers(2, size=cfg.batch_size)\n",
        new="        first_actions = None\n",
        says="the first action is the policy's own: an action not chosen is never tried",
        fails=("control_loss",),
    ),
    "no_improvement": Edit(
        function="control",
        old="        policy = np.where(q[HIT] > q[STICK], HIT, STICK)",
        new="        policy = policy",
        says="estimates, and never improves the policy",
        fails=("control_loss",),
    ),
    "worse_action": Edit(
        function="control",
        old="np.where(q[HIT] > q[STICK], HIT, STICK)",
        new="np.where(q[HIT] < q[STICK], HIT, STICK)",
        says="takes the action whose mean return is lower",
        fails=("control_loss",),
    ),
    "starts_never_on_21": Edit(
        function="control",
        old="(2, 11, 22), (cfg.batch_size, 3)",
        new="(2, 11, 21), (cfg.batch_size, 3)",
        says="no hand starts on 21: sticking there is learned from other hands only",
    ),
    "past_the_end": Edit(
        function="n_step_parts",
        old="gamma**n * not_terminated",
        new="gamma**n * np.ones_like(returns)",
        says="bootstraps past the terminal state",
    ),
    "bootstrap_not_discounted": Edit(
        function="n_step_parts",
        old="gamma**n * not_terminated",
        new="1.0 * not_terminated",
        says="the value n steps ahead is not discounted",
    ),
    "trusts_the_terminal_state": Edit(
        function="n_step_parts",
        old="+ n < lengths",
        new="+ n <= lengths",
        says="gives the terminal state itself a value",
    ),
    "sums_to_the_end": Edit(
        function="n_step_parts",
        old="returns - gamma**n * beyond",
        new="returns",
        says="sums rewards to the end and bootstraps on top: counts them twice",
        fails=("n_step_beats_monte_carlo",),
    ),
    "one_reward_too_many": Edit(
        function="n_step_parts",
        old="beyond[:-n] = returns[n:]",
        new="beyond[: -n - 1] = returns[n + 1 :]",
        says="sums one reward too many",
    ),
    "no_bootstrap": Edit(
        function="n_step_td",
        old="sums[t] + weights[t] * values[:, runs, later]",
        new="sums[t] + 0 * values[:, runs, later]",
        says="leaves the estimate of the rest out",
    ),
    "bootstraps_from_the_next_state": Edit(
        function="n_step_td",
        old="states[min(t + ahead, len(rewards))]",
        new="states[min(t + 1, len(rewards))]",
        says="trusts the next state's value, however many rewards were summed",
    ),
    "error_of_terminal_states": Edit(
        function="n_step_td",
        old="values[:, :, 1:-1] - true_values",
        new="values[:, :, :-2] - true_values",
        says="compares each value with its neighbour's truth",
    ),
}
