"""Right answers to C5's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch

from chapters.C_policy_gradients.C5_trpo import fisher_products, flat, surrogate_and_kl
from chapters.exact.mdp import evaluate_exactly


def gain__einsum(advantages, policy, visited, gamma):
    return np.einsum("s,sa,sa->", visited, policy, advantages) / (1.0 - gamma)


def gain__loop(advantages, policy, visited, gamma):
    total = 0.0
    for share, chances, row in zip(visited, policy, advantages):
        total += share * np.dot(chances, row)
    return total / (1 - gamma)


def guaranteed_gain__by_values(mdp, old, new, start):
    V = evaluate_exactly(mdp, old)
    A = mdp.R + mdp.gamma * np.einsum("sat,t->sa", mdp.P, V) - V.reshape(-1, 1)
    chain = np.matmul(old[:, None, :], mdp.P)[:, 0]
    d = (1 - mdp.gamma) * start @ np.linalg.inv(np.eye(len(V)) - mdp.gamma * chain)
    kl = np.einsum("sa,sa->s", old, np.log(old) - np.log(new)).max()
    surrogate = np.sum(d[:, None] * new * A) / (1 - mdp.gamma)
    return surrogate - 4 * abs(A).max() * mdp.gamma * kl / np.square(1 - mdp.gamma)


def guaranteed_gain__series(mdp, old, new, start):
    V = evaluate_exactly(mdp, old)
    A = mdp.R + mdp.gamma * mdp.P @ V - V[:, None]
    extra = (new * A).sum(1)
    total, now, t = 0.0, start.copy(), 0
    while mdp.gamma**t > 1e-14:
        total += mdp.gamma**t * now @ extra
        now = now @ np.einsum("sa,sat->st", old, mdp.P)
        t += 1
    worst = max(sum(p * np.log(p / q) for p, q in zip(*rows)) for rows in zip(old, new))
    return total - worst * 4 * mdp.gamma * np.max(np.abs(A)) * (1 - mdp.gamma) ** -2


def mean_kl__distributions(old, new):
    both = (torch.distributions.Categorical(logits=logits) for logits in (old, new))
    return torch.distributions.kl_divergence(*both).mean()


def mean_kl__functional(old, new):
    return torch.nn.functional.kl_div(new, old, reduction="batchmean", log_target=True)


def mean_kl__einsum(old, new):
    return torch.einsum("ba,ba->", old.exp(), old - new) / len(old)


def flat__flatten(tensors):
    return torch.hstack([tensor.flatten() for tensor in tensors])


def flat__contiguous(tensors):
    return torch.cat(tuple(tensor.contiguous().view(-1) for tensor in tensors), dim=0)


def conjugate_gradients__textbook(product, b, num_steps):
    x = torch.zeros_like(b)
    r = b - product(x)
    p = r
    for _ in range(num_steps):
        if r.norm() <= 1e-8 * b.norm():
            return x
        Ap = product(p)
        alpha = torch.dot(r, r) / torch.dot(p, Ap)
        x = x + alpha * p
        new = r - alpha * Ap
        p = new + (torch.dot(new, new) / torch.dot(r, r)) * p
        r = new
    return x


def conjugate_gradients__while(product, b, num_steps):
    x, r = 0.0 * b, b.clone()
    p, rr = r.clone(), torch.sum(r * r)
    tolerance = 1e-16 * rr
    while num_steps > 0 and rr > tolerance:
        q = product(p)
        step = rr / (p * q).sum()
        x = torch.add(x, step * p)
        r = torch.sub(r, step * q)
        before, rr = rr, torch.sum(r * r)
        p = p * (rr / before) + r
        num_steps -= 1
    return x


def surrogate_and_kl__distributions(agent, batch):
    now = torch.distributions.Categorical(logits=agent.actor(batch["obs"]))
    ratio = torch.exp(now.log_prob(batch["actions"]) - batch["old_log_probs"])
    was = torch.distributions.Categorical(logits=batch["old_policy"])
    return torch.mean(ratio * batch["advantages"]), torch.distributions.kl_divergence(was, now).mean()


def surrogate_and_kl__probabilities(agent, batch):
    probs = torch.softmax(agent.actor(batch["obs"]), dim=-1)
    old = batch["old_policy"].exp()
    rows = torch.arange(len(probs))
    taken = probs[rows, batch["actions"]] / batch["old_log_probs"].exp()
    kl = (old * (old / probs).log()).sum(-1)
    return (taken * batch["advantages"]).sum() / len(rows), kl.mean()


def trust_region_step__loops(agent, batch, cfg):
    weights = list(agent.actor.parameters())
    surrogate, kl = surrogate_and_kl(agent, batch)
    g = torch.cat([p.reshape(-1) for p in torch.autograd.grad(surrogate, weights, retain_graph=True)])
    slope = torch.cat([p.reshape(-1) for p in torch.autograd.grad(kl, weights, create_graph=True)])

    def product(v):
        parts = torch.autograd.grad((slope * v).sum(), weights, retain_graph=True)
        return torch.cat([p.reshape(-1) for p in parts]) + cfg.damping * v

    x = conjugate_gradients__textbook(product, g, cfg.num_cg_steps)
    bowl = 0.5 * x @ product(x)
    if bowl <= 0:
        return torch.zeros_like(g)
    return x * torch.sqrt(cfg.max_kl / bowl)


def trust_region_step__by_products(agent, batch, cfg):
    surrogate, _ = surrogate_and_kl(agent, batch)
    g = flat(torch.autograd.grad(surrogate, list(agent.actor.parameters())))
    product = fisher_products(agent, batch, cfg.damping)
    x = conjugate_gradients__while(product, g, cfg.num_cg_steps)
    length = torch.dot(x, product(x))
    return torch.sqrt(2 * cfg.max_kl / torch.clamp(length, min=1e-12)) * x


def line_search__while(look, old, step, cfg):
    share, tries = 1.0, 0
    before = look(old)[0].item()
    while tries <= cfg.num_halvings:
        after, kl = (number.item() for number in look(old + share * step))
        if kl <= cfg.max_kl and after - before > 0:
            return old + share * step, kl
        share, tries = share / 2, tries + 1
    return old.clone(), 0.0


def line_search__first(look, old, step, cfg):
    before, _ = look(old)
    tried = (old + step / 2**k for k in range(cfg.num_halvings + 1))
    looked = ((weights, *look(weights)) for weights in tried)
    good = ((weights, kl.item()) for weights, after, kl in looked if after > before and not kl > cfg.max_kl)
    return next(good, (old, 0.0))


def line_search__in_place(look, old, step, cfg):
    now, part = old + step, step.clone()
    target = look(old)[0]
    for _ in range(1 + cfg.num_halvings):
        value, kl = look(now)
        if value <= target or kl > cfg.max_kl:
            part = part * 0.5
            now = old + part
        else:
            return now, kl.item()
    return old, 0


def cautious_gain__loop(advantages, old, new, visited, gamma):
    means = [float(np.dot(p, a)) for p, a in zip(new, advantages)]
    largest = max(map(abs, means))
    total = 0.0
    for s, share in enumerate(visited):
        far = np.abs(old[s] - new[s]).sum() / 2
        total += share * (means[s] - 2 * gamma * largest * far / (1 - gamma))
    return total / (1 - gamma)


def cautious_gain__positive_part(advantages, old, new, visited, gamma):
    expected = np.einsum("sa,sa->s", new, advantages)
    distance = np.maximum(new - old, 0.0).sum(axis=1)
    surrogate = visited @ expected / (1 - gamma)
    return surrogate - 2 * gamma * np.abs(expected).max() * (visited @ distance) / (1 - gamma) ** 2


def gaussian_kl__distributions(old_mean, old_log_std, new_mean, new_log_std):
    old = torch.distributions.Normal(old_mean, old_log_std.exp().expand_as(old_mean))
    new = torch.distributions.Normal(new_mean, new_log_std.exp().expand_as(new_mean))
    return torch.distributions.kl_divergence(old, new).sum(-1).mean()


def gaussian_kl__textbook(old_mean, old_log_std, new_mean, new_log_std):
    old_var, new_var = torch.exp(2 * old_log_std), torch.exp(2 * new_log_std)
    terms = new_log_std - old_log_std + (old_var + (old_mean - new_mean) ** 2) / (2 * new_var) - 0.5
    return terms.sum() / len(old_mean)
