"""E3's evidence: four learners with every bug that each can have, the diagnosis as a classifier, the probes.

REINFORCE is the lesson's PPO without its objective, passes and minibatches; PPO for tokens learns by the
lesson's updates in a world of chapter D; DQN is a learner of its own. Each has its bugs as named edits.
Learners of Stable-Baselines3 and TRL have others; their logs lie in the run's folder, under `logs/`, and can
be given to `rl diagnose` one by one.
"""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch

from chapters.diagnosis.pictures import symptoms
from chapters.diagnosis.quantities import gae_residual, gaps, note, repeat_gap
from chapters.diagnosis.rules import CATALOGUE, USUAL, diagnose
from chapters.E_practice import E3_bug_zoo as lesson
from chapters.E_practice.checks.E3 import EDITS
from chapters.E_practice.evidence import E3_dqn as dqn
from chapters.E_practice.evidence import E3_foreign as foreign
from chapters.E_practice.evidence import E3_text as text
from chapters.E_practice.evidence import E3_zoo as zoo
from chapters.envs import make_envs
from chapters.envs.on_policy import gae
from chapters.envs.probes import ANSWERS
from chapters.utils import RunLog, in_range
from chapters.utils.edits import Edit, edited

Rows = lesson.Rows
LEARNERS = ("dqn", "reinforce", "ppo", "text")
BUGS = tuple(CATALOGUE)
NAMES = ("none", *BUGS)
ZOO = {learner: [bug for bug in BUGS if learner in CATALOGUE[bug].homes] for learner in LEARNERS}
PAIRS = [(learner, bug) for learner, bugs in ZOO.items() for bug in bugs]
HEALTHY = [(learner, "none") for learner in LEARNERS]
SHORTEST = (("sb3_ppo", "none"), ("sb3_ppo", "reward_scale"), ("trl_grpo", "none"))
"""Other libraries' learners in a smoke run."""
GOAL = lesson.GOAL
AS_REINFORCE = (
    Edit("policy_loss", "clipped_surrogate(ratio, advantages, 0.2)", "log_prob * advantages", "REINFORCE"),
    Edit(
        "Learner",
        "        seen = self.rollout(rows, i)\n",
        "        self.obs, _ = self.envs.reset()\n"
        "        self.running = np.zeros(self.envs.num_envs)\n"
        "        seen = self.rollout(rows, i)\n",
        "whole episodes",
    ),
)
REINFORCE = {"num_steps": 200, "num_epochs": 1, "minibatch_size": 1_000_000, "gae_lambda": 1.0}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    run_length: Annotated[float, in_range(0.01, 10.0)] = 1.0
    """Updates of the other learners and in the probes, as a multiple of their own."""


SMOKE = {"run_length": 0.01}


# Who learns how


def module_of(learner: str, bug: str) -> ModuleType:
    """The module of a learner with one bug in it."""
    if learner == "dqn":
        return edited(dqn, dqn.EDITS[bug]) if bug != "none" else dqn
    if learner == "text":
        return edited(text, text.EDITS[bug]) if bug in text.EDITS else text
    if learner == "ppo":
        return edited(lesson, EDITS[bug]) if bug != "none" else lesson
    # a policy gradient without a ratio can forget to detach its advantages only
    own = {"missing_detach": "advantage_not_detached"}
    bugs = [EDITS[own.get(bug, bug)]] if bug != "none" else []
    return edited(lesson, *AS_REINFORCE, *bugs)


def settings_of(learner: str, cfg: lesson.Config, extra: Config) -> Any:
    """A learner's own settings."""
    if learner == "ppo":
        return cfg
    if learner == "dqn":
        settings = dqn.Settings(seed=cfg.seed)
    else:
        settings = replace(
            lesson.Config(seed=cfg.seed), **(REINFORCE if learner == "reinforce" else text.SETTINGS)
        )
    return replace(settings, num_updates=max(2, round(settings.num_updates * extra.run_length)))


def train(learner: str, bug: str, settings: Any, rows: Rows, fresh_seed: int) -> Any:
    """Train one learner; `fresh_seed` is what the operating system would hand to an unseeded generator."""
    module = module_of(learner, bug)
    if learner == "text":
        shared = edited(lesson, EDITS[bug]) if bug != "none" and bug not in text.EDITS else lesson
        return module.train(shared, settings, rows, fresh_seed)
    return module.train(settings, rows, lesson.unseeded(fresh_seed, settings.num_envs))


def run_one(
    cfg: lesson.Config, extra: Config, learner: str, bug: str = "none"
) -> tuple[Rows, float]:  # fmt: skip
    """(a run's metrics; its last greedy return, or for text the share of the way to the optimum)."""
    settings = settings_of(learner, cfg, extra)
    rows: Rows = {}
    again: Rows = {}
    trained = train(learner, bug, settings, rows, 2 * cfg.seed + 1)
    few = min(settings.num_updates, 40 if learner == "dqn" else 2)
    train(learner, bug, replace(settings, num_updates=few, check_every=0), again, 2 * cfg.seed + 2)
    note(rows, 0, repeat_gap=repeat_gap(rows, again))
    if learner == "text":
        return rows, trained.gap_closed()
    return rows, rows["eval_return"][-1][1]


def fails(cfg: lesson.Config, extra: Config, learner: str, bug: str, probe: str) -> bool:
    """Whether a learner misses a probe's values or best actions."""
    settings = settings_of(learner, cfg, extra)
    usual = 400 if learner == "dqn" else 60
    changes = {
        "num_envs": 8,
        "minibatch_size": 128,
        "gamma": 0.9,
        "learning_rate": 2 * settings.learning_rate,
        "check_every": 0,
        "num_updates": max(4, round(extra.run_length * usual)),
    }
    own = {"explore_for": 200} if learner == "dqn" else {"num_steps": 16, "num_epochs": 2}
    settings = replace(settings, **changes, **own)
    envs = make_envs(probe, settings.num_envs)
    envs.reset(seed=1)  # what an unseeded learner then goes on from
    trained = module_of(learner, bug).train(settings, {}, envs)
    obs = torch.tensor([[o] for answer in ANSWERS[probe] for o in answer])  # [B, 1]
    with torch.no_grad():
        if learner == "dqn":
            outputs = trained.online(obs)  # [B, A]
            values = outputs.amax(dim=1)
        else:
            outputs = trained.agent.actor(obs)
            values = trained.agent.value(obs)
    actions = outputs.argmax(dim=1).tolist()
    return zoo.misses(values.tolist(), actions, ANSWERS[probe], settings.gamma, settings.reward_scale)


# What is claimed


def claim_identities(cfg: lesson.Config, log: RunLog) -> None:
    """On random episodes: right advantages leave no residual, merged ones leave it at time limits alone."""
    torch.manual_seed(cfg.seed)
    data = torch.randn(3, 50, 8, dtype=torch.float64)  # rewards, values, next_values
    terminated, truncated = torch.rand(2, 50, 8) < 0.1
    truncated = truncated & ~terminated
    done = terminated | truncated
    found = []
    for ended in (terminated, done):
        advantages = gae(*data, ended, done, 0.9, 0.8)
        residual = gae_residual(advantages, *data, terminated, truncated, 0.9, 0.8)
        found.append(gaps(residual, data.new_ones(()), terminated, truncated))
    log.claim(
        "gae_identity",
        "right advantages meet their identity at every kind of step",
        max(found[0].values()),
        at_most=1e-7,
        source="schulman2016gae, eq. (16)",
        always=True,
        seeds="5/5",
    )
    log.claim(
        "only_at_limits",
        "a merged time limit breaks it at time limits alone",
        max(found[1]["gap_inside"], found[1]["gap_terminated"]),
        at_most=1e-7,
        source="schulman2016gae, eq. (16)",
        always=True,
        seeds="5/5",
    )


def run_zoo(cfg: lesson.Config, extra: Config, log: RunLog) -> dict[tuple[str, str], Rows]:
    """Every learner, healthy and with each of its bugs; the metrics of each run."""
    found = {}
    for learner, bug in log.track([*HEALTHY, *PAIRS], "runs"):
        if learner == "ppo" and bug in log.kept["runs"]:
            rows = log.kept["runs"][bug]
            result = rows["eval_return"][-1][1]
        else:
            rows, result = run_one(cfg, extra, learner, bug)
        found[learner, bug] = rows
        suspects = diagnose(rows)
        usual = diagnose({name: values for name, values in rows.items() if name in USUAL})
        outcome = {
            "named": zoo.first_suspect(suspects, NAMES),
            "usual": zoo.first_suspect(usual, NAMES),
            "seen": any(suspect.bug == bug for suspect in suspects),
            "result": result,
        }
        log.write(0, **{f"{name}_{learner}_{bug}": value for name, value in outcome.items()})
    return found


def claim_learners(found: dict[tuple[str, str], Rows], log: RunLog) -> None:
    """The healthy ones learn, and meet their identities."""
    for learner, name in (("dqn", "DQN"), ("reinforce", "REINFORCE")):
        log.claim(
            f"{learner}_solves",
            f"healthy {name} solves CartPole with a limit of 200 steps",
            max(value for _, value in found[learner, "none"]["eval_return"]),
            at_least=195.0,
            unit="best mean return of 20 greedy episodes",
            source="the threshold registered for CartPole-v0",
        )
    log.claim(
        "text_gap_closed",
        "healthy PPO for text goes most of the way from the reference to the optimum",
        log.last("result_text_none"),
        at_least=0.85,
        unit="of the way",
        source="enumeration of every completion",
    )
    log.claim(
        "healthy_identities",
        "healthy learners meet every identity that they can check",
        max(abs(value) for pair in HEALTHY for name in lesson.ZERO for _, value in found[pair].get(name, [])),
        at_most=1e-3,
        always=True,
        seeds="5/5",
        source="what must be 0, but for 32-bit rounding",
    )


def claim_diagnosis(tables: dict[str, np.ndarray], log: RunLog) -> None:
    """What the rules named, over all learners."""
    broken = f"share of {len(PAIRS)} broken runs"
    seen = np.mean([log.last(f"seen_{learner}_{bug}") for learner, bug in PAIRS])
    log.claim(
        "named_first",
        "the planted bug is the first suspect",
        zoo.share_right(tables["named"]),
        at_least=0.8,
        unit=broken,
        source=GOAL,
    )
    log.claim(
        "has_its_symptom",
        "the planted bug is among the suspects",
        seen,
        at_least=0.9,
        unit=broken,
        source=GOAL,
    )
    log.claim(
        "false_alarms",
        "healthy runs raise no alarm",
        zoo.false_alarms(tables["named"]),
        at_most=0,
        unit=f"share of {len(HEALTHY)} healthy runs",
        seeds="5/5",
        source=GOAL,
    )


def run_probes(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """PPO and DQN, healthy and with each bug, on every probe."""
    pairs = [(learner, bug) for learner in ("ppo", "dqn") for bug in ("none", *ZOO[learner])]
    failed = {}
    for learner, bug in log.track(pairs[:2] if log.smoke else pairs, "rows of probes"):
        failed[learner, bug] = [fails(cfg, extra, learner, bug, probe) for probe in ANSWERS]
    healthy = np.mean([row for (_, bug), row in failed.items() if bug == "none"])
    made_for = {bug: [*ANSWERS].index(CATALOGUE[bug].probe) for bug in BUGS if CATALOGUE[bug].probe}
    told = [row[made_for[bug]] for (_, bug), row in failed.items() if bug in made_for]
    log.claim(
        "probes_passed",
        "healthy PPO and DQN find the exact values and actions of every probe",
        1 - healthy,
        at_least=1.0,
        unit="share of 12 probes",
        source="the probes' exact answers",
    )
    log.claim(
        "probes_fail_as_told",
        "a broken PPO or DQN fails in the probe that was made for its bug",
        np.mean(told),
        at_least=0.9,
        unit="share of the broken learners",
        source="what the probes are for",
    )
    log.figure(zoo.probes(failed, [*ANSWERS]), "probes")


def run_foreign(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Learners of other libraries, healthy and broken; what their own logs are taken for."""
    pairs = [pair for pair in foreign.PAIRS if not log.smoke or pair in SHORTEST]
    right = {"broken": [], "healthy": []}
    for learner, bug in log.track(pairs, "runs of other libraries"):
        folder = log.folder / "logs" / f"{learner}-{bug}"
        foreign.run(folder, learner, bug, cfg.seed, share=extra.run_length)
        named = foreign.named_first(folder)
        right["healthy" if bug == "none" else "broken"].append(named == bug)
        log.write(0, **{f"named_{learner}_{bug}": foreign.FIRST.index(named)})
    log.claim(
        "foreign_first",
        "in logs of Stable-Baselines3 and TRL the planted bug is the first suspect",
        np.mean(right["broken"]),
        at_least=0.8,
        unit="share of broken runs",
        source=GOAL,
    )
    log.claim(
        "foreign_alarms",
        "in logs of their healthy runs there is no alarm",
        right["healthy"].count(False),
        at_most=0,
        unit="healthy runs",
        seeds="5/5",
        source=GOAL,
    )


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_identities(cfg, log)
    found = run_zoo(cfg, extra, log)
    claim_learners(found, log)
    run_probes(cfg, extra, log)
    run_foreign(cfg, extra, log)
    claim_diagnosis(zoo.report([log.metrics], HEALTHY, PAIRS, NAMES, log), log)
    if not log.smoke:
        log.figure(symptoms(found, {bug: CATALOGUE[bug].shown for bug in BUGS}), "symptoms")


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: the diagnosis as a classifier."""
    tables = zoo.report([run["metrics"] for run in runs], HEALTHY, PAIRS, NAMES, log)
    first = zoo.share_right(tables["named"])
    broken = f"share of {len(runs) * len(PAIRS)} broken runs"
    log.claim(
        "pooled_named",
        "the planted bug is the first suspect",
        first,
        at_least=0.8,
        unit=broken,
        source=GOAL,
    )
    log.claim(
        "worth_logging",
        "the usual curves alone name fewer",
        first - zoo.share_right(tables["usual"]),
        at_least=0.0,
        unit=broken,
        source="a rule without its metric is silent",
    )
    log.claim(
        "pooled_alarms",
        "healthy runs raise no alarm",
        zoo.false_alarms(tables["named"]),
        at_most=0,
        unit=f"share of {len(runs) * len(HEALTHY)} healthy runs",
        source=GOAL,
    )
