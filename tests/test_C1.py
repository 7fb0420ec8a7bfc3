"""C1's learner on the probe environments, whole, and wrong on them once edited; and its evidence."""

import math

import numpy as np
import pytest
import torch
from spies import assert_seeds_apart, each_probe, watch_adam, watch_seeds, weights

from chapters.C_policy_gradients import C1_actor_critic_methods_a2c as lesson
from chapters.C_policy_gradients.checks.C1 import EDITS, n_step_by_hand, rollouts
from chapters.C_policy_gradients.evidence import C1 as evidence
from chapters.envs import make_envs
from chapters.envs.cartpole import BatchedCartPole
from chapters.envs.probes import best_values, largest_error, make_probe
from chapters.exact.chain import Chain
from chapters.utils import RunLog, seed_everything
from chapters.utils.edits import edited

GAMMA = 0.9  # the endless probe is then worth 10
QUICK = {
    "num_envs": 8, "num_steps": 5, "num_env_steps": 16_000, "hidden_size": 16, "learning_rate": 1e-2,
    "gamma": GAMMA,
}  # fmt: skip
ANSWERS = best_values(GAMMA)


def wrongness(module, probe, folder, **changes):
    """Largest error of the critic on the probe; infinite if the actor prefers a wrong action."""
    cfg = module.Config(**{**QUICK, **changes})
    envs = make_probe(probe, cfg.num_envs)
    log = RunLog(folder, "C1")
    agent, best = module.train(cfg, log, envs=envs)
    log.close()
    assert not log.metrics, "injected environments are trained on, not evaluated on"
    assert best is agent

    @torch.inference_mode()
    def judged(obs: float) -> tuple[float, int]:
        value = float(agent.value(torch.tensor([obs])))
        return value, int(agent.act(np.array([[obs]], dtype=np.float32))[0])

    return largest_error(ANSWERS[probe], judged)


@each_probe(ANSWERS)
def test_learner_solves_probe(probe, tmp_path):
    changes = {} if probe == "CutShort" else {"num_env_steps": 8000}  # that one takes twice as long to learn
    assert wrongness(lesson, probe, tmp_path, **changes) < (0.5 if probe == "Endless" else 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("gae_lambda", [0.0, 1.0])
def test_both_ends_of_lambda_learn(gae_lambda, tmp_path):
    assert wrongness(lesson, "DelayedReward", tmp_path, gae_lambda=gae_lambda) < 0.1


NOTICED = {  # edit -> the probe that notices
    "merged": "Endless",
    "next_episode": "CutShort",
    "bootstraps_through": "ConstantReward",
    "sign": "ActionMatters",
    "first_action": "ActionMatters",
    "learns_the_advantage": "ConstantReward",
    "no_step": "ConstantReward",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTICED)
def test_probe_notices_the_edit(name, tmp_path):
    assert wrongness(edited(lesson, EDITS[name]), NOTICED[name], tmp_path) > 0.15


def test_rollout_knows_true_successors():
    envs = make_envs("ProbeDelayedReward-v0", 3)
    obs, _ = envs.reset(seed=0)
    agent = lesson.ActorCritic(1, 1, 4)
    batch, obs = lesson.rollout(agent, envs, obs, 4, np.random.default_rng(0))
    assert batch["obs"][:, 0, 0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert batch["next_obs"][:, 0, 0].tolist() == [1.0, 1.0, 1.0, 1.0]
    assert batch["terminated"][:, 0].tolist() == [False, True, False, True]
    assert obs[:, 0].tolist() == [0.0, 0.0, 0.0]


def test_parity_with_the_library_notices_every_wrong_mask():
    cfg = lesson.Config()
    assert evidence.buffer_gap(cfg) < 1e-5
    for name in (
        "bootstraps_through",
        "time_limit_ends",
        "runs_past_time_limits",
        "runs_past_ends",
        "no_mask",
    ):
        wrong = edited(lesson, EDITS[name])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lesson, "gae", wrong.gae)
            assert evidence.buffer_gap(cfg) > 1e-2, name


def test_a_leak_reaches_the_critic_through_the_advantages():
    """Without a value loss the critic must get no gradient at all; with the edit `leaks` it does."""
    envs = make_envs("ProbeDelayedReward-v0", 4)
    obs, _ = envs.reset(seed=0)
    for module, still in ((lesson, True), (edited(lesson, EDITS["leaks"]), False)):
        torch.manual_seed(0)
        agent = module.ActorCritic(1, 2, 4)
        batch, _ = module.rollout(agent, envs, obs, 4, np.random.default_rng(0))
        cfg = module.Config(vf_coef=0.0)
        module.update(agent, module.Adam(agent.parameters(), lr=0.0), batch, cfg)
        gradients = [parameter.grad for parameter in agent.critic.parameters()]
        assert all(grad is None or not grad.any() for grad in gradients) == still


class TestEvidence:
    def test_n_steps_by_hand(self):
        for data in rollouts():
            for n in (1, 2, 4, 30):
                found = evidence.n_step_advantages(**data, gamma=0.9, n=n)
                for t, i in np.ndindex(*found.shape):
                    by_hand = n_step_by_hand(data, 0.9, t, i, n)
                    assert math.isclose(found[t, i], by_hand, rel_tol=1e-9, abs_tol=1e-12)

    def test_n_steps_are_rewards_and_then_the_critic(self):
        """One long episode whose true successors are the next rows."""
        rewards, values = torch.randn(2, 11, 1, dtype=torch.float64)
        never = torch.zeros(10, 1, dtype=torch.bool)
        found = evidence.n_step_advantages(rewards[:10], values[:10], values[1:], never, never, 0.8, 3)
        paid = sum(0.8**k * rewards[2 + k, 0] for k in range(3))
        assert math.isclose(found[2, 0], paid + 0.8**3 * values[5, 0] - values[2, 0], rel_tol=1e-9)

    @pytest.mark.parametrize(
        "name", ["lambda_squared", "no_discount", "no_mask", "runs_past_ends", "forwards"]
    )
    def test_average_over_n_notices_a_wrong_gae(self, name, monkeypatch):
        assert evidence.lambda_return_gap(lesson.Config()) < 1e-9
        monkeypatch.setattr(lesson, "gae", edited(lesson, EDITS[name]).gae)
        assert evidence.lambda_return_gap(lesson.Config()) > 1e-3

    def test_critic_wrong_in_every_other_state_is_right_two_steps_on(self):
        world = evidence.half_wrong_chain(0)
        assert abs(world.bias(world.gamma ** np.arange(2))) < 1e-12
        assert abs(world.bias(np.ones(1))) > 0.1
        for lam in (0.3, 0.7, 0.95):
            assert abs(world.bias((world.gamma * lam) ** np.arange(500))) > 1e-3

    def test_crossings(self):
        for returns, expected in (
            ([10, 480, 475, 500, 20], (200, 400, 0.6)),
            ([480, 100, 475, 475, 475], (100, 500, 0.8)),
            ([480, 480, 100, 480], (100, math.inf, 0.75)),
            ([474.9, 10], (math.inf, math.inf, 0.0)),
        ):
            steps = [100 * (i + 1) for i in range(len(returns))]
            assert np.allclose(evidence.crossings(steps, returns), expected)


# Measuring and glue


def brief(**changes):
    """Four updates of 20 steps in 4 environments, checked after each."""
    return lesson.Config(seed=3, num_envs=4, num_steps=20, num_env_steps=320, eval_every=80, **changes)


def test_training_selection_and_report_use_different_seeds(tmp_path, monkeypatch):
    assert_seeds_apart(monkeypatch, lesson, RunLog(tmp_path, "C1", smoke=True))


def test_the_first_of_equal_checks_is_kept_and_checks_act_greedily(tmp_path, monkeypatch):
    """Scores 1, 3, 3, 2: what is returned as best is the second check's."""
    _, evaluated = watch_seeds(monkeypatch, lesson, [1.0, 3.0, 3.0, 2.0])
    seen, obs = [], np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    score = lesson.greedy_return

    def watched(agent, cfg, seed):
        seen.append(weights(agent))
        found = score(agent, cfg, seed)
        likeliest = agent.actor(torch.from_numpy(obs)).argmax(-1).numpy()
        np.testing.assert_array_equal(evaluated[-1][1](obs), likeliest)
        return found

    monkeypatch.setattr(lesson, "greedy_return", watched)
    log = RunLog(tmp_path, "C1")
    agent, best = lesson.train(brief(), log)
    log.close()
    assert log.series("a2c_return") == ([80, 160, 240, 320], [1.0, 3.0, 3.0, 2.0])
    assert torch.equal(weights(best), seen[1])
    assert torch.equal(weights(agent), seen[3])
    assert not torch.equal(seen[1], seen[2])


def test_two_short_rollouts_are_one_long_one():
    """State and episode clock are carried over: nothing is reset between rollouts."""
    rollouts = []
    for num_steps, times in ((30, 1), (15, 2)):
        torch.manual_seed(0)
        envs, rng = BatchedCartPole(4, max_episode_steps=20), np.random.default_rng(0)
        agent = lesson.ActorCritic(4, 2, 8)
        obs, _ = envs.reset(seed=0)
        parts = []
        for _ in range(times):
            part, obs = lesson.rollout(agent, envs, obs, num_steps, rng)
            parts.append(part)
        rollouts.append({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    assert rollouts[0]["truncated"].any()
    for name in rollouts[0]:
        assert torch.equal(rollouts[0][name], rollouts[1][name]), name


def test_rollouts_go_on_and_gradients_are_clipped_before_each_step(tmp_path, monkeypatch):
    steps = watch_adam(monkeypatch, lesson)
    watch_seeds(monkeypatch, lesson)
    first, last = [], []
    rollout = lesson.rollout

    def watched(agent, envs, obs, num_steps, rng):
        batch, after = rollout(agent, envs, obs, num_steps, rng)
        first.append(obs.copy())
        last.append(after.copy())
        return batch, after

    monkeypatch.setattr(lesson, "rollout", watched)
    log = RunLog(tmp_path, "C1")
    cfg = brief(max_grad_norm=0.01)
    lesson.train(cfg, log)
    log.close()
    assert [rate for rate, _ in steps] == [cfg.learning_rate] * 4
    assert [norm for _, norm in steps] == pytest.approx([0.01] * 4, rel=1e-3)
    for before, after in zip(last, first[1:]):
        np.testing.assert_array_equal(before, after)


class Policy(torch.nn.Module):
    """Stands for a library's: it acts as told, and has one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict(self, obs, deterministic):
        return np.full(len(obs), int(deterministic)), None


def test_a_library_is_checked_every_so_often_off_the_clock_and_its_best_is_kept(tmp_path, monkeypatch):
    """A step costs one second, a check a hundred. Scores 1, 3, 3, 2."""
    now, seeds, scores = [0.0], [], iter([1.0, 3.0, 3.0, 2.0])
    monkeypatch.setattr(evidence.time, "process_time", lambda: now[0])

    def evaluate(act, env_id, *, episodes, seed):
        now[0] += 100.0
        seeds.append(seed)
        assert act(np.zeros((2, 4))).tolist() == [1, 1], "greedy"
        return np.full(episodes, next(scores))

    monkeypatch.setattr(evidence, "evaluate", evaluate)
    log = RunLog(tmp_path, "C1")
    scored = evidence.Scores("sb3", lesson.Config(seed=3, eval_every=100), log)
    policy = Policy()
    for step in range(30, 451, 30):
        now[0] += 1.0
        policy.weight.data.fill_(step)
        assert scored.check(step, policy)
    log.close()
    assert log.series("sb3_return") == ([120, 210, 300, 420], [1.0, 3.0, 3.0, 2.0])
    assert log.series("sb3_cpu_seconds")[1] == [4.0, 7.0, 10.0, 14.0]
    assert seeds == [10_003] * 4
    assert scored.best.weight.item() == 210
    assert scored.best_return == 3.0


def test_the_lander_acts_as_it_did_better_on_other_episodes(monkeypatch):
    played = []

    def evaluate(act, env_id, *, episodes, seed):
        way = int(act(np.zeros((1, 8)))[0])  # 1: greedy
        played.append((way, seed))
        return np.full(episodes, {(1, 10_003): 5.0, (0, 10_003): 7.0, (0, 20_003): 1.0}[way, seed])

    monkeypatch.setattr(evidence, "evaluate", evaluate)
    returns = evidence.lander_returns(Policy(), lesson.Config(seed=3, num_eval_episodes=4))
    assert returns.tolist() == [1.0] * 4
    assert sorted(played[:2]) == [(0, 10_003), (1, 10_003)]


def test_noise_is_compared_at_the_same_bias():
    """Two lambdas of bias 1 and 3, deviations 10 and 20: at bias 2 that is 15, signs apart."""
    rows = {"gae": np.array([[-3.0, 0.0, 20.0], [1.0, 0.0, 10.0]])}
    steps = np.tile([-2.0, 0.0, 5.0], (len(evidence.STEPS_AHEAD), 1))
    shown = [n for n in evidence.STEPS_AHEAD if 2 <= n <= 5]
    found = evidence.noise_ratios({**rows, "n_step": steps}, upto=5)
    assert found.tolist() == [3.0] * len(shown)


def test_curves_of_the_chain_stand_at_their_exact_bias(monkeypatch):
    """lambda 1 has the bias of no critic; one step has that of the next state's value."""
    seed_everything(0)  # one thread
    monkeypatch.setattr(evidence, "LAMBDAS", (0.0, 1.0))
    monkeypatch.setattr(evidence, "STEPS_AHEAD", (1, 3))
    curves, worst = evidence.curves_of(Chain(3), 4000)
    world = Chain(3)
    assert [curves[name].shape for name in ("gae", "n_step")] == [(2, 3), (2, 3)]
    one, three = world.bias(np.ones(1)), world.bias(world.gamma ** np.arange(3))
    assert curves["n_step"][:, 0].tolist() == pytest.approx([one, three])
    assert curves["gae"][:, 0].tolist() == pytest.approx([one, 0.0], abs=1e-3)
    for rows in curves.values():
        off = (rows[:, 1] - rows[:, 0]) / rows[:, 2] * 4000**0.5
        assert np.abs(off).max() <= worst + 1e-9
        assert worst < 5.0
