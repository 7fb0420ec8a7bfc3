"""Every acronym is spelled out where it first stands in a text, and no unknown one slips in.

A text is a lesson's Markdown cells, a note, the front page or a plan; what learners log is theirs. Headings,
code, formulas, labels of links, keys of papers and generated blocks are not read: a first occurrence is one
in a sentence.
"""

import re
from functools import cache
from pathlib import Path

import pytest

from chapters.course.catalog import CHAPTERS, ROOT, lessons

PAGES = sorted(
    [lesson.path for lesson in lessons()]
    + list(CHAPTERS.glob("*/*.md"))
    + [ROOT / "README.md", ROOT / "days" / "README.md"]
    + list((ROOT / "planning").glob("*.md"))
)

ACRONYMS = {
    "ELBO": r"evidence lower bound",
    "A2C": r"advantage actor-critic",
    "A3C": r"with threads|asynchronous advantage actor-critic",
    "CFR": r"counterfactual regret minimi[sz]ation",
    "CQL": r"conservative( \(CQL\) and implicit)? Q-learning",
    "DAPO": r"decoupled clip and dynamic sampling policy optimi[sz]ation",
    "DDPG": r"deep deterministic policy gradient",
    "DPO": r"direct preference optimi[sz]ation",
    "DQN": r"deep Q-(network|learning)",
    "DR": r"doubly robust",
    "ECE": r"expected calibration error",
    "EOS": r"end[- ]of[- ]sequence",
    "EWC": r"elastic weight consolidation",
    "GAE": r"generali[sz]ed advantage estimation",
    "GRPO": r"group[- ]relative policy optimi[sz]ation",
    "GSPO": r"group sequence policy optimi[sz]ation",
    "IPO": r"identity preference optimi[sz]ation",
    "KTO": r"Kahneman-Tversky optimi[sz]ation",
    "IPS": r"inverse propensity scoring",
    "IQL": r"implicit Q-learning",
    "IQM": r"interquartile mean",
    "KL": r"Kullback[–-]Leibler",
    "MBPO": r"model-based policy optimi[sz]ation",
    "MC": r"Monte Carlo",
    "MCTS": r"Monte Carlo tree search",
    "MDP": r"Markov decision process",
    "POMDP": r"partially observable Markov decision process",
    "PPO": r"proximal policy optimi[sz]ation",
    "RFT": r"(reinforcement|rejection-sampling) fine-tuning",
    "RL": r"reinforcement learning",
    "RLAIF": r"reinforcement learning from AI feedback",
    "RLFT": r"reinforcement learning fine-tuning",
    "RLHF": r"reinforcement learning from human feedback",
    "RLOO": r"REINFORCE leave-one-out",
    "RLVR": r"reinforcement learning (with|from) verifiable rewards",
    "RMS": r"root[- ]mean[- ]square",
    "RPO": r"reasoning preference optimi[sz]ation",
    "SAC": r"soft actor-critic",
    "SARSA": r"state, action, reward, state, action|s, a, r, s', a'",
    "SB3": r"Stable-Baselines3",
    "SFT": r"supervised fine-tuning",
    "SNIPS": r"self-normalised",
    "TD": r"temporal[- ]difference",
    "TD3": r"twin[- ]delayed",
    "TRL": r"Transformer Reinforcement Learning",
    "TRPO": r"trust[- ]region policy optimi[sz]ation",
    "UCB": r"upper confidence bound",
    "UCB1": r"upper confidence bound",
    "UCT": r"upper confidence bounds for trees",
    "PUCT": r"predictor and UCT",
}
"""Each acronym, and what has to stand beside its first occurrence (in any case of the letters)."""

KNOWN = {"AI", "API", "BLEU", "CPU", "GB", "GPT", "GPU", "GRU", "ID", "JSON", "LLM", "README", "ROUGE", "URL"}
"""What every reader knows who has trained a language model."""
NAMES = {"ARM", "EPUB", "IMPALA", "JAX", "VS"}
"""Names of programs, formats and methods that nobody spells out: VS is of VS Code."""

NEAR = 120  # characters before and after, if the sentence is shorter
TOKEN = re.compile(r"(?<![\w./-])(?=[A-Z0-9]*[A-Z][A-Z0-9]*[A-Z])[A-Z][A-Z0-9]{1,5}(?=s?(?!\w))")


def sentences(text: str) -> str:
    """What is read as prose: links keep their labels, without the acronyms in them."""
    text = re.sub(r"<!-- ([\w-]+)[^>]*-->.*?<!-- /\1 -->", "\n\n", text, flags=re.DOTALL)  # generated
    text = re.sub(r"^[ >]*```.*?^[ >]*```$", "\n\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", " ", text)
    text = re.sub(r"^#+ .*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", lambda link: TOKEN.sub("", link.group(1)), text)
    text = re.sub(r"</?[a-z][^>]*>", " ", text)
    text = text.replace("*", "")
    text = re.sub(r"^(?=[ >]*(?:\||- |\d+\. ))", "\n", text, flags=re.MULTILINE)  # a row, an item: a sentence
    blocks = re.split(r"\n\s*\n", text)
    return "\n\n".join(re.sub(r"\s+", " ", block) for block in blocks)


@cache
def prose(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = "\n\n".join(re.findall(r'^r"""\n(.*?)^"""$', text, re.DOTALL | re.MULTILINE))
    return sentences(text)


def beside(text: str, start: int, end: int) -> str:
    """The sentence around a place, and `NEAR` characters on both sides of it."""
    breaks = [0, *(match.end() for match in re.finditer(r"[.!?:]\s|\n\n", text)), len(text)]
    first = max(place for place in breaks if place <= start)
    last = min(place for place in breaks if place >= end)
    return text[min(first, max(0, start - NEAR)) : max(last, end + NEAR)]


def faults(text: str) -> list[str]:
    """Acronyms whose first occurrence is not spelled out, and capitals that nobody knows."""
    found = {}
    for match in TOKEN.finditer(text):
        found.setdefault(match.group(), match)
    wrong = []
    for token, match in found.items():
        if token in ACRONYMS:
            around = beside(text, match.start(), match.end())
            if not re.search(ACRONYMS[token], around, re.IGNORECASE):
                wrong.append(f"{token} is not spelled out where it first stands: ... {around.strip()} ...")
        elif token not in KNOWN | NAMES:
            wrong.append(f"{token} is new: spell it out, and add it to ACRONYMS, KNOWN or NAMES")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_acronyms_are_spelled_out_where_they_first_stand(page):
    assert faults(prose(page)) == []


def test_a_bare_or_new_acronym_is_noticed():
    bare, told = "We use PPO here.", "We use *proximal policy optimisation* (PPO) here. PPO is common."
    assert faults(sentences(told)) == []
    assert len(faults(sentences(bare))) == 1
    assert len(faults(sentences(bare + " " * 5 + "x" * 200 + " " + told))) == 1, "the first one counts"
    assert len(faults(sentences("The XYZ method."))) == 1
    for unread in ("# PPO", "`PPO`", "$PPO$", "[PPO](x.md)", "```\nPPO\n```", "A100, C3, a CPU"):
        assert faults(sentences(unread)) == [], unread
