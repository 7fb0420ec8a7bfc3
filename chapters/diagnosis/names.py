"""What other libraries call the numbers that the rules know: tables of names, and who logged what.

`LIBRARIES` is the documentation: E0 shows it, a test holds the two together. A name on the right is one of
`chapters/diagnosis/rules.py` or `logs.py`; a minus before it says that the library logs its negative.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from chapters.diagnosis.rules import DIAGNOSTICS, USUAL, Metrics

LIBRARIES: dict[str, dict[str, str]] = {
    "Stable-Baselines3": {
        "rollout/ep_rew_mean": "return",
        "eval/mean_reward": "eval_return",
        "train/approx_kl": "approx_kl",
        "train/kl_divergence_loss": "approx_kl",
        "train/clip_fraction": "clip_fraction",
        "train/entropy_loss": "-entropy",
        "train/explained_variance": "explained_variance",
        "train/value_loss": "value_loss",
        "train/critic_loss": "td_loss",
        "train/actor_loss": "actor_loss",
        "train/ent_coef": "temperature",
        "train/std": "action_std",
        "rollout/exploration_rate": "exploration",
    },
    "CleanRL": {
        "charts/episodic_return": "return",
        "eval/episodic_return": "eval_return",
        "losses/approx_kl": "approx_kl",
        "losses/clipfrac": "clip_fraction",
        "losses/entropy": "entropy",
        "losses/explained_variance": "explained_variance",
        "losses/value_loss": "value_loss",
        "losses/td_loss": "td_loss",
        "losses/qf1_loss": "td_loss",
        "losses/q_values": "q_mean",
        "losses/qf1_values": "q_mean",
        "losses/actor_loss": "actor_loss",
        "losses/alpha": "temperature",
    },
    "TRL GRPO and RLOO": {
        "reward": "return",
        "eval_reward": "eval_return",
        "reward_std": "reward_std",
        "frac_reward_zero_std": "equal_groups",
        "kl": "kl_ref",
        "entropy": "entropy",
        "grad_norm": "grad_norm",
        "clip_ratio/region_mean": "clip_fraction",
        "completions/clipped_ratio": "cut_completions",
    },
    "TRL PPO": {
        "objective/scores": "return",
        "objective/kl": "kl_ref",
        "objective/non_score_reward": "kl_penalty",
        "policy/approxkl_avg": "approx_kl",
        "policy/clipfrac_avg": "clip_fraction",
        "policy/entropy_avg": "entropy",
        "loss/value_avg": "value_loss",
    },
    "TRL DPO": {
        "rewards/accuracies": "preference_accuracy",
        "grad_norm": "grad_norm",
    },
    "plain names": {
        "return": "return",
        "score": "return",
        "reward": "return",
        "mean_reward": "return",
        "ep_rew_mean": "return",
        "episode_reward": "return",
        "episode_return": "return",
        "episodic_return": "return",
        "approxkl": "approx_kl",
        "clipfrac": "clip_fraction",
        "explained_var": "explained_variance",
        "q_values": "q_mean",
        "td_loss": "td_loss",
        "epsilon": "exploration",
        "exploration_rate": "exploration",
        "first_gap": "first_ratio_gap",
    },
}
"""Library -> its name -> ours."""

EXTRA = {
    "td_loss": "loss of an off-policy critic",
    "actor_loss": "loss of an off-policy actor",
    "temperature": "weight of the entropy in SAC",
    "action_std": "standard deviation of a Gaussian policy",
    "exploration": "share of random actions",
    "reward_std": "spread of the rewards in a group",
    "equal_groups": "share of groups whose rewards are all equal: well below 1",
    "cut_completions": "share of completions that reach no end of text",
    "preference_accuracy": "share of pairs in which the chosen text is the likelier: above one half",
    "completion_tokens": "tokens written up to the end of text",
    "world_pull": "share of the loss's pull on tokens that a tool or a world wrote: 0",
    "early_pull": "in texts that were answered, the share on what stands before the last answer: not 0",
    "answered": "share of texts into which a tool or a world wrote",
}
"""What only the logs of other libraries hold, or what only says who logged."""

KNOWN = {*DIAGNOSTICS, *USUAL, *EXTRA}
"""Our own names: they mean themselves."""
KL = "kl"
"""Means two things: how far an update moved the policy, or how far it is from its reference."""
LOSS = "train/loss"
"""Stable-Baselines3's name for a deep Q-network's loss; its other learners have a sum under it."""
BESIDE_LOSS = "rollout/exploration_rate"
NEAR_A_REFERENCE = {
    "reward", "score", "kl_penalty", "completion_tokens", "loss_tokens",
    "reward_std", "frac_reward_zero_std", "completions/mean_length",
}  # fmt: skip
"""Names beside which `kl` is the divergence from a reference: who logs them learns on texts."""
SECTIONS = {"train", "rollout", "charts", "losses", "loss", "eval", "policy", "objective", "val", "metrics"}
"""First parts of a name that sort a library's metrics, and are no learner's name."""
SHORT = 40
"""Letters of a name that are shown."""

OFF_POLICY = {"exploration", "q_mean", "td_loss", "target_change", "temperature", "actor_loss"}
TEXT = {"kl_ref", "kl_penalty", "loss_tokens", "completion_tokens", "equal_groups", "reward_std",
        "cut_completions", "preference_accuracy", "world_pull", "early_pull"}  # fmt: skip
ON_POLICY = {"clip_fraction", "explained_variance", "first_ratio_gap", "approx_kl"}
HOMES = {"off-policy": {"dqn"}, "on-policy": {"reinforce", "ppo"}, "text": {"text"}}
"""A kind of learner -> those of E3's learners that have its bugs."""
ONLY = {
    "off-policy": {"target_change", "q_mean"},
    "on-policy": set(),
    "text": {"loss_tokens", "kl_ref", "kl_penalty"},
}
"""What only one kind of learner can log; what both PPOs log and a value learner does not stands below."""
RATIOS = {"first_ratio_gap", "approx_kl", "alignment", "entropy"}


@dataclass
class Learner:
    """What one learner of a log wrote, by our names."""

    name: str
    """Its own name, '' for the only one."""
    metrics: Metrics = field(default_factory=dict)
    """Our name -> (step, value)."""
    sources: dict[str, str] = field(default_factory=dict)
    """Our name -> the log's."""

    @property
    def kind(self) -> str:
        """`off-policy`, `on-policy` or `text`, by what it logs; '' where that does not say."""
        logged = {name for name, rows in self.metrics.items() if rows}
        if logged & OFF_POLICY:
            return "" if logged & (ON_POLICY | TEXT) else "off-policy"
        if logged & TEXT:
            return "text"
        return "on-policy" if logged & ON_POLICY else ""

    def wanted(self) -> list[str]:
        """The diagnostics that a learner of its kind can log."""
        others = set().union(*(names for kind, names in ONLY.items() if kind != self.kind))
        if self.kind == "off-policy":
            others |= RATIOS
        return [name for name in DIAGNOSTICS if not (self.kind and name in others)]


def learners_of(metrics: Metrics) -> list[Learner]:
    """Who logged what: `ours_kl` is `kl` of `ours`, `train/approx_kl` is Stable-Baselines3's `approx_kl`."""
    groups: dict[str, dict[str, str]] = {}  # learner -> the name's known ending -> the log's name
    for name, rows in metrics.items():
        if rows and (split := _split(name)):
            groups.setdefault(split[0], {}).setdefault(split[1], name)
    found = [_learner(learner, endings, metrics) for learner, endings in groups.items()]
    return [learner for learner in found if learner.metrics]


def unread(metrics: Metrics, learners: list[Learner]) -> list[str]:
    """The log's names that say nothing to the rules."""
    used = {source for learner in learners for source in learner.sources.values()}
    return [name for name in metrics if name not in used]


def is_known(name: str) -> bool:
    """Whether a log's name means something to the rules, for a learner of any name."""
    return _split(name) is not None


def shown(name: str) -> str:
    """A name as it can be printed: short, and without what no terminal can write."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if len(text) <= SHORT else f"{text[:SHORT]}…"


ENDINGS = {KL, LOSS, *KNOWN, *(name for table in LIBRARIES.values() for name in table)}


def _split(name: str) -> tuple[str, str] | None:
    """(learner, known ending) of a log's name, or None if it has none."""
    if name in ENDINGS:
        return "", name
    section, slash, rest = name.partition("/")
    if slash and section in SECTIONS:
        if section == "eval":
            return None  # an evaluation's own numbers are no learner's
        return ("", rest) if rest in ENDINGS else None
    section, slash, rest = name.rpartition("/")
    if slash:
        return (section, rest) if rest in ENDINGS else None
    if name.startswith("eval_"):
        return None
    for place in (match.start() for match in re.finditer("_", name[:200])):
        if name[place + 1 :] in ENDINGS:  # the longest ending comes first
            return name[:place].rstrip("_"), name[place + 1 :]
    return None


def _learner(name: str, endings: dict[str, str], metrics: Metrics) -> Learner:
    """One learner's metrics by our names; of two for the same thing the first in the alphabet counts."""
    found = Learner(name)
    on_texts = bool(endings.keys() & NEAR_A_REFERENCE)
    for ending, source in sorted(endings.items()):
        ours = _ours(ending, on_texts, BESIDE_LOSS in endings)
        if ours is None:
            continue
        sign = -1.0 if ours.startswith("-") else 1.0
        ours = ours.removeprefix("-")
        if ours not in found.metrics:
            rows = metrics[source]
            found.metrics[ours] = rows if sign > 0 else [(step, -value) for step, value in rows]
            found.sources[ours] = source
    return found


def _ours(ending: str, on_texts: bool, by_values: bool) -> str | None:
    """Our name for a known ending, a minus before it if the log has its negative; None if it has none."""
    if ending == KL:
        return "kl_ref" if on_texts else "approx_kl"
    if ending == LOSS:
        return "td_loss" if by_values else None
    if ending in KNOWN:
        return ending
    return next(table[ending] for table in LIBRARIES.values() if ending in table)


def table() -> list[str]:
    """`LIBRARIES` as lines of text, a library's name and then ours. E0 shows it."""
    lines = []
    for library, known in LIBRARIES.items():
        lines.append(library)
        lines += [f"  {theirs:<28} {ours}" for theirs, ours in known.items()]
    return lines
