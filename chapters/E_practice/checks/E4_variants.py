"""Right answers to E4's exercises in other idioms: the grader must pass each."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.special import rel_entr

from chapters.E_practice.E4_world_models import Seen, code_kl, encode
from chapters.envs.jax_memory import gru, linear

UNNAMED = {"no_gradient": "what it returns is right; only the gradient shows the mistake"}


def bayes_step__einsum(belief, move, fits):
    joint = np.einsum("s,sn,n->n", belief, move, fits)
    return joint.sum().item(), joint / joint.sum()


def bayes_step__loops(belief, move, fits):
    predicted = [sum(belief[s] * move[s, n] for s in range(len(belief))) for n in range(len(belief))]
    chance = sum(p * f for p, f in zip(predicted, fits))
    return float(chance), np.array([p * f / chance for p, f in zip(predicted, fits)])


def nats_above__rel_entr(exact, log_probs):
    return float(rel_entr(exact, np.exp(log_probs)).sum() / len(exact))


def nats_above__loops(exact, log_probs):
    total = 0.0
    for p, q in zip(exact.ravel(), log_probs.ravel()):
        total += p * (np.log(p) - q) if p > 0 else 0.0
    return total / exact.shape[0]


def code_kl__einsum(log_q, log_p):
    return jnp.einsum("...gc,...gc->...", jnp.exp(log_q), log_q - log_p)


def code_kl__entropies(log_q, log_p):
    q = jnp.exp(log_q)
    crossed, own = -(q * log_p).sum(-1), -(q * log_q).sum(-1)
    return (crossed - own).sum(-1)


def drawn_chance__argmax(weights, seen, obs):
    matrix, bias = weights["decode"]
    H = seen.memory.shape[-1]
    logits = seen.memory @ matrix[:H] + seen.code @ matrix[H:] + bias
    logs = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    return jnp.take_along_axis(logs, obs.argmax(axis=-1)[..., None], axis=-1)[..., 0]


def elbo__written_out(log_chance, posterior, prior):
    q = jnp.exp(posterior)
    return log_chance + (q * prior).sum((-1, -2)) - (q * posterior).sum((-1, -2))


def reconstruction_loss__one_mean(log_chance, posterior, prior, posterior_weight):
    taught = jnp.mean(code_kl(lax.stop_gradient(posterior), prior))
    held = jnp.mean(code_kl(posterior, lax.stop_gradient(prior)))
    return taught + posterior_weight * held - jnp.mean(log_chance)


def contrastive_loss__logsumexp(scores):
    own = jnp.einsum("tnn->tn", scores)
    return (jax.nn.logsumexp(scores, axis=-1) - own).mean()


def contrastive_loss__mask(scores):
    right = jnp.eye(scores.shape[1])
    return -(jax.nn.log_softmax(scores) * right).sum() / (scores.shape[0] * scores.shape[1])


def latent_loss__einsum(foreseen, target):
    gap = foreseen - lax.stop_gradient(target)
    return jnp.einsum("tnd,tnd->", gap, gap) / (gap.shape[0] * gap.shape[1])


def observe__loop(weights, batch, drawn):
    obs, actions, first, gumbel = batch
    T, N, G, C = gumbel.shape
    features = encode(weights, obs)
    posterior = jax.nn.log_softmax(linear(weights["posterior"], features).reshape(T, N, G, C))
    h, told, memory, codes = jnp.zeros((N, weights["prior"][0].shape[0])), None, [], []
    for t in range(T):
        if t == 0:
            told = jnp.zeros((N, G * C * actions.shape[2]))
        begins = first[t][:, None] > 0
        h, told = jnp.where(begins, 0.0, h), jnp.where(begins, 0.0, told)
        h = gru(weights, h + h * linear(weights["weigh"], told), told)
        probs = jnp.exp(posterior[t])
        hard = jax.nn.one_hot(jnp.argmax(posterior[t] + drawn * gumbel[t], axis=-1), C)
        z = (hard + probs - lax.stop_gradient(probs)).reshape(N, G * C)
        told = jnp.einsum("nz,na->nza", z, actions[t]).reshape(N, -1)
        memory.append(h)
        codes.append(z)
    memory = jnp.stack(memory)
    prior = jax.nn.log_softmax(linear(weights["prior"], memory).reshape(T, N, G, C))
    return Seen(memory, jnp.stack(codes), prior, posterior, features)


def smooth__unscaled(P, emission, start, obs, actions):
    T = len(obs)
    alpha, beta = [start * emission[:, obs[0]]], [np.ones(len(start))]
    for t in range(1, T):
        alpha.append(np.einsum("s,sn,n->n", alpha[-1], P[:, actions[t - 1]], emission[:, obs[t]]))
        back = T - t
        beta.insert(0, np.einsum("sn,n,n->s", P[:, actions[back - 1]], emission[:, obs[back]], beta[0]))
    joint = np.array(alpha) * np.array(beta)
    return joint / joint.sum(axis=1)[:, None]
