"""What goes wrong by the hand of whoever runs a lesson."""

import re


class UsageError(Exception):
    """Wrong input: its message is one line that says what is wrong and what is allowed. Exit code 2."""

    def __str__(self) -> str:  # in one line even where it quotes what was given
        return in_a_line(super().__str__())


def in_a_line(text: str) -> str:
    """On one line, and without words that nobody reads to their end."""
    line = " ".join(text.splitlines())
    return re.sub(r"\S{400,}", lambda word: f"{word[0][:100]}… ({len(word[0])} letters)", line)
