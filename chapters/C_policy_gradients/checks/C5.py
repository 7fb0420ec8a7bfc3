"""Definition checks of C5: each function against its equation, written out one number at a time."""

import math
import sys
from functools import partial

import numpy as np
import torch

from chapters.C_policy_gradients.C5_trpo import Config
from chapters.envs import make_envs
from chapters.envs.agents import ActorCritic
from chapters.exact.trust_regions import random_pair
from chapters.utils.edits import Edit


def share_of_time(mdp, policy, start):
    """Where a policy is, discounted, by following its chances for 400 steps (gamma is at most 0.9 here)."""
    total, now = np.zeros(len(start)), start
    for t in range(400):
        total += (1 - mdp.gamma) * mdp.gamma**t * now
        now = sum(now[s] * policy[s] @ mdp.P[s] for s in range(len(now)))
    return total


def advantages_by_sweeps(mdp, policy):
    """Q - V after 400 backups of every state."""
    V = np.zeros(len(policy))
    for _ in range(400):
        Q = mdp.R + mdp.gamma * mdp.P @ V
        V = (policy * Q).sum(axis=1)
    return Q - V[:, None]


def check_gain(gain):
    rng = np.random.default_rng(0)
    for num_states, num_actions in ((1, 1), (1, 3), (4, 2), (5, 3)):
        advantages = rng.normal(size=(num_states, num_actions))
        policy = rng.dirichlet(np.ones(num_actions), size=num_states)
        visited = rng.dirichlet(np.ones(num_states))
        for gamma in (0.0, 0.5, 0.9):
            total = 0.0
            for s in range(num_states):
                for a in range(num_actions):
                    total += visited[s] * policy[s, a] * advantages[s, a]
            found = gain(advantages, policy, visited, gamma)
            assert math.isclose(found, total / (1 - gamma), rel_tol=1e-9, abs_tol=1e-12), (
                f"{num_states} states, {num_actions} actions, gamma {gamma}: "
                f"expected {total / (1 - gamma):.6f}, found {found:.6f}"
            )


def check_guaranteed_gain(guaranteed_gain):
    rng = np.random.default_rng(1)
    for num_states, num_actions in ((1, 2), (2, 3), (5, 3)):
        for _ in range(2):
            mdp, old, new, start = random_pair(rng, num_states, num_actions)
            mdp = mdp._replace(gamma=min(mdp.gamma, 0.9))
            advantages = advantages_by_sweeps(mdp, old)
            visited = share_of_time(mdp, old, start)
            surrogate, worst = 0.0, 0.0
            for s in range(num_states):
                kl = 0.0
                for a in range(num_actions):
                    surrogate += visited[s] * new[s, a] * advantages[s, a] / (1 - mdp.gamma)
                    kl += old[s, a] * math.log(old[s, a] / new[s, a])
                worst = max(worst, kl)
            price = 4 * mdp.gamma * np.abs(advantages).max() / (1 - mdp.gamma) ** 2
            expected = surrogate - price * worst
            found = guaranteed_gain(mdp, old, new, start)
            assert math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-7), (
                f"{num_states} states, gamma {mdp.gamma:.2f}: expected {expected:.6f}, found {found:.6f}"
            )


def check_mean_kl(mean_kl):
    torch.manual_seed(2)
    for size, num_actions in ((1, 2), (5, 3), (20, 6)):
        old, new = torch.randn(2, size, num_actions, dtype=torch.float64).log_softmax(dim=-1)
        new.requires_grad_()
        total = 0.0
        for row in range(size):
            for a in range(num_actions):
                total += math.exp(old[row, a]) * float(old[row, a] - new[row, a].detach())
        found = mean_kl(old, new)
        assert math.isclose(found.item(), total / size, rel_tol=1e-6), (
            f"{size} states, {num_actions} actions: expected {total / size:.6f}, found {found.item():.6f}"
        )


def check_flat(flat):
    parts = [torch.arange(6.0).reshape(2, 3), torch.tensor([6.0]), torch.arange(7.0, 15.0).reshape(2, 2, 2)]
    assert flat(parts).tolist() == list(range(15))
    turned = [torch.tensor([[0.0, 2.0], [1.0, 3.0]]).T]  # not contiguous in memory
    assert flat(turned).tolist() == [0.0, 1.0, 2.0, 3.0]


def check_conjugate_gradients(conjugate_gradients):
    """After k steps: the lowest point of the bowl among all that k products can reach."""
    torch.manual_seed(4)
    for size in (1, 2, 3, 6):
        root = torch.randn(size, size, dtype=torch.float64)
        matrix = root @ root.T + 0.5 * torch.eye(size, dtype=torch.float64)
        b = torch.randn(size, dtype=torch.float64)
        for num_steps in (1, 2, size, size + 3):
            reached = [b]
            for _ in range(min(num_steps, size) - 1):
                reached.append(matrix @ reached[-1])
            basis, _ = torch.linalg.qr(torch.stack(reached, dim=1))  # [size, k]
            lowest = basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ b)
            found = conjugate_gradients(partial(torch.mv, matrix), b, num_steps)
            assert torch.allclose(found, lowest, rtol=1e-5, atol=1e-7), (
                f"{size} equations, {num_steps} steps: expected {lowest.tolist()}, found {found.tolist()}"
            )
    nothing = conjugate_gradients(partial(torch.mv, matrix), torch.zeros_like(b), 5)
    assert torch.equal(nothing, torch.zeros_like(b)), "where b is 0, so is x"


def small_case(seed, size=12):
    """(an agent with few weights in 64 bits, a batch that some older policy gathered)."""
    torch.manual_seed(seed)
    agent = ActorCritic(make_envs("CartPole-v1", 1), hidden=3).double()
    with torch.no_grad():
        for weight in agent.parameters():
            weight += 0.5 * torch.randn_like(weight)
    obs = torch.randn(size, 4, dtype=torch.float64)
    actions = torch.randint(2, (size,))
    with torch.no_grad():
        old_policy = agent.actor(obs).log_softmax(dim=1)
    batch = {
        "obs": obs,
        "actions": actions,
        "old_policy": old_policy,
        "old_log_probs": old_policy.gather(1, actions.unsqueeze(1)).squeeze(1),
        "advantages": torch.randn(size, dtype=torch.float64),
    }
    return agent, batch


def by_hand(agent, batch):
    """The surrogate and the mean KL, a transition at a time."""
    surrogate = kl = 0.0
    all_logits = agent.actor(batch["obs"]).tolist()
    for row, (logits, action) in enumerate(zip(all_logits, batch["actions"].tolist())):
        log_sum = max(logits) + math.log(sum(math.exp(logit - max(logits)) for logit in logits))
        new = [logit - log_sum for logit in logits]
        old = batch["old_policy"][row].tolist()
        surrogate += math.exp(new[action] - old[action]) * float(batch["advantages"][row])
        kl += sum(math.exp(was) * (was - now) for was, now in zip(old, new))
    return surrogate / len(batch["obs"]), kl / len(batch["obs"])


def moved(agent, by):
    """Every weight of the actor moved at random."""
    with torch.no_grad():
        for weight in agent.actor.parameters():
            weight += by * torch.randn_like(weight)


def check_surrogate_and_kl(surrogate_and_kl):
    for seed, by in ((5, 0.0), (6, 0.3), (7, 1.0)):
        agent, batch = small_case(seed)
        moved(agent, by)
        found = [number.item() for number in surrogate_and_kl(agent, batch)]
        for what, expected, number in zip(("surrogate", "mean KL"), by_hand(agent, batch), found):
            assert math.isclose(number, expected, rel_tol=1e-6, abs_tol=1e-9), (
                f"the {what}: expected {expected:.6f}, found {number:.6f}"
            )


def config_of(function, **changes):
    """The Config of the function's own module; a copy elsewhere has none of its own."""
    return getattr(sys.modules[function.__module__], "Config", Config)(**changes)


def check_trust_region_step(trust_region_step):
    """Against a direct solve with the matrix of outer products; and 0 where there is nothing to gain."""
    for seed, max_kl, damping in ((8, 0.01, 0.1), (9, 0.5, 0.01)):
        agent, batch = small_case(seed)
        weights = list(agent.actor.parameters())
        log_probs = agent.actor(batch["obs"]).log_softmax(dim=1)
        scores = [
            torch.cat([g.reshape(-1) for g in torch.autograd.grad(number, weights, retain_graph=True)])
            for number in log_probs.flatten()
        ]
        chances = log_probs.detach().exp().flatten()
        F = sum(p * torch.outer(score, score) for p, score in zip(chances, scores)) / len(log_probs)
        F = F + damping * torch.eye(len(F), dtype=torch.float64)
        taken = [scores[2 * row + action] for row, action in enumerate(batch["actions"].tolist())]
        g = sum(A * score for A, score in zip(batch["advantages"], taken)) / len(log_probs)
        x = torch.linalg.solve(F, g)
        expected = math.sqrt(2 * max_kl / float(x @ F @ x)) * x
        cfg = config_of(trust_region_step, max_kl=max_kl, damping=damping, num_cg_steps=100)
        found = trust_region_step(agent, batch, cfg).detach()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        batch["advantages"] = torch.zeros_like(batch["advantages"])
        assert not trust_region_step(agent, batch, cfg).any(), "equal advantages: no step"


def check_line_search(line_search):
    """Bowls, and steps from far too long to a little downhill: where each must end, found by trying."""
    rng = np.random.default_rng(10)
    for size in (1, 4):
        for _ in range(3):
            old, slope = torch.from_numpy(rng.normal(size=(2, size)))
            curve = float(rng.uniform(0.5, 2.0))

            def look(weights, old=old, slope=slope, curve=curve):
                moved = weights - old
                return 0.3 + slope @ moved - 0.1 * moved @ moved, curve * moved @ moved

            for length in (-0.5, 0.05, 1.0, 30.0, 1e6):
                cfg = config_of(line_search, max_kl=0.02, num_halvings=6)
                step = length * slope
                expected, distance = old, 0.0
                for k in range(7):
                    surrogate, kl = look(old + step / 2**k)
                    if float(surrogate) > 0.3 and float(kl) <= 0.02:
                        expected, distance = old + step / 2**k, float(kl)
                        break
                weights, kl = line_search(look, old, step, cfg)
                assert torch.allclose(weights, expected, rtol=1e-6, atol=1e-9), (
                    f"a step of {length} gradients: expected {expected.tolist()}, found {weights.tolist()}"
                )
                assert math.isclose(float(kl), distance, rel_tol=1e-6, abs_tol=1e-9), (
                    f"a step of {length} gradients: expected a KL of {distance:.6f}, found {float(kl):.6f}"
                )


EDITS = {
    "not_discounted": Edit(
        function="gain",
        old=" / (1 - gamma)",
        new="",
        says="the gain of one step: the visits are shares, and there are 1 / (1 - gamma) steps to share",
    ),
    "all_states_alike": Edit(
        function="gain",
        old="float(visited @ (policy * advantages).sum(axis=1))",
        new="float((policy * advantages).sum(axis=1).mean())",
        says="counts every state alike, however seldom it is visited",
    ),
    "visits_of_the_new": Edit(
        function="guaranteed_gain",
        old="visits(mdp, old, start)",
        new="visits(mdp, new, start)",
        says="takes the visits of the new policy, which nobody has data of",
    ),
    "other_way_round": Edit(
        function="guaranteed_gain",
        old="(old * np.log(old / new))",
        new="(new * np.log(new / old))",
        says="the divergence of the old policy from the new one",
    ),
    "mean_for_max": Edit(
        function="guaranteed_gain",
        old="price * kl.max()",
        new="price * kl.mean()",
        says="charges for the mean divergence where the theorem needs the largest",
    ),
    "signed_advantage": Edit(
        function="guaranteed_gain",
        old="np.abs(advantages).max()",
        new="advantages.max()",
        says="forgets that a bad surprise may be larger than a good one",
    ),
    "one_horizon": Edit(
        function="guaranteed_gain",
        old="(1 - mdp.gamma) ** 2",
        new="(1 - mdp.gamma)",
        says="charges for one horizon: the policies part, and then are apart for the rest",
    ),
    "kl_reversed": Edit(
        function="mean_kl",
        old="(old.exp() * (old - new))",
        new="(new.exp() * (new - old))",
        says="the divergence the other way round: averaged over the new policy's actions",
    ),
    "not_weighed": Edit(
        function="mean_kl",
        old="(old.exp() * (old - new))",
        new="(old - new)",
        says="adds the log-ratios of all actions, likely or not",
    ),
    "mean_over_actions": Edit(
        function="mean_kl",
        old=".sum(dim=1).mean()",
        new=".mean()",
        says="averages over the actions, too: too small by their number",
    ),
    "column_by_column": Edit(
        function="flat",
        old="tensor.reshape(-1)",
        new="tensor.mT.reshape(-1) if tensor.ndim > 1 else tensor",
        says="puts matrices down column by column: the step's numbers then reach the wrong weights",
        fails=("fresh_return",),
    ),
    "undamped": Edit(
        function="trust_region_step",
        old=" + damping * v  #",
        new="  #",
        says="no damping: directions that the batch says nothing about are free",
    ),
    "damping_added": Edit(
        function="trust_region_step",
        old=" + damping * v  #",
        new=" + damping  #",
        says="adds the damping to every number, as if it were no matrix's diagonal",
    ),
    "sum_of_slopes": Edit(
        function="trust_region_step",
        old="slope @ v",
        new="slope.sum()",
        says="the product with a vector of ones, whatever the vector",
    ),
    "steepest_descent": Edit(
        function="conjugate_gradients",
        old="direction = residual + square / previous * direction",
        new="direction = residual",
        says="steepest descent: each step undoes part of the last one",
    ),
    "ratio_inverted": Edit(
        function="conjugate_gradients",
        old="square / previous * direction",
        new="previous / square * direction",
        says="the ratio of the residuals upside down",
    ),
    "unit_length": Edit(
        function="conjugate_gradients",
        old="x = x + length * direction",
        new="x = x + direction",
        says="goes along the direction without looking for the bottom",
    ),
    "residual_kept": Edit(
        function="conjugate_gradients",
        old="residual = residual - length * drop",
        new="residual = b - drop",
        says="forgets what earlier steps have solved",
    ),
    "log_ratio": Edit(
        function="surrogate_and_kl",
        old='(log_prob - batch["old_log_probs"]).exp()',
        new='log_prob - batch["old_log_probs"]',
        says="the logarithm of the ratio: the same slope at the start, another value",
    ),
    "ratio_upside_down": Edit(
        function="surrogate_and_kl",
        old='(log_prob - batch["old_log_probs"]).exp()',
        new='(batch["old_log_probs"] - log_prob).exp()',
        says="the old probability over the new one: what turned out well becomes rarer",
        fails=("fresh_return",),
    ),
    "first_action": Edit(
        function="surrogate_and_kl",
        old='batch["actions"].unsqueeze(1)',
        new='0 * batch["actions"].unsqueeze(1)',
        says="the probability of action 0, whatever was done",
        fails=("fresh_return",),
    ),
    "plain_gradient": Edit(
        function="trust_region_step",
        old="conjugate_gradients(product, gradient, cfg.num_cg_steps)",
        new="gradient",
        says="goes along the plain gradient, as far as the same KL allows",
    ),
    "not_squared": Edit(
        function="trust_region_step",
        old="(2 * cfg.max_kl / (x @ product(x)).clamp_min(1e-20)).sqrt()",
        new="(2 * cfg.max_kl / (x @ product(x)).clamp_min(1e-20))",
        says="no root: the KL grows with the square of the step",
    ),
    "half_forgotten": Edit(
        function="trust_region_step",
        old="2 * cfg.max_kl",
        new="cfg.max_kl",
        says="forgets the one half of the bowl: steps are shorter than they may be by a factor of 1.4",
    ),
    "unit_steps": Edit(
        function="trust_region_step",
        old="(x @ product(x))",
        new="(x @ x)",
        says="measures the step by its squares: then the KL is anybody's guess",
    ),
    "downhill": Edit(
        function="trust_region_step",
        old=".sqrt() * x",
        new=".sqrt() * -x",
        says="downhill: no step of the line search helps, and the policy never moves",
        fails=("fresh_return",),
    ),
    "no_line_search": Edit(
        function="line_search",
        old="surrogate > before and kl <= cfg.max_kl",
        new="halvings == 0",
        says="takes the whole step, whatever it does",
        fails=("largest_kl",),
    ),
    "only_kl": Edit(
        function="line_search",
        old="surrogate > before and kl <= cfg.max_kl",
        new="kl <= cfg.max_kl",
        says="looks at the distance only: a step may make the surrogate worse",
    ),
    "only_surrogate": Edit(
        function="line_search",
        old="surrogate > before and kl <= cfg.max_kl",
        new="surrogate > before",
        says="looks at the surrogate only: a step may go as far as it likes",
        fails=("largest_kl",),
    ),
    "keeps_the_last": Edit(
        function="line_search",
        old="return old, 0.0",
        new="return weights, kl.item()",
        says="leaves the last, refused step in place",
    ),
    "half_of_it_all": Edit(
        function="line_search",
        old="0.5**halvings * step",
        new="(1 - 0.1 * halvings) * step",
        says="takes a tenth off each time: after ten looks nothing is left, however long the step was",
    ),
    "learns_the_advantage": Edit(
        function="update",
        old='batch["returns"][rows]',
        new='batch["advantages"][rows]',
        says="the critic learns how wrong it is, not what a state is worth",
    ),
    "critic_never": Edit(
        function="update",
        old="            loss.backward()\n",
        new="",
        says="no gradient is ever computed for the critic",
    ),
}
