"""Right answers to A4's exercises in other idioms: the grader must pass each."""

import random

import gymnasium as gym
import numpy as np

from chapters.A_foundations.A4_gymnasium_environments import Batch
from chapters.envs import true_next_obs


class OneHot__zeros(gym.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.n = env.observation_space.n
        self.observation_space = gym.spaces.Box(low=0.0, high=1.0, shape=(self.n,), dtype=np.float32)

    def observation(self, observation):
        vector = np.zeros(self.n, dtype=np.float32)
        vector[observation] = 1.0
        return vector


class OneHot__binary(gym.ObservationWrapper):
    def __init__(self, env):
        gym.ObservationWrapper.__init__(self, env)
        self.observation_space = gym.spaces.MultiBinary(int(env.observation_space.n))

    def observation(self, observation):
        return (np.arange(self.observation_space.n) == observation).astype(np.int8)


class OneHot__own_reset_and_step(gym.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        n = int(env.observation_space.n)
        self.rows = np.identity(n, dtype=int)
        self.observation_space = gym.spaces.Box(np.zeros(n, dtype=int), np.ones(n, dtype=int), dtype=int)

    def reset(self, *, seed=None, options=None):
        obs, info = self.env.reset(seed=seed, options=options)
        return self.rows[obs].copy(), info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self.rows[obs].copy(), reward, terminated, truncated, info


def collect__preallocated(envs, num_steps, seed):
    shape = (num_steps, envs.num_envs)
    seen, shown, later = (np.zeros(shape, dtype=int) for _ in range(3))
    rewards = np.zeros(shape)
    terminated, truncated = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    actions = rng.integers(0, envs.single_action_space.n, size=shape)
    seen_now, _ = envs.reset(seed=seed)
    for t in range(num_steps):
        seen[t] = seen_now
        seen_now, rewards[t], terminated[t], truncated[t], infos = envs.step(actions[t])
        shown[t] = later[t] = seen_now
        done = terminated[t] | truncated[t]
        if "final_obs" in infos:
            later[t, done] = infos["final_obs"][done]
    return Batch(seen, actions, rewards, shown, later, terminated, truncated)


def collect__columns(envs, num_steps, seed):
    rng = np.random.default_rng((seed, 99))
    columns = {name: [] for name in Batch._fields}
    obs, _ = envs.reset(seed=seed)
    for _ in range(num_steps):
        actions = rng.choice(envs.single_action_space.n, size=envs.num_envs)
        returned, rewards, terminated, truncated, infos = envs.step(actions)
        ended = infos.get("_final_obs", np.zeros(envs.num_envs, dtype=bool))
        last = infos.get("final_obs", returned)
        step = {
            "obs": obs,
            "actions": actions,
            "rewards": rewards,
            "returned_obs": returned,
            "next_obs": np.where(ended, last, returned).astype(int),
            "terminated": terminated,
            "truncated": truncated,
        }
        for name, value in step.items():
            columns[name].append(value)
        obs = returned
    return Batch(**{name: np.array(column) for name, column in columns.items()})


def collect__one_by_one(envs, num_steps, seed):
    rng = random.Random(f"actions of {seed}")
    obs = envs.reset(seed=seed)[0]
    steps = []
    while len(steps) < num_steps:
        actions = np.array([rng.randrange(int(envs.single_action_space.n)) for _ in range(envs.num_envs)])
        returned, rewards, terminated, truncated, infos = envs.step(actions)
        successors = returned.copy()
        for i in range(envs.num_envs):
            if (terminated[i] or truncated[i]) and "final_obs" in infos:
                successors[i] = infos["final_obs"][i]
        steps.append(Batch(obs, actions, rewards, returned, successors, terminated, truncated))
        obs = returned
    return Batch(*map(np.array, zip(*steps)))


def collect__sampled_by_the_space(envs, num_steps, seed):
    envs.action_space.seed(seed + 1_000_000)
    obs, _ = envs.reset(seed=seed)
    found = [[] for _ in Batch._fields]
    for _ in range(num_steps):
        actions = envs.action_space.sample()
        returned, rewards, terminated, truncated, infos = envs.step(actions)
        done = np.logical_or(terminated, truncated) if "final_obs" in infos else np.zeros(len(obs), bool)
        successors = true_next_obs(returned, done, infos)
        row = (obs, actions, rewards, returned, successors, terminated, truncated)
        for column, value in zip(found, row):
            column.append(value)
        obs = returned
    return Batch(*[np.stack(column) for column in found])


def td_solution__in_loops(obs, rewards, next_obs, ended, gamma, num_states):
    system, paid = np.zeros((num_states, num_states)), np.zeros(num_states)
    for s, r, s_next, end in zip(obs.flat, rewards.flat, next_obs.flat, ended.flat):
        system[s, s] += 1
        paid[s] += r
        if not end:
            system[s, s_next] -= gamma
    for s in range(num_states):
        if s not in obs:
            system[s, s] = 1.0
    return np.linalg.solve(system, paid)


def td_solution__one_hot(obs, rewards, next_obs, ended, gamma, num_states):
    rows = np.eye(num_states)
    here, later = rows[obs.ravel()], rows[next_obs.ravel()]
    later[ended.ravel()] = 0.0
    system = here.T @ (here - gamma * later)
    unseen = here.sum(axis=0) == 0
    return np.linalg.inv(system + np.diag(unseen.astype(float))) @ here.T @ rewards.ravel()


def td_solution__visited_only(obs, rewards, next_obs, ended, gamma, num_states):
    visited = np.unique(obs)
    mean_rewards = np.array([rewards[obs == s].mean() for s in visited])
    P = np.array([[np.mean((next_obs == n)[obs == s] * ~ended[obs == s]) for n in visited] for s in visited])
    V = np.zeros(num_states)
    V[visited] = np.linalg.solve(np.eye(len(visited)) - gamma * P, mean_rewards)
    return V


class Clock__observation_wrapper(gym.ObservationWrapper):
    def __init__(self, env, time_limit):
        super().__init__(env)
        clock = gym.spaces.Discrete(time_limit + 1)
        self.observation_space = gym.spaces.Tuple([env.observation_space, clock])

    def reset(self, *, seed=None, options=None):
        self.shown = 0
        return super().reset(seed=seed, options=options)

    def observation(self, observation):
        found = (observation, self.shown)
        self.shown += 1
        return found


class Clock__five_names(gym.Wrapper):
    def __init__(self, env, time_limit):
        gym.Wrapper.__init__(self, env)
        self.observation_space = gym.spaces.Tuple(
            (env.observation_space, gym.spaces.Discrete(n=1 + time_limit, start=0))
        )
        self.taken = np.int64(0)

    def reset(self, **kwargs):
        self.taken = np.int64(0)
        obs, info = super().reset(**kwargs)
        return (obs, self.taken), info

    def step(self, action):
        self.taken = self.taken + 1
        obs, reward, terminated, truncated, info = super().step(action)
        return (obs, self.taken), reward, terminated, truncated, info


def real_steps__in_loops(terminated, truncated):
    T, N = terminated.shape
    real = np.full((T, N), True)
    for i in range(N):
        for t in range(1, T):
            if terminated[t - 1, i] or truncated[t - 1, i]:
                real[t, i] = False
    return real


def real_steps__stacked(terminated, truncated):
    first = np.ones((1, terminated.shape[1]), dtype=bool)
    return np.concatenate([first, ~terminated[:-1] & ~truncated[:-1]])


def real_steps__rolled(terminated, truncated):
    ended_before = np.roll(np.logical_or(terminated, truncated), 1, axis=0)
    ended_before[0] = False
    return np.logical_not(ended_before)
