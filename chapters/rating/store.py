"""Where answers are kept: a log in an SQLite file, to which is only ever added.

Why SQLite rather than lines of JSON: a commit is whole or absent whenever the process is killed, and a second
process waits for its turn instead of tearing a line. Why with a write-ahead log (WAL): a commit then waits
for the disk once, with a rollback journal four times. While a session runs, and after a kill, the newest
answers are in the file beside it that ends in `-wal`; whoever closes the store last moves them over.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from chapters.utils.files import write_atomic
from chapters.utils.lesson import UsageError

CHOICES = ("first", "second", "tie", "skip")
SIDES = CHOICES[:2]
MOST_EVENTS = 10**15  # of a rater: SQLite counts no further than to 2**63
APPLICATION_ID = 0x524C5250  # written into the file's header; tells a store from another program's database
SECONDS_TO_WAIT = 5.0  # for another process that is writing
SCHEMA = """
CREATE TABLE IF NOT EXISTS pairs (
    key TEXT PRIMARY KEY, id TEXT NOT NULL, prompt TEXT NOT NULL, first TEXT NOT NULL, second TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    rater TEXT NOT NULL, number INTEGER NOT NULL, pair TEXT NOT NULL REFERENCES pairs (key),
    repeat INTEGER NOT NULL, left TEXT NOT NULL, choice TEXT NOT NULL, seconds REAL NOT NULL,
    time TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (rater, number));
"""


class StaleAnswer(UsageError):
    """An answer to a pair that is no longer the current one. Nothing was recorded."""


class NoPreference(UsageError):
    """There is nothing to export: no pair was answered, or all were tied, skipped or contradictory."""


@dataclass(frozen=True)
class Pair:
    """Two rewrites of one text."""

    id: str
    prompt: str
    first: str
    second: str

    def __post_init__(self) -> None:
        try:
            "".join(astuple(self)).encode()
        except (TypeError, UnicodeEncodeError):
            raise UsageError(f"pair {self.id!r}: id and texts must be strings that UTF-8 can hold") from None

    @functools.cached_property
    def key(self) -> str:
        """Digest of id and texts: an answer belongs to what was read, and not to whatever has the same id."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Event:
    """One line of the log: an answer, or the undoing of one."""

    rater: str
    number: int
    """Counts this rater's events from 1. The file refuses a number that is taken."""
    pair: str
    """`Pair.key`."""
    repeat: bool
    """The pair was shown for the second time."""
    left: str
    """The text on the left: `first` or `second`."""
    choice: str
    """One of CHOICES, in terms of the pair; or `undo`, which cancels the rater's answer to (pair, repeat)."""
    seconds: float
    """From showing to answer."""
    time: str
    """UTC, ISO 8601."""
    source: str
    """terminal, web or script."""


class RatingStore:
    """The log in one file. Any number of processes may share it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # the web server works in a thread of its own while the one that opened the store waits
            self._db = sqlite3.connect(
                self.path, timeout=SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                # FULL: a commit returns when it is on the disk; fullfsync means the same on macOS
                self._db.executescript("PRAGMA synchronous = FULL; PRAGMA fullfsync = 1")
                with self._transaction():
                    self._prepare()
                with contextlib.suppress(sqlite3.OperationalError):  # in use just now: any mode is safe
                    self._db.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            self.close()
            raise

    def append(self, pair: Pair, event: Event) -> None:
        """Write one event; on disk when this returns. Raises StaleAnswer if its number is taken."""
        with self._errors():
            try:
                with self._transaction():
                    values = (pair.key, *astuple(pair))
                    self._db.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?, ?, ?)", values)
                    self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(event))
            except sqlite3.IntegrityError:
                raise StaleAnswer("this pair was answered meanwhile, in another window") from None

    def events(self, rater: str, after: int = 0) -> list[Event]:
        """What `rater` did, in order, from the event after number `after` on."""
        names = ", ".join(field.name for field in fields(Event))
        query = f"SELECT {names} FROM events WHERE rater = ? AND number > ? ORDER BY number"
        with self._errors():
            rows = self._db.execute(query, (rater, after)).fetchall()
        for _, number, _, _, left, choice, *_ in rows:
            known = left in SIDES and choice in (*CHOICES, "undo")
            if not known or not isinstance(number, int) or number > MOST_EVENTS:
                told = f"event {str(number)[:20]} is no answer: was it edited by hand?"
                raise UsageError(f"{self.path}: not usable as a store of ratings ({told})")
        return [Event(*row[:3], bool(row[3]), *row[4:]) for row in rows]

    def raters(self) -> list[str]:
        with self._errors():
            return [name for (name,) in self._db.execute("SELECT DISTINCT rater FROM events ORDER BY rater")]

    def pairs(self) -> list[Pair]:
        """Every pair that was ever answered, so that the file is a whole dataset by itself."""
        with self._errors():
            return [Pair(*row) for row in self._db.execute("SELECT id, prompt, first, second FROM pairs")]

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> RatingStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        """Tables in a new file; an error for a database that is not ours."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise UsageError(f"{self.path}: this database holds something else than ratings")
        if not tables:
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")  # waits here, if anywhere, for another writer
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What can go wrong with a file, in one line."""
        try:
            yield
        except sqlite3.Error as error:
            raise UsageError(f"{self.path}: not usable as a store of ratings ({error})") from None
        except OSError as error:
            raise UsageError(f"{self.path}: cannot write there ({error.strerror})") from None


def replay(event: Event, answers: dict[tuple[str, bool], Event]) -> None:
    """Bring a rater's standing answers, by (pair, repeat) and in their order, up to date with an event."""
    answers.pop((event.pair, event.repeat), None)
    if event.choice != "undo":
        answers[event.pair, event.repeat] = event


def export(store: RatingStore, pairs: Sequence[Pair], path: Path | str, chat: bool = False) -> dict[str, int]:
    """Write the preferences as TRL wants them, a line {"prompt", "chosen", "rejected"} for each pair.

    chat: as lists of messages, {"role": "user" or "assistant", "content": text}. Texts stand as they were
    shown, without a space between prompt and completion: a trainer that joins them as they stand needs chat.
    A pair may have several answers: it was repeated, or several people rated it. It is exported if more of
    them prefer one text than the other; ties and skips count for neither. Returns how many pairs were
    exported, and how many left out: contradictory (as many for one text as for the other), undecided (only
    ties and skips), unrated. The file is whole or not there. Raises NoPreference if there is none yet.
    """
    votes: dict[str, Counter] = {pair.key: Counter() for pair in pairs}
    for rater in store.raters():
        answers: dict[tuple[str, bool], Event] = {}
        for event in store.events(rater):
            replay(event, answers)
        for (key, _), event in answers.items():
            if key in votes:
                votes[key][event.choice] += 1
    lines, counts = [], Counter(exported=0, contradictory=0, undecided=0, unrated=0)
    for pair in pairs:
        first, second = votes[pair.key]["first"], votes[pair.key]["second"]
        if first != second:
            chosen, rejected = (pair.first, pair.second) if first > second else (pair.second, pair.first)
            row = {"prompt": pair.prompt, "chosen": chosen, "rejected": rejected}
            if chat:
                row = {name: [_message(name, text)] for name, text in row.items()}
            lines.append(json.dumps(row))
            counts["exported"] += 1
        elif first:
            counts["contradictory"] += 1
        else:
            counts["undecided" if votes[pair.key] else "unrated"] += 1
    if not lines:
        raise NoPreference(f"{store.path}: no preference to export yet")
    try:
        write_atomic(Path(path), "\n".join(lines) + "\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot write there ({error.strerror})") from None
    return dict(counts)


def _message(column: str, text: str) -> dict[str, str]:
    return {"role": "user" if column == "prompt" else "assistant", "content": text}
