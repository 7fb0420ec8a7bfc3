"""Definition checks of C6: each function against its equation, written out one number at a time."""

import math

import torch

from chapters.utils.edits import Edit


def check_squash(squash):
    torch.manual_seed(1)
    for limit in ([1.0], [2.0, 0.5], [50.0, 1.0, 3.0]):
        for scale in (0.01, 1.0, 30.0):
            raw = scale * torch.randn(7, len(limit), dtype=torch.float64)
            found = squash(raw, torch.tensor(limit, dtype=torch.float64))
            for row, out in zip(raw.tolist(), found.tolist()):
                for number, most, a in zip(row, limit, out):
                    expected = most * math.tanh(number / most)
                    assert math.isclose(a, expected, rel_tol=1e-6, abs_tol=1e-9), (
                        f"raw {number:.4f}, limit {most}: expected {expected:.4f}, found {a:.4f}"
                    )


def check_soft_value(soft_value):
    torch.manual_seed(2)
    for num_critics, batch in ((1, 1), (1, 6), (2, 6), (3, 40)):
        q, log_prob = torch.randn(num_critics, batch), torch.randn(batch)
        for alpha in (0.0, 0.3, 2.0):
            found = soft_value(q, log_prob, alpha)
            assert found.shape == (batch,), f"expected a value for each of {batch} transitions"
            for i in range(batch):
                expected = min(q[:, i].tolist()) - alpha * float(log_prob[i])
                assert math.isclose(found[i], expected, rel_tol=1e-4, abs_tol=1e-5), (
                    f"critics say {q[:, i].tolist()}, log-probability {log_prob[i]:.4f}, alpha {alpha}: "
                    f"expected {expected:.4f}, found {found[i]:.4f}"
                )


def check_blurred(blurred):
    torch.manual_seed(3)
    for limit in ([1.0], [2.0, 0.5]):
        size = (200, len(limit))
        most = torch.tensor(limit)
        actions = most * (2 * torch.rand(size) - 1)
        noise = most * torch.randn(size)
        found = blurred(actions, noise, most)
        for row in range(200):
            for j, edge in enumerate(limit):
                cut = min(max(float(noise[row, j]), -edge / 2), edge / 2)
                expected = min(max(float(actions[row, j]) + cut, -edge), edge)
                assert math.isclose(found[row, j], expected, rel_tol=1e-5, abs_tol=1e-6), (
                    f"action {actions[row, j]:.4f}, noise {noise[row, j]:.4f}, limit {edge}: "
                    f"expected {expected:.4f}, found {found[row, j]:.4f}"
                )


def check_squashed_log_prob(squashed_log_prob):
    """Against the slope of the squash, number by number; and far out, where 1 - tanh^2 is 0 in floats."""
    torch.manual_seed(4)
    for limit in ([1.0], [2.0, 0.5]):
        size = (9, len(limit))
        most = torch.tensor(limit, dtype=torch.float64)
        raw, mean, log_std = torch.randn(3, *size, dtype=torch.float64)
        found = squashed_log_prob(raw, mean, 0.5 * log_std, most)
        assert found.shape == (9,), "one log-density for each action: a sum over its numbers"
        for row in range(9):
            expected = 0.0
            for j, edge in enumerate(limit):
                u, m, s = float(raw[row, j]), float(mean[row, j]), math.exp(0.5 * float(log_std[row, j]))
                expected += -0.5 * ((u - m) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi))
                expected -= math.log(1.0 - math.tanh(u / edge) ** 2)
            assert math.isclose(found[row], expected, rel_tol=1e-6, abs_tol=1e-6), (
                f"raw {raw[row].tolist()}, mean {mean[row].tolist()}, limits {limit}: "
                f"expected {expected:.4f}, found {found[row]:.4f}"
            )
    far = torch.full((1, 1), 30.0)
    found = squashed_log_prob(far, far, torch.zeros(1, 1), torch.ones(1))
    expected = -0.5 * math.log(2 * math.pi) - 2 * (math.log(2.0) - 30.0)
    assert math.isfinite(found[0]), "far out 1 - tanh^2 is 0 in floats, and its logarithm infinite"
    assert math.isclose(found[0], expected, rel_tol=1e-4)


def check_temperature_loss(temperature_loss):
    torch.manual_seed(5)
    for target_entropy in (-1.0, 0.7):
        for batch in (1, 6):
            log_alpha = torch.tensor(0.4, requires_grad=True)
            log_prob = torch.randn(batch, requires_grad=True)
            loss = temperature_loss(log_alpha, log_prob, target_entropy)
            mean = sum(log_prob.tolist()) / batch + target_entropy
            assert math.isclose(loss.item(), -0.4 * mean, rel_tol=1e-4, abs_tol=1e-6), (
                f"expected {-0.4 * mean:.4f}, found {loss.item():.4f}"
            )
            loss.backward()
            assert math.isclose(log_alpha.grad.item(), -mean, rel_tol=1e-4, abs_tol=1e-6)
            still = log_prob.grad is None or not log_prob.grad.any()
            assert still, "the policy must not be moved by the temperature's loss: its gradient is to be cut"


EDITS = {
    "not_scaled_back": Edit(
        function="squash",
        old="return limit * torch.tanh(raw / limit)",
        new="return torch.tanh(raw / limit)",
        says="leaves actions between -1 and 1, whatever the limits",
        fails=("density_integral",),
    ),
    "cut_off": Edit(
        function="squash",
        old="limit * torch.tanh(raw / limit)",
        new="raw.clamp(-limit, limit)",
        says="cuts actions at the limits: beyond them no slope leads back, and (7) counts another squash",
        fails=("density_integral",),
    ),
    "steep": Edit(
        function="squash",
        old="torch.tanh(raw / limit)",
        new="torch.tanh(raw)",
        says="squashes as if every limit were 1",
        fails=("density_integral",),
    ),
    "larger_of_two": Edit(
        function="soft_value",
        old="q.amin(dim=0)",
        new="q.amax(dim=0)",
        says="believes the larger of two critics",
    ),
    "mean_of_two": Edit(
        function="soft_value",
        old="q.amin(dim=0)",
        new="q.mean(dim=0)",
        says="believes the mean of two critics: less noise, but no caution",
    ),
    "first_of_two": Edit(
        function="soft_value",
        old="q.amin(dim=0)",
        new="q[0]",
        says="believes the first critic, whatever the second says",
    ),
    "entropy_punished": Edit(
        function="soft_value",
        old="- alpha * log_prob",
        new="+ alpha * log_prob",
        says="pays for certainty: the policy narrows as fast as it can",
        fails=("sac_return",),
    ),
    "no_entropy": Edit(
        function="soft_value",
        old="q.amin(dim=0) - alpha * log_prob",
        new="q.amin(dim=0) - 0.0 * log_prob",
        says="pays nothing for entropy",
    ),
    "noise_not_cut": Edit(
        function="blurred",
        old="noise = noise.clamp(-0.5 * limit, 0.5 * limit)",
        new="noise = noise * 1.0",
        says="does not cut the noise",
    ),
    "beyond_the_limits": Edit(
        function="blurred",
        old="return (actions + noise).clamp(-limit, limit)",
        new="return actions + noise",
        says="lets the blurred action leave the limits, where no critic has ever looked",
    ),
    "cut_at_the_limit": Edit(
        function="blurred",
        old="noise.clamp(-0.5 * limit, 0.5 * limit)",
        new="noise.clamp(-limit, limit)",
        says="cuts the noise at the limits, not at half of them",
    ),
    "no_jacobian": Edit(
        function="squashed_log_prob",
        old="return (normal - packed).sum(dim=-1)",
        new="return normal.sum(dim=-1)",
        says="forgets that the squash packs densities: all entropy is bought at the limits",
        fails=("density_integral",),
    ),
    "jacobian_added": Edit(
        function="squashed_log_prob",
        old="(normal - packed)",
        new="(normal + packed)",
        says="adds the squash's logarithm, which should be subtracted",
        fails=("density_integral",),
    ),
    "averaged_over_numbers": Edit(
        function="squashed_log_prob",
        old="(normal - packed).sum(dim=-1)",
        new="(normal - packed).mean(dim=-1)",
        says="averages over the numbers of an action: log-densities add up",
    ),
    "variance_for_std": Edit(
        function="squashed_log_prob",
        old="** 2 - log_std -",
        new="** 2 - 2.0 * log_std -",
        says="takes the variance for the standard deviation in the normaliser",
        fails=("density_integral",),
    ),
    "naive_logarithm": Edit(
        function="squashed_log_prob",
        old="packed = 2.0 * (math.log(2.0) - x - nn.functional.softplus(-2.0 * x))",
        new="packed = torch.log(1.0 - torch.tanh(x) ** 2)",
        says="takes the logarithm as it stands in (7): far out it is that of 0",
    ),
    "temperature_upside_down": Edit(
        function="temperature_loss",
        old="return -log_alpha",
        new="return log_alpha",
        says="lowers the price of entropy where there is too little of it",
        fails=("sac_return",),
    ),
    "temperature_moves_the_policy": Edit(
        function="temperature_loss",
        old="(log_prob + target_entropy).detach().mean()",
        new="(log_prob + target_entropy).mean()",
        says="lets the temperature's loss move the policy",
    ),
    "target_subtracted": Edit(
        function="temperature_loss",
        old="log_prob + target_entropy",
        new="log_prob - target_entropy",
        says="aims at the entropy with the wrong sign",
    ),
    # the program: noticed by whole learners
    "minus_the_future": Edit(
        function="critic_loss",
        old='batch["rewards"] + gamma *',
        new='batch["rewards"] - gamma *',
        says="subtracts the value of the successor",
        fails=("td3_return", "sac_return"),
    ),
    "no_terminal": Edit(
        function="critic_loss",
        old='gamma * ~batch["terminated"] * next_values',
        new="gamma * next_values",
        says="bootstraps through a terminal state",
    ),
    "merged": Edit(
        function="collect",
        old="terminated=terminated)",
        new="terminated=terminated | truncated)",
        says="stores a time limit as if the episode had truly ended",
    ),
    "after_the_reset": Edit(
        function="collect",
        old="true_next_obs(next_obs, terminated | truncated, infos)",
        new="next_obs",
        says="stores the first observation of the next episode as the successor",
    ),
    "descends_the_critic": Edit(
        function="actor_loss",
        old="return -soft_value",
        new="return soft_value",
        says="the actor looks for the worst action",
        fails=("td3_return", "sac_return"),
    ),
    "stored_actions": Edit(
        function="actor_loss",
        old='q = agent.q(agent.critics, batch["obs"], actions)',
        new='q = agent.q(agent.critics, batch["obs"], batch["actions"] + 0.0 * actions)',
        says="judges the actions of the past, on which the actor has no influence",
        fails=("td3_return", "sac_return"),
    ),
    "no_target": Edit(
        function="critic_loss",
        old='agent.q(agent.slow_critics, batch["next_obs"], actions)',
        new='agent.q(agent.critics, batch["next_obs"], actions)',
        says="no slow copies: the critics chase themselves",
    ),
    "no_step": Edit(
        function="descend",
        old="    optimizer.step()\n",
        new="",
        says="computes gradients and takes no step",
        fails=("ddpg_return", "td3_return", "sac_return"),
    ),
}
