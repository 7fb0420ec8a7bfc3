"""What goes wrong by the hand of whoever runs a lesson."""


class UsageError(Exception):
    """Wrong input: its message is one line that says what is wrong and what is allowed. Exit code 2."""

    def __str__(self) -> str:  # in one line even where it quotes what was given
        return " ".join(super().__str__().splitlines())
