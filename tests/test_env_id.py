"""Environments that a user brings with --env-id: one's own work, and what is wrong is said in a line."""

import collections
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from chapters.course.catalog import find
from chapters.course.parts import lesson_of
from chapters.envs import make_envs
from chapters.envs.agents import units_of
from chapters.utils.lesson import RunOptions, UsageError, execute

MODULE = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Good(gym.Env):
    observation_space = spaces.Box(-1, 1, (3,))
    action_space = spaces.Discrete(2)
    reward = 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.time += 1
        return self.observation_space.sample(), self.reward, self.time > 5, False, {}


class Box(Good):
    action_space = spaces.Box(-1, 1, (2,))

class Whole(Good):
    action_space = spaces.Box(0, 5, (2,), np.int64)

    def step(self, action):
        assert action in self.action_space
        obs, _, *rest = super().step(action)
        return obs, float(action.sum()), *rest

class Wide(Whole):
    action_space = spaces.Box(np.array([0.0, 0.1]), np.array([0.1, 5.0]), dtype=np.float64)

class BelowNothing(Good):
    observation_space = spaces.Box(np.array([-4, -1, 0], "f"), np.array([0, 1, 0], "f"))

class FromFive(Good):
    action_space = spaces.Discrete(2, start=5)

    def step(self, action):
        assert action in (5, 6)
        obs, _, *rest = super().step(action)
        return obs, float(action), *rest

class Double(Good):
    observation_space = spaces.Box(-1, 1, (3,), np.float64)

    def reset(self, **kwargs):
        return np.array([0.25, -0.5, 1.0]), super().reset(**kwargs)[1]

class Bytes(Good):
    observation_space = spaces.Box(0, 255, (3,), np.uint8)

class LateError(Good):
    def step(self, action):
        if self.time == 3:
            raise RuntimeError("no more\\nsteps")
        return super().step(action)

class LateExit(Good):
    def step(self, action):
        if self.time == 3:
            raise SystemExit(0)
        return super().step(action)

class LateBase(Good):
    def step(self, action):
        if self.time == 3:
            raise BaseException("so")
        return super().step(action)

class FirstBase(Good):
    def reset(self, **kwargs):
        raise GeneratorExit

class MadeBase(Good):
    def __init__(self):
        raise BaseException("so")

class LateShape(Good):
    def step(self, action):
        obs, *rest = super().step(action)
        return obs if self.time < 3 else np.zeros(4, np.float32), *rest

class LateReset(Good):
    count = 0

    def reset(self, **kwargs):
        self.count += 1
        if self.count > 2:
            raise ValueError("no more resets")
        return super().reset(**kwargs)

class Endless(Good):
    def step(self, action):
        return self.observation_space.sample(), 1.0, False, False, {}

class NanReward(Good):
    reward = float("nan")

class InfiniteReward(Good):
    reward = float("inf")

class NoReward(Good):
    reward = None

class LateNan(Good):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, float("nan") if self.time == 4 else reward, *rest

class HugeReward(Good):
    reward = 1e38

class NoNumbers(Good):
    observation_space = spaces.Box(-1, 1, (0,))

class NoActions(Good):
    action_space = spaces.Box(-1, 1, (0,))

class Scalar(Good):
    action_space = spaces.Box(-1, 1, ())

class Unclosed(Good):
    def close(self):
        raise RuntimeError("door\\nstuck")

class NanObservation(Good):
    def step(self, action):
        return np.full(3, np.nan, np.float32), 1.0, False, False, {}

class OldReset(Good):
    def reset(self):
        return self.observation_space.sample()

class OldResetWithSeed(Good):
    def reset(self, seed=None, options=None):
        return self.observation_space.sample()

class OldStep(Good):
    def step(self, action):
        return self.observation_space.sample(), 1.0, False, {}

class OtherShape(Good):
    def step(self, action):
        return np.zeros(4, np.float32), 1.0, False, False, {}

class DictObservation(Good):
    observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (2,))})

class DiscreteObservation(Good):
    observation_space = spaces.Discrete(4)

class Image(Good):
    observation_space = spaces.Box(0, 255, (4, 4, 3), np.uint8)

class MultiDiscrete(Good):
    action_space = spaces.MultiDiscrete([2, 2])

class Matrix(Good):
    action_space = spaces.Box(-1, 1, (2, 2))

class Broken(Good):
    def __init__(self):
        raise RuntimeError("no licence\\nfor this")

class NoSpaces(gym.Env):
    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

class LateSpaces(Good):
    @property
    def observation_space(self):
        raise RuntimeError("not\\nyet")

class Countless(Good):
    action_space = spaces.Discrete(10**9)

class Word(Good):
    def step(self, action):
        obs, reward, _, *rest = super().step(action)
        return obs, reward, "no", *rest

class BeyondFloats(Good):
    reward = 1e300

class Speechless(Exception):
    def __str__(self):
        raise ValueError

class NoWords(Good):
    def step(self, action):
        raise Speechless

class BrokenClose(Good):
    def close(self):
        raise RuntimeError("cannot\\nclose")

for name, found in list(globals().items()):
    if isinstance(found, type) and issubclass(found, gym.Env):
        limit = None if name == "Endless" else 20
        gym.register(f"{name}-v0", entry_point=found, max_episode_steps=limit)
"""
WRONG = {
    "Nope-v0": "Environment `Nope` doesn't exist.*allowed: an id that gymnasium knows",
    "LunarLander-v2": "use `LunarLander-v3` instead",
    "CartPole-v9": r"versioned environments: \[ `v0`, `v1` \]",
    "": "allowed: an id",
    "no_such_module:My-v0": "No module named 'no_such_module'",
    "a:b:c": "allowed: an id",
    "FrozenLake-v1": r"observations of Discrete\(16\) \(allowed: vectors",
    "visitors_of_test:NanReward-v0": "a reward is nan",
    "visitors_of_test:InfiniteReward-v0": "a reward is inf",
    "visitors_of_test:NoReward-v0": "in its first step",
    "visitors_of_test:NanObservation-v0": "an observation is nan",
    "visitors_of_test:HugeReward-v0": r"a reward is 1e\+38 \(allowed: finite numbers, of at most 1e\+15",
    "visitors_of_test:NoNumbers-v0": r"observations of Box.*\(0,\)",
    "visitors_of_test:NoActions-v0": r"actions of Box.*\(0,\)",
    "visitors_of_test:Scalar-v0": r"actions of Box.*\(\)",
    "visitors_of_test:Unclosed-v0": "RuntimeError in close: door stuck",
    "visitors_of_test:OldReset-v0": r"in its first step: .*allowed: as in gymnasium, reset\(seed",
    "visitors_of_test:OldResetWithSeed-v0": "in its first step",
    "visitors_of_test:OldStep-v0": "in its first step",
    "visitors_of_test:OtherShape-v0": r"shape \(4,\), its space says \(3,\)",
    "visitors_of_test:DictObservation-v0": "observations of Dict",
    "visitors_of_test:DiscreteObservation-v0": "observations of Discrete",
    "visitors_of_test:Image-v0": r"observations of Box\(0, 255, \(4, 4, 3\)",
    "visitors_of_test:MultiDiscrete-v0": r"actions of MultiDiscrete.*allowed: Discrete, or a Box",
    "visitors_of_test:Matrix-v0": "actions of Box",
    "visitors_of_test:NoSpaces-v0": "AttributeError in its spaces",
    "visitors_of_test:LateSpaces-v0": "RuntimeError in its spaces: not yet",
    "visitors_of_test:Countless-v0": r"actions of Discrete\(1000000000\) \(allowed: up to 100,000",
    "visitors_of_test:Word-v0": "terminated is 'no', neither True nor False",
    "visitors_of_test:BeyondFloats-v0": r"a reward is 1e\+300",
    "visitors_of_test:NoWords-v0": "Speechless in its first step",
    "visitors_of_test:BrokenClose-v0": "RuntimeError in close: cannot close",
    "visitors_of_test:FirstBase-v0": "GeneratorExit in its first step",
    "visitors_of_test:MadeBase-v0": "it cannot be made, BaseException: so",
    "visitors_of_test:Broken-v0": "RuntimeError: no licence for this",
}


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "visitors_of_test.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.mark.parametrize("env_id", WRONG, ids=lambda text: text or "empty")
def test_what_cannot_be_learned_from_is_one_line(module, env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # gymnasium's own words would be more lines
        with pytest.raises(UsageError, match=WRONG[env_id]) as error:
            make_envs(env_id, 2)
    assert str(error.value).startswith(f"--env-id {env_id}: ")
    assert "\n" not in str(error.value)


def test_a_reward_that_becomes_no_number_later_ends_the_run(module, tmp_path):
    """Not "passed", as a run that learned nothing from nothing."""
    lesson = lesson_of(find("C3"))
    cfg = lesson.Config(**{**lesson.SMOKE, "env_id": "visitors_of_test:LateNan-v0"})
    with pytest.raises(UsageError, match="LateNan-v0: a reward is nan"):
        execute(lesson.main, cfg, Path("C3_x.py"), RunOptions(smoke=True, out=tmp_path), print_claims=False)
    (run_json,) = tmp_path.glob("C3/*/run.json")
    assert '"refused"' in run_json.read_text()


@pytest.mark.parametrize("lesson", ["C0", "C1"])
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "visitors_of_test:Box-v0"])
def test_continuous_actions_are_refused_by_who_can_only_count(module, tmp_path, lesson, env_id):
    lesson = lesson_of(find(lesson))
    cfg = lesson.Config(**{**lesson.SMOKE, "env_id": env_id})
    with pytest.raises(UsageError, match=r"actions of Box.*allowed in this lesson: Discrete") as error:
        execute(lesson.main, cfg, Path("C0_x.py"), RunOptions(smoke=True, out=tmp_path), print_claims=False)
    assert str(error.value).startswith(f"--env-id {env_id}: ")
    assert "\n" not in str(error.value)


def test_a_space_of_continuous_actions_stays_what_it_is(module):
    for env_id in ("Pendulum-v1", "visitors_of_test:Box-v0"):
        envs = make_envs(env_id, 2)
        space = envs.single_action_space
        assert not hasattr(space, "n")
        assert space == envs.action_space.__class__(space.low, space.high, dtype=space.dtype)
        assert envs.action_space.shape == (2, *space.shape)


def test_actions_are_counted_from_zero_whatever_the_environment_counts_from(module):
    envs = make_envs("visitors_of_test:FromFive-v0", 2)
    assert envs.single_action_space.start == 0
    envs.reset(seed=0)
    assert envs.step(np.array([0, 1]))[1].tolist() == [5, 6]


def test_an_environment_is_given_actions_of_its_own_space(module):
    """Policies act in 32-bit numbers; what its Box holds may be whole ones, or bounds that 32 bits miss."""
    given = np.array([[2.6, 5.0], [0.0, 0.4]], dtype=np.float32)
    for name, expected in (("Whole", [8, 0]), ("Wide", [5.1, 0.4])):
        envs = make_envs(f"visitors_of_test:{name}-v0", 2)
        assert envs.single_action_space.dtype == np.float32
        envs.reset(seed=0)
        np.testing.assert_allclose(envs.step(given)[1], expected, rtol=1e-6)


@pytest.mark.parametrize("lesson", ["C0", "C1", "C3"])
@pytest.mark.parametrize("env_id", ["GridWorld-v0", "TokenWorld-v0"])
def test_worlds_of_the_course_without_vectors_are_refused_too(tmp_path, lesson, env_id):
    lesson = lesson_of(find(lesson))
    cfg = lesson.Config(**{**lesson.SMOKE, "env_id": env_id})
    with pytest.raises(UsageError, match=r"observations of .*allowed: vectors") as error:
        execute(lesson.main, cfg, Path("C0_x.py"), RunOptions(smoke=True, out=tmp_path), print_claims=False)
    assert str(error.value).startswith(f"--env-id {env_id}: ")


def test_a_number_that_is_always_0_or_never_above_it_has_a_unit(module, tmp_path):
    """Divided by its bound it would be no number, and nothing would be learned from it."""
    lesson = lesson_of(find("C3"))
    cfg = lesson.Config(**{**lesson.SMOKE, "env_id": "visitors_of_test:BelowNothing-v0"})
    log = execute(lesson.main, cfg, Path("C3_x.py"), RunOptions(smoke=True, out=tmp_path), print_claims=False)
    assert np.isfinite(log.series("ours_kl")[1]).all()
    space = make_envs("visitors_of_test:BelowNothing-v0", 1).single_observation_space
    assert units_of(space).tolist() == [4, 1, 1]


@pytest.mark.parametrize("name", ["Double", "Bytes"])
def test_observations_of_any_kind_of_number_can_be_learned_from(module, tmp_path, name):
    """The networks' own numbers have 32 bits; those of an environment often have 64."""
    lesson = lesson_of(find("C1"))
    cfg = lesson.Config(**{**lesson.SMOKE, "env_id": f"visitors_of_test:{name}-v0"})
    execute(lesson.main, cfg, Path("C1_x.py"), RunOptions(smoke=True, out=tmp_path), print_claims=False)
    envs = make_envs("visitors_of_test:Double-v0", 2)
    obs, _ = envs.reset(seed=0)
    assert obs.dtype == envs.single_observation_space.dtype == np.float32
    assert obs.tolist() == [[0.25, -0.5, 1.0]] * 2


LATER = {
    "LateError": "RuntimeError in a step: no more steps (visitors_of_test.py, line ",
    "LateExit": "SystemExit in a step: 0 (visitors_of_test.py, line ",
    "LateBase": "BaseException in a step: so (visitors_of_test.py, line ",
    "LateShape": "ValueError in a step: ",
    "LateReset": "ValueError in a step: no more resets (visitors_of_test.py, line ",
}


@pytest.mark.parametrize("name", LATER)
def test_what_an_environment_raises_later_is_one_line(module, name):
    envs = make_envs(f"visitors_of_test:{name}-v0", 2)
    envs.reset(seed=0)
    with pytest.raises(UsageError) as error:
        collections.deque((envs.step(np.array([0, 1])) for _ in range(20)), maxlen=0)
    assert str(error.value).startswith(f"--env-id visitors_of_test:{name}-v0: {LATER[name]}")
    assert "\n" not in str(error.value)


def test_a_long_name_is_not_repeated_whole():
    with pytest.raises(UsageError) as error:
        make_envs("x" * 5000, 2)
    assert len(str(error.value)) < 600


def test_an_episode_without_an_end_is_not_waited_for(module, monkeypatch):
    from chapters.envs import evaluate, visitors

    monkeypatch.setattr(visitors, "LONGEST", 50)
    with pytest.raises(UsageError, match="Endless-v0: an episode did not end in 50 steps"):
        evaluate(lambda obs: np.zeros(len(obs), int), "visitors_of_test:Endless-v0", episodes=2, seed=0)
    envs = make_envs("visitors_of_test:Good-v0", 2)
    envs.reset(seed=0)
    for _ in range(120):
        envs.step(np.array([0, 1]))


@pytest.mark.parametrize("env_id", ["visitors_of_test:Good-v0", "visitors_of_test:Box-v0", "Acrobot-v1"])
def test_environments_of_ones_own_work(module, env_id):
    envs = make_envs(env_id, 3)
    obs, _ = envs.reset(seed=0)
    assert len(obs) == 3
    for _ in range(7):
        _, rewards, *_ = envs.step(envs.action_space.sample())
    assert np.isfinite(rewards).all()
    assert envs.metadata["autoreset_mode"].name == "SAME_STEP"


def test_looking_at_an_environment_first_moves_no_number(module):
    import gymnasium as gym

    envs = make_envs("Acrobot-v1", 2)
    plain = gym.vector.SyncVectorEnv([lambda: gym.make("Acrobot-v1")] * 2)
    assert (envs.reset(seed=5)[0] == plain.reset(seed=5)[0]).all()
    for action in ([0, 1], [2, 2], [1, 0]):
        assert (envs.step(np.array(action))[0] == plain.step(np.array(action))[0]).all()


@pytest.mark.parametrize("env_id", ["GridWorld-v0", "TokenWorld-v0", "\udcff-v0"])
def test_the_command_refuses_what_its_lessons_cannot_learn_from(env_id, course):
    """Of the course's own worlds too; and a name that is no UTF-8 can still be written down."""
    line = course.refused("run", "C1", "--smoke", "--env-id", env_id)
    assert line.startswith("error: --env-id ")
