"""The token world's exact answers, against sampling, brute force and theory."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import scipy.stats
import torch

from chapters.envs import registration  # noqa: F401 — makes the environments known to gymnasium
from chapters.envs import token_world as module
from chapters.envs.token_world import EOS, TabularPolicy, token_world
from chapters.utils.edits import Edit, edited

BETA = 0.5


@pytest.fixture(scope="module")
def world():
    return token_world(seed=3, num_symbols=4, length=3, spreads=(1.0, 0.4))


def brute_log_prob(policy: TabularPolicy, prompt: int, tokens: tuple[int, ...]) -> float:
    """Chain rule, one token at a time, each from a fresh call on the prefix alone."""
    total, prefix = 0.0, [prompt]
    for token in tokens:
        logits = policy(input_ids=torch.tensor([prefix])).logits[0, -1].double()
        total += logits.log_softmax(-1)[token].item()
        prefix.append(token)
    return total


def test_every_completion_is_listed_once(world):
    texts = {tuple(ids[mask].tolist()) for ids, mask in zip(world.completion_ids, world.completion_mask)}
    ended = [(*head, EOS) for size in range(3) for head in itertools.product((1, 2, 3), repeat=size)]
    assert texts == {*ended, *itertools.product((1, 2, 3), repeat=3)}
    assert len(texts) == len(world.completion_ids) == sum(3**size for size in range(4))


def test_log_probs_are_the_chain_rule_and_sum_to_one(world):
    log_probs = world.reference_log_probs()
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(2, dtype=torch.float64))
    policy = world.reference(torch.float64)
    for prompt, row in itertools.product(range(2), range(0, len(world.completion_ids), 7)):
        tokens = tuple(world.completion_ids[row][world.completion_mask[row]].tolist())
        expected = brute_log_prob(policy, int(world.prompt_ids[prompt, 0]), tokens)
        assert float(log_probs[prompt, row]) == pytest.approx(expected, abs=1e-12)


def test_every_prefix_has_a_row_of_its_own(world):
    policy = world.reference()
    prefixes = [
        (prompt, *head)
        for prompt in world.prompt_ids[:, 0].tolist()
        for size in range(3)
        for head in itertools.product((1, 2, 3), repeat=size)
    ]
    rows = [int(policy.prefix_rows(torch.tensor([prefix]))[0, -1]) for prefix in prefixes]
    assert len(set(rows)) == len(prefixes)
    assert max(rows) < len(policy.table)


def test_the_cache_changes_nothing(world):
    policy, ids = world.reference(), torch.tensor([[5, 1, 3, 2], [6, 2, 2, 1]])
    whole = policy(input_ids=ids).logits
    cache, parts = None, []
    for column in ids.T:
        out = policy(input_ids=column[:, None], past_key_values=cache)
        cache = out.past_key_values
        parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_rows_and_rewards_ignore_what_follows_the_end(world):
    assert world.rows(world.completion_ids).tolist() == list(range(len(world.completion_ids)))
    messy = torch.tensor([[1, EOS, 3], [EOS, EOS, 2], [EOS, world.pad_id, world.pad_id]])
    clean = world.completion_ids[world.rows(messy)].tolist()
    assert clean == [[1, EOS, 4], [EOS, 4, 4], [EOS, 4, 4]]
    assert torch.equal(world.reward(world.prompt_ids[[0, 1, 1]], messy)[1:], world.rewards[[1, 1], 0])


def test_rewards_have_the_promised_mean_and_spread(world):
    probs = world.reference_log_probs().exp()
    mean = (probs * world.rewards).sum(1)
    torch.testing.assert_close(mean, torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    spread = (probs * world.rewards**2).sum(1).sqrt()
    torch.testing.assert_close(spread, torch.tensor([1.0, 0.4], dtype=torch.float64))


def check_optimum(world) -> None:
    """Its objective is beta log Z, and no other policy does better."""
    best = world.optimum(BETA)
    torch.testing.assert_close(best.exp().sum(1), torch.ones(world.num_prompts, dtype=torch.float64))
    log_z = (world.reference_log_probs().exp() * (world.rewards / BETA).exp()).sum(1).log()
    value = world.objective(best, BETA)
    torch.testing.assert_close(value, BETA * log_z.mean())
    generator = torch.Generator().manual_seed(0)
    for scale in (0.01, 0.3, 3.0):
        noise = scale * torch.randn(best.shape, generator=generator, dtype=torch.float64)
        assert world.objective((best + noise).log_softmax(1), BETA) < value
    assert world.gap_closed(world.reference_log_probs(), BETA) == 0.0
    assert world.gap_closed(best, BETA) == pytest.approx(1.0)


def test_the_optimum_is_optimal(world):
    check_optimum(world)


@pytest.mark.parametrize("beta", [0.0, 1e-320, 1e-6])
def test_without_a_price_the_best_is_all_that_is_left(world, beta):
    """The limit of small beta, where r / beta is no float any more."""
    best = world.optimum(beta)
    assert best.exp().sum(1).tolist() == pytest.approx([1.0] * world.num_prompts)
    highest = world.rewards.amax(1)
    assert float(world.expected_reward(best)) == pytest.approx(float(highest.mean()))
    assert float(world.kl(best)) > 0
    assert world.gap_closed(best, beta) == pytest.approx(1.0)
    assert world.gap_closed(world.reference_log_probs(), beta) == 0.0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.reference_log_probs() + tilt", "tilt"),
        ("tilt = self.rewards / beta", "tilt = self.rewards * beta"),
        (
            "self.reference_log_probs() + tilt",
            "self.reference_log_probs() - tilt",
        ),
        ("self.expected_reward(log_probs) - beta", "self.expected_reward(log_probs) + beta"),
        ("ratio = log_probs - self.reference_log_probs()", "ratio = self.reference_log_probs() - log_probs"),
    ],
)
def test_a_wrong_optimum_or_objective_is_noticed(old, new):
    wrong = edited(module, Edit("token_world", old, new, "wrong")).token_world(
        seed=3, num_symbols=4, length=3
    )
    with pytest.raises(AssertionError):
        check_optimum(wrong)


def test_a_policy_can_be_trained_to_the_optimum(world):
    policy = world.reference(torch.float64)
    optimizer = torch.optim.Adam([policy.table], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (-world.objective(world.log_probs(policy), BETA)).backward()
        optimizer.step()
    assert world.gap_closed(world.log_probs(policy), BETA) > 0.999


def test_no_policy_lies_above_the_frontier(world):
    kl, reward = world.frontier(np.geomspace(0.05, 20.0, 200))
    assert (np.diff(kl) < 0).all()
    generator = torch.Generator().manual_seed(1)
    for scale in (0.2, 1.0):
        noise = scale * torch.randn(world.rewards.shape, generator=generator, dtype=torch.float64)
        other = (world.optimum(0.4) + noise).log_softmax(1)
        at = np.interp(float(world.kl(other)), kl[::-1], reward[::-1])
        assert float(world.expected_reward(other)) < at
    for n in (2, 4, 16):
        best = world.best_of_n(n)
        at = np.interp(float(world.kl(best)), kl[::-1], reward[::-1])
        assert float(world.expected_reward(best)) <= at + 1e-3


def test_best_of_n_equals_its_definition(world):
    """n = 2 by summing over all pairs, ties shared; n = 1 is the reference."""
    probs = world.reference_log_probs().exp()
    torch.testing.assert_close(world.best_of_n(1).exp(), probs)
    for reward, prob, found in zip(world.rewards, probs, world.best_of_n(2).exp()):
        wins = (reward[:, None] > reward).double() + 0.5 * (reward[:, None] == reward)
        torch.testing.assert_close(found, 2 * prob * (wins @ prob))


def test_best_of_n_shares_ties_and_stays_below_the_known_bound(world):
    tied = module.TokenWorld(
        world.num_symbols,
        world.length,
        world.completion_ids,
        world.completion_mask,
        world.rewards.sign(),
        world.reference_table,
    )
    torch.testing.assert_close(tied.best_of_n(8).exp().sum(1), torch.ones(2, dtype=torch.float64))
    for n in (2, 8, 64):  # beirami2024bestofn: log n - (n - 1) / n bounds the KL from above
        assert float(tied.kl(tied.best_of_n(n))) <= np.log(n) - (n - 1) / n + 1e-9
        assert float(world.kl(world.best_of_n(n))) <= np.log(n) - (n - 1) / n + 1e-9


def test_the_environment_plays_the_same_world():
    """Random play visits completions as often as the uniform policy should, and pays what the table says."""
    env = gym.make("TokenWorld-v0", seed=5)
    world = token_world(5)
    rng, firsts, lengths = np.random.default_rng(0), [], []
    for episode in range(600):
        obs, _ = env.reset(seed=episode)
        prompt, terminated = int(obs[0]), False
        while not terminated:
            obs, reward, terminated, truncated, _ = env.step(rng.integers(world.num_symbols))
            assert not truncated
            assert terminated or reward == 0.0
        expected = world.reward(torch.tensor([[prompt]]), torch.from_numpy(obs[None, 1:]))
        assert reward == pytest.approx(float(expected))
        firsts.append(int(obs[1]))
        lengths.append(int((obs[1:] != world.pad_id).sum()))
    assert scipy.stats.chisquare(np.bincount(firsts, minlength=8)).pvalue > 1e-3
    share = np.array([1, 7, 49, 343]) / 8.0 ** np.arange(1, 5)
    share[-1] = 1 - share[:-1].sum()
    assert scipy.stats.chisquare(np.bincount(lengths, minlength=5)[1:], 600 * share).pvalue > 1e-3
