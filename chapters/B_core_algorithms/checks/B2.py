"""Definition checks of B2: Monte Carlo methods and n-step TD."""

import functools
import math

import numpy as np

from chapters.utils.edits import Edit

DECK = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10]


# Blackjack a second time, written down independently: a hand is (sum with aces as 1, holds an ace).
def score(hard, ace):
    return hard + 10 if ace and hard + 10 <= 21 else hard


@functools.cache
def dealer(hard, ace):
    """Chances of the final scores 0 (bust) to 21."""
    if score(hard, ace) >= 17:
        return np.eye(22)[score(hard, ace) if hard <= 21 else 0]
    return sum(dealer(hard + card, ace or card == 1) for card in DECK) / 13


@functools.cache
def player_value(hard, ace, showing, sticks_from):
    """Expected reward of a hand; `sticks_from`: lowest sum the policy sticks on, None: the optimum."""
    if hard > 21:
        return -1.0
    stick, hit = player_actions(hard, ace, showing, sticks_from)
    if sticks_from is None:
        return max(stick, hit)
    return stick if score(hard, ace) >= sticks_from else hit


def player_actions(hard, ace, showing, sticks_from):
    chances = dealer(showing, showing == 1)
    stick = sum(p * np.sign(score(hard, ace) - k) for k, p in enumerate(chances))
    hits = [player_value(hard + card, ace or card == 1, showing, sticks_from) for card in DECK]
    return stick, sum(hits) / 13


def states():
    """(usable, showing, sum, hard sum) of every state that occurs: hard 4 to 21 and soft 12 to 21."""
    for showing in range(1, 11):
        yield from ((0, showing, total, total) for total in range(4, 22))
        yield from ((1, showing, total, total - 10) for total in range(12, 22))


def check_discounted_returns(discounted_returns):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (6, 3), (4, 7)):
        rewards = rng.normal(size=shape)
        for gamma in (0.0, 0.9, 1.0):
            returns = discounted_returns(rewards, gamma)
            for t, i in np.ndindex(shape):
                definition = sum(gamma ** (k - t) * rewards[k, i] for k in range(t, shape[0]))
                assert math.isclose(returns[t, i], definition, abs_tol=1e-12)


def check_first_visits(first_visits):
    rng = np.random.default_rng(1)
    for num_steps, num_episodes, num_states in ((1, 1, 1), (9, 5, 3), (20, 4, 7), (6, 30, 2)):
        visited = rng.integers(num_states, size=(num_steps, num_episodes))
        lengths = rng.integers(1, num_steps + 1, num_episodes)
        visited[np.arange(num_steps)[:, None] >= lengths] = -1
        mask = first_visits(visited)
        for t, i in np.ndindex(visited.shape):
            assert mask[t, i] == (visited[t, i] >= 0 and visited[t, i] not in visited[:t, i])


def check_visit_sums(visit_sums):
    rng = np.random.default_rng(2)
    visited, returns = rng.integers(4, size=(6, 5)), rng.normal(size=(6, 5))
    counted = rng.random((6, 5)) < 0.6
    sums = visit_sums(visited, returns, counted, 6)
    for state in range(6):
        seen = [returns[where] for where in np.ndindex(6, 5) if counted[where] and visited[where] == state]
        np.testing.assert_allclose(
            sums[:, state], [len(seen), sum(seen), sum(x * x for x in seen)], atol=1e-12
        )


def check_loop_estimates(loop_estimates):
    """From the same episode lengths, by lists."""
    p, num_experiments, num_episodes = 0.7, 50, 4
    estimates = loop_estimates(p, num_experiments, num_episodes, np.random.default_rng(3))
    lengths = np.random.default_rng(3).geometric(1 - p, num_experiments * num_episodes)
    for e in range(num_experiments):
        first, every = [], []
        for n in range(num_episodes):
            length = int(lengths[e * num_episodes + n])
            first.append(length)
            every.extend(range(1, length + 1))
            np.testing.assert_allclose(estimates[:, e, n], [np.mean(first), np.mean(every)], rtol=1e-12)


def check_expected_loop_estimates(expected_loop_estimates):
    """By summing over the lengths of one, two and three episodes."""
    p = 0.4
    chance = [(1 - p) * p ** (length - 1) for length in range(1, 60)]
    expected = np.zeros((2, 3))
    triples = [(a, b, c) for a in range(1, 26) for b in range(1, 26) for c in range(1, 26)]
    for lengths in triples:
        weight = math.prod(chance[length - 1] for length in lengths)
        for n in range(1, 4):
            steps, returns = sum(lengths[:n]), sum(x * (x + 1) / 2 for x in lengths[:n])
            expected[:, n - 1] += weight * np.array([steps / n, returns / steps])
    np.testing.assert_allclose(expected_loop_estimates(p, 3), expected, rtol=1e-7)


def check_dealer_scores(dealer_scores):
    chances = dealer_scores()
    for hard in range(2, 22):
        np.testing.assert_allclose(chances[0, hard], dealer(hard, False), atol=1e-14)
    for total in range(11, 22):
        np.testing.assert_allclose(chances[1, total], dealer(total - 10, True), atol=1e-14)
    # the dealer's chance of going bust from 2 to 10 in the published tables for infinitely many decks
    published = [0.3536, 0.3739, 0.3945, 0.4164, 0.4232, 0.2623, 0.2447, 0.2284, 0.2121]
    np.testing.assert_allclose(chances[0, 2:11, 0], published, atol=6e-5)


def check_stick_values(stick_values):
    values = stick_values()
    for usable, showing, total, hard in states():
        exact = player_actions(hard, bool(usable), showing, 4)[0]
        assert math.isclose(values[usable, showing, total], exact, abs_tol=1e-12)


def check_hit_values(hit_values):
    table = np.random.default_rng(4).normal(size=(2, 11, 22))
    hit = hit_values(table)
    for usable, showing, total, hard in states():
        expected = 0.0
        for card in DECK:
            next_hard, ace = hard + card, bool(usable) or card == 1
            next_total = score(next_hard, ace)
            soft = int(next_total != next_hard)
            expected += (-1.0 if next_hard > 21 else table[soft, showing, next_total]) / 13
        assert math.isclose(hit[usable, showing, total], expected, abs_tol=1e-12)


def check_solve_blackjack(solve_blackjack):
    policy = np.ones((2, 11, 22), dtype=int)
    policy[:, :, 18:] = 0
    for q, sticks_from in ((solve_blackjack(policy), 18), (solve_blackjack(), None)):
        for usable, showing, total, hard in states():
            exact = player_actions(hard, bool(usable), showing, sticks_from)
            np.testing.assert_allclose(q[:, usable, showing, total], exact, atol=1e-12)


def check_rollout(rollout):
    rng = np.random.default_rng(5)
    policy = rng.integers(2, size=(2, 11, 22))
    policy[1, 10, 21] = 1  # the last entry, which index -1 reads
    for exploring in (False, True):
        states_, actions, rewards = rollout(policy, 20_000, rng, exploring)
        running = states_ >= 0
        assert running[0].all()
        assert (running[1:] <= running[:-1]).all()
        assert (rewards[~running] == 0).all()
        assert (actions[~running] == 0).all()
        last = running & ~np.vstack([running[1:], np.zeros((1, 20_000), dtype=bool)])
        assert (rewards[running & ~last] == 0).all()
        assert (actions[running & ~last] == 1).all()  # only a hit goes on
        follows = running.copy()
        if exploring:
            follows[0] = False
            agrees = actions[0] == policy.ravel()[states_[0]]  # a random action does half of the time
            assert abs(agrees.mean() - 0.5) < 5 * 0.5 / math.sqrt(20_000)
            share = np.bincount(states_[0], minlength=484) / 20_000
            uniform = np.zeros((2, 11, 22))
            uniform[:, 1:, 12:] = 1 / 200
            assert np.abs(share - uniform.ravel()).max() < 5 * math.sqrt(1 / 200 / 20_000)
        np.testing.assert_array_equal(actions[follows], policy.ravel()[states_[follows]])
        # a hit that ends a hand went bust; a stick pays the sign of the comparison
        assert (rewards[last & (actions == 1)] == -1).all()
        stuck = last & (actions == 0)
        wins = np.array(
            [player_actions(s % 22, False, s // 22 % 11, 4)[0] if s % 22 > 3 else 0 for s in range(484)]
        )
        noise = rewards[stuck] - wins[states_[stuck]]
        assert abs(noise.mean()) < 5 * noise.std() / math.sqrt(noise.size)


def check_predict(predict):
    """The mean return in each state deviates from the exact value as standard errors say."""
    policy = np.ones((2, 11, 22), dtype=int)
    policy[:, :, 17:] = 0
    sums = predict(policy, 60_000, np.random.default_rng(6)).reshape(4, 2, 11, 22)
    assert (sums[3] == 0).all()
    scores = []
    for usable, showing, total, hard in states():
        count, first, second = sums[:3, usable, showing, total]
        if count > 200:
            exact = player_value(hard, bool(usable), showing, 17)
            spread = math.sqrt(max(second / count - (first / count) ** 2, 1e-12) / count)
            scores.append((first / count - exact) / spread)
    assert len(scores) > 100
    assert np.abs(scores).max() < 5
    assert 0.8 < np.std(scores) < 1.2


def check_standard_errors(standard_errors):
    rng = np.random.default_rng(7)
    sample = rng.normal(2.0, 3.0, (40, 5))
    sums = np.stack([np.full(5, 40.0), sample.sum(axis=0), (sample**2).sum(axis=0)])
    np.testing.assert_allclose(standard_errors(sums), sample.std(axis=0, ddof=1) / math.sqrt(40), rtol=1e-9)


def check_policy_loss(policy_loss):
    """Zero for the optimum; for two other policies the mean difference of exact values over 200 states."""
    decided = [state for state in states() if state[2] >= 12]
    optimal = np.ones((2, 11, 22), dtype=int)
    for usable, showing, total, hard in decided:
        stick, hit = player_actions(hard, bool(usable), showing, None)
        optimal[usable, showing, total] = hit > stick
    assert abs(policy_loss(optimal)) < 1e-12
    for sticks_from in (12, 20):
        policy = (np.indices((2, 11, 22))[2] < sticks_from).astype(int)
        losses = [
            player_value(hard, bool(usable), showing, None)
            - player_value(hard, bool(usable), showing, sticks_from)
            for usable, showing, _, hard in decided
        ]
        assert math.isclose(policy_loss(policy), np.mean(losses), rel_tol=1e-9)


def check_walk_values(walk_values):
    for num_states in (1, 5, 19):
        exact = 2 * np.arange(1, num_states + 1) / (num_states + 1) - 1  # gambler's ruin
        np.testing.assert_allclose(walk_values(num_states), exact, atol=1e-12)


def check_walk_episodes(walk_episodes):
    rng = np.random.default_rng(8)
    walk, rewards, lengths = walk_episodes(5, 4000, rng)
    assert (walk[0] == 3).all()
    for run in range(100):
        path, end = walk[:, run], lengths[run]
        assert set(np.abs(np.diff(path[: end + 1]))) == {1}
        assert (path[:end] % 6 != 0).all()
        assert path[end] in (0, 6)
        assert (path[end:] == path[end]).all()
        assert rewards[end - 1, run] == (1 if path[end] == 6 else -1)
        assert np.abs(rewards[:, run]).sum() == 1
    assert abs(rewards.sum(axis=0).mean()) < 5 / math.sqrt(4000)  # left and right are equally likely
    assert abs(lengths.mean() - 9) < 5 * lengths.std() / math.sqrt(4000)  # 3 x 3 steps: gambler's ruin


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
                    assert math.isclose(sums[t, i], definition, abs_tol=1e-12)
                    assert math.isclose(weights[t, i], gamma**n if t + n < lengths[i] else 0.0, abs_tol=1e-12)


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
                    assert math.isclose(errors[e, a, run], rms, rel_tol=1e-9)


EDITS = {
    "index_off_one": Edit(
        function="discounted_returns",
        old="        returns[t] = following\n",
        new="        returns[t - 1] = following\n",
        says="index off by one",
    ),
    "discounts_reward": Edit(
        function="discounted_returns",
        old="rewards[t] + gamma * following",
        new="gamma * (rewards[t] + following)",
        says="discounts the reward",
    ),
    "no_discount": Edit(
        function="discounted_returns",
        old="rewards[t] + gamma * following",
        new="rewards[t] + following",
        says="no discount",
    ),
    "last_visits": Edit(
        function="first_visits",
        old="_, first = np.unique(pairs, return_index=True)",
        new="first = len(pairs) - 1 - np.unique(pairs[::-1], return_index=True)[1]",
        says="last visits",
    ),
    "every_visit": Edit(
        function="first_visits",
        old="mask[present[first]] = True",
        new="mask[present] = True",
        says="every visit",
    ),
    "counts_what_follows_end": Edit(
        function="first_visits",
        old="np.flatnonzero(states >= 0)",
        new="np.flatnonzero(states >= -1)",
        says="counts what follows the end",
    ),
    "first_over_all_episodes": Edit(
        function="first_visits",
        old="* num_episodes + present % num_episodes",
        new="* num_episodes",
        says="first over all episodes",
    ),
    "ignores_mask": Edit(
        function="visit_sums",
        old="states[counted], returns[counted]",
        new="states.ravel(), returns.ravel()",
        says="ignores the mask",
    ),
    "no_squares": Edit(
        function="visit_sums",
        old="for power in (0, 1, 2)",
        new="for power in (0, 1, 1)",
        says="no squares",
    ),
    "first_visit_twice": Edit(
        function="loop_estimates",
        old="np.where(running, 0, -1)), running)",
        new="np.where(running, 0, -1)),) * 2",
        says="first-visit twice",
    ),
    "mean_means": Edit(
        function="loop_estimates",
        old=".reshape(shape).cumsum(axis=1)\n        estimates",
        new=".reshape(shape)\n        estimates",
        says="mean of means",
    ),
    "length_wrong": Edit(
        function="loop_estimates",
        old="rng.geometric(1 - p,",
        new="rng.geometric(p,",
        says="length wrong",
    ),
    "bias_wrong_sign": Edit(
        function="expected_loop_estimates",
        old="(n * value + 1) / (n + 1)",
        new="(n * value - 1) / (n - 1 + 1e-9)",
        says="bias of the wrong sign",
    ),
    "bias_stays": Edit(
        function="expected_loop_estimates",
        old="(n * value + 1) / (n + 1)",
        new="(value + 1) / 2 + 0 * n",
        says="bias that stays",
    ),
    "draws_17": Edit(
        function="dealer_scores",
        old="np.where((total < 17)[..., None]",
        new="np.where((total < 18)[..., None]",
        says="draws on 17",
    ),
    "hits_soft_17": Edit(
        function="dealer_scores",
        old="np.where((total < 17)[..., None]",
        new="np.where((total < 17 + usable)[..., None]",
        says="hits a soft 17",
    ),
    "bust_not_noticed": Edit(
        function="dealer_scores",
        old="np.where((next_total > 21)[..., None], bust, reached)",
        new="reached",
        says="bust not noticed",
    ),
    "sign": Edit(
        function="stick_values",
        old="np.sign(np.arange(22)[:, None] - np.arange(22))",
        new="np.sign(np.arange(22) - np.arange(22)[:, None])",
        says="sign",
    ),
    "draw_loses": Edit(
        function="stick_values",
        old="np.sign(np.arange(22)[:, None] - np.arange(22))",
        new="np.sign(np.arange(22)[:, None] - np.arange(22) - 0.5)",
        says="a draw loses",
    ),
    "bust_costs_nothing": Edit(
        function="hit_values",
        old="np.where(next_total > 21, -1.0, reached)",
        new="np.where(next_total > 21, 0.0, reached)",
        says="bust costs nothing",
    ),
    "ace_stays": Edit(
        function="hit_values",
        old="values[next_usable.astype(int), showing",
        new="values[usable, showing",
        says="the ace stays as it is",
    ),
    "e_21_bust": Edit(
        function="hit_values",
        old="np.where(next_total > 21, -1.0",
        new="np.where(next_total >= 21, -1.0",
        says="21 is bust",
    ),
    "worst_action": Edit(
        function="solve_blackjack",
        old="q.max(axis=0) if policy",
        new="q.min(axis=0) if policy",
        says="worst action",
    ),
    "actions_swapped": Edit(
        function="solve_blackjack",
        old="np.where(policy == HIT, q[HIT], q[STICK])\n        hit =",
        new="np.where(policy == HIT, q[STICK], q[HIT])\n        hit =",
        says="actions swapped",
    ),
    "one_sweep": Edit(
        function="solve_blackjack",
        old="if np.array_equal(hit, q[HIT]):",
        new="if q[HIT].any():",
        says="one sweep",
    ),
    "no_random_first_action": Edit(
        function="rollout",
        old="actions = rng.integers(2, size=num_hands)",
        new="pass",
        says="no random first action",
    ),
    "actions_after_end": Edit(
        function="rollout",
        old="np.where(running, actions, 0)",
        new="actions",
        says="actions after the end",
    ),
    "starts_never_21": Edit(
        function="rollout",
        old="(2, 11, 22), (num_hands, 3)",
        new="(2, 11, 21), (num_hands, 3)",
        says="starts never on 21",
    ),
    "rewards_lost": Edit(
        function="rollout",
        old="steps.append((state, np.where(running, actions, 0), rewards))",
        new="steps.append((state, np.where(running, actions, 0), 0 * rewards))",
        says="rewards lost",
    ),
    "averages_rewards_not_returns": Edit(
        function="predict",
        old="returns = discounted_returns(rewards, gamma=1.0)\n    first =",
        new="returns = rewards\n    first =",
        says="averages rewards, not returns",
    ),
    "counts_nothing_repeated": Edit(
        function="predict",
        old="np.vstack([visit_sums(states, returns, first,",
        new="np.vstack([visit_sums(states, returns, states > 200,",
        says="counts nothing as repeated",
    ),
    "standard_deviation": Edit(
        function="standard_errors",
        old=" / (count - 1))",
        new=")",
        says="standard deviation",
    ),
    "mean_not_subtracted": Edit(
        function="standard_errors",
        old=" - (sums[1] / count) ** 2",
        new="",
        says="mean not subtracted",
    ),
    "wrong_states": Edit(
        function="policy_loss",
        old="- values)[PLAYED].mean()",
        new="- values).mean()",
        says="wrong states",
    ),
    "policy_loss_actions_swapped": Edit(
        function="policy_loss",
        old="values = np.where(policy == HIT, q[HIT], q[STICK])\n    return",
        new="values = np.where(policy == HIT, q[STICK], q[HIT])\n    return",
        says="actions swapped",
    ),
    "rewards_not_halved": Edit(
        function="walk_values",
        old="rewards[-1] += 0.5",
        new="rewards[-1] += 1.0",
        says="rewards not halved",
    ),
    "walk_values_sign": Edit(
        function="walk_values",
        old="np.eye(num_states) - transitions",
        new="np.eye(num_states) + transitions",
        says="sign",
    ),
    "left_end_pays_nothing": Edit(
        function="walk_episodes",
        old=" - (walk[1:] == 0))",
        new=")",
        says="left end pays nothing",
    ),
    "drifts": Edit(
        function="walk_episodes",
        old="2 * rng.integers(2, size=num_runs) - 1",
        new="2 * (rng.random(num_runs) < 0.6) - 1",
        says="drifts",
    ),
    "starts_beside_middle": Edit(
        function="walk_episodes",
        old="(num_states + 1) // 2",
        new="num_states // 2",
        says="starts beside the middle",
    ),
    "bootstraps_past_terminal_state": Edit(
        function="n_step_parts",
        old="gamma**n * not_terminated",
        new="gamma**n * np.ones_like(returns)",
        says="bootstraps past the terminal state",
    ),
    "bootstrap_not_discounted": Edit(
        function="n_step_parts",
        old="gamma**n * not_terminated",
        new="1.0 * not_terminated",
        says="bootstrap not discounted",
    ),
    "terminal_state_bootstrapped": Edit(
        function="n_step_parts",
        old="+ n < lengths",
        new="+ n <= lengths",
        says="terminal state bootstrapped",
    ),
    "sums_end": Edit(
        function="n_step_parts",
        old="returns - gamma**n * beyond",
        new="returns",
        says="sums to the end",
    ),
    "one_reward_too_many": Edit(
        function="n_step_parts",
        old="beyond[:-n] = returns[n:]",
        new="beyond[: -n - 1] = returns[n + 1 :]",
        says="one reward too many",
    ),
    "bootstrap_missing": Edit(
        function="n_step_td",
        old="sums[t] + weights[t] * values[:, runs, later]",
        new="sums[t] + 0 * values[:, runs, later]",
        says="bootstrap missing",
    ),
    "bootstraps_from_next_state": Edit(
        function="n_step_td",
        old="states[min(t + ahead, len(rewards))]",
        new="states[min(t + 1, len(rewards))]",
        says="bootstraps from the next state",
    ),
    "error_terminal_states_counted": Edit(
        function="n_step_td",
        old="values[:, :, 1:-1] - true_values",
        new="values[:, :, :-2] - true_values",
        says="error of terminal states counted",
    ),
}
