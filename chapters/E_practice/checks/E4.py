"""E4's functions against loops, enumeration and libraries, and its named edits."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax, rel_entr

from chapters.E_practice.E4_world_models import Config, Seen, start_weights
from chapters.E_practice.E4_world_models import losses as lesson_losses
from chapters.envs.ring_world import Batch
from chapters.utils.edits import Edit


def close(found, expected, says="", tolerance=2e-5):
    np.testing.assert_allclose(
        np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance, err_msg=says
    )


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def codes(seed, *shape):
    """Log-probabilities along the last axis."""
    return log_softmax(2.0 * normal(seed, *shape), axis=-1).astype(np.float32)


def slope(function, *arguments):
    """The gradient of a sum, by its first argument."""
    by_first = jax.jit(jax.grad(lambda x, *rest: jnp.sum(function(x, *rest))))
    return np.asarray(by_first(*map(jnp.asarray, arguments)))


# The filter


def check_bayes_step(bayes_step):
    """A few steps in a row, against all hidden paths written out."""
    for seed, num_states in ((0, 2), (1, 3), (2, 4)):
        rng = np.random.default_rng(seed)
        move = rng.dirichlet(np.ones(num_states), size=(3, num_states))
        fits, start = rng.random((3, num_states)), rng.dirichlet(np.ones(num_states))
        belief, likelihood = start, 1.0
        for t in range(3):
            chance, belief = bayes_step(belief, move[t], fits[t])
            likelihood *= chance
            ends, total = np.zeros(num_states), 0.0
            for path in itertools.product(range(num_states), repeat=t + 2):
                weight = start[path[0]]
                for k in range(t + 1):
                    weight *= move[k, path[k], path[k + 1]] * fits[k, path[k + 1]]
                ends[path[-1]] += weight
                total += weight
            assert math.isclose(likelihood, total, rel_tol=1e-9), (
                f"step {t}: chance of all so far {likelihood:.5f}, the sum over hidden paths is {total:.5f}"
            )
            close(belief, ends / total, f"step {t}: belief", 1e-9)


# The model


def some_model(seed=0, **changes):
    """(weights of which every one matters, recordings, the noise of codes) of a small model."""
    cfg = Config(**{"width": 5, "num_features": 4, "num_groups": 2, "num_classes": 3, **changes})
    weights = start_weights(3, cfg)
    weights = {name: (2 * w, 0.3 * normal(i, *b.shape)) for i, (name, (w, b)) in enumerate(weights.items())}
    rng, shape = np.random.default_rng(seed), (7, 3)
    obs, actions = np.eye(3)[rng.integers(3, size=shape)], np.eye(2)[rng.integers(2, size=shape)]
    first = (rng.random(shape) < 0.3).astype(np.float32)
    first[0] = 1.0
    gumbel = rng.gumbel(size=(*shape, 2, 3))
    return weights, Batch(
        obs.astype(np.float32), actions.astype(np.float32), first, gumbel.astype(np.float32)
    )


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def observe_in_loops(weights, batch, drawn):
    """Memory and codes, step by step and recording by recording, from eq. (2)."""
    W = {name: (np.asarray(w, dtype=float), np.asarray(b, dtype=float)) for name, (w, b) in weights.items()}

    def layer(name, x):
        return x @ W[name][0] + W[name][1]

    obs, actions, first, gumbel = batch
    T, N, G, C = gumbel.shape
    H = W["prior"][0].shape[0]
    memory, code = np.zeros((T, N, H)), np.zeros((T, N, G * C))
    prior, posterior = np.zeros((T, N, G, C)), np.zeros((T, N, G, C))
    features = np.tanh(layer("encode", obs))
    for n in range(N):
        for t in range(T):
            if first[t, n]:
                h, told = np.zeros(H), np.zeros(G * C * actions.shape[2])
            else:
                told = np.outer(code[t - 1, n], actions[t - 1, n]).ravel()
                h = memory[t - 1, n] * (1.0 + layer("weigh", told))
            x, m = np.split(layer("input", told), 3), np.split(layer("memory", h), 3)
            keep = sigmoid(x[1] + m[1])
            memory[t, n] = keep * h + (1 - keep) * np.tanh(x[2] + sigmoid(x[0] + m[0]) * m[2])
            posterior[t, n] = log_softmax(layer("posterior", features[t, n]).reshape(G, C), axis=1)
            prior[t, n] = log_softmax(layer("prior", memory[t, n]).reshape(G, C), axis=1)
            for g in range(G):
                code[t, n, g * C + np.argmax(posterior[t, n, g] + drawn * gumbel[t, n, g])] = 1.0
    return Seen(memory, code, prior, posterior, features)


def check_observe(observe):
    for seed, drawn in ((1, 0.0), (0, 1.0)):
        weights, batch = some_model(seed)
        arrays, rest = map_arrays((weights, batch))

        def run(posterior, arrays=arrays, rest=rest, drawn=drawn):
            seen = observe({**arrays, "posterior": posterior}, rest, drawn)
            return seen.memory.sum(), seen

        if drawn:
            (_, found), slope = jax.jit(jax.value_and_grad(run, has_aux=True))(arrays["posterior"])
        else:
            _, found = run(arrays["posterior"])
        for name, value, right in zip(Seen._fields, found, observe_in_loops(weights, batch, drawn)):
            close(value, right, f"{name}, drawn {drawn:.0f}", 1e-4)
    assert np.abs(slope[0]).max() > 1e-3, "no gradient comes back through the codes: not straight through"


def map_arrays(arguments):
    return jax.tree.map(jnp.asarray, arguments)


# The objectives


def check_code_kl(code_kl):
    q, p = codes(0, 4, 3, 2, 5), codes(1, 4, 3, 2, 5)
    close(code_kl(jnp.asarray(q), jnp.asarray(p)), rel_entr(np.exp(q), np.exp(p)).sum(axis=(2, 3)))
    close(code_kl(jnp.asarray(q), jnp.asarray(q)), np.zeros((4, 3)))


def check_drawn_chance(drawn_chance):
    weights, batch = some_model(0)
    seen = observe_in_loops(weights, batch, 1.0)
    inputs = np.concatenate([seen.memory, seen.code], axis=2)
    logs = log_softmax(inputs @ np.asarray(weights["decode"][0]) + weights["decode"][1], axis=2)
    expected = np.take_along_axis(logs, batch.obs.argmax(axis=2)[..., None], axis=2)[..., 0]
    found = drawn_chance(*map_arrays((weights, Seen(*seen), batch.obs)))
    close(found, expected, "log-probability of what is seen", 1e-4)


def check_elbo(elbo):
    """With exact posteriors the bound is the likelihood itself; with any other it is below."""
    rng = np.random.default_rng(0)
    prior, fits = rng.dirichlet(np.ones(4), size=(2, 3)), rng.random((2, 3, 4))
    likelihood = (prior * fits).sum(axis=2)
    for name, q in (("exact", prior * fits / likelihood[..., None]), ("other", prior[..., ::-1])):
        expected_chance = (q * np.log(fits)).sum(axis=2)
        arrays = [jnp.asarray(x, dtype=jnp.float32) for x in (expected_chance, np.log(q), np.log(prior))]
        found = np.asarray(elbo(arrays[0], arrays[1][:, :, None], arrays[2][:, :, None]))
        if name == "exact":
            close(found, np.log(likelihood), "with the exact posterior the bound is tight")
        else:
            expected = expected_chance - rel_entr(q, prior).sum(axis=2)
            close(found, expected, "chance less KL")


def check_reconstruction_loss(reconstruction_loss):
    chance, q, p = normal(0, 3, 2), codes(1, 3, 2, 2, 4), codes(2, 3, 2, 2, 4)
    divergence = rel_entr(np.exp(q), np.exp(p)).sum(axis=(2, 3))
    arrays = tuple(map(jnp.asarray, (chance, q, p)))
    for weight in (1.0, 0.1):
        close(reconstruction_loss(*arrays, weight), ((1 + weight) * divergence - chance).mean())

    def whole(q, p):
        return (jnp.exp(q) * (q - p)).sum(axis=(-1, -2)).mean()

    by_q, by_p = jax.jit(jax.grad(whole, argnums=(0, 1)))(*arrays[1:])
    for weight in (1.0, 0.1, 0.0):
        found = jax.grad(lambda q, p, w=weight: reconstruction_loss(arrays[0], q, p, w), argnums=(0, 1))(
            *arrays[1:]
        )
        close(found[1], by_p, "the prior's pull to the posterior counts whole")
        close(found[0], weight * by_q, f"the posterior's pull to the prior counts {weight}")


def check_contrastive_loss(contrastive_loss):
    for shape in ((1, 2, 2), (3, 5, 5)):
        scores = 2.0 * normal(shape[0], *shape)
        terms = []
        for t, n in np.ndindex(*shape[:2]):
            terms.append(math.log(sum(math.exp(f) for f in scores[t, n])) - scores[t, n, n])
        close(contrastive_loss(jnp.asarray(scores)), np.mean(terms))


def check_latent_loss(latent_loss):
    foreseen, target = jnp.asarray(normal(0, 3, 2, 4)), jnp.asarray(normal(1, 3, 2, 4))
    close(latent_loss(foreseen, target), ((foreseen - target) ** 2).sum() / 6)
    assert not np.any(slope(lambda y, x: latent_loss(x, y), target, foreseen)), "the target must not move"
    close(slope(latent_loss, foreseen, target), 2 * (foreseen - target) / 6)


def check_losses(losses):
    """Each objective from its own definition, on one model."""
    weights, batch = some_model(1)
    obs = batch.obs
    average = {name: (w + 0.1, b) for name, (w, b) in weights.items()}
    seen = observe_in_loops(weights, batch, 1.0)

    def layer(name, x):
        return x @ np.asarray(weights[name][0]) + np.asarray(weights[name][1])

    logits = layer("decode", np.concatenate([seen.memory, seen.code], axis=2))
    kl = rel_entr(np.exp(seen.posterior), np.exp(seen.prior)).sum(axis=(2, 3))
    chance = (log_softmax(logits, axis=2) * obs).sum(axis=2)
    scores = np.einsum("tnd,tmd->tnm", layer("match", seen.memory), seen.features)
    told = np.diagonal(log_softmax(scores, axis=2), axis1=1, axis2=2)
    target = np.tanh(obs @ np.asarray(average["encode"][0]) + np.asarray(average["encode"][1]))
    distance = ((layer("foresee", seen.memory) - target) ** 2).sum(axis=2)
    cfg = Config(posterior_weight=0.3)
    found = losses(*map_arrays((weights, average, obs)), Seen(*map_arrays(tuple(seen))), cfg)
    for name, value, right in zip(
        ("reconstruction", "contrast", "latent"), found, (1.3 * kl - chance, -told, distance)
    ):
        close(value, right.mean(), name, 1e-4)


def check_nats_above(nats_above):
    rng = np.random.default_rng(0)
    exact, guess = rng.dirichlet(np.ones(4), size=6), rng.dirichlet(np.ones(4), size=6)
    exact[0] = [0.0, 1.0, 0.0, 0.0]
    assert math.isclose(nats_above(exact, np.log(guess)), rel_entr(exact, guess).sum() / 6, rel_tol=1e-9)
    assert abs(nats_above(exact[1:], np.log(exact[1:]))) < 1e-12, "the filter itself is 0 nats above itself"


def check_objective(objective):
    """One model's loss is the one that its choice names, and only reconstruction draws its codes."""
    weights, batch = some_model(2)
    cfg = Config(num_groups=2, num_classes=3)
    average = {name: (w + 0.1, b) for name, (w, b) in weights.items()}
    for j, name in enumerate(("reconstruction", "contrast")):
        seen = observe_in_loops(weights, batch, float(j == 0))
        right = lesson_losses(*map_arrays((weights, average, batch.obs)), Seen(*map_arrays(tuple(seen))), cfg)
        found = objective(*map_arrays((weights, average, np.eye(3)[j], batch)), cfg)
        close(found, right[j], name, 1e-4)


EDITS = {
    "not_normalised": Edit(
        function="bayes_step",
        old="joint / chance",
        new="joint",
        says="leaves the belief unnormalised: a joint chance, ever smaller",
    ),
    "predicts_after": Edit(
        function="bayes_step",
        old="chance = joint.sum()",
        new="chance = (joint / joint.sum() * fits).sum()",
        says="predicts the observation with a belief that has seen it already",
    ),
    "stands_still": Edit(
        function="bayes_step",
        old="predicted = belief @ move",
        new="predicted = belief",
        says="forgets that the world moves",
    ),
    "moves_backwards": Edit(
        function="bayes_step",
        old="belief @ move",
        new="move @ belief",
        says="turns the transition table round",
    ),
    "carries_over": Edit(
        function="observe",
        old="gru(weights, goes_on * weighed, goes_on * told)",
        new="gru(weights, weighed, goes_on * told)",
        says="does not clear the memory where an episode begins",
    ),
    "tells_over": Edit(
        function="observe",
        old="gru(weights, goes_on * weighed, goes_on * told)",
        new="gru(weights, goes_on * weighed, told)",
        says="hands the last episode's code and action to the first step of the next",
    ),
    "acts_late": Edit(
        function="observe",
        old="actions[..., None, :]",
        new="jnp.roll(actions, 1, axis=0)[..., None, :]",
        says="hands each action over a step late",
    ),
    "only_adds": Edit(
        function="observe",
        old='h * (1.0 + linear(weights["weigh"], told))',
        new="h",
        says="only adds what it is told: a plain GRU, which needs more updates to learn to multiply",
    ),
    "nothing_kept": Edit(
        function="observe",
        old="1.0 + linear",
        new="linear",
        says="leaves the 1 out: the memory is nearly wiped before it is used",
    ),
    "sees_ahead": Edit(
        function="observe",
        old="jnp.concatenate([jnp.zeros_like(pairs[:1]), pairs[:-1]])",
        new="pairs",
        says="lets the memory see the observation that it is to foresee",
    ),
    "no_gradient": Edit(
        function="observe",
        old="probs + lax.stop_gradient(picked - probs)",
        new="picked",
        says="picks classes and lets no gradient back: the codes never learn",
    ),
    "soft_codes": Edit(
        function="observe",
        old="(probs + lax.stop_gradient(picked - probs))",
        new="probs",
        says="hands on probabilities, not a class: the bound no longer holds",
    ),
    "turned_kl": Edit(
        function="code_kl",
        old="(jnp.exp(log_q) * (log_q - log_p))",
        new="(jnp.exp(log_p) * (log_p - log_q))",
        says="takes the divergence in the other direction",
    ),
    "mean_of_groups": Edit(
        function="code_kl",
        old=".sum(axis=(-1, -2))",
        new=".sum(axis=-1).mean(axis=-1)",
        says="takes the mean of the groups' divergences, not their sum",
    ),
    "plain_logits": Edit(
        function="drawn_chance",
        old="jax.nn.log_softmax(logits)",
        new="logits",
        says="takes logits for log-probabilities",
    ),
    "adds_kl": Edit(
        function="elbo",
        old="log_chance - code_kl",
        new="log_chance + code_kl",
        says="adds the divergence: a bound from above, which it is not",
        fails=("bound_below_filter",),
    ),
    "chance_alone": Edit(
        function="elbo",
        old="log_chance - code_kl(posterior, prior)",
        new="log_chance",
        says="leaves the divergence out: codes may tell all and cost nothing",
        fails=("bound_below_filter",),
    ),
    "pulls_swapped": Edit(
        function="reconstruction_loss",
        old="code_kl(stop(posterior), prior) + posterior_weight * code_kl(posterior, stop(prior))",
        new="code_kl(posterior, stop(prior)) + posterior_weight * code_kl(stop(posterior), prior)",
        says="pulls the codes to the prior, and hardly the prior to the codes",
    ),
    "no_balance": Edit(
        function="reconstruction_loss",
        old="code_kl(stop(posterior), prior) + posterior_weight * code_kl(posterior, stop(prior))",
        new="(1 + posterior_weight) * code_kl(posterior, prior)",
        says="pulls both with equal strength: codes give in before the prior has learnt",
        fails=("nats_reconstruction",),
    ),
    "rewards_surprise": Edit(
        function="reconstruction_loss",
        old="(pulls - log_chance)",
        new="(pulls + log_chance)",
        says="makes what is seen unlikely",
        fails=("nats_reconstruction",),
    ),
    "any_pair": Edit(
        function="contrastive_loss",
        old="jnp.diagonal(jax.nn.log_softmax(scores, axis=2), axis1=1, axis2=2)",
        new="jax.nn.log_softmax(scores, axis=2)",
        says="wants every pair to suit, not each memory and its own observation",
        fails=("nats_contrast",),
    ),
    "asks_observations": Edit(
        function="contrastive_loss",
        old="axis=2)",
        new="axis=1)",
        says="asks which memory suits an observation, not which observation suits a memory",
    ),
    "no_stop": Edit(
        function="latent_loss",
        old="lax.stop_gradient(target)",
        new="target",
        says="lets the target move to where it is easily foreseen",
    ),
    "mean_of_numbers": Edit(
        function="latent_loss",
        old=".sum(axis=-1).mean()",
        new=".mean()",
        says="the mean of a vector's numbers, not their sum",
    ),
    "same_recording": Edit(
        function="losses",
        old='jnp.einsum("tnd,tmd->tnm", linear(weights["match"], seen.memory), seen.features)',
        new='jnp.einsum("tnd,snd->nts", linear(weights["match"], seen.memory), seen.features)',
        says="tells an observation from those of other times in the same recording",
    ),
    "newest_target": Edit(
        function="losses",
        old="encode(average, obs)",
        new="seen.features",
        says="foresees vectors of the newest encoder, not of the running average",
    ),
    "draws_from_memory": Edit(
        function="drawn_chance",
        old="jnp.concatenate([seen.memory, seen.code], axis=-1)",
        new="jnp.concatenate([seen.memory, 0 * seen.code], axis=-1)",
        says="draws from the memory alone: nothing asks the code to tell what is seen",
    ),
    "all_at_once": Edit(
        function="objective",
        old="choice @ losses(weights, average, batch.obs, seen, cfg)",
        new="losses(weights, average, batch.obs, seen, cfg).sum()",
        says="trains each model by all objectives together",
    ),
    "turned_nats": Edit(
        function="nats_above",
        old="(exact * (logs - log_probs))",
        new="(np.exp(log_probs) * (log_probs - logs))",
        says="averages over what the head expects, not over what may come",
    ),
    "whole_loss": Edit(
        function="nats_above",
        old="(logs - log_probs)",
        new="(-log_probs)",
        says="the head's loss, with what nobody can foresee still in it",
        fails=("nats_reconstruction", "nats_contrast", "nats_latent"),
    ),
}
