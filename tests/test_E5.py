"""E5: the game, episodes and their ends, the model, the program around it, what the evidence measures."""

import itertools
import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from chapters.C_policy_gradients import C3_ppo_from_scratch as c3
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.E_practice import E5_dreamer as lesson
from chapters.E_practice.checks.E5 import EDITS, MadeUp
from chapters.E_practice.checks.E5_exercises import dream_bound
from chapters.E_practice.evidence import E5 as evidence
from chapters.envs import catch, evaluate, jax_memory, make_envs, probes
from chapters.envs.episodes import EpisodeBuffer, mean_over
from chapters.envs.latent_model import LatentModel, Player, code_kl, drawn, mixed, pulls, sampled
from chapters.envs.ring_world import COLOURS, ring
from chapters.exact import dreams
from chapters.exact.beliefs import policy_value
from chapters.utils import RunLog
from chapters.utils.edits import edited
from chapters.utils.optim import Adam

SMALL = lesson.Config(
    num_envs=4, num_env_steps=60, num_warmup_steps=40, num_first_updates=2, num_updates=2, batch_size=4,
    num_dreams=8, horizon=3, width=8, num_groups=2, num_classes=3, eval_every=20,
)  # fmt: skip


def broken(*names):
    return edited(lesson, *(EDITS[name] for name in names))


@pytest.fixture
def log(tmp_path):
    log = RunLog(tmp_path / "run", "E5", smoke=True)
    yield log
    log.close()


# The game


def test_a_ball_bounces_between_the_walls():
    for first, direction in itertools.product(range(catch.COLUMNS), (-1, 1)):
        column, step, path = first, direction, [first]
        for _ in range(catch.NUM_STEPS):
            if not 0 <= column + step < catch.COLUMNS:
                step = -step
            column += step
            path.append(column)
        found = catch.ball_column(np.array(first), np.array(direction), np.arange(catch.ROWS))
        assert found.tolist() == path


def watching(envs):
    """What catches every ball: wait for the second picture, then go where its path and the first's lead."""
    before = []

    def act(obs):
        grid = obs.reshape(len(obs), catch.ROWS, catch.COLUMNS)
        before.append(grid)
        paddle = grid[:, -1].argmax(axis=1)
        if len(before) == 1:
            return np.ones(len(obs), dtype=int)
        first, second = before[0][:, 0].argmax(axis=1), before[1][:, 1].argmax(axis=1)
        rows = np.full(len(obs), catch.ROWS - 1)
        to_right = catch.ball_column(first, np.ones_like(first), np.ones_like(first)) == second
        landing = catch.ball_column(first, np.where(to_right, 1, -1), rows)
        return 1 + np.sign(landing - paddle)

    return act


def test_whoever_remembers_catches_every_ball():
    envs = catch.EveryStart()
    assert envs.num_envs == 50
    assert (evaluate(watching(envs), envs=envs, seed=0) == 1.0).all()


def test_what_is_seen():
    envs = catch.EveryStart()
    obs, _ = envs.reset()
    for row in range(1, catch.ROWS):
        obs, rewards, terminated, truncated, infos = envs.step(np.full(50, catch.STAY))
        seen = infos["final_obs"] if row == catch.ROWS - 1 else obs
        grid = seen.reshape(50, catch.ROWS, catch.COLUMNS)
        balls = 0 if row in catch.HIDDEN else 1
        assert (grid[:, :-1].sum(axis=(1, 2)) == (balls if row < catch.ROWS - 1 else 0)).all()
        assert not truncated.any()
        assert terminated.all() == (row == catch.ROWS - 1)
    assert (grid[:, -1].sum(axis=1) == np.where(rewards > 0, 1, 2)).all(), (
        "a ball that is caught is one pixel"
    )
    assert set(rewards) == {-1.0, 1.0}


def test_the_last_pictures_the_oldest_first():
    one, four = catch.EveryStart(), catch.EveryStart(num_frames=4)
    pictures = [one.reset()[0]]
    stacked = four.reset()[0].reshape(50, 4, 30)
    assert not stacked[:, :3].any()
    for _ in range(3):
        actions = np.arange(50) % 3
        pictures.append(one.step(actions)[0])
        stacked = four.step(actions)[0].reshape(50, 4, 30)
    np.testing.assert_array_equal(stacked, np.stack(pictures, axis=1))


def test_one_game_for_gymnasium():
    make_envs("HiddenCatch-v0", 1)
    env = gym.make("HiddenCatch-v0")
    obs, _ = env.reset(seed=3)
    total, num_steps, ended = 0.0, 0, False
    while not ended:
        obs, reward, ended, cut, _ = env.step(1)
        total, num_steps = total + reward, num_steps + 1
        assert not cut
    assert num_steps == catch.NUM_STEPS
    assert abs(total) == 1.0
    assert obs.reshape(catch.ROWS, -1)[-1].any(), "its last picture, not the next game's first"


# Episodes


def test_episodes_are_padded_and_a_cut_is_no_end():
    past = EpisodeBuffer(2, capacity=10)
    for t in range(3):
        done = np.array([t == 1, t == 2])
        row = {"obs": np.full((2, 1), t, dtype=np.float32), "actions": np.array([t, 10 + t])}
        row |= {"rewards": np.array([1.0, 2.0]), "terminated": np.array([t == 1, False])}
        past.add(done, **row, next_obs=np.full((2, 1), t + 1, dtype=np.float32))
    assert len(past) == 2, "the first environment's next episode is still open"
    batch = past.sample(40, np.random.default_rng(0))
    short = batch["mask"].sum(dim=0) == 3
    assert short.any()
    assert not short.all()
    assert batch["obs"].shape == (4, 40, 1)
    assert batch["obs"][:, short][:, 0, 0].tolist() == [0.0, 1.0, 2.0, 0.0]
    assert batch["obs"][:, ~short][:, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert batch["goes_on"][:, short][:, 0].tolist() == [1.0, 0.0, 0.0]
    assert batch["goes_on"][:, ~short][:, 0].tolist() == [1.0, 1.0, 1.0], "a time limit is no end"
    assert batch["actions"][:, ~short][:, 0].tolist() == [10, 11, 12]
    assert batch["rewards"][:, ~short][:, 0].tolist() == [2.0] * 3
    assert past.sample(1, np.random.default_rng(0))["rewards"].shape[1] == 1
    numbers, mask = torch.tensor([[1.0, 2.0], [4.0, 90.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert mean_over(numbers, mask) == pytest.approx(7 / 3)


def test_old_episodes_make_room():
    past = EpisodeBuffer(1, capacity=2)
    for t in range(5):
        row = {name: np.array([float(t)]) for name in ("rewards",)}
        row |= {"obs": np.zeros((1, 1)), "next_obs": np.zeros((1, 1)), "actions": np.array([0])}
        past.add(np.array([True]), **row, terminated=np.array([True]))
    assert [float(episode["rewards"][0]) for episode in past.episodes] == [3.0, 4.0]


def test_spaces_are_those_of_all_games_side_by_side():
    envs = catch.BatchedCatch(4, num_frames=2)
    assert envs.observation_space.shape == (4, 2 * catch.ROWS * catch.COLUMNS)
    assert envs.action_space.shape == (4,)
    assert set(np.concatenate([envs.action_space.sample() for _ in range(50)])) == {0, 1, 2}


def test_at_an_end_the_last_picture_is_the_old_episodes():
    past, envs = EpisodeBuffer(3, capacity=50), catch.BatchedCatch(3)
    player = Player(LatentModel(30, 3, 21, SMALL), lambda states: torch.zeros(len(states), 3), 3)
    obs, _ = envs.reset(seed=0)
    for _ in range(2 * catch.NUM_STEPS):
        obs, done = past.play(envs, obs, player, np.ones(3, dtype=bool))
        assert player.memory.any(dim=1).tolist() == (~done).tolist(), "a game that is over leaves no memory"
    for episode in past.episodes:
        assert len(episode["obs"]) == catch.ROWS
        paid = 1.0 if episode["obs"][-1].sum() == 1 else -1.0
        assert episode["rewards"].tolist() == [0.0] * (catch.NUM_STEPS - 1) + [paid]


class Numbered:
    """Two games that show 100 x game + 10 x episode + step: one ends after 2 steps, one is cut after 3."""

    def __init__(self):
        self.episode, self.step_of = np.zeros(2, dtype=int), np.zeros(2, dtype=int)

    def shown(self):
        return np.float32(100 * np.arange(2) + 10 * self.episode + self.step_of)[:, None]

    def step(self, actions):
        self.step_of = self.step_of + 1
        last, shown = self.step_of == [2, 3], self.shown()
        infos = {"final_obs": [row if over else None for row, over in zip(shown, last)]}
        self.episode, self.step_of = self.episode + last, np.where(last, 0, self.step_of)
        return self.shown(), shown[:, 0] / 2, last & [True, False], last & [False, True], infos


def test_each_episode_keeps_what_was_seen_done_and_paid_in_it():
    past, envs, forgotten, random = EpisodeBuffer(2, capacity=9), Numbered(), [], np.array([True, False])

    class Told:
        def __call__(self, obs, told):
            assert told is random
            return obs[:, 0].astype(int) % 7

        def forget(self, done):
            forgotten.append(done.tolist())

    obs = envs.shown()
    for _ in range(6):
        shown = envs.shown()
        obs, done = past.play(envs, obs, Told(), random)
        assert obs.tolist() == envs.shown().tolist(), "what to act on next: after an end the new episode's"
        assert done.tolist() == forgotten[-1]
        assert (envs.shown() != shown + 1)[:, 0].tolist() == done.tolist()
    kept = [
        [episode[name].ravel().tolist() for name in ("obs", "actions", "rewards", "goes_on")]
        for episode in past.episodes
    ]
    expected = []
    for start, length in ((0, 2), (100, 3), (10, 2), (20, 2), (110, 3)):
        seen = [start + t for t in range(length + 1)]
        end = 0.0 if length == 2 else 1.0  # one ends, the other is cut
        acts, paid = [number % 7 for number in seen[:-1]], [number / 2 for number in seen[1:]]
        expected.append([seen, acts, paid, [1.0] * (length - 1) + [end]])
    assert sorted(kept) == sorted(expected)


# The model


def test_codes_are_drawn_with_their_chances_and_let_the_gradient_through():
    torch.manual_seed(0)
    logits = torch.tensor([2.0, 0.0, -1.0], requires_grad=True)
    log_probs = mixed(logits, 0.1).reshape(1, 1, 3)
    assert torch.allclose(log_probs.exp(), 0.9 * logits.softmax(dim=0) + 0.1 / 3)
    codes = drawn(log_probs.expand(20_000, 1, 3))
    assert set(codes.detach().round(decimals=4).unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(codes.mean(dim=0), log_probs.exp().flatten(), atol=0.02)
    (slope,) = torch.autograd.grad(codes[:, 0].mean(), logits)
    (exact,) = torch.autograd.grad(mixed(logits, 0.1).exp()[0], logits)
    assert torch.allclose(slope, exact, atol=1e-5)
    shares = torch.bincount(sampled(log_probs[0].expand(20_000, 3)), minlength=3) / 20_000
    assert torch.allclose(shares, log_probs.exp().flatten(), atol=0.02)


def test_the_pulls_have_each_its_own_gradient():
    q, p = (torch.randn(5, 2, 3).log_softmax(dim=-1).requires_grad_() for _ in range(2))
    both = pulls(q, p, 0.1).sum()
    of_q, of_p = torch.autograd.grad(both, (q, p))
    full_q, full_p = torch.autograd.grad(code_kl(q, p).sum(), (q, p))
    assert torch.allclose(of_q, 0.1 * full_q)
    assert torch.allclose(of_p, full_p)
    assert both.item() == pytest.approx(1.1 * code_kl(q, p).sum().item(), rel=1e-5)
    expected = (q[0].exp() * (q[0] - p[0])).sum()
    assert torch.allclose(code_kl(q, p)[0], expected)


def test_the_memory_is_a_gated_recurrent_unit():
    """What is coded and done enters it: E4's own, in JAX, without the product before it."""
    torch.manual_seed(7)
    model = LatentModel(4, 3, 21, SMALL)
    memory, actions = torch.randn(5, SMALL.width), torch.tensor([0, 2, 1, 1, 0])
    code = torch.eye(3)[torch.randint(3, (5, 2))].flatten(1)
    told = np.column_stack([code.numpy(), np.eye(3)[actions.numpy()]])
    parts = {name: part.detach().numpy() for name, part in model.gru.named_parameters()}
    weights = {"input": (parts["weight_ih_l0"].T, parts["bias_ih_l0"])}
    weights |= {"memory": (parts["weight_hh_l0"].T, parts["bias_hh_l0"])}
    found = model.remember(torch.cat([memory, code], dim=1), actions).detach()
    np.testing.assert_allclose(found, jax_memory.gru(weights, memory.numpy(), told), atol=1e-5)


def test_what_is_seen_later_teaches_the_codes_before():
    """Through the memory the gradient goes back to the code of each earlier observation, and to no later."""
    torch.manual_seed(8)
    model = LatentModel(4, 3, 21, SMALL)
    obs = torch.randn(5, 2, 4, requires_grad=True)
    states, _, prior = model.observe(obs, torch.randint(3, (4, 2)))
    for told in (states[3, :, : SMALL.width].sum(), prior[3].square().sum()):
        (slope,) = torch.autograd.grad(told, obs, retain_graph=True)
        assert slope.abs().sum(dim=(1, 2)).gt(0).tolist() == [True] * 3 + [False] * 2
    assert not states[0, :, : SMALL.width].any(), "nothing was before the first"


def test_a_player_remembers_what_was_really_done(monkeypatch):
    """Also where chance took the action from it, and where its code was drawn."""
    torch.manual_seed(9)
    learner = lesson.Dreamer(catch.BatchedCatch(2), 21, SMALL)
    learner.actor[-1].bias.data += torch.tensor([-50.0, 50.0, -50.0])
    player, known = Player(learner.model, learner.policy, 60), []
    know = player.know
    monkeypatch.setattr(player, "know", lambda obs: known.append(know(obs)) or known[-1])
    player.memory = torch.randn(60, SMALL.width)
    before, obs = player.memory.clone(), np.tile(catch.EveryStart().reset()[0][:1], (60, 1))
    actions = player(obs, np.arange(60) < 30)
    assert (actions[:30] != 1).any()
    assert torch.equal(known[0][:, : SMALL.width], before)
    expected = learner.model.remember(known[0], torch.from_numpy(actions))
    assert torch.allclose(player.memory, expected)


def test_memory_along_episodes_is_that_of_single_steps():
    torch.manual_seed(1)
    model = LatentModel(4, 3, 21, SMALL)
    obs, actions = torch.randn(6, 5, 4), torch.randint(3, (5, 5))
    with torch.no_grad():
        states, posterior, prior = model.observe(obs, actions)
        memory = torch.zeros(5, SMALL.width)
        for t in range(6):
            assert torch.allclose(states[t, :, : SMALL.width], memory, atol=1e-6)
            assert torch.allclose(prior[t], model.prior(memory), atol=1e-5)
            if t < 5:
                memory = model.remember(states[t], actions[t])
    assert posterior.shape == (6, 5, 2, 3)
    assert states.shape == (6, 5, SMALL.width + 6)
    assert (states[..., SMALL.width :].unflatten(-1, (2, 3)).sum(dim=-1).round(decimals=4) == 1.0).all()


def test_a_dream_is_drawn_from_the_prior_and_follows_the_actor():
    torch.manual_seed(2)
    learner = lesson.Dreamer(catch.BatchedCatch(2), 21, SMALL)
    learner.actor[-1].bias.data += torch.tensor([-50.0, 50.0, -50.0])
    starts = torch.randn(400, sum(learner.model.parts))
    states, actions = learner.dream(starts, 2)
    assert states.shape == (3, 400, sum(learner.model.parts))
    assert torch.equal(states[0], starts)
    assert (actions == 1).float().mean() > 0.97, "but for the uniform share"
    memory = learner.model.remember(states[1], actions[1])
    assert torch.allclose(states[2][:, : SMALL.width], memory)
    assert not states.requires_grad
    with torch.no_grad():
        chances = learner.model.prior(memory).exp().mean(dim=0).flatten()
    assert torch.allclose(states[2][:, SMALL.width :].mean(dim=0), chances, atol=0.1)


def test_at_first_nothing_is_foreseen_preferred_or_remembered():
    """What pays, what it is worth and what to do are even; each part has its own optimiser and step size."""
    torch.manual_seed(10)
    learner = lesson.Dreamer(catch.BatchedCatch(2), 21, SMALL)
    states = torch.randn(5, sum(learner.model.parts))
    assert torch.allclose(learner.policy(states).exp(), torch.full((5, 3), 1 / 3))
    for part in (learner.critic, learner.slow_critic, learner.model.pays):
        assert not part(states).any()
    assert not learner.model.draws[-1].bias.any()
    assert learner.model.draws(states).any(), "of pictures there are first guesses"
    assert learner.spread == 1.0
    assert (learner.for_model.lr, learner.for_actor.lr, learner.for_critic.lr) == (
        SMALL.model_rate, SMALL.learning_rate, SMALL.learning_rate,
    )  # fmt: skip
    for optimizer, part in zip((learner.for_actor, learner.for_critic), (learner.actor, learner.critic)):
        assert {id(x) for x in optimizer.parameters} == {id(x) for x in part.parameters()}
    player = Player(learner.model, learner.policy, 7)
    assert player.memory.shape == (7, SMALL.width)
    assert not player.memory.any()


def test_one_step_of_the_model_is_at_most_so_long_and_forgets_the_last():
    torch.manual_seed(11)
    learner = lesson.Dreamer(catch.BatchedCatch(2), 21, SMALL)
    bias = learner.model.draws[-1].bias
    for scale, length in ((2.0, 2.0 * 30**0.5), (3.0, 10.0), (0.5, 0.5 * 30**0.5)):
        before = bias.detach().clone()
        learner.descend_model(scale * bias.sum())
        assert float(bias.grad.norm()) == pytest.approx(min(length, 10.0), rel=1e-4)
        assert (bias < before).all()


def test_a_player_draws_codes_and_the_greedy_one_does_not():
    torch.manual_seed(3)
    learner = lesson.Dreamer(catch.BatchedCatch(2), 21, SMALL)
    obs = np.tile(catch.EveryStart().reset()[0][:1], (200, 1))
    greedy = Player(learner.model, learner.policy, 200, greedy=True).know(obs)
    assert (greedy == greedy[0]).all()
    chances = learner.model.posterior(torch.from_numpy(obs[0]))
    code = greedy[0, SMALL.width :].reshape(chances.shape)
    assert code.argmax(dim=1).tolist() == chances.argmax(dim=1).tolist(), "the likeliest of each group"
    assert code.sum() == len(code)
    assert len(set(Player(learner.model, learner.policy, 200)(obs).tolist())) == 3, (
        "who is not, draws actions"
    )
    assert not (Player(learner.model, learner.policy, 200).know(obs) == greedy).all()
    random = np.arange(200) < 100
    learner.actor[-1].bias.data += torch.tensor([-50.0, 50.0, -50.0])
    actions = Player(learner.model, learner.policy, 200, greedy=True)(obs, random)
    assert (actions[100:] == 1).all()
    assert 0.2 < (actions[:100] == 0).mean() < 0.5


# The program around it


@pytest.mark.parametrize("name", [None, "first_state_alone", "dreams_of_the_over"])
def test_dreams_begin_anywhere_in_episodes_but_behind_their_ends(name, monkeypatch):
    module = broken(name) if name else lesson
    torch.manual_seed(4)
    learner = module.Dreamer(catch.BatchedCatch(2), 21, replace(SMALL, num_dreams=1000))
    T, N = 3, 4
    batch = {
        "obs": torch.rand(T + 1, N, 30), "actions": torch.zeros(T, N, dtype=torch.long),
        "rewards": torch.zeros(T, N), "goes_on": torch.ones(T, N), "mask": torch.ones(T + 1, N),
    }  # fmt: skip
    batch["goes_on"][0, 1] = 0.0
    batch["mask"][2:, 1] = 0.0
    batch["mask"][3:, 2] = 0.0  # cut, not ended
    asked = []
    monkeypatch.setattr(learner, "learn_from_dreams", lambda starts, alive: asked.append((starts, alive)))
    module.update(learner, batch, np.random.default_rng(0))
    ((starts, alive),) = asked
    num, over = {None: (12, 2), "first_state_alone": (4, 0), "dreams_of_the_over": (12, 1)}[name]
    assert len(starts) == num
    assert int((alive == 0).sum()) == over
    assert not starts.requires_grad


@pytest.mark.parametrize("name", [None, "never_random"])
def test_some_episodes_stay_random_to_the_end(name, monkeypatch, log):
    module = broken(name) if name else lesson
    shares = []
    play = EpisodeBuffer.play

    def watched(self, envs, obs, player, random):
        shares.append(random.mean())
        return play(self, envs, obs, player, random)

    monkeypatch.setattr(EpisodeBuffer, "play", watched)
    monkeypatch.setattr(module, "update", lambda *_: None)
    cfg = replace(SMALL, num_envs=40, num_env_steps=4000, num_warmup_steps=400, num_first_updates=0)
    module.train(cfg, log, catch.BatchedCatch(40))
    assert set(shares[:10]) == {1.0}
    assert np.mean(shares[10:]) == pytest.approx(0.25 if name is None else 0.0, abs=0.05)


def test_the_model_learns_alone_first(monkeypatch, log):
    calls = []
    monkeypatch.setattr(lesson.Dreamer, "descend_model", lambda self, loss: calls.append("model"))
    monkeypatch.setattr(lesson.Dreamer, "learn_from_dreams", lambda *_: calls.append("dreams"))
    lesson.train(SMALL, log, catch.BatchedCatch(4))
    assert calls == ["model"] * 2 + ["model", "dreams"] * 4, "two rounds of episodes end after the warm-up"


def test_no_gradient_of_actor_and_critic_reaches_the_model():
    torch.manual_seed(5)
    learner = lesson.Dreamer(catch.BatchedCatch(2), 21, SMALL)
    before = [part.clone() for part in learner.model.parameters()]
    slow = [part.clone() for part in learner.slow_critic.parameters()]
    learner.model.pays[-1].bias.data[-1] += 5.0
    before[[name for name, _ in learner.model.named_parameters()].index("pays.2.bias")][-1] += 5.0
    learner.learn_from_dreams(torch.randn(6, sum(learner.model.parts)), torch.ones(6))
    assert all(part.grad is None for part in learner.model.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, learner.model.parameters()))
    assert learner.critic[-1].bias.abs().sum() > 0, "the critic has learnt"
    moved = [(new - old).abs().sum().item() for old, new in zip(slow, learner.slow_critic.parameters())]
    fast = [(new - old).abs().sum().item() for old, new in zip(slow, learner.critic.parameters())]
    assert sum(moved) == pytest.approx(lesson.SLOW * sum(fast), rel=1e-3), "its copy follows slowly"


def test_evaluations_are_apart_from_training(monkeypatch, log):
    evaluated, resets = [], []
    score, reset = lesson.score, catch.BatchedCatch.reset

    def watched(self, *, seed=None, options=None):
        resets.append((self.num_envs, seed))
        return reset(self, seed=seed, options=options)

    monkeypatch.setattr(catch.BatchedCatch, "reset", watched)
    monkeypatch.setattr(lesson, "score", lambda learner: evaluated.append(0) or score(learner))
    lesson.train(replace(SMALL, seed=3), log)
    assert resets == [(4, 3)] + [(50, 0)] * 3
    assert log.series("dreamer_return")[0] == [20, 40, 60]
    lesson.train(SMALL, log, catch.BatchedCatch(4))
    assert len(evaluated) == 3, "environments that are passed in are not evaluated on"


def value_of(probe, log, merged, monkeypatch):
    """What the critic says of a probe's first state after a brief training at a discount of a half."""
    make = [lambda: gym.wrappers.TimeLimit(getattr(probes, probe)(), 3)] * 4
    envs = gym.vector.SyncVectorEnv(make, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    if merged:
        add = EpisodeBuffer.add
        monkeypatch.setattr(
            EpisodeBuffer, "add", lambda self, done, **row: add(self, done, **{**row, "terminated": done})
        )
    cfg = replace(
        SMALL, num_env_steps=96, num_warmup_steps=48, num_updates=15, num_first_updates=40, gamma=0.5,
        model_rate=3e-2, learning_rate=3e-2, batch_size=8, num_dreams=32,
    )  # fmt: skip
    monkeypatch.setattr(lesson, "SLOW", 0.3)
    learner = lesson.train(cfg, log, envs)
    with torch.no_grad():
        states = Player(learner.model, learner.policy, 20).know(np.zeros((20, 1), dtype=np.float32))
        return float(lesson.mean_of(learner.critic(states), lesson.VALUES).mean())


def test_a_time_limit_does_not_end_the_future(monkeypatch, log):
    """A world without end that pays 1 is worth 2 at a discount of a half; three steps of it 1.75."""
    assert value_of("Endless", log, False, monkeypatch) > 1.87


@pytest.mark.slow
def test_an_end_does_and_so_would_a_time_limit_that_counts_as_one(monkeypatch, log):
    assert value_of("ConstantReward", log, False, monkeypatch) == pytest.approx(1.0, abs=0.15)
    assert value_of("Endless", log, True, monkeypatch) < 1.87


# Exact values of beliefs


def test_rewards_ahead_are_those_of_all_histories():
    world = ring()
    chances = np.array([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]])
    start = np.random.default_rng(0).dirichlet(np.ones(12))
    ahead = dreams.rewards_ahead(world.P, world.rewards, start[None], chances)[:, 0]

    def act(obs, actions):
        return np.tile(chances[actions.shape[1]], (len(obs), 1))

    total = policy_value(world.P, world.emission, start, world.rewards, 3, act)
    assert ahead.sum() == pytest.approx(total)
    np.testing.assert_allclose(
        dreams.discounted(ahead[:, None], 0.5)[-1, 0], ahead @ np.array([1.0, 0.5, 0.25])
    )


def test_a_walk_is_the_worlds():
    world, rng = ring(), np.random.default_rng(1)
    states, obs = dreams.walk(*world[:3], np.ones((3, 20_000), dtype=int), rng)
    assert states.shape == obs.shape == (4, 20_000)
    moved = (states[1] - states[0]) % 12
    assert set(moved.tolist()) == {0, 1}
    assert (moved == 1).mean() == pytest.approx(0.9, abs=0.02)
    from_zero = obs[2][states[2] == 5]
    shares = np.bincount(from_zero, minlength=3) / len(from_zero)
    np.testing.assert_allclose(shares, world.emission[5], atol=0.03)


def test_the_bound_on_dreams_is_the_exercises_and_it_is_met():
    rng = np.random.default_rng(2)
    code, reward = rng.random((5, 7)), rng.random((5, 7))
    bounds = dreams.dream_bound(code, reward, 0.9)
    for k in range(1, 6):
        expected = dream_bound(code[:k].mean(axis=1), reward[:k].mean(axis=1), 0.9)
        assert bounds[k - 1] == pytest.approx(expected)
    # a dream that always errs at its first step, and then pays 1 for ever where the world pays 0
    wrong = np.zeros((4, 1))
    wrong[0] = 1.0
    np.testing.assert_allclose(dreams.dream_bound(wrong, np.zeros((4, 1)), 0.5), [1.0, 1.5, 1.75, 1.875])


# What the evidence measures


def test_recordings_of_the_ring_are_what_the_model_learns_from():
    """Seen rightly and without a slip, from cell 10: two steps to the right lead home, one back leaves it."""
    world = ring(wrong_colour=0.0, slip=0.0)._replace(start=np.eye(12)[10])
    actions = np.array([[1, 1], [1, 0], [0, 1]])
    batch, obs = evidence.ring_batch(world, actions, np.random.default_rng(0))
    cells = np.array([[10, 10], [11, 11], [0, 10], [11, 11]])
    assert obs.tolist() == np.array(COLOURS)[cells].tolist()
    assert batch["obs"].tolist() == np.eye(3)[obs].tolist()
    assert batch["rewards"].tolist() == [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    assert batch["actions"].tolist() == actions.tolist()
    assert batch["goes_on"].tolist() == np.ones((3, 2)).tolist()
    assert batch["mask"].tolist() == np.ones((4, 2)).tolist()


def test_the_model_of_the_ring_learns_from_new_recordings_by_ever_smaller_steps(monkeypatch):
    rates, lengths, batches, moved = [], [], [], []

    class Watched(Adam):
        def step(self):
            rates.append(self.lr)
            slopes = [x.grad for x in self.parameters if x.grad is not None]
            lengths.append(float(torch.stack([slope.norm() for slope in slopes]).norm()))
            before = [x.detach().clone() for x in self.parameters]
            super().step()
            moved.append(any(not torch.equal(*pair) for pair in zip(before, self.parameters)))

    def loss(model, batch):
        batches.append(batch)
        states, _, _ = model.observe(batch["obs"], batch["actions"])
        return 1000.0 * model.draws(states).mean(), states

    monkeypatch.setattr(evidence, "Adam", Watched)
    monkeypatch.setattr(lesson, "model_loss", loss)
    cfg = replace(SMALL, num_groups=1, batch_size=200, model_rate=0.1)
    for seed in (0, 0, 1):
        evidence.learn_ring(ring(), replace(cfg, seed=seed), evidence.Config(ring_updates=4, ring_steps=6))
    np.testing.assert_allclose(rates[:4], [0.1, 0.075, 0.05, 0.025])
    np.testing.assert_allclose(lengths, 10.0, rtol=1e-3)
    assert all(moved)
    same = [torch.equal(batches[0]["obs"], batch["obs"]) for batch in batches]
    assert same == [True] + [False] * 3 + [True] + [False] * 7
    to_right = batches[0]["actions"].float().mean(dim=0)
    assert batches[0]["actions"].shape == (6, 200)
    assert float(to_right.mean()) == pytest.approx(0.5, abs=0.1)
    assert float(to_right.std()) == pytest.approx((1 / 12 + 1 / 36) ** 0.5, abs=0.05), "some run in circles"


def test_what_dreams_pay_is_kept_apart_by_step_dream_and_history(monkeypatch):
    monkeypatch.setattr(evidence, "foreseen_rewards", lambda model, states: states[:, 0] / 10)
    starts = torch.tensor([[1.0], [5.0], [-2.0]])
    adding = MadeUp(dreamt=lambda states, actions: states + actions.unsqueeze(1))
    rows = evidence.dreamt_rewards(adding, starts, np.array([1, 0, 6]), 2)
    expected = np.clip(np.array([[2, 6, -1], [2, 6, -1], [8, 12, 5]]) / 10, 0.0, 1.0)
    np.testing.assert_allclose(rows, np.repeat(expected[:, None], 2, axis=1), atol=1e-6)


def knows_the_belief(world):
    """A model whose state is the exact belief."""

    def observe(obs, actions):
        first = np.zeros(obs.shape[:2], dtype=bool)
        first[0] = True
        acts = np.concatenate([actions.numpy(), actions.numpy()[:1]])
        beliefs = evidence.forward_filter(*world[:3], obs.numpy().argmax(axis=-1), acts, first)[1]
        return torch.from_numpy(beliefs), None, None

    def dreamt(states, actions):
        return torch.einsum("ms,msk->mk", states, torch.from_numpy(world.P)[:, actions].transpose(0, 1))

    return MadeUp(observe=observe, dreamt=dreamt)


def test_whoever_knows_the_belief_dreams_its_value(monkeypatch, log):
    """And who says a tenth too much of each reward is off by just that."""
    ran = evidence.Config(num_histories=30, dreams_each=2, num_past=5, num_ahead=8, ring_batch=3)
    asked = []

    def learn(world, cfg, extra):
        asked.append((cfg, extra))
        return knows_the_belief(world)

    def misses(model, world, batch, obs, num_past):
        acts = batch["actions"]
        assert (tuple(acts.shape), obs.shape, num_past) == ((13, 30), (14, 30), 5)
        assert (acts[5:] == 1).all(), "always to the right"
        assert 0.3 < acts[:5].float().mean() < 0.7, "after steps at random"
        return same

    same = np.full((8, 30), 0.1), np.full((8, 30), 0.2)
    monkeypatch.setattr(evidence, "learn_ring", learn)
    monkeypatch.setattr(evidence, "missed_by_the_model", misses)
    monkeypatch.setattr(evidence, "foreseen_rewards", lambda model, states: states[:, 0] + 0.1)
    evidence.dream_of_the_ring(lesson.Config(seed=5), ran, log)
    summed = 0.1 * (evidence.GAMMA ** np.arange(8)).cumsum()
    steps, of_step = log.series("step_error")
    assert steps == list(range(1, 9))
    np.testing.assert_allclose(of_step, 0.1, atol=1e-6)
    (_, of_value), (_, miss), (_, bound) = map(log.series, ("value_error", "miss", "miss_bound"))
    np.testing.assert_allclose(of_value, summed, atol=1e-6)
    np.testing.assert_allclose(miss, summed, atol=1e-6)
    np.testing.assert_allclose(bound, dreams.dream_bound(*same, evidence.GAMMA))
    (_, of_values), (_, of_rewards) = log.series("value_spread"), log.series("step_spread")
    expected = [summed[5] / of_values[5], max(summed / bound), of_rewards[0] / of_rewards[7]]
    assert [claim.value for claim in log.claims] == pytest.approx(expected, rel=1e-4)
    assert (asked[0][0].seed, asked[0][0].batch_size, asked[0][0].num_groups) == (5, 3, 1)


def told(model, colours):
    """A model that codes each colour by itself, and never doubts it."""
    model.encoder = torch.nn.Linear(colours, 8, bias=False)
    model.encoder.weight.data = 40.0 * torch.eye(8)[:, :colours]
    model.uniform = 0.0


def test_what_the_model_misses_is_measured_against_the_filter(monkeypatch):
    """It foresees nothing: all codes alike, and always a reward of a half."""
    world, rng = ring(), np.random.default_rng(3)
    cfg = replace(SMALL, num_groups=1, num_classes=8, uniform=0.0)
    model = LatentModel(3, 2, 21, cfg)
    told(model, 3)
    model.foresight = torch.nn.Linear(8, 8)
    for part in (*model.foresight.parameters(), *model.pays.parameters()):
        part.data.zero_()
    model.pays[-1].bias.data[[10, 14]] = 50.0  # 0 and 1.226, evenly: above 0.6
    said = float(lesson.VALUES[[10, 14]].mean())
    batch, obs = evidence.ring_batch(world, rng.integers(2, size=(6, 5)), rng)
    code, reward = evidence.missed_by_the_model(model, world, batch, obs, 2)
    assert code.shape == reward.shape == (4, 5)
    first = np.zeros(obs.shape, dtype=bool)
    first[0] = True
    actions = np.concatenate([batch["actions"].numpy(), np.zeros((1, 5), dtype=int)])
    predictions, beliefs = evidence.forward_filter(*world[:3], obs, actions, first)
    padded = np.concatenate([predictions[3:], np.zeros((4, 5, 5))], axis=-1)
    np.testing.assert_allclose(code, 0.5 * np.abs(padded - 1 / 8).sum(axis=-1), atol=1e-4)
    due = np.einsum("tns,stn->tn", beliefs[2:-1], world.rewards[:, actions[2:-1]])
    np.testing.assert_allclose(reward, np.abs(said - due), atol=1e-4)

    def rising(model, states):  # a step pays what its number says, in the state that it leads to
        steps = torch.arange(len(states), dtype=torch.float32) / 10
        return steps.reshape(-1, 1, 1).expand(states.shape[:-1])

    monkeypatch.setattr(evidence, "foreseen_rewards", rising)
    _, reward = evidence.missed_by_the_model(model, world, batch, obs, 2)
    led_to = np.array([0.3, 0.4, 0.5, 0.6])[:, None]
    np.testing.assert_allclose(reward, np.abs(led_to - due), atol=1e-6)


def test_the_dreams_own_noise_is_taken_off():
    rng = np.random.default_rng(4)
    exact = rng.random((3, 4000))
    noisy = exact[:, None] + 0.3 + rng.normal(size=(3, 8, 4000))
    np.testing.assert_allclose(evidence.root_error(exact, noisy), 0.3, atol=0.03)
    missed, noise = evidence.mean_miss(exact, noisy)
    np.testing.assert_allclose(missed, 0.3, atol=0.03)
    np.testing.assert_allclose(noise, 4.0 * np.sqrt(1 / 8 / 4000), rtol=0.1)


def test_ppo_beside_it_is_c3s(monkeypatch, log):
    cfg = c3.Config(num_env_steps=60, num_envs=4, num_steps=5, minibatch_size=10, ent_coef=0.01, seed=2)
    agents = []

    class Kept(c3.ActorCritic):
        def __init__(self, envs):
            super().__init__(envs)
            agents.append(self)

    monkeypatch.setattr(c3, "ActorCritic", Kept)
    evidence.ppo(cfg, log)
    theirs = c3.train(cfg, log, catch.BatchedCatch(4, evidence.NUM_FRAMES))
    for one, other in zip(agents[0].parameters(), theirs.parameters()):
        assert torch.equal(one, other)
    assert log.series("ppo_return")[0] == [20, 40, 60]


def test_steps_to_the_goal_are_those_of_the_third_check_in_a_row():
    checks = [(40, 1.0), (80, 0.5), (120, 0.9), (160, 0.95), (200, 1.0), (240, 0.0)]
    assert evidence.steps_to_goal({"x_return": checks}, "x") == 200
    assert evidence.steps_to_goal({"x_return": checks[:4]}, "x") == math.inf


def test_real_steps_are_compared_by_the_same_goal_and_against_us(tmp_path, monkeypatch):
    """A PPO that never holds the goal counts as if it had at its last step."""
    asked = []
    for returns, expected in (([1.0] * 3, 60 / 180), ([0.0] * 5, 60 / 400)):

        def ppo(cfg, log, returns=returns):
            asked.append((cfg.seed, cfg.num_env_steps))
            for i, value in enumerate(returns, start=1):
                log.write(60 * i, ppo_return=value)

        monkeypatch.setattr(evidence, "ppo", ppo)
        log = RunLog(tmp_path / str(len(returns)), "E5")
        for i in range(1, 4):
            log.write(20 * i, dreamer_return=1.0)
        evidence.real_steps(lesson.Config(seed=3), evidence.Config(num_ppo_steps=400), log)
        log.close()
        assert [claim.value for claim in log.claims] == [pytest.approx(expected)]
    assert asked == [(3, 400)] * 2


def test_the_ideal_paddle_is_where_the_ball_lands(monkeypatch):
    """With a model that foresees 1 where the paddle's way in its actions ends below the ball."""
    envs = catch.EveryStart()
    envs.reset()
    paddles = [envs.paddle.copy()]

    class Told(LatentModel):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def observe(self, obs, actions):
            self.take(actions[0])
            return torch.stack([torch.zeros(50, 1), torch.arange(50.0).unsqueeze(1)]), None, None

        def take(self, actions):
            moved = paddles[-1] + actions.numpy()[:50] - 1
            assert (moved >= 0).all()
            assert (moved < catch.COLUMNS).all()
            paddles.append(moved)

        def dreamt(self, states, actions):
            self.take(actions)
            return states

    monkeypatch.setattr(evidence, "foreseen_rewards", lambda model, states: states[:, 0])
    landing, rewards, _ = evidence.ideal_play(Told())
    assert len(paddles) == catch.ROWS
    np.testing.assert_array_equal(paddles[-1], landing)
    last_row = np.full(50, catch.ROWS - 1)
    np.testing.assert_array_equal(landing, catch.ball_column(envs.first, envs.direction, last_row))
    np.testing.assert_allclose(
        rewards, np.arange(50.0), err_msg="of each way to begin, after the second picture"
    )


def test_what_the_timid_one_knows_and_earns_is_told_by_where_balls_land(monkeypatch, log):
    landing = np.arange(50) % 5

    def train(cfg, log, name):
        assert (cfg.seed, cfg.ent_coef, name) == (4, 0.07, "timid")
        log.write(60, timid_return=0.25)
        return lesson.Dreamer(catch.BatchedCatch(2), 21, SMALL)

    monkeypatch.setattr(lesson, "train", train)
    monkeypatch.setattr(evidence, "ideal_play", lambda model: (landing, landing / 4, None))
    monkeypatch.setattr(
        evidence, "evaluate", lambda player, envs, seed: np.float64(landing == 3) - player.greedy
    )
    log.write(60, dreamer_return=0.75)
    evidence.low_entropy(lesson.Config(seed=4), evidence.Config(low_ent_coef=0.07), log)
    assert log.series("timid_knows") == ([0, 1, 2, 3, 4], [0.0, 0.25, 0.5, 0.75, 1.0])
    assert log.series("timid_earns")[1] == [-1.0, -1.0, -1.0, 0.0, -1.0]
    assert [claim.value for claim in log.claims] == [0.5]


# What the text says


def test_symlog_is_undone():
    x = torch.linspace(-50.0, 50.0, 41)
    assert torch.allclose(lesson.symexp(x.sign() * x.abs().log1p()), x, rtol=1e-4)
    assert math.expm1((math.log1p(0) + math.log1p(99)) / 2) == pytest.approx(9.0)


def test_what_is_said_was_recorded():
    runs = ledger.load(find("E5"))["runs"]
    claims = {name: [run["claims"][name]["value"] for run in runs] for name in runs[0]["claims"]}
    assert max(claims["real_steps"]) < 1.0
    assert (evidence.Config().ring_classes, round(100 * 3 * (2 / 3) ** 8)) == (32, 12)
    assert np.median(claims["too_far"]) > 1.5, "the further ahead, the less they tell"
    last = [run["metrics"] for run in runs]  # of the last column, at the wall
    assert all(row["timid_knows"] > 0.5 and row["timid_earns"] < 0 for row in last)
