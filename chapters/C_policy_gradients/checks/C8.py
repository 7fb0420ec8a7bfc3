"""C8's functions against their definitions, and its named edits."""

import heapq
import itertools

import numpy as np

from chapters.C_policy_gradients.C8_scaling_with_ray import Config, Done, Job
from chapters.envs.cartpole import BatchedCartPole
from chapters.utils.edits import Edit


def check_noises(noises):
    """Each row follows from its address alone, pairs mirror each other, and addresses differ."""
    everyone = np.arange(8)
    for seed, iteration in ((0, 0), (3, 1), (11, 40)):
        together = noises(seed, iteration, everyone)
        for i in everyone:
            where = f"seed {seed}, iteration {iteration}, member {i}"
            alone = noises(seed, iteration, np.array([i]))
            drawn = np.random.default_rng([seed, iteration, i // 2]).standard_normal(4)
            expected = drawn if i % 2 == 0 else -drawn
            np.testing.assert_allclose(alone[0], expected, rtol=1e-12, err_msg=f"alone: {where}")
            np.testing.assert_array_equal(together[i], alone[0], err_msg=f"among others: {where}")
    order = np.array([5, 2, 7])
    found, expected = noises(0, 0, order), noises(0, 0, everyone)[order]
    np.testing.assert_array_equal(found, expected, err_msg="members 5, 2, 7")


def check_play(play):
    """Against one episode at a time, each from the start that its address gives."""
    rng = np.random.default_rng(3)
    for seed, iteration, members in ((0, 0, np.arange(6)), (2, 5, np.array([3, 8, 9]))):
        policies = rng.normal(size=(len(members), 4))
        found = play(policies.copy(), seed, iteration, members)
        for row, member in enumerate(members):
            envs = BatchedCartPole(1)
            envs.reset(seed=0)
            start = np.random.default_rng([seed, iteration, member // 2, 1]).uniform(-0.05, 0.05, 4)
            obs = envs.state = start[None]
            total, alive = 0.0, True
            while alive:
                obs, _, terminated, truncated, _ = envs.step(np.array([int(obs[0] @ policies[row] > 0)]))
                total += 1.0
                alive = not (terminated[0] or truncated[0])
            assert found[row] == total, f"member {member}, iteration {iteration}: {found[row]}, not {total}"


def counted_rank(returns, own):
    """How many are worse, and half of the others that are equal."""
    return (returns < own).sum() + ((returns == own).sum() - 1) / 2


def check_centred_ranks(centred_ranks):
    rng = np.random.default_rng(0)
    for size in (2, 3, 8, 25):
        for returns in (rng.normal(size=size), rng.integers(0, 4, size=size).astype(float), np.ones(size)):
            found = centred_ranks(returns.copy())
            for i, own in enumerate(returns):
                expected = counted_rank(returns, own) / (size - 1) - 0.5
                said = f"return {own:.3g} among {returns.round(3).tolist()}"
                np.testing.assert_allclose(found[i], expected, atol=1e-12, err_msg=said)


def check_improved(improved):
    """Against the sum in (1), member by member."""
    rng = np.random.default_rng(1)
    for size, sigma, learning_rate in ((4, 0.1, 0.3), (7, 0.3, 1.0), (32, 0.03, 0.1)):
        theta, noise = rng.normal(size=4), rng.normal(size=(size, 4))
        returns = rng.integers(0, 9, size=size).astype(float)
        expected = theta.copy()
        for i, own in enumerate(returns):
            weight = counted_rank(returns, own) / (size - 1) - 0.5
            expected += learning_rate * weight * noise[i] / (size * sigma)
        found = improved(theta.copy(), noise.copy(), returns.copy(), sigma, learning_rate)
        np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=f"{size} members, sigma {sigma}")


def by_events(durations, num_workers, dispatch):
    """From event to event: a task is handed out, or a worker is done and takes the first that waits."""
    arrivals = [(i + 1) * dispatch for i in range(len(durations))]
    ends, waiting, idle, now, handed = [], [], num_workers, 0.0, 0
    while handed < len(durations) or ends:
        if handed < len(durations) and (not ends or arrivals[handed] <= ends[0]):
            now = arrivals[handed]
            waiting.append(durations[handed])
            handed += 1
        else:
            now = heapq.heappop(ends)
            idle += 1
        while idle and waiting:
            heapq.heappush(ends, now + waiting.pop(0))
            idle -= 1
    return now


def check_makespan(makespan):
    rng = np.random.default_rng(2)
    for size, num_workers, dispatch in itertools.product((1, 2, 7, 20), (1, 2, 3, 30), (0.0, 0.1, 2.0)):
        durations = rng.exponential(size=size)
        found, expected = (
            makespan(durations.copy(), num_workers, dispatch),
            by_events(durations, num_workers, dispatch),
        )
        said = f"{size} tasks, {num_workers} workers, a dispatch of {dispatch}"
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=said)


def check_bounds(bounds):
    rng = np.random.default_rng(4)
    for size, num_workers, dispatch in itertools.product((1, 2, 7, 20), (1, 2, 30), (0.0, 0.1, 2.0)):
        durations = rng.exponential(size=size)
        longest, shared = max(durations), sum(durations) / num_workers
        least = max(shared, longest, size * dispatch)
        most = size * dispatch + shared + (num_workers - 1) / num_workers * longest
        found = bounds(durations.copy(), num_workers, dispatch)
        said = f"{size} tasks, {num_workers} workers, a dispatch of {dispatch}"
        np.testing.assert_allclose(found, (least, most), rtol=1e-9, err_msg=said)


def check_step_seconds(step_seconds):
    rng = np.random.default_rng(5)
    for num_workers in (1, 2, 7, 1000):
        fixed, members, call = rng.exponential(size=3)
        expected = fixed + sum(call for _ in range(num_workers)) + members / num_workers
        found = step_seconds(num_workers, fixed, members, call)
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=f"{num_workers} workers")


def check_best_workers(best_workers):
    """Nothing beside it is shorter."""
    rng = np.random.default_rng(6)
    for _ in range(10):
        members, call = rng.exponential(size=2)
        found = best_workers(members, call)
        here, *beside = (members / w + call * w for w in (found, 0.99 * found, 1.01 * found))
        assert here < min(beside), (
            f"members {members:.3g} s, a call {call:.3g} s: {found:.4g} is not the best"
        )


def check_num_different(num_different):
    jobs = [Job(Config(), 0.1, seed) for seed in range(4)]
    here = {job: Done((float(i), 1.0), 7.0, "here", 0.0, 1.0, 0.5) for i, job in enumerate(jobs)}
    moved = {job: done._replace(node="there", begun=5.0, cpu_seconds=9.0) for job, done in here.items()}
    assert num_different(moved, here) == 0, "where and when a job ran is no difference"
    lost = {job: moved[job] for job in jobs[1:]}
    assert num_different(lost, here) == 1, "a job that is missing"
    other = moved | {jobs[2]: moved[jobs[2]]._replace(score=7.0 + 1e-15 * 8)}
    assert num_different(other, here) == 1, "a score that differs in its last digit"
    other = lost | {jobs[3]: moved[jobs[3]]._replace(theta=(3.0, 1.5))}
    assert num_different(other, here) == 2, "one is missing, one has another weight"


EDITS = {
    "chance_by_process": Edit(
        function="noises",
        old="default_rng([seed, iteration, i // 2])",
        new='default_rng([__import__("os").getpid(), iteration, i // 2])',
        says="draws noise that depends on the process that draws it",
        fails=("same_numbers", "actors_gap", "nothing_lost"),
    ),
    "one_stream": Edit(
        function="noises",
        old="np.array(rows)",
        new="np.random.default_rng([seed, iteration]).standard_normal((len(members), NUM_WEIGHTS))",
        says="draws all members' noise from one stream: it depends on who else is there",
        fails=("actors_gap",),
    ),
    "no_mirror": Edit(
        function="noises",
        old="np.where(members % 2, -1.0, 1.0)",
        new="np.ones(len(members))",
        says="gives both members of a pair the same noise",
    ),
    "same_every_iteration": Edit(
        function="noises",
        old="[seed, iteration, i // 2]",
        new="[seed, i // 2]",
        says="leaves the iteration out of the address: the same noise at every step",
    ),
    "one_start": Edit(
        function="play",
        old="[seed, iteration, i // 2, 1]",
        new="[seed, iteration, 1]",
        says="starts all episodes of a step in the same state",
    ),
    "ties_in_order": Edit(
        function="centred_ranks",
        old="rankdata(returns)",
        new='rankdata(returns, method="ordinal")',
        says="ranks ties by their number in the population",
    ),
    "not_centred": Edit(
        function="centred_ranks",
        old=" - 0.5  # eq. (2)",
        new="  # eq. (2)",
        says="does not centre the ranks: all noise is added, the worst with weight 0",
    ),
    "by_size": Edit(
        function="centred_ranks",
        old="(len(returns) - 1)",
        new="len(returns)",
        says="divides ranks by m, so that the best never gets ½",
    ),
    "no_sigma": Edit(
        function="improved",
        old="(len(returns) * sigma)",
        new="len(returns)",
        says="forgets to divide by sigma",
    ),
    "downhill": Edit(
        function="improved",
        old="theta + learning_rate",
        new="theta - learning_rate",
        says="moves away from what did well",
        fails=("best_setting",),
    ),
    "raw_returns": Edit(
        function="improved",
        old="centred_ranks(returns) @ noise",
        new="returns @ noise",
        says="weighs noise by returns instead of their ranks",
    ),
    "no_retries": Edit(
        function="sweep_on_ray",
        old="max_retries=RETRIES",
        new="max_retries=0",
        says="gives up a task whose node dies",
        fails=("nothing_lost",),
    ),
    "order_of_answers": Edit(
        function="learn_with_actors",
        old="np.concatenate(ray.get(parts))",
        new="np.concatenate(ray.get(parts)[::-1])",
        says="puts returns together as if the last worker had answered first: they meet other members' noise",
        fails=("actors_gap",),
    ),
    "no_dispatch": Edit(
        function="makespan",
        old="max(free[first], (i + 1) * dispatch)",
        new="free[first]",
        says="hands all tasks out at once",
    ),
    "waits_for_a_worker": Edit(
        function="makespan",
        old="max(free[first], (i + 1) * dispatch) + seconds",
        new="free[first] + dispatch + seconds",
        says="spends the dispatch on the worker's time instead of the driver's",
    ),
    "in_turn": Edit(
        function="makespan",
        old="free.argmin()",
        new="i % num_workers",
        says="deals tasks out in turn, whoever is free",
    ),
    "first_for_nothing": Edit(
        function="makespan",
        old="(i + 1) * dispatch",
        new="i * dispatch",
        says="hands the first task out in no time",
    ),
    "no_longest": Edit(
        function="bounds",
        old="max(shared, longest, handed)",
        new="max(shared, handed)",
        says="forgets that the longest task takes its time on any number of workers",
    ),
    "whole_longest": Edit(
        function="bounds",
        old="(1 - 1 / num_workers) * longest",
        new="longest",
        says="counts the last task's share of the work twice",
    ),
    "amdahl": Edit(
        function="step_seconds",
        old=" + call * num_workers  # eq. (4)",
        new=" + call  # eq. (4)",
        says="lets calls cost the same however many workers are called",
    ),
    "fixed_is_spread": Edit(
        function="step_seconds",
        old="fixed + members / num_workers",
        new="(fixed + members) / num_workers",
        says="spreads what cannot be spread",
    ),
    "no_root": Edit(
        function="best_workers",
        old="float(np.sqrt(members / call))",
        new="float(members / call)",
        says="forgets the root",
    ),
    "upside_down": Edit(
        function="best_workers",
        old="members / call",
        new="call / members",
        says="takes the more workers the dearer a call",
    ),
    "missing_is_fine": Edit(
        function="num_different",
        old="job not in found or found[job][:2] != here[job][:2]",
        new="job in found and found[job][:2] != here[job][:2]",
        says="does not count a job that is missing",
    ),
    "compares_times": Edit(
        function="num_different",
        old="found[job][:2] != here[job][:2]",
        new="found[job] != here[job]",
        says="takes where and when a job ran for a difference",
    ),
    "only_scores": Edit(
        function="num_different",
        old="found[job][:2] != here[job][:2]",
        new="found[job].score != here[job].score",
        says="compares scores and no weights",
    ),
}
