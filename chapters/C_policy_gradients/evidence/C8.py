"""Evidence for C8: `rl sweep` here and on a cluster; what two workers bring, and 1,000 would; RLlib."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from chapters import cluster
from chapters.C_policy_gradients import C3_ppo_from_scratch as c3
from chapters.C_policy_gradients import C7_impala_vtrace as c7
from chapters.C_policy_gradients import C8_scaling_with_ray as lesson
from chapters.C_policy_gradients.evidence import C8_plain, C8_rllib
from chapters.envs import evaluate
from chapters.utils import CpuClock, RunLog, in_range, plotting

RL = [sys.executable, "-c", "from chapters.course.cli import main; main()"]
ROOT = Path(__file__).resolve().parents[3]
LONGER = 1000.0
"""How many times as long members play in the learner that is drawn beside the lesson's own."""
COSTS = ("dispatch", "members", "fixed", "call", "task")
"""Seconds that the model rests on."""
RACERS = ("ray_one", "ray_two", "plain_one", "plain_two")
"""One and two of Ray's workers; one and two plain processes."""
HUMANOID = ((18, 657.0), (1440, 10.0))
"""Cores and minutes of an evolution strategy on a 3D humanoid (salimans2017es, figure 1)."""


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_timed_jobs: Annotated[int, in_range(2, 1000)] = 4
    """Jobs of the sweep that one worker and two do, and one plain process and two."""
    num_rounds: Annotated[int, in_range(1, 1000)] = 7
    """How often each of them does it."""
    num_swept_seeds: Annotated[int, in_range(1, 100)] = 1
    """Seeds of the `rl sweep` that runs here and on the cluster, with two settings each."""
    num_peer_steps: Annotated[int, in_range(2048, 10_000_000)] = 61_440
    """Environment steps of C3's and C7's learners and of RLlib's."""


SMOKE = {"num_timed_jobs": 2, "num_rounds": 1, "num_peer_steps": 2048}


# The model


def schedules(cfg: lesson.Config, log: RunLog) -> None:
    """The simulated sweep against the two bounds, on random ones."""
    rng = np.random.default_rng(cfg.seed)
    worst = -np.inf
    for _ in range(300):
        durations = rng.exponential(size=rng.integers(1, 40))
        case = (durations, int(rng.integers(1, 12)), float(rng.choice([0.0, 0.01, 0.5])))
        (least, most), found = lesson.bounds(*case), lesson.makespan(*case)
        worst = max(worst, least - found, found - most)
    log.claim(
        "within_bounds",
        "how far the simulated time of a random sweep lies outside the bounds (3), at worst",
        max(0.0, worst),
        at_most=1e-9,
        unit="of a task's mean length",
        source="graham1969bounds",
        always=True,
        seeds="10/10",
    )


def nothing() -> None:
    """A task that costs what handing it out costs."""


def measure_costs(job: lesson.Job) -> dict[str, float]:
    """Seconds here and now: of a dispatch, a step's members, the rest of a step, a call to an actor."""
    import ray

    remote = ray.remote(num_cpus=1)(nothing)
    ray.get([remote.remote() for _ in range(10)])  # the first ones start a worker
    start = time.perf_counter()
    ray.get([remote.remote() for _ in range(200)])
    costs = {"dispatch": (time.perf_counter() - start) / 200}
    theta, everyone, clocks = (
        np.zeros(lesson.NUM_WEIGHTS),
        np.arange(job.cfg.num_members),
        (CpuClock(), CpuClock()),
    )
    for i in range(job.cfg.num_iterations):
        with clocks[0]:
            returns = lesson.returns_of(job, theta, i, everyone)
        with clocks[1]:
            noise = lesson.noises(job.seed, i, everyone)
            theta = lesson.improved(theta, noise, returns, job.sigma, job.cfg.learning_rate)
    costs["members"], costs["fixed"] = (clock.seconds / job.cfg.num_iterations for clock in clocks)
    _, steps = lesson.learn_with_actors(job, num_workers=2)
    # the quickest step suffers least from what else the machine does; its members had half the work each
    costs["call"] = max(1e-5, (min(steps) - costs["members"] / 2) / 2)
    return costs


def sweep_on_nodes(jobs: list[lesson.Job], nodes: list[str]) -> list[lesson.Done]:
    """What `lesson.sweep_on_ray` does, its tasks dealt in turn to the workers of these nodes."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    remote = ray.remote(num_cpus=1)(lesson.run)
    dealt = list(zip(jobs, itertools.cycle(nodes)))
    return ray.get([remote.options(scheduling_strategy=On(n, soft=False)).remote(job, n) for job, n in dealt])


def wall_seconds(done: list[lesson.Done]) -> float:
    """From when the first task began until the last one ended: start-up is left out."""
    return max(one.ended for one in done) - min(one.begun for one in done)


def own_seconds(done: list[lesson.Done]) -> float:
    """The same with nobody else there: each task takes its CPU seconds, and then comes a usual gap."""
    rows: dict[str, list[lesson.Done]] = {}
    for one in sorted(done, key=lambda one: one.begun):
        rows.setdefault(one.node, []).append(one)
    gaps = [b.begun - a.ended for row in rows.values() for a, b in itertools.pairwise(row)]
    gap = float(np.median(gaps)) if gaps else 0.0
    return max(sum(one.cpu_seconds for one in row) + gap * (len(row) - 1) for row in rows.values())


def gain(
    found: dict[str, list[list[lesson.Done]]], who: str, seconds: Callable[[list[lesson.Done]], float]
) -> float:
    """How many times as fast two are as one, in the median round.

    Both are divided within a round, seconds after each other: a machine that others use, too, changes its
    pace from round to round.
    """
    pairs = zip(found[f"{who}_one"], found[f"{who}_two"])
    return float(np.median([seconds(one) / seconds(two) for one, two in pairs]))


def race(jobs: list[lesson.Job], num_rounds: int) -> dict[str, list[list[lesson.Done]]]:
    """{one of RACERS: what it did of the sweep in each round}; they take turns."""
    import ray

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    told = [(dataclasses.asdict(job.cfg), job.sigma, job.seed) for job in jobs]
    found: dict[str, list[list[lesson.Done]]] = {name: [] for name in RACERS}
    with contextlib.ExitStack() as stack:
        context = get_context("spawn")
        pools = [stack.enter_context(ProcessPoolExecutor(size, mp_context=context)) for size in (1, 2)]

        def plainly(pool: ProcessPoolExecutor) -> list[lesson.Done]:
            return [lesson.Done(*fields) for fields in pool.map(C8_plain.run, *zip(*told))]

        ways = {
            "ray_one": lambda: sweep_on_nodes(jobs, nodes[:1]),
            "ray_two": lambda: sweep_on_nodes(jobs, nodes),
            "plain_one": lambda: plainly(pools[0]),
            "plain_two": lambda: plainly(pools[1]),
        }
        for i in range(num_rounds + 1):
            for name, way in ways.items():
                done = way()
                if i:  # in round 0 workers start, and import what they need
                    found[name].append(done)
    return found


def speeds(costs: dict[str, float]) -> dict[str, Callable[[float], float]]:
    """How many times as fast as one core so many workers are, by the model, for four kinds of work."""

    def of_sweep(num_tasks: int) -> Callable[[float], float]:
        tasks = np.full(num_tasks, costs["task"])
        return lambda workers: tasks.sum() / lesson.makespan(tasks, int(workers), costs["dispatch"])

    def of_learner(times: float) -> Callable[[float], float]:
        fixed, members, call = costs["fixed"], times * costs["members"], costs["call"]
        return lambda workers: (fixed + members) / lesson.step_seconds(int(workers), fixed, members, call)

    return {
        "a sweep of 10,000 runs": of_sweep(10_000),
        "a sweep of 64 runs": of_sweep(64),
        f"one learner, play {LONGER:,.0f} times as long": of_learner(LONGER),
        "one learner, as here": of_learner(1.0),
    }


def costs_of(metrics: dict[str, list]) -> dict[str, float]:
    """The measured costs, read back from a run's metrics."""
    return {name: metrics[f"{name}_seconds"][-1][1] for name in COSTS}


def draw_model(costs: dict[str, float], log: RunLog) -> None:
    """What more workers bring, up to 1,000 of them, and what a published cluster did."""
    figure, ax = plotting.new_figure(width=7.5, height=5.4)
    workers = np.unique(np.geomspace(1, 1000, 80).round())
    looks = (plotting.BLUE, plotting.SKY, plotting.GREEN, plotting.ORANGE)
    for (label, speed), color in zip(speeds(costs).items(), looks):
        ax.loglog(workers, [speed(w) for w in workers], color=color, label=label)
    (few, long), (many, short) = HUMANOID
    ax.loglog([few, many], [few, few * long / short], "D:", color=plotting.PURPLE,
              label=f"a humanoid, published ({few}, {many:,})")  # fmt: skip
    ax.loglog(workers, workers, label="as fast as there are workers", **plotting.REFERENCE)
    ax.set(xlabel="workers", ylabel="times as fast as one core", ylim=(0.05, 3000))
    figure.legend(loc="outside lower center", ncols=2, fontsize=10)
    log.figure(figure, "model")


def draw_race(runs: list[dict], log: RunLog) -> None:
    """Seconds of a sweep on one and on two workers, a dot for each run."""
    labels = ("one of Ray's workers", "two of them", "one plain process", "two of them ")
    rows = {label: [run[f"{name}_seconds"][-1][1] for run in runs] for label, name in zip(labels, RACERS)}
    figure, ax = plotting.new_figure(width=7.5, height=2.6)
    plotting.dot_rows(ax, rows, [plotting.BLUE, plotting.BLUE, plotting.ORANGE, plotting.ORANGE])
    ax.set(
        xlabel="seconds for one sweep, without start-up and other programs", title="Two workers, one sweep"
    )
    log.figure(figure, "race")


# `rl sweep`


def start_sweep(out: Path, *where: str, num_seeds: int) -> subprocess.Popen:
    """`rl sweep` of a small lesson in smoke mode, with two settings."""
    flags = ["sweep", "A4", "--smoke", "--seeds", f"0:{num_seeds}", "--set", "num_steps=500,1000"]
    command = [*RL, *flags, *where, "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def sweeps(nodes: list[cluster.Node], extra: Config, log: RunLog) -> None:
    """The same sweep by one process, by two, and on a cluster that loses a node after the first run."""
    import ray

    address = ray.get_runtime_context().gcs_address
    ways = {"one": ["--jobs", "1"], "two": ["--jobs", "2"], "cluster": ["--on", "ray", "--address", address]}
    books, missing = set(), 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, where in ways.items():
            process = start_sweep(Path(scratch) / name, *where, num_seeds=extra.num_swept_seeds)
            process.stdout.readline()  # a run has ended
            if name == "cluster":
                nodes[1].kill()
            process.communicate()
            folder = next((Path(scratch) / name).glob("A4/*/"))
            runs = {path for path in folder.glob("*/seed*") if path.is_dir()}
            missing += abs(2 * extra.num_swept_seeds - len(runs)) + len(list(folder.glob(".part-*")))
            books.add((folder / "sweep.json").read_bytes())
    log.claim(
        "sweep_ledgers",
        "different ledgers of one `rl sweep` by one process, two, and a cluster that loses a node",
        len(books),
        at_most=1,
        unit="contents, compared byte by byte",
        source="every number of a run follows from its flags",
        always=True,
        seeds="10/10",
    )
    log.claim(
        "sweep_lost",
        "runs of these sweeps that are missing, or there twice, or half-made",
        missing,
        at_most=0,
        unit="runs",
        source="each is kept once",
        always=True,
        seeds="10/10",
    )


# RLlib beside the course

OURS = {"ppo": c3, "impala": c7}
"""The lessons whose learners RLlib has too."""
THEIRS = {"ppo": C8_rllib.ppo, "impala": C8_rllib.impala}


def greedy(act: Callable, cfg: Any) -> float:
    """Mean return of a policy's likeliest actions."""
    return float(evaluate(act, cfg.env_id, episodes=100, seed=cfg.seed + 20_000).mean())


def ours(name: str, cfg: Any) -> tuple[float, float]:
    """(CPU seconds of learning, mean return afterwards) of a lesson's learner, by its own clock."""
    with tempfile.TemporaryDirectory() as scratch:
        aside = RunLog(Path(scratch), name)
        agent = OURS[name].train(dataclasses.replace(cfg, eval_every=cfg.num_env_steps), aside)
        seconds = aside.last("ours_cpu_seconds")
        aside.close()
    return seconds, greedy(agent.greedy(), cfg)


def theirs(name: str, cfg: Any) -> tuple[float, float]:
    """The same of RLlib's."""
    algorithm = THEIRS[name](cfg).build_algo()
    clock, steps = CpuClock(), 0
    while steps < cfg.num_env_steps:
        with clock:
            steps = C8_rllib.steps_of(algorithm.train())
    score = greedy(C8_rllib.likeliest(algorithm), cfg)
    algorithm.stop()
    return clock.seconds, score


def peers(seed: int, num_env_steps: int, log: RunLog) -> None:
    """Ours and RLlib's for as many steps, one after the other in this process, with one thread."""
    if log.smoke:  # ten seconds of imports for one update
        return
    if why := C8_rllib.lacks():
        print(why, file=sys.stderr)
        return
    for name, module in OURS.items():
        cfg = module.Config(seed=seed, num_env_steps=num_env_steps)
        ours(name, dataclasses.replace(cfg, num_env_steps=2048))  # imports are on nobody's clock
        for whose, learner in (("ours", ours), ("rllib", theirs)):
            seconds, score = learner(name, cfg)
            log.write(0, **{f"{whose}_{name}_cpu_seconds": seconds, f"{whose}_{name}_return": score})


def workers(jobs: list[lesson.Job], num_rounds: int, log: RunLog) -> float:
    """Two workers against one, and beside them two processes against one; returns a task's seconds."""
    found = race(jobs, num_rounds)
    usual, walls = (
        {name: float(np.median([seconds(done) for done in rounds])) for name, rounds in found.items()}
        for seconds in (own_seconds, wall_seconds)
    )
    log.write(0, **{f"{name}_seconds": value for name, value in usual.items()})
    log.write(0, **{f"{name}_wall_seconds": value for name, value in walls.items()})
    log.claim(
        "two_workers",
        "two of Ray's workers do a sweep so many times as fast as one, without start-up and other programs",
        gain(found, "ray", own_seconds),
        at_least=1.7,
        unit="times: CPU seconds of tasks and the gaps between, median of the rounds",
        source="twice is the most; 15 % are left for handing out, for returning, and for who ends last",
        timed=True,
    )
    log.claim(
        "two_processes",
        "two plain processes are as much faster than one: what this machine has to give, in the same rounds",
        gain(found, "plain", own_seconds),
        at_least=1.0,
        unit="times, in the same way",
        source="two cores do no less than one",
        timed=True,
    )
    return usual["ray_one"] / len(jobs)


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    schedules(cfg, log)
    seeds = [cfg.seed * extra.num_timed_jobs + i for i in range(extra.num_timed_jobs)]
    jobs = [lesson.Job(cfg, lesson.SIGMAS[1], seed) for seed in seeds]
    with cluster.nodes(1, 1) as nodes:
        task = workers(jobs, extra.num_rounds, log)
        costs = measure_costs(jobs[0]) | {"task": task}
        log.write(0, **{f"{name}_seconds": value for name, value in costs.items()})
        sweeps(nodes, extra, log)
        peers(cfg.seed, extra.num_peer_steps, log)
    draw_model(costs, log)
    draw_race([log.metrics], log)


def compare_peers(runs: list[dict], log: RunLog) -> None:
    """The seconds and returns of ours and RLlib's, a dot for each run."""
    columns = {
        "PPO, lesson C3": "ours_ppo",
        "PPO, RLlib": "rllib_ppo",
        "IMPALA, lesson C7": "ours_impala",
        "IMPALA, RLlib": "rllib_impala",
    }
    figure, axes = plotting.new_figure(1, 2, width=6.0, height=3.2)
    medians = {}
    for ax, what, unit in zip(axes, ("cpu_seconds", "return"), ("CPU seconds", "mean greedy return")):
        rows = {
            label: [run["metrics"][f"{name}_{what}"][-1][1] for run in runs]
            for label, name in columns.items()
        }
        medians[what] = {label: float(np.median(row)) for label, row in rows.items()}
        plotting.dot_rows(ax, rows, 2 * [plotting.BLUE, plotting.ORANGE])
        ax.set(xlabel=unit)
    axes[0].set_title("What as many steps cost")
    axes[1].set_title("What they brought")
    axes[1].axvline(lesson.SOLVED, **plotting.REFERENCE)
    axes[1].set(xlim=(0, 510), xlabel="mean greedy return (dashed: solved)")
    log.figure(figure, "rllib")
    cpu = medians["cpu_seconds"]
    for name, statement, over, under in (
        ("faster_ppo", "RLlib's PPO takes more CPU seconds than C3's for as many steps at its settings",
         "PPO, RLlib", "PPO, lesson C3"),
        ("faster_impala", "RLlib's IMPALA takes more CPU seconds than C7's for as many steps",
         "IMPALA, RLlib", "IMPALA, lesson C7"),
    ):  # fmt: skip
        log.claim(
            name,
            statement,
            cpu[over] / cpu[under],
            at_least=1.0,
            unit="times ours, medians",
            source="RLlib, in the same runs, in one process, one thread each",
            timed=True,
        )


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: costs as medians, and what RLlib takes beside ours."""
    found = [costs_of(run["metrics"]) for run in runs]
    draw_model({name: float(np.median([costs[name] for costs in found])) for name in COSTS}, log)
    draw_race([run["metrics"] for run in runs], log)
    one, two = ([run["metrics"][f"ray_{n}_wall_seconds"][-1][1] for run in runs] for n in ("one", "two"))
    log.claim(
        "two_workers_wall",
        "two of Ray's workers do a sweep so many times as fast as one, by the clock on the wall",
        float(np.median(np.divide(one, two))),
        at_least=1.7,
        unit="times, median of the seeds",
        source="as for two_workers; recorded with little else to do",
        timed=True,
    )
    if all("rllib_ppo_return" in run["metrics"] for run in runs):  # else it could not be imported
        compare_peers(runs, log)
