"""C6's learners on probes with continuous actions, whole and with edits; and its evidence's own measures."""

import math
from dataclasses import replace
from functools import partial
from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
import torch
from spies import race, watch_adam, watch_seeds, weights

from chapters.C_policy_gradients import C6_sac_td3 as lesson
from chapters.C_policy_gradients.checks.C6 import EDITS
from chapters.C_policy_gradients.evidence import C6 as evidence
from chapters.C_policy_gradients.evidence import C6_cheetah as cheetah
from chapters.C_policy_gradients.evidence import C6_linear as linear
from chapters.C_policy_gradients.evidence import C6_sb3 as sb3
from chapters.envs import make_envs, probes
from chapters.envs.ensembles import Ensemble
from chapters.envs.linear_system import BatchedLinearSystem
from chapters.exact import lqr, pendulum
from chapters.exact.densities import total_chance
from chapters.utils import RunLog, UsageError
from chapters.utils.edits import edited
from chapters.utils.runlog import read_metrics

GAMMA = 0.9
QUICK = {
    "num_envs": 4, "num_env_steps": 1200, "num_warmup_steps": 40, "minibatch_size": 32, "hidden_size": 16,
    "learning_rate": 1e-2, "target_rate": 0.2, "gamma": GAMMA,
}  # fmt: skip
ANSWERS = probes.best_values(GAMMA)


class WithNumbers(gym.Wrapper):
    """A probe with a single action, which is any number between -1 and 1."""

    def __init__(self, env):
        super().__init__(env)
        self.action_space = gym.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)

    def step(self, action):
        return self.env.step(0)


class Target(gym.Env):
    """One step, an action of two numbers around (1, 0); the nearer to (1.5, -1), the better."""

    observation_space = gym.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
    action_space = gym.spaces.Box(np.float32([-1, -2]), np.float32([3, 2]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action.astype(np.float32)), "an action out of range"
        reward = -float(((action - [1.5, -1.0]) ** 2).sum())
        return np.zeros(1, dtype=np.float32), reward, True, False, {}


def make(probe, count=4):
    if probe == "Target":
        makers = [Target]
    else:
        limit = {"Endless": 10}.get(probe)
        makers = [
            lambda: WithNumbers(
                gym.wrappers.TimeLimit(getattr(probes, probe)(), limit) if limit else getattr(probes, probe)()
            )
        ]
    return gym.vector.SyncVectorEnv(makers * count, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)


def trained(module, probe, folder, recipe="td3", **changes):
    """After a brief training; SAC is paid next to nothing for entropy, lest values be others."""

    class Unpaid(module.Agent):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.log_alpha.data.fill_(-14.0)
            self.for_alpha.lr = 0.0

    log = RunLog(folder, "C6")
    with mock.patch.object(module, "Agent", Unpaid):
        agent = module.train(module.Config(**{**QUICK, **changes}), log, make(probe), recipe)
    log.close()
    return agent


def wrongness(agent, probe):
    """The largest error in the value of the agent's own action, over the probe's observations."""
    worst = 0.0
    for obs, (value, _) in ANSWERS[probe].items():
        seen = torch.tensor([[obs]])
        with torch.no_grad():
            q = agent.q(agent.critics, seen, agent.act(agent.actor, seen)[0])
        worst = max(worst, float((q - value).abs().max()))
    return worst


@pytest.mark.parametrize(
    ("probe", "name"),
    [
        pytest.param("RewardByObservation", "sac", marks=pytest.mark.slow),
        ("DelayedReward", "td3"),
        ("DelayedReward", "sac"),
    ],
)
def test_learner_solves_probe(probe, name, tmp_path):
    assert wrongness(trained(lesson, probe, tmp_path, name), probe) < 0.15


def test_learner_is_right_about_a_world_without_end_and_about_a_cut(tmp_path):
    assert wrongness(trained(lesson, "Endless", tmp_path, "ddpg", num_env_steps=2400), "Endless") < 0.6
    assert wrongness(trained(lesson, "CutShort", tmp_path), "CutShort") < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "probe"),
    [
        ("merged", "Endless"),
        ("after_the_reset", "CutShort"),
        ("merged", "CutShort"),
        ("no_terminal", "DelayedReward"),
        ("no_step", "DelayedReward"),
    ],
)
def test_probe_notices_the_edit(name, probe, tmp_path):
    wrong = trained(edited(lesson, EDITS[name]), probe, tmp_path, "ddpg")
    assert not wrongness(wrong, probe) < 0.13


def test_the_greedy_action_is_asked_in_the_units_that_training_used():
    """Where observations have units, as Pendulum's speed has, the actor never sees another number."""
    agent = lesson.Agent(make_envs("Pendulum-v1", 1), lesson.RECIPES["sac"], lesson.Config(hidden_size=8))
    obs = np.array([[0.6, -0.8, 5.0], [1.0, 0.0, -8.0]], dtype=np.float32)
    assert agent.obs_unit.tolist() == [1.0, 1.0, 8.0]
    with torch.no_grad():
        outputs = agent.actor(torch.from_numpy(obs / np.float32([1.0, 1.0, 8.0])))[0]
    np.testing.assert_allclose(agent.greedy(obs), 2.0 * np.tanh(outputs[:, :1].numpy() / 2.0), rtol=1e-5)


def distance(module, folder, recipe):
    agent = trained(module, "Target", folder, recipe, num_env_steps=2000)
    return float(np.abs(agent.greedy(np.zeros((1, 1), dtype=np.float32))[0] - [1.5, -1.0]).max())


@pytest.mark.parametrize(
    "name", [pytest.param("ddpg", marks=pytest.mark.slow), pytest.param("td3", marks=pytest.mark.slow), "sac"]
)
def test_actions_find_their_target(name, tmp_path):
    """Also where the box is not centred on 0 and its sides differ."""
    assert distance(lesson, tmp_path, name) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["descends_the_critic", "stored_actions", "no_step"])
def test_the_target_notices_the_edit(name, tmp_path):
    assert distance(edited(lesson, EDITS[name]), tmp_path, "td3") > 0.3


# The program


def agent_of(name="sac"):
    return sb3.an_agent(lesson.RECIPES[name], lesson.Config(hidden_size=8))


def constant(networks, value):
    """Networks whose every output is one number."""
    with torch.no_grad():
        for part in networks.layers:
            part.zero_()
        networks.layers[-1].fill_(value)


@pytest.mark.parametrize("edit", [None, "no_target", "minus_the_future", "no_terminal"])
def test_the_targets_are_the_slow_critics(edit):
    """Slow critics say 7, the others 0: without an end the target is r + 7 gamma."""
    module = edited(lesson, EDITS[edit]) if edit else lesson
    agent, batch = agent_of("td3")
    constant(agent.slow_critics, 7.0)
    constant(agent.critics, 0.0)
    expected = batch["rewards"] + 0.9 * 7.0 * ~batch["terminated"]
    loss = module.critic_loss(agent, batch, 0.9).item()
    right = 2 * float(expected.pow(2).mean())  # two critics
    assert (loss == pytest.approx(right, rel=1e-5)) == (edit is None)


def test_the_target_pays_for_entropy_and_the_actor_too():
    agent, batch = agent_of("sac")
    agent.log_alpha.data.fill_(math.log(0.3))
    constant(agent.slow_critics, 7.0)
    constant(agent.critics, 7.0)
    torch.manual_seed(3)
    with torch.no_grad():
        _, log_prob = agent.act(agent.slow_actor, batch["next_obs"])
    expected = batch["rewards"] + 0.9 * (7.0 - 0.3 * log_prob) * ~batch["terminated"] - 7.0
    torch.manual_seed(3)
    assert lesson.critic_loss(agent, batch, 0.9).item() == pytest.approx(
        2 * float(expected.pow(2).mean()), rel=1e-5
    )
    loss, log_prob = lesson.actor_loss(agent, batch)
    assert loss.item() == pytest.approx(0.3 * log_prob.mean().item() - 7.0, rel=1e-5)


def test_only_the_optimisers_own_weights_move_and_td3s_actor_waits():
    for name, recipe in lesson.RECIPES.items():
        agent, batch = agent_of(name)
        agent.buffer.add(**{key: value.numpy() for key, value in batch.items()})
        cfg = lesson.Config(minibatch_size=16, hidden_size=8)
        for number in (1, 2):
            before = [weights(part) for part in (agent.actor, agent.critics, agent.slow_critics)]
            alpha = agent.log_alpha.item()
            lesson.update(agent, cfg)
            after = [weights(part) for part in (agent.actor, agent.critics, agent.slow_critics)]
            moved = [not torch.equal(old, new) for old, new in zip(before, after)]
            turn = number % recipe.actor_every == 0
            assert moved == [turn, True, turn], (name, number)
            assert (alpha != agent.log_alpha.item()) == (name == "sac")
            if turn:
                goal = before[2] + cfg.target_rate * (after[1] - before[2])
                torch.testing.assert_close(after[2], goal)


def test_the_critics_are_several_networks_of_their_own():
    networks = Ensemble(2, [3, 5, 4, 2])
    x = torch.randn(6, 3)
    for which in range(2):
        *hidden, weight, bias = [part[which] for part in networks.layers]
        y = x
        for w, b in zip(hidden[::2], hidden[1::2]):
            y = (y @ w + b).clamp(min=0)
        torch.testing.assert_close(networks(x)[which], y @ weight + bias)


def test_density_integral_is_one_and_notices_a_wrong_density():
    agent = lesson.Agent(make_envs("Pendulum-v1", 1), lesson.RECIPES["sac"], lesson.Config(seed=1))
    with torch.no_grad():
        agent.actor.layers[-1].copy_(torch.tensor([[[0.7, -0.4]]]))  # mean and log width apart, and not 0
    obs = (0.3, -0.9, 0.2)
    right, wrong = lesson.squashed_log_prob, edited(lesson, EDITS["no_jacobian"]).squashed_log_prob
    assert total_chance(agent, lesson.squash, right, obs) == pytest.approx(1.0, abs=1e-3)
    assert abs(total_chance(agent, lesson.squash, wrong, obs) - 1.0) > 0.05


def test_spaces_that_cannot_be_squashed_are_refused():
    for space in (
        gym.spaces.Discrete(2),
        gym.spaces.Box(-np.inf, np.inf, (1,)),
        gym.spaces.Box(-1, 1, (2, 2)),
    ):
        envs = make("Target", 1)
        envs.single_action_space = space
        with pytest.raises(UsageError, match="bounded Box"):
            lesson.Agent(envs, lesson.RECIPES["sac"], lesson.Config())


def test_training_selection_and_report_use_different_seeds(tmp_path, monkeypatch):
    resets, evaluated = watch_seeds(monkeypatch, lesson)
    log = RunLog(tmp_path, "C6", smoke=True)
    lesson.main(lesson.Config(seed=3, **lesson.SMOKE), log)
    log.close()
    seeds = [seed for seed, _ in evaluated]
    assert resets == [3, 3, 3]
    assert seeds == [10_003, *[10_003, 10_003, 20_003] * 3], "the optimum; two checks and a report of each"


def test_it_learns_after_the_warm_up_once_a_round_and_is_checked_in_time(tmp_path, monkeypatch):
    watch_seeds(monkeypatch, lesson)
    steps = watch_adam(monkeypatch, lesson)
    cfg = lesson.Config(num_env_steps=80, num_warmup_steps=40, minibatch_size=8, hidden_size=8, eval_every=20)
    log = RunLog(tmp_path, "C6")
    agent = lesson.train(cfg, log)
    log.close()
    assert agent.num_updates == 11, "rounds 10 to 20 of four steps"
    assert len(steps) == 33, "critics, actor and temperature"
    assert log.series("sac_return")[0] == [20, 40, 60, 80]
    assert len(agent.buffer) == 80


# The evidence


@pytest.mark.parametrize("name", ["td3", "sac"])
def test_parity_with_the_library_and_a_planted_error_is_noticed(name, monkeypatch):
    cfg = lesson.Config(hidden_size=8)
    recipe = sb3.PARITY[name]
    assert max(sb3.gaps(recipe, cfg)) < 1e-5
    for edit in ("larger_of_two", "no_jacobian" if name == "sac" else "beyond_the_limits"):
        wrong = edited(lesson, EDITS[edit])
        with monkeypatch.context() as patched:
            patched.setattr(lesson, EDITS[edit].function, getattr(wrong, EDITS[edit].function))
            assert max(sb3.gaps(recipe, cfg)) > 1e-4


def test_gradients_that_are_off_alone_are_noticed(monkeypatch):
    """All of ours half as large again, while each loss is right: the gap is half of the library's largest."""
    order = sb3.in_their_order

    def larger(agent, gradients):
        return {name: [1.5 * part for part in parts] for name, parts in order(agent, gradients).items()}

    monkeypatch.setattr(sb3, "in_their_order", larger)
    loss_gap, gradient_gap = sb3.gaps(sb3.PARITY["td3"], lesson.Config(hidden_size=8))
    assert loss_gap < 1e-5
    assert gradient_gap == pytest.approx(0.5, rel=1e-4)


def test_exact_values_of_a_linear_policy_are_lyapunovs():
    K = np.array([[0.7, 1.0]])
    x = linear.states(30, seed=1)
    actions = np.random.default_rng(2).normal(size=(30, 1))
    value = lqr.evaluate_exactly(linear.SYSTEM, K)
    expected = lqr.q_values(linear.SYSTEM, value, x.astype(float), actions)
    np.testing.assert_allclose(linear.exact_values(lambda obs: -obs @ K.T, x, actions), expected, rtol=1e-4)


def test_the_gain_of_a_linear_policy_is_found():
    x = linear.states(100, seed=1)
    np.testing.assert_allclose(linear.fitted_gain(x, -x @ np.array([0.8, 1.3])), [0.8, 1.3], rtol=1e-5)
    K, std = linear.soft_optimum()
    assert (K.shape, std) == ((2,), pytest.approx(0.4861, abs=1e-4))


def test_a_policys_mean_and_width_are_read_off_its_last_layer():
    envs = BatchedLinearSystem(1, *linear.SYSTEM[:4], **linear.TASK)
    agent = lesson.Agent(envs, lesson.RECIPES["sac"], lesson.Config(hidden_size=4))
    with torch.no_grad():
        agent.actor.layers[-2].zero_()
        agent.actor.layers[-1].copy_(torch.tensor([[[0.7, -0.4]]]))
    mean, std = linear.policy_of(agent, linear.states(3, seed=0))
    np.testing.assert_allclose(mean, [0.7] * 3, rtol=1e-6)
    np.testing.assert_allclose(std, [math.exp(-0.4)] * 3, rtol=1e-6)


def test_excess_is_what_the_smaller_critic_believes_beyond_the_exact_value():
    """Two critics that know the values, and add 1.5 and 2.5, of the agent's own actions."""
    K = np.array([[0.7, 1.0]])
    value = lqr.evaluate_exactly(linear.SYSTEM, K)

    class Knowing(lesson.Agent):
        def __init__(self):
            self.critics = "the trained ones"

        def greedy(self, obs):
            return -obs @ K.T

        def q(self, critics, obs, actions):
            assert critics == "the trained ones"
            obs, actions = obs.double().numpy(), actions.double().numpy()
            np.testing.assert_allclose(actions, self.greedy(obs), rtol=1e-5)
            exact = lqr.q_values(linear.SYSTEM, value, obs, actions)
            return torch.from_numpy(np.stack([exact + 2.5, exact + 1.5]))

    x = linear.states(200, seed=3)
    beyond, worth = linear.excess(Knowing(), x)
    assert beyond == pytest.approx(1.5, abs=1e-3)
    assert worth == pytest.approx(value(x.astype(float)).mean(), rel=1e-4)


def test_regret_is_what_the_optimum_earns_more_from_the_same_starts(tmp_path, monkeypatch):
    earned = {pendulum.optimal_policy: -140.0, "of sac": -150.0, "of td3": -160.0}
    seeds = []
    monkeypatch.setattr(lesson, "score", lambda policy, cfg, seed: seeds.append(seed) or earned[policy])
    log = RunLog(tmp_path, "C6")
    log.keep(**{name: mock.Mock(greedy=f"of {name}") for name in ("sac", "td3")})
    evidence.claim_policy(lesson.Config(), log)
    log.close()
    assert {claim.name: claim.value for claim in log.claims} == {"sac_regret": 10.0, "td3_regret": 20.0}
    assert len(set(seeds)) == 1


def test_sac_on_the_linear_system_comes_to_rest_and_its_temperature_stays(tmp_path, monkeypatch):
    """The step size falls in a straight line, on minibatches of 1,024; the price of entropy is fixed."""
    assert linear.falling(0.0) == 1.0
    assert linear.falling(0.5) == pytest.approx((1.0 + linear.LAST_STEP) / 2)
    sizes, update = [], lesson.update

    def watched(agent, cfg):
        sizes.append((cfg.minibatch_size, agent.for_actor.lr, agent.for_critics.lr))
        update(agent, cfg)

    monkeypatch.setattr(lesson, "update", watched)
    cfg = lesson.Config(num_warmup_steps=80, hidden_size=8, learning_rate=0.01)
    log = RunLog(tmp_path, "C6")
    agent = linear.soft_policy(320, cfg, log)
    log.close()
    assert {size for size, _, _ in sizes} == {1024}
    assert agent.for_actor.lr == agent.for_critics.lr == pytest.approx(0.01 * linear.LAST_STEP)
    rates = [rate for _, rate, _ in sizes]
    assert rates == sorted(rates, reverse=True)
    assert rates == [rate for _, _, rate in sizes]
    assert agent.alpha().item() == pytest.approx(linear.ALPHA)


def test_the_noise_of_rewards_is_right_on_average():
    envs = linear.NoisyRewards(4000, *linear.SYSTEM[:4], **linear.TASK)
    envs.reset(seed=0)
    same = BatchedLinearSystem(4000, *linear.SYSTEM[:4], **linear.TASK)
    same.reset(seed=0)
    noise = envs.step(np.ones((4000, 1)))[1] - same.step(np.ones((4000, 1)))[1]
    assert abs(noise.mean()) < 5 * linear.NOISE / math.sqrt(4000)
    assert noise.std() == pytest.approx(linear.NOISE, rel=0.05)


def test_the_noise_of_a_round_adds_up_to_nothing_and_is_as_wide_as_it_says():
    noisy = linear.NoisyRewards(4, *linear.SYSTEM[:4], **linear.TASK)
    still = BatchedLinearSystem(4, *linear.SYSTEM[:4], **linear.TASK)
    noises = []
    for envs in (noisy, still):
        envs.reset(seed=0)
    for _ in range(500):
        noisy.state, still.state = np.ones((2, 4, 2))
        noises.append(noisy.step(np.ones((4, 1)))[1] - still.step(np.ones((4, 1)))[1])
    np.testing.assert_allclose(np.sum(noises, axis=1), 0.0, atol=1e-9)
    assert np.std(noises) == pytest.approx(linear.NOISE, rel=0.1)


def test_summary_is_a_ratio_of_medians_and_favours_the_library(tmp_path):
    """A library's run that never holds -200 counts as if it had at its end."""
    runs = []
    for ours, theirs in (
        ([-150] * 4, [-900] * 4),
        ([-900, -150, -150, -150], [-150] * 4),
        ([-150] * 4, [-150] * 4),
    ):
        metrics = {"best_return": [(0, -140.0)], "cheetah_return": [(5000, 1.0)]}
        for name in ("sac", "td3", "ddpg"):
            metrics |= race(name, ours, [1.0, 2.0, 3.0, 4.0])
        metrics |= race("sb3", theirs, [10.0, 20.0, 30.0, 40.0])
        metrics |= {f"{name}_excess": [(i, float(i)) for i in range(6)] for name in linear.CRITICS}
        runs.append({"seed": len(runs), "config": {}, "metrics": metrics, "claims": {}})
    log = RunLog(tmp_path, "C6")
    evidence.summarise(runs, log)
    log.close()
    claim, cheetahs = log.claims
    assert claim.value == pytest.approx(3.0 / 30.0)
    assert claim.timed
    assert (cheetahs.value, cheetahs.at_least) == (1.0, -595.0)
    assert [path.name for path in log.figures] == [
        "C6.png",
        "C6_flattery.png",
        "C6_cheetah.png",
    ]


def test_the_discount_leaves_room_below_the_bound_on_regret(monkeypatch):
    """What the best policy for a discount loses over whole episodes, exactly: at 0.95 nearly half of it."""
    coarse = partial(pendulum.optimal_values, num_angles=180, num_speeds=161)
    monkeypatch.setattr(pendulum, "optimal_values", coarse)
    ours = lesson.Config().gamma
    earned = {gamma: pendulum.optimum.__wrapped__(5, gamma) for gamma in (1.0, ours, 0.95)}
    lost = {gamma: earned[1.0] - earned[gamma] for gamma in (ours, 0.95)}
    assert 0 < lost[ours] < 0.2 * evidence.PUBLISHED_REGRET
    assert 0.4 < lost[0.95] / evidence.PUBLISHED_REGRET < 0.5


def test_published_curves_are_as_long_as_ours_may_be():
    longest = max(mark.high for mark in evidence.Config.__annotations__["num_cheetah_steps"].__metadata__)
    assert cheetah.PUBLISHED.shape == (10, 1 + longest // cheetah.EVERY)
    assert (cheetah.PUBLISHED[:, 0] > -10).all()  # the untrained network


@pytest.mark.parametrize(("steps", "checks"), [(2, [2]), (9, [5, 9]), (10, [5, 10])])
def test_however_few_steps_the_cheetah_takes_its_end_is_checked(steps, checks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MuJoCo leaves a note on an old word in the model's file
    cfg = replace(lesson.Config(), num_env_steps=steps, **(cheetah.SETTINGS | cheetah.SMALL))
    log = RunLog(tmp_path, "C6")
    agent = cheetah.train_checked(cfg, 5, {"max_episode_steps": 4}, log)
    log.close()
    assert agent.num_updates == steps // 4 * 4, "as many as the episodes that have ended had steps"
    assert [step for step, _ in read_metrics(log.folder)["cheetah_return"]] == checks
