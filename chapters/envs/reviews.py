"""A small world of film reviews: a grammar that writes them, and a lexicon that scores their sentiment.

Chapter D's default language model is trained on this grammar. It is small enough to learn in seconds and
rich enough that a policy can find good reviews, cheat the lexicon, or break the language. The lexicon reads
plain text, so it scores the writing of any model, whatever its tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

# fmt: off
POSITIVE = [
    "wonderful", "brilliant", "moving", "funny", "charming", "beautiful", "clever", "superb",
    "loved", "enjoyed", "admired", "adored", "smile", "laugh", "delight", "joy",
]
NEGATIVE = [
    "terrible", "boring", "dull", "clumsy", "ugly", "predictable", "awful", "weak",
    "hated", "disliked", "regretted", "endured", "yawn", "sigh", "pain", "disappointment",
]
# fmt: on
ADJECTIVES = {1: POSITIVE[:8], -1: NEGATIVE[:8], 0: ["long", "short", "quiet", "loud", "strange", "simple"]}
VERBS = {1: POSITIVE[8:12], -1: NEGATIVE[8:12], 0: ["watched", "saw", "finished", "discussed"]}
FEELINGS = {1: POSITIVE[12:14], -1: NEGATIVE[12:14], 0: ["think", "talk"]}
NOUNS_FELT = {1: POSITIVE[14:], -1: NEGATIVE[14:], 0: ["surprise", "question"]}
FILM = ["movie", "film", "picture", "sequel"]
PART = ["plot", "cast", "music", "ending", "script", "dialogue", "camera", "story"]
PEOPLE = ["i", "we", "my sister", "my friend", "the critics"]
DEGREE = ["very", "rather", "quite", "truly"]
WHEN = ["on a monday", "at home", "last night", "with my family", "in the rain", "on a train"]
PROMPTS = (
    "the movie was", "the film was", "the plot was", "the cast was", "the music was", "i", "we", "my sister",
    "my friend", "the critics", "it was a", "this is a", "the ending made me", "the story made us",
)  # fmt: skip
"""Beginnings of a review: what a model is given to continue."""
MOOD_SHARES = {1: 0.36, -1: 0.36, 0: 0.28}
"""How often a review is warm, cold or neutral; within a review, three words in four follow its mood."""


FILLERS = frozenset(["the", "was", "a", ".", "it", "this", "is", "and"])
"""Words that come back in any review."""


def _leaning(rng: np.random.Generator, mood: int) -> int:
    """The mood of one word: the review's own three times in four, else any."""
    return mood if rng.random() < 0.75 else int(rng.choice([1, 0, -1]))


def _pick(rng: np.random.Generator, words: Sequence[str] | dict[int, list[str]], mood: int = 0) -> str:
    options = words[_leaning(rng, mood)] if isinstance(words, dict) else words
    return str(options[rng.integers(len(options))])


def _sentence(rng: np.random.Generator, mood: int) -> str:
    """One sentence of the grammar, full stop included."""
    adjective, another = _pick(rng, ADJECTIVES, mood), _pick(rng, ADJECTIVES, mood)
    degree, this = _pick(rng, DEGREE), _pick(rng, ["it was", "this is"])
    part, film = _pick(rng, PART), _pick(rng, FILM)
    forms = (
        f"the {_pick(rng, [film, part])} was {adjective}",
        f"the {_pick(rng, [film, part])} was {degree} {adjective}",
        f"the {part} was {adjective} and the {_pick(rng, PART)} was {another}",
        f"{_pick(rng, PEOPLE)} {_pick(rng, VERBS, mood)} the {_pick(rng, [film, part])}",
        f"{_pick(rng, PEOPLE)} {_pick(rng, VERBS, mood)} it {_pick(rng, WHEN)}",
        f"{this} a {adjective} {film} with a {another} {part}",
        f"the {part} made {_pick(rng, ['me', 'us'])} {_pick(rng, FEELINGS, mood)}",
        f"{this} a {_pick(rng, NOUNS_FELT, mood)} to watch",
    )
    return forms[rng.integers(len(forms))] + " ."


def write_reviews(rng: np.random.Generator, num_reviews: int) -> list[str]:
    """Reviews of one to three sentences, lower case, words and full stops parted by single spaces."""
    moods = rng.choice(list(MOOD_SHARES), size=num_reviews, p=list(MOOD_SHARES.values()))
    counts = rng.integers(1, 4, size=num_reviews)
    return [" ".join(_sentence(rng, int(mood)) for _ in range(count)) for mood, count in zip(moods, counts)]


def vocabulary() -> tuple[str, ...]:
    """Every word that the grammar can write, sorted."""
    lists = [*ADJECTIVES.values(), *VERBS.values(), *FEELINGS.values(), *NOUNS_FELT.values()]
    lists += [FILM, PART, PEOPLE, DEGREE, WHEN, PROMPTS]
    words = {word for words in lists for phrase in words for word in phrase.split()}
    return tuple(
        sorted(words | {"a", ".", "and", "it", "this", "is", "made", "me", "us", "to", "watch", "with"})
    )


def sentiment(texts: Sequence[str], cap: float = 3.0) -> np.ndarray:
    """Positive words minus negative words of each text, cut off at +-cap. Returns float64 [num_texts].

    The cap is what keeps the reward honest: without one, a policy earns most by writing "smile smile smile".
    `cap=float("inf")` takes it away.
    """
    good, bad = frozenset(POSITIVE), frozenset(NEGATIVE)
    scores = []
    for text in texts:
        words = re.findall(r"[a-z]+", text.lower())
        scores.append(sum(word in good for word in words) - sum(word in bad for word in words))
    return np.clip(np.array(scores, dtype=np.float64), -cap, cap)


def gold_reward(texts: Sequence[str]) -> np.ndarray:
    """What a reader thinks of each text: warm is good, gushing smells of being paid for, echoes bore.

    sentiment - 3/2 max(0, praise - 3) - max(0, echoes - 3), float64 [num_texts]; praise counts positive
    words, echoes those that stood there before, fillers apart.
    """
    words = [text.split() for text in texts]
    praise = np.array([sum(word in POSITIVE for word in row) for row in words])
    content = [[word for word in row if word not in FILLERS] for row in words]
    echoes = np.array([len(row) - len(set(row)) for row in content])
    return sentiment(texts) - 1.5 * np.maximum(0, praise - 3) - np.maximum(0, echoes - 3)
