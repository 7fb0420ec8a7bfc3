"""A claim: a measured value against a stated bound."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Claim:
    """One measured statement of a lesson (docs: CONTRIBUTING.md, "Claims")."""

    name: str
    """Short identifier, unique in the lesson."""
    statement: str
    """What the value shows, in one sentence."""
    value: float
    """The measured value."""
    at_least: float | None = None
    """Lower bound."""
    at_most: float | None = None
    """Upper bound."""
    near: tuple[float, float] | None = None
    """(target, tolerance): the value must lie within the tolerance of the target."""
    unit: str = ""
    """Unit of value and bound."""
    source: str = ""
    """Where the bound comes from: a paper, an exact computation, a registered threshold."""
    seeds: str = "4/5"
    """On how many recorded seeds it must hold, as a fraction of those recorded."""
    always: bool = False
    """Must hold in smoke runs too (an identity, a bound, a parity)."""
    timed: bool = False
    """A timing: left out wherever runs are compared number by number."""
    evidence: bool = False
    """Measured by the evidence beside the lesson, not by the lesson's own `main`."""

    def __post_init__(self) -> None:
        stated = [bound is not None for bound in (self.at_least, self.at_most, self.near)]
        if sum(stated) != 1:
            raise ValueError(f"claim {self.name!r} needs exactly one of at_least, at_most, near")
        held, of = (int(part) for part in self.seeds.split("/"))
        if not 0 < held <= of:
            raise ValueError(f"claim {self.name!r}: seeds={self.seeds!r} must be like '4/5'")

    @property
    def holds(self) -> bool:
        """Recomputed from value and bound each time; a value that is not a number never holds."""
        if self.value is None or math.isnan(self.value):
            return False
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        target, tolerance = self.near
        return abs(self.value - target) <= tolerance

    @property
    def bound(self) -> str:
        """The bound in words, for tables."""
        if self.at_least is not None:
            return f"≥ {_exact_enough(self.at_least)}"
        if self.at_most is not None:
            return f"≤ {_exact_enough(self.at_most)}"
        return f"{_exact_enough(self.near[0])} ± {self.near[1]:.2g}"

    def enough(self, held: int, recorded: int) -> bool:
        """Whether holding on `held` of `recorded` seeds meets `seeds`."""
        return recorded > 0 and Fraction(held, recorded) >= Fraction(self.seeds)

    def to_dict(self) -> dict:
        """Every field that says something, and the verdict."""
        # by identity: a bound of 0.0 equals False and must stay
        fields = {
            key: value for key, value in asdict(self).items() if value is not None and value is not False
        }
        fields = {key: value for key, value in fields.items() if value != ""}
        return {**fields, "value": self.value, "holds": self.holds}

    @classmethod
    def from_dict(cls, fields: dict) -> Claim:
        """The inverse of `to_dict`; the stored verdict is dropped, `holds` recomputes it."""
        fields = {key: value for key, value in fields.items() if key != "holds"}
        if "near" in fields:
            fields["near"] = tuple(fields["near"])
        if fields["value"] is None:  # JSON has no NaN
            fields["value"] = math.nan
        return cls(**fields)


def _exact_enough(bound: float) -> str:
    """A bound with four digits; with more where four would make a whole number of it: 0.999999, not 1."""
    digits = 4
    while digits < 12 and bound % 1 and float(f"{bound:.{digits}g}") % 1 == 0:
        digits += 1
    return f"{bound:.{digits}g}"
