"""A small office world: blunt requests, rewrites of uneven quality, and a judge who reads both.

Chapter D's text rewriter lives here. A request is some content (who should do what to which paper, by when)
in a rude frame; a good rewrite keeps the content, drops the rudeness, and asks politely in few words. The
people whose rewrites one can learn from are sometimes careful, sometimes hasty, sometimes curt. The judge
reads plain text, so it can score the writing of any model, whatever its tokenizer.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# fmt: off
VERBS = (
    "send", "check", "print", "sign", "review", "copy", "update", "translate", "finish", "scan", "file",
    "share",
)
KINDS = ("final", "new", "old", "short", "monthly", "missing")
PAPERS = (
    "report", "letter", "contract", "invoice", "budget", "summary", "agenda", "proposal", "schedule", "form",
    "survey", "memo",
)
TIMES = (
    "today", "tonight", "tomorrow", "by noon", "by monday", "by friday", "before lunch", "this week",
    "this evening", "next month",
)
BLUNT = (
    "{}", "{} now", "you must {}", "you have to {}", "{} at once", "i need you to {}", "hurry and {}",
    "{} and do not be late",
)
POLITE = (
    "could you please {} ?", "would you kindly {} ?", "would you please {} ? thank you .",
    "please {} , thank you .", "i would be grateful if you could {} .",
    "could you kindly {} when you have a moment ? thank you .",
)
SHORT = ("please {} .", "can you {} ?", "{} please .", "it would be good if you {} .")
CURT = ("{} .", "just {} .", "{} now .", "you must {} .", "{} at once .")
# fmt: on
SHARES = {"careful": 0.35, "hasty": 0.4, "curt": 0.25}
"""How often a person is careful (polite, keeps the content), hasty (short, loses words) or curt (rude)."""
COURTESY = frozenset(("please", "kindly", "grateful", "thank"))
RUDE = frozenset(("now", "must", "have to", "at once", "hurry", "late", "need you"))
CONTENT = frozenset((*VERBS, *KINDS, *PAPERS, *(time.split()[-1] for time in TIMES)))
"""The words that carry what is asked for."""
ARROW = "=>"
"""Parts a request from its rewrite."""


@dataclass(frozen=True)
class Request:
    """What is asked for; `text` says it bluntly."""

    verb: str
    kind: str
    """Empty for none."""
    paper: str
    time: str
    frame: str

    @property
    def core(self) -> str:
        """The content, in words, without a frame."""
        return " ".join(part for part in (self.verb, "the", self.kind, self.paper, self.time) if part)

    @property
    def text(self) -> str:
        return self.frame.format(self.core)

    @property
    def held_out(self) -> bool:
        """Whether this content, in any frame, is kept for testing: one in eight, the same ones always."""
        return zlib.crc32(self.core.encode()) % 8 == 0


def draw_requests(rng: np.random.Generator, num_requests: int, held_out: bool = False) -> list[Request]:
    """Random requests from the training contents, or from those kept for testing."""
    found: list[Request] = []
    while len(found) < num_requests:
        kind = _pick(rng, KINDS) if rng.random() < 0.5 else ""
        request = Request(_pick(rng, VERBS), kind, _pick(rng, PAPERS), _pick(rng, TIMES), _pick(rng, BLUNT))
        if request.held_out == held_out:
            found.append(request)
    return found


def blunt_texts(seed: Sequence[int], num_requests: int, held_out: bool = False) -> list[str]:
    """The texts of random requests."""
    return [request.text for request in draw_requests(np.random.default_rng(seed), num_requests, held_out)]


def demonstrate(rng: np.random.Generator, request: Request) -> str:
    """A person's rewrite. Careful people lose no content; hasty ones forget or mix up words."""
    mood = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    slips = {"careful": 0.0, "hasty": 0.4, "curt": 0.1}[mood]
    parts = [request.verb]  # nobody forgets what is to be done
    for part, others in ((request.kind, KINDS), (request.paper, PAPERS), (request.time, TIMES)):
        if part and rng.random() < slips:
            forgotten = others is not PAPERS and rng.random() < 0.7
            part = "" if forgotten else _pick(rng, others)
        parts.append(part)
    core = Request(*parts, frame="").core
    return _pick(rng, {"careful": POLITE, "hasty": SHORT, "curt": CURT}[mood]).format(core)


def write_demonstrations(rng: np.random.Generator, num_texts: int) -> list[str]:
    """`request => rewrite`, from the training contents: what supervised fine-tuning imitates."""
    requests = draw_requests(rng, num_texts)
    return [f"{request.text} {ARROW} {demonstrate(rng, request)}" for request in requests]


def write_notes(rng: np.random.Generator, num_texts: int) -> list[str]:
    """Office notes, without a task: somebody asks for something, and asks again in any other words.

    They teach the language, and that what was said comes back; neither what `=>` means nor to be polite.
    """
    texts = []
    for request in draw_requests(rng, num_texts):
        frames = (*BLUNT, *POLITE, *SHORT, *CURT)
        one, two = (_pick(rng, frames).format(request.core) for _ in range(2))
        texts.append(f"{one} again : {two}")
    return texts


def vocabulary() -> tuple[str, ...]:
    """Every word of requests, rewrites and notes, sorted."""
    lists = (VERBS, KINDS, PAPERS, TIMES, BLUNT, POLITE, SHORT, CURT)
    words = {word for phrases in lists for phrase in phrases for word in phrase.split()}
    return tuple(sorted((words - {"{}"}) | {"the", "again", ":", ARROW}))


@dataclass(frozen=True)
class Judgement:
    """What the judge finds in each rewrite, float64 [num_texts] each."""

    courtesy: np.ndarray
    """Different courtesies, at most 2, minus rude words."""
    polite: np.ndarray
    """1 if there is courtesy and nothing rude."""
    content: np.ndarray
    """Share of the request's content words that are kept."""
    invented: np.ndarray
    """Content words that the request does not have."""
    length: np.ndarray
    """Words, punctuation apart."""
    score: np.ndarray
    """courtesy + 4 content - invented - 0.25 for every word over 12 - 1 for an unfinished sentence."""


def judge(requests: Sequence[str], rewrites: Sequence[str]) -> Judgement:
    """Read each rewrite beside its request."""
    rows = []
    for request, rewrite in zip(requests, rewrites, strict=True):
        asked = {word for word in request.split() if word in CONTENT}
        words = re.findall(r"[a-z]+", rewrite.lower())
        said, line = set(words), f" {' '.join(words)} "
        rude = sum(f" {phrase} " in line for phrase in RUDE)
        courtesy = min(2, len(said & COURTESY)) - rude
        polite = bool(said & COURTESY) and not rude
        kept = len(asked & said) / max(1, len(asked))
        # a content word said twice is one too many
        invented = sum(word in CONTENT for word in words) - len(asked & said)
        unfinished = not rewrite.rstrip().endswith((".", "?"))
        score = courtesy + 4 * kept - invented - 0.25 * max(0, len(words) - 12) - unfinished
        rows.append((courtesy, polite, kept, invented, len(words), score))
    return Judgement(*np.array(rows, dtype=np.float64).reshape(-1, 6).T)


def wins(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """1 where the first score is higher, 0 where it is lower, 1/2 where they are equal."""
    return 0.5 + 0.5 * np.sign(ours - theirs)


def prefers(prompt: str, first: str, second: str) -> float:
    """How much better the judge finds the first rewrite; negative if the second is better."""
    one, two = judge([prompt] * 2, [first, second]).score
    return float(one - two)


def encode_prompts(tokenizer: Any, requests: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(prompt_ids, prompt_mask) [B, P] of `request =>`, padded on the left."""
    found = tokenizer([f"{text} {ARROW}" for text in requests], return_tensors="pt", padding=True)
    return found["input_ids"], found["attention_mask"]


def encode_rewrites(tokenizer: Any, rewrites: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(completion_ids, completion_mask) [B, T], each closed by EOS, padded on the right."""
    closed = [f" {text} {tokenizer.eos_token}" for text in rewrites]
    found = tokenizer(
        closed, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
    )
    return found["input_ids"], found["attention_mask"].bool()


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[rng.integers(len(options))]
