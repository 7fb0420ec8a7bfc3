"""Definition checks of E5: each function against its equation, written out one number at a time."""

import math
from itertools import pairwise

import torch

from chapters.envs.latent_model import LatentModel
from chapters.utils.edits import Edit

CONSTANT = ("two_hot", "lambda_returns", "dream_weights")  # targets and weights: no gradient is asked of them
SCALE = [math.copysign(math.expm1(abs(y)), y) for y in (-2.0 + 0.2 * i for i in range(21))]
"""The values of eq. (2), written out."""


def check_symexp(symexp):
    for y in (-2.0, -0.5, 0.0, 0.3, 1.0, 4.0):
        expected = (1 if y > 0 else -1) * (math.exp(abs(y)) - 1)
        found = float(symexp(torch.tensor([y])))
        assert math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-6), (
            f"of {y}: expected {expected:.5f}, found {found:.5f}"
        )


def shared(x, values):
    """The two-hot weights of one number."""
    x = min(max(x, values[0]), values[-1])
    weights = [0.0] * len(values)
    for i, (low, high) in enumerate(pairwise(values)):
        if low <= x <= high:
            weights[i], weights[i + 1] = (high - x) / (high - low), (x - low) / (high - low)
            break
    return weights


def check_two_hot(two_hot):
    for values in ([-1.0, 0.0, 1.0, 3.0], SCALE):
        grid = torch.tensor(values)
        numbers = [-0.7, 0.0, 0.25, 1.0, 2.5, -1.0, values[0] - 5.0, values[-1] + 5.0, values[-1], values[0]]
        found = two_hot(torch.tensor(numbers).reshape(2, 5), grid)
        assert found.shape == (2, 5, len(values)), "a distribution for each number"
        for row, x in zip(found.reshape(10, -1), numbers):
            expected = torch.tensor(shared(x, grid.tolist()))
            assert torch.allclose(row.float(), expected, atol=1e-5), (
                f"{x:g} between {[round(value, 3) for value in values]}: "
                f"expected {[round(w, 3) for w in expected.tolist()]}, "
                f"found {[round(w, 3) for w in row.tolist()]}"
            )


def check_mean_of(mean_of):
    torch.manual_seed(1)
    for shape in ((1,), (4,), (2, 3)):
        logits, values = torch.randn(*shape, 5), torch.tensor([-2.0, -0.5, 0.0, 1.0, 4.0])
        found = mean_of(logits, values)
        assert found.shape == shape, "a number for each row of logits"
        for row, mean in zip(logits.reshape(-1, 5).tolist(), found.flatten().tolist()):
            total = sum(math.exp(x) for x in row)
            expected = sum(math.exp(x) / total * float(value) for x, value in zip(row, values))
            assert math.isclose(mean, expected, rel_tol=1e-4, abs_tol=1e-5), (
                f"logits {[round(x, 2) for x in row]}: expected {expected:.4f}, found {mean:.4f}"
            )


def surprise(logits, x):
    """Cross-entropy of the two-hot target of x."""
    total = math.log(sum(math.exp(logit) for logit in logits))
    return -sum(w * (logit - total) for w, logit in zip(shared(x, SCALE), logits))


def check_cross_entropy(cross_entropy):
    torch.manual_seed(2)
    for shape in ((3,), (2, 4)):
        logits, x = torch.randn(*shape, 21), 4.0 * torch.randn(*shape)
        found = cross_entropy(logits, x)
        assert found.shape == shape, "a number for each target"
        for row, number, loss in zip(logits.reshape(-1, 21).tolist(), x.flatten(), found.flatten()):
            expected = surprise(row, float(number))
            assert math.isclose(float(loss), expected, rel_tol=1e-4), (
                f"target {number:.3f}: expected {expected:.4f}, found {float(loss):.4f}"
            )


def unlike(logit, target):
    """Cross-entropy of a yes or no."""
    chance = 1.0 / (1.0 + math.exp(-logit))
    return -(target * math.log(chance) + (1.0 - target) * math.log(1.0 - chance))


def divergence(log_q, log_p):
    return float((log_q.exp() * (log_q - log_p)).sum())


class MadeUp(LatentModel):
    """A model whose parts are given functions."""

    def __init__(self, **parts):
        torch.nn.Module.__init__(self)
        for name, part in parts.items():
            setattr(self, name, part)


def check_model_loss(model_loss):
    """Two episodes, one of them shorter, and a model whose outputs are made up."""
    torch.manual_seed(3)
    T, N, D, S = 3, 2, 4, 5
    states, pixels = torch.randn(T + 1, N, S), torch.randn(S, D)
    pays, ends = torch.randn(S, 21), torch.randn(S, 1)
    posterior, prior = (torch.randn(T + 1, N, 2, 3).log_softmax(dim=-1) for _ in range(2))
    model = MadeUp(
        observe=lambda obs, actions: (states, posterior, prior),
        draws=lambda x: x @ pixels, pays=lambda x: x @ pays, ends=lambda x: x @ ends,
    )  # fmt: skip
    batch = {
        "obs": (torch.rand(T + 1, N, D) < 0.4).float(), "actions": torch.zeros(T, N, dtype=torch.long),
        "rewards": torch.randn(T, N), "goes_on": torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]),
        "mask": torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]),
    }  # fmt: skip
    seen, followed = [], []
    for t in range(T + 1):
        for n in range(N):
            if not batch["mask"][t, n]:
                continue
            s = states[t, n]
            loss = 1.1 * divergence(posterior[t, n], prior[t, n])
            for logit, pixel in zip((s @ pixels).tolist(), batch["obs"][t, n].tolist()):
                loss += (10.0 if pixel else 1.0) * unlike(logit, pixel)
            seen.append(loss)
            if t:
                paid = surprise((s @ pays).tolist(), float(batch["rewards"][t - 1, n]))
                followed.append(paid + unlike(float(s @ ends), float(batch["goes_on"][t - 1, n])))
    expected = sum(seen) / len(seen) + sum(followed) / len(followed)
    found, along = model_loss(model, batch)
    assert math.isclose(float(found), expected, rel_tol=1e-4), (
        f"two episodes of 3 and 2 steps: expected {expected:.4f}, found {float(found):.4f}"
    )
    assert torch.equal(along, states), "the states along the episodes come with it"


def check_lambda_returns(lambda_returns):
    torch.manual_seed(4)
    for length, count, gamma, share in (
        (1, 2, 0.9, 0.5),
        (4, 3, 0.8, 0.7),
        (3, 2, 1.0, 1.0),
        (5, 1, 0.9, 0.0),
    ):
        rewards, goes_on = torch.randn(length, count), torch.rand(length, count)
        values = torch.randn(length + 1, count)
        found = lambda_returns(rewards, goes_on, values, gamma, share)
        assert found.shape == (length, count), "a return for each imagined step"
        for m in range(count):
            running = float(values[length, m])
            for i in reversed(range(length)):
                later = (1 - share) * float(values[i + 1, m]) + share * running
                running = float(rewards[i, m]) + gamma * float(goes_on[i, m]) * later
                assert math.isclose(float(found[i, m]), running, rel_tol=1e-4, abs_tol=1e-5), (
                    f"{length} steps, gamma {gamma}, lambda {share}, step {i}: "
                    f"expected {running:.4f}, found {float(found[i, m]):.4f}"
                )


def check_dream_weights(dream_weights):
    torch.manual_seed(5)
    for length, count, gamma in ((1, 2, 0.9), (4, 3, 0.5), (3, 2, 1.0)):
        alive, goes_on = torch.tensor([1.0, 0.0, 1.0])[:count], torch.rand(length, count)
        found = dream_weights(alive, goes_on, gamma)
        assert found.shape == (length, count), "a weight for each imagined step"
        for m in range(count):
            expected = float(alive[m])
            for i in range(length):
                assert math.isclose(float(found[i, m]), expected, rel_tol=1e-4, abs_tol=1e-6), (
                    f"gamma {gamma}, goes_on {goes_on[:, m].tolist()}, begun {float(alive[m])}, "
                    f"step {i}: expected {expected:.4f}, found {float(found[i, m]):.4f}"
                )
                expected *= gamma * float(goes_on[i, m])


def check_actor_loss(actor_loss):
    torch.manual_seed(6)
    for length, count, num_actions, bonus in ((1, 1, 2, 0.0), (3, 2, 3, 0.2), (2, 4, 4, 1.0)):
        log_probs = torch.randn(length, count, num_actions).log_softmax(dim=-1).requires_grad_()
        actions = torch.randint(num_actions, (length, count))
        advantages = torch.randn(length, count, requires_grad=True)
        weights = torch.rand(length, count)
        found = actor_loss(log_probs, actions, advantages, weights, bonus)
        expected = 0.0
        for i in range(length):
            for m in range(count):
                row = log_probs[i, m].tolist()
                entropy = -sum(math.exp(x) * x for x in row)
                gain = float(advantages[i, m].detach()) * row[int(actions[i, m])] + bonus * entropy
                expected -= float(weights[i, m]) * gain / (length * count)
        assert math.isclose(found.item(), expected, rel_tol=1e-4, abs_tol=1e-6), (
            f"{length} steps of {count} dreams, entropy bonus {bonus}: "
            f"expected {expected:.4f}, found {found.item():.4f}"
        )
        (slope,) = torch.autograd.grad(found, advantages, allow_unused=True)
        assert slope is None or not slope.any(), "advantages are constants: no gradient goes through them"


EDITS = {
    "no_minus_one": Edit(
        function="symexp",
        old="y.abs().expm1()",
        new="y.abs().exp()",
        says="leaves a gap around 0: of 0 on the squeezed scale it makes 1, without its sign 0",
    ),
    "sign_lost": Edit(
        function="symexp",
        old="y.sign() * ",
        new="",
        says="makes all numbers positive",
    ),
    "neighbours_swapped": Edit(
        function="two_hot",
        old="(1.0 - share) * F.one_hot(above - 1, K) + share * F.one_hot(above, K)",
        new="share * F.one_hot(above - 1, K) + (1.0 - share) * F.one_hot(above, K)",
        says="gives the nearer neighbour the smaller share",
        fails=("mean_kept", "caught"),
    ),
    "nearest_alone": Edit(
        function="two_hot",
        old="share = ((x - low) / (high - low)).unsqueeze(-1)",
        new="share = ((x - low) / (high - low)).round().unsqueeze(-1)",
        says="rounds to the nearest value",
        fails=("mean_kept",),
    ),
    "evenly": Edit(
        function="two_hot",
        old="share = ((x - low) / (high - low)).unsqueeze(-1)",
        new="share = 0.5 * torch.ones_like(x).unsqueeze(-1)",
        says="gives both neighbours half",
        fails=("mean_kept",),
    ),
    "not_clamped": Edit(
        function="two_hot",
        old="x.clamp(values[0], values[-1]).contiguous()",
        new="x.clamp(values[0] - 9.0, values[-1]).contiguous()",
        says="lets a number below the smallest value have a negative share",
    ),
    "logits_averaged": Edit(
        function="mean_of",
        old="logits.softmax(dim=-1) @ values",
        new="logits @ values",
        says="takes logits for chances",
        fails=("caught",),
    ),
    "likeliest": Edit(
        function="mean_of",
        old="logits.softmax(dim=-1) @ values",
        new="values[logits.argmax(dim=-1)] + 0.0 * logits.sum(dim=-1)",
        says="says the likeliest value, not the mean",
    ),
    "not_normalised": Edit(
        function="cross_entropy",
        old="logits.log_softmax(dim=-1)",
        new="logits",
        says="takes logits for log-probabilities: ever larger ones would lower it",
        fails=("caught",),
    ),
    "praised": Edit(
        function="cross_entropy",
        old="-(two_hot",
        new="(two_hot",
        says="has the sign turned: the farther the better",
        fails=("caught",),
    ),
    "reward_late": Edit(
        function="model_loss",
        old="states[1:]",
        new="states[:-1]",
        says="reads a reward from the state before the action",
        fails=("caught",),
    ),
    "padding_counts": Edit(
        function="model_loss",
        old='mask, after = batch["mask"],',
        new='mask, after = torch.ones_like(batch["mask"]),',
        says="counts padding as if it had been seen",
    ),
    "dark": Edit(
        function="model_loss",
        old='(1.0 + (BRIGHT - 1.0) * batch["obs"])',
        new="1.0",
        says="counts all pixels alike: an empty picture is nearly right for long",
    ),
    "one_pull": Edit(
        function="model_loss",
        old="missed + pulls(posterior, prior, PULL)",
        new="missed + pulls(posterior, prior, 0.0)",
        says="pulls the prior to the posterior alone",
    ),
    "pulled_back": Edit(
        function="model_loss",
        old="pulls(posterior, prior, PULL)",
        new="pulls(prior, posterior, PULL)",
        says="has prior and posterior the wrong way round: the divergence of q from p is asked for",
    ),
    "no_reward": Edit(
        function="model_loss",
        old="mean_over(paid + ended, mask[1:])",
        new="mean_over(ended, mask[1:])",
        says="learns nothing of rewards",
        fails=("caught",),
    ),
    "no_end": Edit(
        function="model_loss",
        old="mean_over(paid + ended, mask[1:])",
        new="mean_over(paid, mask[1:])",
        says="never learns that episodes end",
    ),
    "no_continuation": Edit(
        function="lambda_returns",
        old="gamma * goes_on[i] * later",
        new="gamma * later",
        says="adds up what lies behind an end",
    ),
    "value_of_now": Edit(
        function="lambda_returns",
        old="(1.0 - return_lambda) * values[i + 1]",
        new="(1.0 - return_lambda) * values[i]",
        says="takes the value of the state before the step",
    ),
    "lambda_swapped": Edit(
        function="lambda_returns",
        old="(1.0 - return_lambda) * values[i + 1] + return_lambda * running",
        new="return_lambda * values[i + 1] + (1.0 - return_lambda) * running",
        says="trusts the critic where it should trust the dream",
    ),
    "nothing_after": Edit(
        function="lambda_returns",
        old="running, rows = values[-1], []",
        new="running, rows = 0.0 * values[-1], []",
        says="takes the end of a dream for the end of all",
    ),
    "backwards": Edit(
        function="lambda_returns",
        old="rows[::-1]",
        new="rows",
        says="gives the last step's return to the first",
        fails=("caught",),
    ),
    "not_discounted": Edit(
        function="lambda_returns",
        old="gamma * goes_on[i] * later",
        new="goes_on[i] * later",
        says="forgets the discount",
    ),
    "weighed_early": Edit(
        function="dream_weights",
        old="torch.cat([alive.unsqueeze(0), gamma * goes_on[:-1]]).cumprod(dim=0)",
        new="alive * (gamma * goes_on).cumprod(dim=0)",
        says="counts a step by whether it goes on after it: the last one, which pays, for nothing",
        fails=("caught",),
    ),
    "all_alike": Edit(
        function="dream_weights",
        old="torch.cat([alive.unsqueeze(0), gamma * goes_on[:-1]]).cumprod(dim=0)",
        new="alive * torch.ones_like(goes_on)",
        says="counts steps behind an end in full",
    ),
    "always_alive": Edit(
        function="dream_weights",
        old="alive.unsqueeze(0)",
        new="torch.ones_like(alive).unsqueeze(0)",
        says="dreams on from where an episode was over",
    ),
    "not_multiplied": Edit(
        function="dream_weights",
        old=".cumprod(dim=0)",
        new="",
        says="looks at the last step alone: behind an end it counts again",
    ),
    "through_the_advantage": Edit(
        function="actor_loss",
        old="advantages.detach()",
        new="advantages",
        says="lets the gradient go through the advantage",
    ),
    "sure_of_itself": Edit(
        function="actor_loss",
        old="+ ent_coef * entropy",
        new="- ent_coef * entropy",
        says="pays for being sure: it stops trying at once",
        fails=("caught",),
    ),
    "uphill": Edit(
        function="actor_loss",
        old="-(weights *",
        new="(weights *",
        says="has the sign turned: it learns to miss",
        fails=("caught",),
    ),
    "not_weighed": Edit(
        function="actor_loss",
        old="-(weights * (",
        new="-(torch.ones_like(weights) * (",
        says="counts steps behind an end in full",
    ),
    "summed": Edit(
        function="actor_loss",
        old="entropy)).mean()",
        new="entropy)).sum()",
        says="adds up over dreams: more dreams, longer steps",
    ),
    "never_random": Edit(
        function="train",
        old="else cfg.explore",
        new="else 0.0",
        says="acts by its own will alone once it has begun to learn",
    ),
    "first_state_alone": Edit(
        function="update",
        old="rng.permutation(alive.numel())[: learner.cfg.num_dreams]",
        new="rng.permutation(alive.shape[1])[: learner.cfg.num_dreams]",
        says="dreams from the beginnings of episodes alone",
    ),
    "dreams_of_the_over": Edit(
        function="update",
        old='alive[1:] *= batch["goes_on"][:-1]',
        new="pass",
        says="takes a state in which the episode is over for one in which it goes on",
    ),
}
