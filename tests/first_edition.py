"""Lessons that still have the form of the first edition: one long file, no evidence beside it.

They are held to their ledgers, checks and edits like all others, not yet to the second edition's form. The
list only ever gets shorter.
"""

from chapters.course.catalog import Item, lessons

FIRST_EDITION: frozenset[str] = frozenset(
    item.id for item in lessons() if "**The verdict.**" not in item.path.read_text(encoding="utf-8")
)


UNRECORDED: frozenset[str] = frozenset(
    item.id
    for item in lessons()
    if not item.ledger.exists() or "evidence_config" not in item.ledger.read_text(encoding="utf-8")
)
"""Lessons whose ledger was recorded in the first edition's form, or not yet: `rl record` takes them off."""


def recorded() -> list[Item]:
    """The lessons whose ledger has the second edition's form."""
    return [item for item in lessons() if item.id not in UNRECORDED]


def second_edition() -> list[Item]:
    """The lessons that have the new form."""
    return [item for item in lessons() if item.id not in FIRST_EDITION]
