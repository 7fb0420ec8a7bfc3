"""Right answers to C8's exercises in other idioms: the grader must pass each."""

import heapq
import math

import numpy as np

from chapters.C_policy_gradients.C8_scaling_with_ray import NUM_WEIGHTS
from chapters.envs.cartpole import BatchedCartPole


def noises__one_at_a_time(seed, iteration, members):
    found = np.empty((len(members), NUM_WEIGHTS))
    for row, member in enumerate(members):
        pair, mirrored = divmod(int(member), 2)
        drawn = np.random.default_rng([seed, iteration, pair]).standard_normal(NUM_WEIGHTS)
        found[row] = -drawn if mirrored else drawn
    return found


def noises__pairs_first(seed, iteration, members):
    drawn = {
        pair: np.random.default_rng((seed, iteration, pair)).normal(size=4)
        for pair in np.unique(members // 2)
    }
    return np.stack([(1 - 2 * (i % 2)) * drawn[i // 2] for i in members])


def play__one_at_a_time(policies, seed, iteration, members):
    returns = []
    for policy, member in zip(policies, members):
        envs = BatchedCartPole(1)
        envs.reset(seed=0)
        rng = np.random.default_rng([seed, iteration, member // 2, 1])
        envs.state = rng.uniform(-0.05, 0.05, size=(1, 4))
        obs, total, done = envs.state, 0.0, False
        while not done:
            obs, _, terminated, truncated, _ = envs.step((obs @ policy > 0).astype(int))
            total += 1
            done = bool(terminated[0] or truncated[0])
        returns.append(total)
    return np.array(returns)


def play__matrix(policies, seed, iteration, members):
    envs = BatchedCartPole(len(members))
    envs.reset(seed=0)
    starts = [
        np.random.default_rng((seed, iteration, m // 2, 1)).uniform(-0.05, 0.05, size=4) for m in members
    ]
    envs.state = np.stack(starts)
    obs, running = envs.state, np.full(len(members), True)
    returns = np.zeros(len(members))
    for _ in range(500):
        obs, rewards, terminated, truncated, _ = envs.step(
            np.where(np.einsum("bd,bd->b", obs, policies) > 0, 1, 0)
        )
        returns[running] += rewards[running]
        running = running & ~terminated & ~truncated
    return returns


def centred_ranks__counting(returns):
    worse = (returns[None, :] < returns[:, None]).sum(axis=1)
    equal = (returns[None, :] == returns[:, None]).sum(axis=1)
    return (worse + (equal - 1) / 2) / (len(returns) - 1) - 0.5


def centred_ranks__sorted(returns):
    ordered = np.sort(returns)
    left, right = (np.searchsorted(ordered, returns, side) for side in ("left", "right"))
    return ((left + right - 1) / 2) / (returns.size - 1) - 1 / 2


def improved__loop(theta, noise, returns, sigma, learning_rate):
    weights = centred_ranks__counting(returns)
    step = np.zeros_like(theta)
    for weight, row in zip(weights, noise):
        step += weight * row
    return theta + learning_rate * step / (sigma * len(returns))


def improved__mean(theta, noise, returns, sigma, learning_rate):
    weighted = centred_ranks__sorted(returns)[:, None] * noise
    return theta + learning_rate / sigma * weighted.mean(axis=0)


def makespan__heap(durations, num_workers, dispatch):
    free = [0.0] * num_workers
    for number, seconds in enumerate(durations, start=1):
        begins = max(heapq.heappop(free), number * dispatch)
        heapq.heappush(free, begins + seconds)
    return max(free)


def makespan__sorted(durations, num_workers, dispatch):
    free, handed = [0.0] * num_workers, 0.0
    for seconds in durations.tolist():
        handed += dispatch
        free.sort()
        free[0] = (free[0] if free[0] > handed else handed) + seconds
    return np.max(free)


def bounds__plain(durations, num_workers, dispatch):
    n, total, longest = len(durations), float(sum(durations)), float(max(durations))
    least = max(total / num_workers, longest, n * dispatch)
    return least, n * dispatch + longest + (total - longest) / num_workers


def bounds__numpy(durations, num_workers, dispatch):
    handed = dispatch * durations.size
    least = np.max([durations.mean() * durations.size / num_workers, np.max(durations), handed])
    return least, handed + np.sum(durations) / num_workers + np.max(durations) * (
        num_workers - 1
    ) / num_workers


def step_seconds__sum(num_workers, fixed, members, call):
    return sum((fixed, call * num_workers, members / num_workers))


def step_seconds__fraction(num_workers, fixed, members, call):
    return (fixed * num_workers + members + call * num_workers**2) / num_workers


def best_workers__power(members, call):
    return (members / call) ** 0.5


def best_workers__logs(members, call):
    return math.exp((math.log(members) - math.log(call)) / 2)


def num_different__loop(found, here):
    count = 0
    for job, own in here.items():
        other = found.get(job)
        if other is None or other.theta != own.theta or other.score != own.score:
            count += 1
    return count


def num_different__sets(found, here):
    same = {job for job in here.keys() & found.keys() if tuple(found[job])[:2] == tuple(here[job])[:2]}
    return len(here) - len(same)


def seconds_with_failures__try_by_try(length, rate):
    if rate == 0:
        return length
    survives = math.exp(-rate * length)
    lost = (1 - survives) / rate - length * survives
    return lost / survives + length


def seconds_with_failures__exponential(length, rate):
    return (math.exp(length * rate) - 1) / rate if rate > 0 else length


def slowest__numpy(mean, num_workers):
    return (mean / np.arange(1, num_workers + 1)).sum()


def slowest__loop(mean, num_workers):
    total = 0
    while num_workers:
        total += mean / num_workers
        num_workers -= 1
    return total
