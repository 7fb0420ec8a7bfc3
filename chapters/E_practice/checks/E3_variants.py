"""Right answers to E3's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch
import torch.nn.functional as F


def policy_loss__stacked(agent, mini):
    log_probs, _ = agent.judge(mini["obs"], mini["actions"])
    old, judged = mini["old_log_probs"], mini["advantages"]
    wrong = [one for one in (old, judged) if one.requires_grad]
    spread, centre = torch.std_mean(judged)
    judged = torch.zeros_like(judged) if judged.unique().numel() == 1 else (judged - centre) / (spread + 1e-8)
    ratio = torch.exp(log_probs - old)
    gains = torch.stack([ratio * judged, torch.clip(ratio, 0.8, 1.2) * judged]).amin(dim=0)
    error = F.mse_loss(agent.value(mini["obs"]), mini["returns"])
    return error / 2 - gains.mean(), ratio.detach(), float(len(wrong))


def policy_loss__where(agent, mini):
    obs, actions, old, raw, returns = (
        mini[name] for name in ("obs", "actions", "old_log_probs", "advantages", "returns")
    )
    ratio = (agent.judge(obs, actions)[0] - old).exp()
    advantages = (raw - raw.mean()) / (raw.std() + 1e-8)
    advantages = torch.where(raw.min() == raw.max(), 0.0, advantages)
    limit = torch.where(advantages > 0, 1.2 * advantages, 0.8 * advantages)
    actor_loss = -torch.min(ratio * advantages, limit).mean()
    critic_loss = torch.mean((returns - agent.value(obs)) ** 2)
    count = int(raw.requires_grad) + int(old.requires_grad)
    return actor_loss + 0.5 * critic_loss, ratio.clone().detach(), float(count)


def policy_loss__summed(agent, mini):
    size = len(mini["actions"])
    centred = mini["advantages"] - mini["advantages"].sum() / size
    judged = centred / ((centred.pow(2).sum() / (size - 1)).sqrt() + 1e-8)
    if len(mini["advantages"].unique()) == 1:
        judged = 0 * judged
    log_ratio = agent.judge(mini["obs"], mini["actions"])[0] - mini["old_log_probs"]
    w = log_ratio.exp()
    gain = torch.minimum(w * judged, w.clamp(0.8, 1.2) * judged).sum()
    surprise = agent.value(mini["obs"]) - mini["returns"]
    constants = sum(mini[name].requires_grad for name in ("advantages", "old_log_probs"))
    return (0.5 * surprise.square().sum() - gain) / size, w.detach(), float(constants)


def wrong_successors__xor(obs, next_obs, terminated, truncated):
    goes_on = ~torch.logical_or(terminated, truncated)[:-1]
    is_next = (next_obs[:-1] - obs[1:]).abs().sum(dim=-1) == 0
    return torch.logical_xor(is_next, goes_on).double().mean().item()


def wrong_successors__in_numpy(obs, next_obs, terminated, truncated):
    here, stored, end, cut = (x.numpy() for x in (obs, next_obs, terminated, truncated))
    differs = np.any(stored[:-1] != here[1:], axis=-1)
    return float(np.mean(np.where(end[:-1] | cut[:-1], ~differs, differs)))


def wrong_successors__loop(obs, next_obs, terminated, truncated):
    num_steps, num_envs = terminated.shape
    wrong = 0
    for t in range(num_steps - 1):
        for i in range(num_envs):
            same = torch.equal(next_obs[t, i], obs[t + 1, i])
            if terminated[t, i] or truncated[t, i]:
                wrong += same
            else:
                wrong += not same
    return wrong / (num_envs * (num_steps - 1))
