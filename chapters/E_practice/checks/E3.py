"""Definition check of E3, and the bugs of its zoo: each a line of the lesson, and what stands there then."""

import math

import torch

from chapters.utils.edits import Edit


class Fixed(torch.nn.Module):
    """An agent that always answers the same."""

    def __init__(self, log_prob, values):
        super().__init__()
        self.log_prob, self.values = torch.nn.Parameter(log_prob), torch.nn.Parameter(values)

    def judge(self, obs, actions):
        return self.log_prob, None

    def value(self, obs):
        return self.values


def check_policy_loss(policy_loss):
    """Value, ratio, gradients and constants of the loss, one transition at a time."""
    torch.manual_seed(4)
    for size in (6, 25):
        agent = Fixed(-torch.rand(size), torch.randn(size))
        log_prob, values = agent.log_prob, agent.values
        mini = {
            "obs": torch.zeros(size, 1),
            "actions": torch.zeros(size, dtype=torch.long),
            "old_log_probs": log_prob.detach() + 0.3 * torch.randn(size),
            "advantages": torch.randn(size),
            "returns": torch.randn(size),
        }
        loss, ratio, constants = policy_loss(agent, mini)
        numbers, estimates = log_prob.tolist(), values.tolist()
        raw = mini["advantages"].tolist()
        mean = sum(raw) / size
        spread = math.sqrt(sum((a - mean) ** 2 for a in raw) / (size - 1))
        gain = 0.0
        error = 0.0
        for i, advantage in enumerate(raw):
            advantage = (advantage - mean) / spread
            w = math.exp(numbers[i] - float(mini["old_log_probs"][i]))
            assert math.isclose(ratio[i], w, rel_tol=1e-4), f"ratio of transition {i}"
            clipped = min(max(w, 0.8), 1.2)
            gain += min(w * advantage, clipped * advantage)
            error += (estimates[i] - float(mini["returns"][i])) ** 2
        expected = -gain / size + 0.5 * error / size
        assert math.isclose(loss.item(), expected, rel_tol=1e-3, abs_tol=1e-4), (
            "minus the gain, plus half the error"
        )
        assert constants == 0, "neither advantages nor old log-probabilities carry a gradient"
        for name in ("advantages", "old_log_probs"):
            told = policy_loss(agent, mini | {name: mini[name].clone().requires_grad_()})[2]
            assert told == 1, f"{name} carries a gradient: expected 1, found {told}"
        without = policy_loss(agent, mini | {"advantages": torch.zeros(size)})[0].item()
        for constant in (0.3, 0.9, 123456.789):
            alike = policy_loss(agent, mini | {"advantages": torch.full((size,), constant)})[0].item()
            assert math.isclose(alike, without, rel_tol=1e-6), (
                "of equal advantages only rounding would be left"
            )
        loss.backward()
        slope = (values.detach() - mini["returns"]) / size
        assert values.grad is not None, "the value loss reaches the critic"
        assert torch.allclose(values.grad, slope, atol=1e-6), "the critic learns from its own loss alone"
        assert log_prob.grad.abs().max() > 0, "a gradient reaches the policy"


EDITS = {
    "merged_time_limit": Edit(
        function="Learner",
        old="gae(rewards, values, next_values, terminated, truncated, cfg",
        new="gae(rewards, values, next_values, terminated | truncated, truncated, cfg",
        says="a time limit is taken for an end",
        fails=("meets_its_identities", "no_alarm"),
    ),
    "bootstraps_past_the_end": Edit(
        function="Learner",
        old="gae(rewards, values, next_values, terminated, truncated, cfg",
        new="gae(rewards, values, next_values, terminated & False, terminated | truncated, cfg",
        says="even a fallen pole has a future",
        fails=("meets_its_identities", "no_alarm"),
    ),
    "off_by_one": Edit(
        function="Learner",
        old="gae(rewards, values, next_values, terminated, truncated, cfg",
        new="gae(rewards, values, next_values.roll(-1, 0), terminated, truncated, cfg",
        says="the target takes the value of the state after next",
        fails=("meets_its_identities", "no_alarm"),
    ),
    "missing_detach": Edit(
        function="policy_loss",
        old='old_log_probs = mini["old_log_probs"]',
        new="old_log_probs = log_prob",
        says="log-probabilities that are not detached: the ratio is 1 and its gradient 0, for ever",
        fails=("no_alarm", "ppo_solves"),
    ),
    "wrong_sign": Edit(
        function="policy_loss",
        old="advantages = (advantages - advantages.mean())",
        new="advantages = (advantages.mean() - advantages)",
        says="V - R for R - V: what went well becomes less likely",
        fails=("no_alarm", "ppo_solves"),
    ),
    "stale_log_probs": Edit(
        function="learn",
        old='        batch["old_log_probs"] = log_probs\n',
        new="""        from copy import deepcopy

        earlier = getattr(learner, "earlier", agent)
        batch["old_log_probs"] = earlier.judge(batch["obs"], batch["actions"])[0].detach()
        learner.earlier = deepcopy(agent)
""",
        says="old log-probabilities are of the weights of an update ago",
        fails=("meets_its_identities", "no_alarm"),
    ),
    "dead_critic": Edit(
        function="policy_loss",
        old='value_loss = (values - mini["returns"])',
        new='value_loss = (values.detach() - mini["returns"])',
        says="the value loss is logged, and reaches no weight",
        fails=("no_alarm",),
    ),
    "noisy_evaluation": Edit(
        function="Learner",
        old="policy = self.agent.greedy()",
        new="policy = self.act",
        says="evaluated with training's own noise",
        fails=("no_alarm",),
    ),
    "unseeded_environment": Edit(
        function="Learner",
        old="envs.reset(seed=cfg.seed)",
        new="envs.reset()",
        says="a reset without a seed: the environments draw from what the operating system hands out",
        fails=("meets_its_identities", "no_alarm"),
    ),
    "learning_rate_too_high": Edit(
        function="learn",
        old="lr=cfg.learning_rate",
        new="lr=100 * cfg.learning_rate",
        says="0.5 for 0.005",
        fails=("no_alarm",),
    ),
    "reward_scale": Edit(
        function="Learner",
        old="scaled = self.cfg.reward_scale * rewards",
        new="scaled = 1000 * self.cfg.reward_scale * rewards",
        says="millimetres for metres",
        fails=("no_alarm",),
    ),
    # mistakes that the zoo does not keep
    "max_for_min": Edit(
        function="policy_loss",
        old="gain = clipped_surrogate(ratio, advantages, 0.2)",
        new="gain = -clipped_surrogate(ratio, -advantages, 0.2)",
        says="a max for the min",
    ),
    "not_normalised": Edit(
        function="policy_loss",
        old="(advantages - advantages.mean()) / (advantages.std() + 1e-8)",
        new="advantages",
        says="advantages as they are",
    ),
    "advantage_not_detached": Edit(
        function="policy_loss",
        old='advantages = mini["advantages"]',
        new='advantages = mini["returns"] - values',
        says="an advantage that is not detached: the policy's loss bends the critic",
    ),
    "whole_critic": Edit(
        function="policy_loss",
        old="0.5 * value_loss",
        new="value_loss",
        says="the critic's error with its full weight",
    ),
    "plus_the_gain": Edit(
        function="policy_loss",
        old="return -gain.mean()",
        new="return gain.mean()",
        says="the gain is lowered, not raised",
    ),
}
