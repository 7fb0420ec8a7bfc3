"""E10's functions against their equations, one number at a time, and its named edits."""

import math

import numpy as np
import torch

from chapters.E_practice.E10_offline_rl import MAX_WEIGHT, Config, Learner
from chapters.exact.mdp import random_mdp
from chapters.utils.edits import Edit

SHAPES = ((1, 2), (5, 2), (7, 4), (64, 3))  # (B, A)


def near(found, expected: float, says: str) -> None:
    assert math.isclose(float(found), expected, rel_tol=1e-4, abs_tol=1e-6), (
        f"{says}: expected {expected:.5f}, found {float(found):.5f}"
    )


def check_pick(pick):
    torch.manual_seed(0)
    for size, num_actions in SHAPES:
        q_values, actions = torch.randn(size, num_actions), torch.randint(num_actions, (size,))
        found = pick(q_values, actions)
        assert found.shape == (size,), f"one value for each of {size} rows"
        for i in range(size):
            near(found[i], float(q_values[i, actions[i]]), f"row {i}, action {actions[i]}")


def penalty_in_loops(q_values: list[list[float]], actions: list[int]) -> float:
    terms = [math.log(sum(math.exp(q) for q in row)) - row[a] for row, a in zip(q_values, actions)]
    return sum(terms) / len(terms)


def check_conservative_penalty(conservative_penalty):
    """Its value; and its slope, the softmax of the values less 1 for what the log did."""
    torch.manual_seed(1)
    for size, num_actions in SHAPES:
        q_values = torch.randn(size, num_actions).requires_grad_()
        actions = torch.randint(num_actions, (size,))
        found = conservative_penalty(q_values, actions)
        expected = penalty_in_loops(q_values.tolist(), actions.tolist())
        near(found.detach(), expected, f"{size} transitions, {num_actions} actions")
        found.backward()
        for i, row in enumerate(q_values.tolist()):
            total = sum(math.exp(q) for q in row)
            for b, q in enumerate(row):
                slope = (math.exp(q) / total - float(b == actions[i])) / size
                near(q_values.grad[i, b], slope, f"slope in Q of transition {i}, action {b}")
    large = conservative_penalty(torch.tensor([[1000.0, 999.0]]), torch.tensor([1]))
    near(large, 1.0 + math.log(1 + math.exp(-1.0)), "large values must not overflow")


def check_expectile_loss(expectile_loss):
    torch.manual_seed(2)
    for size in (1, 6, 50):
        errors = torch.randn(size)
        for tau in (0.1, 0.5, 0.9):
            terms = [(1 - tau if u < 0 else tau) * u * u for u in errors.tolist()]
            near(expectile_loss(errors, tau), sum(terms) / size, f"{size} errors, tau {tau}")


def check_advantage_weights(advantage_weights):
    advantages = torch.tensor([-3.0, -0.5, 0.0, 0.2, 1.0, 40.0])
    for temperature in (0.1, 0.5, 2.0):
        found = advantage_weights(advantages, temperature)
        for i, advantage in enumerate(advantages.tolist()):
            expected = min(math.exp(min(advantage / temperature, 50.0)), MAX_WEIGHT)
            near(found[i], expected, f"advantage {advantage}, temperature {temperature}")


def some_policies(seed: int, num_states: int, num_actions: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    policy, behaviour = rng.dirichlet(np.ones(num_actions), size=(2, num_states))
    return policy, 0.9 * behaviour + 0.1 / num_actions


def check_prices(prices):
    for seed, shape in enumerate(((1, 2), (4, 3))):
        policy, behaviour = some_policies(seed, *shape)
        found = prices(policy, behaviour)
        for s, a in np.ndindex(*shape):
            near(found[s, a], policy[s, a] / behaviour[s, a] - 1, f"state {s}, action {a}")
        squares = ((policy - behaviour) ** 2 / behaviour).sum(axis=1)
        np.testing.assert_allclose((policy * found).sum(axis=1), squares, atol=1e-12)


def check_priced_q(priced_q):
    """By many backups in loops, in a world where a state is terminal, too."""
    for seed, shape in enumerate(((3, 2), (4, 3))):
        rng = np.random.default_rng(seed)
        mdp = random_mdp(rng, *shape, gamma=0.6)
        if seed:
            mdp.terminal[-1] = True
            mdp.R[-1] = 0.0
        policy, _ = some_policies(seed, *shape)
        costs = rng.normal(size=shape) * ~mdp.terminal[:, None]
        Q = np.zeros(shape)
        for _ in range(80):  # 0.6^80 is 2e-18
            V = [0.0 if mdp.terminal[s] else sum(policy[s] * Q[s]) for s in range(shape[0])]
            Q = np.array(
                [
                    [
                        mdp.R[s, a] - costs[s, a] + 0.6 * sum(mdp.P[s, a, n] * V[n] for n in range(shape[0]))
                        for a in range(shape[1])
                    ]
                    for s in range(shape[0])
                ]
            )
        found = priced_q(mdp, policy, costs)
        for s, a in np.ndindex(*shape):
            near(found[s, a], Q[s, a], f"state {s}, action {a}")


# Losses, on a learner with small networks

NETWORKS = ("q", "target", "value", "policy", "slow_policy")


def small(seed: int, size: int = 6):
    """(a learner, a minibatch, settings): two actions, observations of three numbers."""
    torch.manual_seed(seed)
    cfg = Config(hidden_size=5, gamma=0.8, alpha=0.3, tau=0.8, temperature=0.5)
    obs = np.random.default_rng(seed).normal(size=(20, 3)).astype(np.float32)
    learner, other = Learner(obs, cfg), Learner(obs, cfg)
    learner.target, learner.slow_policy = other.q, other.policy  # not yet, or no longer, the same
    batch = {
        "obs": torch.randn(size, 3),
        "actions": torch.randint(2, (size,)),
        "rewards": torch.randn(size),
        "next_obs": torch.randn(size, 3),
        "terminated": torch.rand(size) < 0.4,
    }
    return learner, batch, cfg


def numbers(network, obs) -> list[list[float]]:
    return network(obs).tolist()


def td_in_loops(learner, batch, next_values: list[float], cfg: Config) -> float:
    squares = []
    for i, row in enumerate(numbers(learner.q, batch["obs"])):
        rest = 0.0 if batch["terminated"][i] else cfg.gamma * next_values[i]
        squares.append((row[batch["actions"][i]] - (1 - cfg.gamma) * float(batch["rewards"][i]) - rest) ** 2)
    return 0.5 * sum(squares) / len(squares)


def moved(loss: torch.Tensor, learner) -> set[str]:
    """The networks that a loss moves."""
    for name in NETWORKS:
        getattr(learner, name).zero_grad()
    loss.backward()
    return {
        name
        for name in NETWORKS
        if any(
            weights.grad is not None and weights.grad.any() for weights in getattr(learner, name).parameters()
        )
    }


def check_td_loss(td_loss):
    for seed in range(4):
        learner, batch, cfg = small(seed)
        next_values = torch.randn(6, requires_grad=True)
        loss = td_loss(learner, batch, next_values, cfg)
        near(loss.detach(), td_in_loops(learner, batch, next_values.tolist(), cfg), "half the squared error")
        assert moved(loss, learner) == {"q"}, "the loss moves Q, and nothing else"
        assert next_values.grad is None or not next_values.grad.any(), "the target is a constant"


def check_clone_loss(clone_loss):
    for seed in range(4):
        learner, batch, cfg = small(seed)
        loss = clone_loss(learner, batch, cfg)
        expected = penalty_in_loops(numbers(learner.policy, batch["obs"]), batch["actions"].tolist())
        near(loss.detach(), expected, "minus the log-probability of what the log did, its mean")
        assert moved(loss, learner) == {"policy"}


def best_next(learner, batch) -> list[float]:
    return [max(row) for row in numbers(learner.target, batch["next_obs"])]


def check_dqn_loss(dqn_loss):
    for seed in range(4):
        learner, batch, cfg = small(seed)
        loss = dqn_loss(learner, batch, cfg)
        near(
            loss.detach(),
            td_in_loops(learner, batch, best_next(learner, batch), cfg),
            "half the squared error",
        )
        assert moved(loss, learner) == {"q"}, "the loss moves Q, and neither the target network nor another"


def check_cql_loss(cql_loss):
    for seed in range(4):
        learner, batch, cfg = small(seed)
        loss = cql_loss(learner, batch, cfg)
        penalty = penalty_in_loops(numbers(learner.q, batch["obs"]), batch["actions"].tolist())
        expected = td_in_loops(learner, batch, best_next(learner, batch), cfg) + 0.3 * penalty
        near(loss.detach(), expected, "half the squared error and penalty")
        assert moved(loss, learner) == {"q"}, "the loss moves Q, and neither the target network nor another"


def check_iql_loss(iql_loss):
    """Its three parts, and which network each of them moves, and how far."""
    for seed in range(4):
        learner, batch, cfg = small(seed)
        loss = iql_loss(learner, batch, cfg)
        actions = batch["actions"].tolist()
        q = [row[a] for row, a in zip(numbers(learner.target, batch["obs"]), actions)]
        errors = [one - row[0] for one, row in zip(q, numbers(learner.value, batch["obs"]))]
        lopsided = [(0.2 if u < 0 else 0.8) * u * u for u in errors]
        weights = [min(math.exp(u / 0.5), MAX_WEIGHT) for u in errors]
        logits = numbers(learner.policy, batch["obs"])
        surprise = [w * penalty_in_loops([row], [a]) for w, row, a in zip(weights, logits, actions)]
        next_values = [row[0] for row in numbers(learner.value, batch["next_obs"])]
        expected = sum(lopsided) / 6 + td_in_loops(learner, batch, next_values, cfg) + sum(surprise) / 6
        near(loss.detach(), expected, "expectile, half the squared error and weighted clone")
        assert moved(loss, learner) == {"q", "value", "policy"}, "the target network stands still"
        slope = sum(-2 * (0.2 if u < 0 else 0.8) * u for u in errors) / 6
        near(learner.value[-1].bias.grad[0], slope, "the slope in V is the expectile's alone")


def check_fitted_loss(fitted_loss):
    for seed in range(4):
        learner, batch, cfg = small(seed)
        policy = lambda obs: (obs[:, 0] > 0).long()  # noqa: E731
        loss = fitted_loss(learner, batch, cfg, policy)
        chosen = [int(row[0] > 0) for row in batch["next_obs"].tolist()]
        next_values = [row[a] for row, a in zip(numbers(learner.target, batch["next_obs"]), chosen)]
        near(loss.detach(), td_in_loops(learner, batch, next_values, cfg), "half the squared error")
        assert moved(loss, learner) == {"q"}, "the loss moves Q, and neither the target network nor another"


def check_policy_of(policy_of):
    for seed in range(5):
        acts_by(policy_of, *small(seed, size=40)[:2])


def acts_by(policy_of, learner, batch) -> None:
    slow = {"clone": "slow_policy", "dqn": "target", "cql": "target", "iql": "slow_policy"}
    for method, network in slow.items():
        found = policy_of(method, learner)(batch["obs"])
        expected = [row.index(max(row)) for row in numbers(getattr(learner, network), batch["obs"])]
        assert found.tolist() == expected, f"{method}: the best action of {network} expected"


EDITS = {
    "best_of_the_row": Edit(
        function="pick",
        old="q_values.gather(1, actions.unsqueeze(1)).squeeze(1)",
        new="q_values.amax(dim=1)",
        says="takes the best action's value, whatever was done",
        fails=("good_cql", "cql_over_clone"),
    ),
    "only_logged": Edit(
        function="conservative_penalty",
        old="q_values.logsumexp(dim=1)",
        new="pick(q_values, actions).logsumexp(dim=0)",
        says="sums over logged actions alone: what the log never did is not pulled down",
        fails=("good_cql",),
    ),
    "no_data_term": Edit(
        function="conservative_penalty",
        old="(q_values.logsumexp(dim=1) - pick(q_values, actions)).mean()",
        new="q_values.logsumexp(dim=1).mean()",
        says="pulls down and never pushes up what the log did",
        fails=("cql_over_clone",),
    ),
    "turned_round": Edit(
        function="conservative_penalty",
        old="(q_values.logsumexp(dim=1) - pick(q_values, actions)).mean()",
        new="(pick(q_values, actions) - q_values.logsumexp(dim=1)).mean()",
        says="pulls down what the log did: optimism",
        fails=("good_cql", "cql_over_clone"),
    ),
    "the_mean_of_all": Edit(
        function="conservative_penalty",
        old="q_values.logsumexp(dim=1)",
        new="q_values.mean(dim=1)",
        says="pulls all actions down alike, the unlikely as hard as the tempting: it has no lower end",
    ),
    "over_transitions": Edit(
        function="conservative_penalty",
        old="q_values.logsumexp(dim=1) - pick",
        new="q_values.logsumexp(dim=0).mean() - pick",
        says="sums over the minibatch, not over the actions of a state",
    ),
    "no_subsidy": Edit(
        function="prices",
        old="policy / behaviour - 1",
        new="policy / behaviour",
        says="the price without the push upwards: a bound for each action, and a lower value",
    ),
    "upside_down": Edit(
        function="prices",
        old="policy / behaviour - 1",
        new="behaviour / policy - 1",
        says="the ratio upside down: what the log did often is dear",
    ),
    "bare_difference": Edit(
        function="prices",
        old="policy / behaviour - 1",
        new="policy - behaviour",
        says="forgets that a seldom action is seldom seen: its errors count less, so the pull moves it more",
    ),
    "paid_not_charged": Edit(
        function="priced_q",
        old="R=mdp.R - costs",
        new="R=mdp.R + costs",
        says="pays for leaving the log",
        fails=("value_above",),
    ),
    "charged_once": Edit(
        function="priced_q",
        old="evaluate_exactly(priced, policy)",
        new="evaluate_exactly(mdp, policy)",
        says="charges for this action alone, not for those that follow",
    ),
    "charged_later": Edit(
        function="priced_q",
        old="q_from_v(priced, ",
        new="q_from_v(mdp, ",
        says="charges for what follows, not for this action",
    ),
    "lower_side": Edit(
        function="expectile_loss",
        old="errors < 0",
        new="errors > 0",
        says="leans to the lower side: the values of what the log did worst",
    ),
    "quantile": Edit(
        function="expectile_loss",
        old="* errors**2",
        new="* errors.abs()",
        says="the absolute error: a quantile, not an expectile",
    ),
    "one_side_alone": Edit(
        function="expectile_loss",
        old="(tau - (errors < 0).float()).abs()",
        new="tau * (errors >= 0).float()",
        says="counts errors above 0 alone: V rises above all that was seen",
        fails=("good_iql",),
    ),
    "no_limit": Edit(
        function="advantage_weights",
        old=".clamp(max=MAX_WEIGHT)",
        new="",
        says="no limit: one lucky action may outweigh the whole minibatch",
    ),
    "worst_first": Edit(
        function="advantage_weights",
        old="torch.exp(advantages",
        new="torch.exp(-advantages",
        says="clones what turned out badly",
    ),
    "times_the_temperature": Edit(
        function="advantage_weights",
        old="advantages / temperature",
        new="advantages * temperature",
        says="multiplies where it should divide: the cooler, the less advantages count",
    ),
    "at_least": Edit(
        function="advantage_weights",
        old="clamp(max=MAX_WEIGHT)",
        new="clamp(min=1.0, max=MAX_WEIGHT)",
        says="bad actions count as much as average ones",
    ),
    "through_the_end": Edit(
        function="td_loss",
        old='cfg.gamma * ~batch["terminated"] * next_values',
        new="cfg.gamma * next_values",
        says="bootstraps through a terminal state: a fall costs nothing",
        fails=("cql_over_clone",),
    ),
    "only_at_the_end": Edit(
        function="td_loss",
        old='~batch["terminated"]',
        new='batch["terminated"]',
        says="the mask the wrong way round: bootstraps only where it is over",
        fails=("cql_over_clone",),
    ),
    "not_discounted": Edit(
        function="td_loss",
        old="cfg.gamma * ~batch",
        new="1.0 * ~batch",
        says="no discount: what goes on for ever has no value that could be learnt",
    ),
    "whole_rewards": Edit(
        function="td_loss",
        old="(1 - cfg.gamma) * batch",
        new="1.0 * batch",
        says="rewards of 1, not of 1 - gamma: values grow, and alpha and the temperature count for less",
        fails=("good_iql",),
    ),
    "whole_square": Edit(
        function="td_loss",
        old="0.5 * mse_loss",
        new="mse_loss",
        says="the whole square: alpha then counts for half of what (3) says",
    ),
    "target_moves": Edit(
        function="td_loss",
        old="next_values.detach()",
        new="next_values",
        says="lets the gradient into the target",
    ),
    "values_for_logits": Edit(
        function="clone_loss",
        old="learner.policy(",
        new="learner.q(",
        says="clones into the wrong network",
        fails=("good_dqn",),
    ),
    "target_that_runs": Edit(
        function="dqn_loss",
        old="learner.target(",
        new="learner.q(",
        says="the network asks itself: no target that stands still",
        fails=("good_cql",),
    ),
    "mean_action": Edit(
        function="dqn_loss",
        old=".amax(dim=1)",
        new=".mean(dim=1)",
        says="the value of a random next action, not of the best",
    ),
    "stays_in_place": Edit(
        function="dqn_loss",
        old='batch["next_obs"]',
        new='batch["obs"]',
        says="bootstraps from where it stood, not from where it came",
        fails=("cql_over_clone",),
    ),
    "no_weight": Edit(
        function="cql_loss",
        old="cfg.alpha * penalty",
        new="penalty",
        says="pessimism at full weight, whatever alpha says",
    ),
    "a_reward_for_leaving": Edit(
        function="cql_loss",
        old="+ cfg.alpha * penalty",
        new="- cfg.alpha * penalty",
        says="subtracts the penalty: optimism",
        fails=("good_cql", "cql_over_clone"),
    ),
    "pulls_the_target": Edit(
        function="cql_loss",
        old="conservative_penalty(learner.q(",
        new="conservative_penalty(learner.target(",
        says="pulls at the target network, which learns nothing",
        fails=("good_cql",),
    ),
    "asks_for_the_best": Edit(
        function="iql_loss",
        old='learner.value(batch["next_obs"]).squeeze(1)',
        new='learner.target(batch["next_obs"]).amax(dim=1)',
        says="the maximum again, over what the log lacks",
        fails=("good_iql",),
    ),
    "forgets_v": Edit(
        function="iql_loss",
        old='learner.value(batch["next_obs"]).squeeze(1)',
        new='learner.value(batch["obs"]).squeeze(1)',
        says="bootstraps from where it stood, not from where it came",
    ),
    "plain_clone": Edit(
        function="iql_loss",
        old="(weights * surprise)",
        new="surprise",
        says="every logged action counts alike: a clone",
    ),
    "weights_pull_v": Edit(
        function="iql_loss",
        old="advantage_weights(errors.detach(), cfg.temperature)",
        new="advantage_weights(errors, cfg.temperature)",
        says="lets the clone's gradient into V: it learns to make surprising actions look bad",
        fails=("good_iql",),
    ),
    "own_opinion": Edit(
        function="iql_loss",
        old='learner.target(batch["obs"])',
        new='learner.q(batch["obs"])',
        says="V follows the network that moves, not the one that stands still",
    ),
    "whoever_wrote_it": Edit(
        function="fitted_loss",
        old='policy(batch["next_obs"])',
        new='batch["actions"]',
        says="goes on with a logged action, not with the policy's own",
    ),
    "evaluates_the_best": Edit(
        function="fitted_loss",
        old='pick(learner.target(batch["next_obs"]), policy(batch["next_obs"]))',
        new='learner.target(batch["next_obs"]).amax(dim=1)',
        says="Q-learning: the value of the best policy, not of this one",
    ),
    "asked_too_early": Edit(
        function="fitted_loss",
        old='policy(batch["next_obs"])',
        new='policy(batch["obs"])',
        says="asks the policy where it stood, not where it came",
    ),
    "iql_by_its_q": Edit(
        function="policy_of",
        old='("clone", "iql")',
        new='("clone",)',
        says="acts by IQL's Q, whose values of unseen actions nobody trained",
        fails=("good_iql",),
    ),
    "worst_action": Edit(
        function="policy_of",
        old=".argmax(dim=-1)",
        new=".argmin(dim=-1)",
        says="takes the worst action",
        fails=("good_dqn", "good_cql", "good_iql", "cql_over_clone"),
    ),
}
