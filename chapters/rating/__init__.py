"""People compare two texts: in the terminal, on a local page, or by a script that takes their place.

    pairs = [Pair("0", prompt, first, second), ...]
    with RatingStore(path) as store:
        session = Session(pairs, store, seed=0)
        rate_in_terminal(session)  # or rate_in_browser(session), or ScriptedRater(prefers).rate(session)
        export(store, pairs, Path("preferences.jsonl"))  # TRL's columns: prompt, chosen, rejected

An answer is on disk before the next pair is shown. Start again with the same file to go on where you stopped.
"""

from chapters.rating.session import Consistency, ScriptedRater, Session, Shown, plan
from chapters.rating.store import Event, NoPreference, Pair, RatingStore, StaleAnswer, export
from chapters.rating.terminal import rate_in_terminal
from chapters.rating.web import rate_in_browser

__all__ = [
    "Consistency",
    "Event",
    "NoPreference",
    "Pair",
    "RatingStore",
    "ScriptedRater",
    "Session",
    "Shown",
    "StaleAnswer",
    "export",
    "plan",
    "rate_in_browser",
    "rate_in_terminal",
]
