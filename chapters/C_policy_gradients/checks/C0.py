"""Definition checks of C0: each function against its equation, written out one number at a time."""

import math
from itertools import product

import numpy as np
import torch

from chapters.C_policy_gradients.C0_policy_gradients_reinforce import MDP
from chapters.utils.edits import Edit

SHAPES = ((1, 2), (4, 3), (7, 5))  # (T, N)


def random_process(rng, num_states=3, num_actions=2, num_steps=3, gamma=0.8):
    """(process, logits) at random."""
    P = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
    R = rng.normal(1.0, 1.0, size=(num_states, num_actions))
    return MDP(P, R, gamma, num_steps), rng.normal(size=(num_states, num_actions))


def softmax_by_hand(logits):
    rows = [[math.exp(x) for x in row] for row in logits]
    return np.array([[x / sum(row) for x in row] for row in rows])


def value_by_hand(mdp, policy, state=0, t=0):
    """Expected return from `state` at step t, by recursion over everything that can happen."""
    if t == mdp.num_steps:
        return 0.0
    return sum(
        policy[state, a]
        * (
            mdp.R[state, a]
            + mdp.gamma
            * sum(mdp.P[state, a, s] * value_by_hand(mdp, policy, s, t + 1) for s in range(len(policy)))
        )
        for a in range(policy.shape[1])
    )


def gradient_by_hand(mdp, logits, step=1e-5):
    """Central differences of the expected return in the logits."""
    gradient = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        shift = np.zeros_like(logits)
        shift[place] = step
        up, down = (value_by_hand(mdp, softmax_by_hand(logits + sign * shift)) for sign in (1, -1))
        gradient[place] = (up - down) / (2 * step)
    return gradient


def returns_by_hand(rewards, gamma):
    """Reward-to-go of [T, N] rewards, every sum written out."""
    T, N = rewards.shape
    return np.array([[sum(gamma ** (k - t) * rewards[k, i] for k in range(t, T)) for i in range(N)]
                     for t in range(T)])  # fmt: skip


def check_softmax(softmax):
    logits = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(softmax(logits), softmax_by_hand(logits), rtol=1e-12)
    large = np.array([[1000.0, 1000.0, 0.0]])
    np.testing.assert_allclose(softmax(large), [[0.5, 0.5, 0.0]])


def check_theorem_gradient(theorem_gradient):
    rng = np.random.default_rng(1)
    for shape in ((2, 2, 1), (3, 2, 3), (2, 3, 4)):
        mdp, logits = random_process(rng, *shape)
        gradient = theorem_gradient(mdp, softmax_by_hand(logits))
        np.testing.assert_allclose(gradient, gradient_by_hand(mdp, logits), atol=1e-8)


def check_rewards_to_go(rewards_to_go):
    rng = np.random.default_rng(2)
    for shape in SHAPES:
        for gamma in (0.0, 0.7, 1.0):
            rewards = rng.normal(size=shape)
            np.testing.assert_allclose(
                rewards_to_go(rewards, gamma), returns_by_hand(rewards, gamma), atol=1e-12
            )
    many = rng.normal(size=(6, 4, 3))  # a leading axis of batches changes nothing
    np.testing.assert_allclose(rewards_to_go(many, 0.9)[5], returns_by_hand(many[5], 0.9), atol=1e-12)


def check_leave_one_out(leave_one_out):
    rng = np.random.default_rng(3)
    for T, N in SHAPES:
        returns = rng.normal(size=(T, N))
        baseline = leave_one_out(returns)
        for t, i in product(range(T), range(N)):
            others = [returns[t, j] for j in range(N) if j != i]
            assert math.isclose(baseline[t, i], sum(others) / len(others), rel_tol=1e-9, abs_tol=1e-12)
        moved = returns.copy()
        moved[:, 0] += 10.0  # what an episode got has no part in its own baseline
        np.testing.assert_allclose(leave_one_out(moved)[:, 0], baseline[:, 0], atol=1e-9)


def check_step_weights(step_weights):
    rng = np.random.default_rng(4)
    for (T, N), gamma, discounted in product(SHAPES, (0.6, 1.0), (True, False)):
        rewards = rng.normal(1.0, 1.0, size=(T, N))
        G = returns_by_hand(rewards, gamma)
        factor = np.array([[gamma**t if discounted else 1.0] for t in range(T)])
        others = np.array([[(G[t].sum() - G[t, i]) / (N - 1) for i in range(N)] for t in range(T)])
        own = np.array([[G[t].sum() / N] * N for t in range(T)])
        centred = factor * (G - own)
        expected = {
            "total_return": np.array([[G[0, i] for i in range(N)]] * T),
            "reward_to_go": factor * G,
            "leave_one_out": factor * (G - others),
            "own_mean": centred,
            "normalised": (centred - centred.mean())
            / (np.sqrt(((centred - centred.mean()) ** 2).mean()) + 1e-8),
        }
        for kind, weights in expected.items():
            found = step_weights(rewards, gamma, kind, discounted)
            np.testing.assert_allclose(found, weights, atol=1e-9, err_msg=kind)
            stacked = step_weights(np.stack([rewards, 3 * rewards]), gamma, kind, discounted)
            np.testing.assert_allclose(stacked[0], weights, atol=1e-9, err_msg=f"{kind}, two batches")


def check_gradient_estimate(gradient_estimate):
    rng = np.random.default_rng(5)
    for (T, N), (S, A) in product(SHAPES, ((2, 2), (3, 4))):
        logits = torch.tensor(rng.normal(size=(S, A)), requires_grad=True)
        states, actions = rng.integers(S, size=(T, N)), rng.integers(A, size=(T, N))
        weights = rng.normal(size=(T, N))
        log_policy = torch.log_softmax(logits, dim=1)
        total = sum(
            weights[t, i] * log_policy[states[t, i], actions[t, i]] for t, i in product(range(T), range(N))
        )
        (total / N).backward()  # autograd knows nothing of the score's formula
        policy = softmax_by_hand(logits.detach().numpy())
        found = gradient_estimate(policy, states, actions, weights)
        np.testing.assert_allclose(found, logits.grad.numpy(), atol=1e-10)


def check_enumerate_episodes(enumerate_episodes):
    rng = np.random.default_rng(6)
    for shape in ((2, 2, 1), (3, 2, 3), (2, 3, 2)):
        mdp, logits = random_process(rng, *shape)
        policy = softmax_by_hand(logits)
        states, actions, probability = enumerate_episodes(mdp, policy)
        num_states, num_actions, num_steps = shape
        assert states.shape == actions.shape
        assert states.shape == (num_steps, num_actions * (num_states * num_actions) ** (num_steps - 1))
        assert len({(*s, *a) for s, a in zip(states.T.tolist(), actions.T.tolist())}) == len(probability)
        assert math.isclose(probability.sum(), 1.0, rel_tol=1e-12)
        returns = [
            sum(mdp.gamma**t * mdp.R[s[t], a[t]] for t in range(num_steps))
            for s, a in zip(states.T, actions.T)
        ]
        assert math.isclose(probability @ returns, value_by_hand(mdp, policy), rel_tol=1e-10)


def check_exact_moments(exact_moments):
    """Against all pairs of two-step episodes, one after the other."""
    mdp, logits = random_process(np.random.default_rng(7), 2, 2, 2, gamma=0.7)
    policy = softmax_by_hand(logits)
    episodes = []  # (probability, rewards, score of each step as a table)
    for a0, s1, a1 in product(range(2), repeat=3):
        scores = np.zeros((2, 2, 2))
        scores[0, 0], scores[1, s1] = np.eye(2)[a0] - policy[0], np.eye(2)[a1] - policy[s1]
        chance = policy[0, a0] * mdp.P[0, a0, s1] * policy[s1, a1]
        episodes.append((chance, (mdp.R[0, a0], mdp.R[s1, a1]), scores))
    mean, square = np.zeros((2, 2)), 0.0
    for (p, r, score), (q, other, other_score) in product(episodes, repeat=2):
        late, early = 0.7 * (r[1] - other[1]), (r[0] - other[0]) + 0.7 * (r[1] - other[1])
        estimate = (early * (score[0] - other_score[0]) + late * (score[1] - other_score[1])) / 2
        mean += p * q * estimate
        square += p * q * (estimate**2).sum()
    found, variance = exact_moments(mdp, policy, "leave_one_out", 2)
    np.testing.assert_allclose(found, mean, atol=1e-12)
    assert math.isclose(variance, square - (mean**2).sum(), rel_tol=1e-9)


def check_hotelling(hotelling):
    from scipy.stats import chi2

    rng = np.random.default_rng(8)
    target, ratios = np.array([[0.3, -0.3], [1.0, -1.0]]), []
    for _ in range(300):
        first = rng.multivariate_normal(target[:, 0], [[1.0, 0.6], [0.6, 2.0]], size=400)
        ratios.append(hotelling(np.stack([first, -first], axis=2), target))
    # under the null, T^2 is about chi-square with 2 degrees of freedom (mean 2)
    assert math.isclose(np.mean(ratios) * chi2.ppf(0.999, 2), 2.0, rel_tol=0.2)
    assert np.mean(np.array(ratios) > 1.0) < 0.02
    away = hotelling(np.stack([first, -first], axis=2), target + np.array([[0.5, -0.5], [0.0, 0.0]]))
    assert away > 3.0


def check_policy_loss(policy_loss):
    rng = np.random.default_rng(9)
    for size, num_episodes in ((1, 2), (12, 3), (30, 5)):
        log_probs = torch.tensor(-rng.random(size), requires_grad=True)
        source = torch.tensor(rng.normal(size=size), requires_grad=True)
        loss = policy_loss(log_probs, 2.0 * source, num_episodes)
        by_hand = -sum(a * 2.0 * b for a, b in zip(log_probs.tolist(), source.tolist())) / num_episodes
        assert math.isclose(float(loss.detach()), by_hand, rel_tol=1e-9)
        loss.backward()
        np.testing.assert_allclose(log_probs.grad, -2.0 * source.detach() / num_episodes)
        assert source.grad is None, "the weights are constants"


def check_sustained(sustained):
    def metrics(returns):
        steps = [16 * (i + 1) for i in range(len(returns))]
        return {
            "x_return": [(s, float(value)) for s, value in zip(steps, returns)],
            "x_cpu_seconds": [(s, 0.1 * (i + 1)) for i, s in enumerate(steps)],
            "x_env_steps": [(s, 1000.0 * (i + 1)) for i, s in enumerate(steps)],
        }

    for returns, at in (
        ([10, 480, 475, 500, 20], 4),
        ([480, 480, 100, 475, 475, 475], 6),
        ([500, 500, 500], 3),
    ):
        seconds, steps = sustained(metrics(returns), "x")
        assert math.isclose(seconds, 0.1 * at)
        assert steps == 1000 * at
    for returns in ([500, 500], [500, 500, 474, 500, 500], [474.9] * 5):
        assert sustained(metrics(returns), "x") == (math.inf, math.inf)


EDITS = {
    "sums_one_over_states": Edit(
        function="softmax",
        old="weights / weights.sum(axis=1",
        new="weights / weights.sum(axis=0",
        says="sums to one over states",
    ),
    "overflows": Edit(
        function="softmax",
        old="np.exp(logits - logits.max(axis=1, keepdims=True))",
        new="np.exp(logits)",
        says="overflows",
    ),
    "discount_off_one": Edit(
        function="theorem_gradient",
        old="mdp.gamma**t * reached[:, None]",
        new="mdp.gamma**(t + 1) * reached[:, None]",
        says="discount off by one",
    ),
    "no_discount_step": Edit(
        function="theorem_gradient",
        old="mdp.gamma**t * reached[:, None]",
        new="reached[:, None]",
        says="no discount of the step",
    ),
    "sign": Edit(
        function="theorem_gradient",
        old="gradient += mdp.gamma**t",
        new="gradient -= mdp.gamma**t",
        says="sign",
    ),
    "q_next_step": Edit(
        function="theorem_gradient",
        old="advantages = Q[t] - (policy * Q[t])",
        new="advantages = Q[t+1] - (policy * Q[t+1])",
        says="Q of the next step",
    ),
    "states_never_move": Edit(
        function="theorem_gradient",
        old='\n        reached = np.einsum("s,sa,sab->b", reached, policy, mdp.P)',
        new="",
        says="states never move on",
    ),
    "q_without_baseline_score": Edit(
        function="theorem_gradient",
        old=" - (policy * Q[t]).sum(axis=1, keepdims=True)",
        new="",
        says="Q without the baseline of the score",
    ),
    "sums_past": Edit(
        function="rewards_to_go",
        old="for t in reversed(range(rewards.shape[-2]))",
        new="for t in range(rewards.shape[-2])",
        says="sums the past",
    ),
    "off_one": Edit(
        function="rewards_to_go",
        old="        returns[..., t, :] = running\n",
        new="        returns[..., max(t - 1, 0), :] = running\n",
        says="off by one",
    ),
    "no_discount": Edit(
        function="rewards_to_go",
        old="rewards[..., t, :] + gamma * running",
        new="rewards[..., t, :] + running",
        says="no discount",
    ),
    "discounts_reward": Edit(
        function="rewards_to_go",
        old="rewards[..., t, :] + gamma * running",
        new="gamma * (rewards[..., t, :] + running)",
        says="discounts the reward",
    ),
    "own_episode_included": Edit(
        function="leave_one_out",
        old="keepdims=True) - returns) / (returns.shape[-1] - 1)",
        new="keepdims=True)) / returns.shape[-1] + 0 * returns",
        says="own episode included",
    ),
    "divides_n": Edit(
        function="leave_one_out",
        old="- returns) / (returns.shape[-1] - 1)",
        new="- returns) / returns.shape[-1]",
        says="divides by N",
    ),
    "mean_over_time": Edit(
        function="leave_one_out",
        old="(returns.sum(axis=-1, keepdims=True) - returns) / (returns.shape[-1] - 1)",
        new="(returns.sum(axis=-2, keepdims=True) - returns) / max(returns.shape[-2] - 1, 1)",
        says="mean over time",
    ),
    "adds_baseline": Edit(
        function="step_weights",
        old="returns = returns - leave_one_out(returns)",
        new="returns = returns + leave_one_out(returns)",
        says="adds the baseline",
    ),
    "discount_grows": Edit(
        function="step_weights",
        old="returns * gamma ** np.arange",
        new="returns * gamma ** -np.arange",
        says="discount grows",
    ),
    "step_weights_discount_off_one": Edit(
        function="step_weights",
        old="** np.arange(returns.shape[-2])",
        new="** np.arange(1, 1 + returns.shape[-2])",
        says="discount off by one",
    ),
    "always_discounted": Edit(
        function="step_weights",
        old="    if discounted:\n",
        new="    if True:\n",
        says="always discounted",
    ),
    "total_return_last_step": Edit(
        function="step_weights",
        old="returns[..., :1, :]",
        new="returns[..., -1:, :]",
        says="total return of the last step",
    ),
    "step_weights_mean_over_time": Edit(
        function="step_weights",
        old="returns - returns.mean(axis=-1, keepdims=True)",
        new="returns - returns.mean(axis=-2, keepdims=True)",
        says="mean over time",
    ),
    "normalised_over_all_batches": Edit(
        function="step_weights",
        old="returns.std(axis=(-2, -1), keepdims=True)",
        new="returns.std()",
        says="normalised over all batches",
    ),
    "gradient_estimate_sign": Edit(
        function="gradient_estimate",
        old="np.eye(policy.shape[1])[actions] - policy[states]",
        new="policy[states] - np.eye(policy.shape[1])[actions]",
        says="sign",
    ),
    "gradient_probability": Edit(
        function="gradient_estimate",
        old="np.eye(policy.shape[1])[actions] - policy[states]",
        new="policy[states] * (np.eye(policy.shape[1])[actions] - policy[states])",
        says="gradient of the probability",
    ),
    "another_action": Edit(
        function="gradient_estimate",
        old="np.eye(policy.shape[1])[actions]",
        new="np.eye(policy.shape[1])[actions - 1]",
        says="another action",
    ),
    "mean_over_steps": Edit(
        function="gradient_estimate",
        old="score) / states.shape[-1]",
        new="score) / states.shape[-2]",
        says="mean over steps",
    ),
    "sum_over_episodes": Edit(
        function="gradient_estimate",
        old="score) / states.shape[-1]",
        new="score)",
        says="sum over episodes",
    ),
    "starts_anywhere": Edit(
        function="enumerate_episodes",
        old="itertools.product(moves[:num_actions], *[moves] * (mdp.num_steps - 1))",
        new="itertools.product(*[moves] * mdp.num_steps)",
        says="starts anywhere",
    ),
    "arrives_step_early": Edit(
        function="enumerate_episodes",
        old="mdp.P[states[:-1], actions[:-1], states[1:]]",
        new="mdp.P[states[:-1], actions[1:], states[1:]]",
        says="arrives a step early",
    ),
    "policy_alone": Edit(
        function="enumerate_episodes",
        old=".prod(axis=0) * arrivals",
        new=".prod(axis=0)",
        says="policy alone",
    ),
    "unweighted": Edit(
        function="exact_moments",
        old='np.einsum("m,msa->sa", weight, estimates)',
        new="estimates.mean(axis=0)",
        says="unweighted",
    ),
    "standard_deviation_variance": Edit(
        function="exact_moments",
        old="(estimates - mean) ** 2)",
        new="np.abs(estimates - mean))",
        says="standard deviation for variance",
    ),
    "second_moment": Edit(
        function="exact_moments",
        old="(estimates - mean) ** 2)",
        new="estimates**2)",
        says="second moment",
    ),
    "sum_product": Edit(
        function="exact_moments",
        old="probability[chosen].prod(axis=1)",
        new="probability[chosen].sum(axis=1)",
        says="sum for product",
    ),
    "variance_one_mean": Edit(
        function="hotelling",
        old="t2 = size * mean @",
        new="t2 = mean @",
        says="variance of one for that of the mean",
    ),
    "no_square": Edit(
        function="hotelling",
        old="np.linalg.solve(np.cov(sample.T).reshape(p, p), mean)",
        new="np.linalg.solve(np.cov(sample.T).reshape(p, p) ** 2, mean)",
        says="no square",
    ),
    "target_forgotten": Edit(
        function="hotelling",
        old="(estimates - target)[..., :-1]",
        new="estimates[..., :-1]",
        says="target forgotten",
    ),
    "policy_loss_sign": Edit(
        function="policy_loss",
        old="return -(log_probs * weights.detach())",
        new="return (log_probs * weights.detach())",
        says="sign",
    ),
    "weights_not_detached": Edit(
        function="policy_loss",
        old="weights.detach()).sum()",
        new="weights).sum()",
        says="weights not detached",
    ),
    "policy_loss_mean_over_steps": Edit(
        function="policy_loss",
        old=".sum() / num_episodes",
        new=".mean()",
        says="mean over steps",
    ),
    "policy_loss_sum_over_episodes": Edit(
        function="policy_loss",
        old=".sum() / num_episodes",
        new=".sum()",
        says="sum over episodes",
    ),
    "first_crossing": Edit(
        function="sustained",
        old="third_in_a_row(returns, SOLVED)",
        new="third_in_a_row(returns, SOLVED, 1)",
        says="first crossing",
    ),
    "first_three": Edit(
        function="sustained",
        old="seconds[third], steps[third]",
        new="seconds[third - 2], steps[third - 2]",
        says="first of the three",
    ),
    "higher_bar": Edit(
        function="sustained",
        old="third_in_a_row(returns, SOLVED)",
        new="third_in_a_row(returns, SOLVED + 1)",
        says="a higher bar",
    ),
}
