"""Exercises of D11: its functions, and what goes beyond them."""

import math

import numpy as np

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def consistent_wins(first_shown: np.ndarray, second_shown: np.ndarray) -> tuple[float, float]:
    """(E1) and (E2) from a judge's verdicts on the same pairs [B], ours shown first, and ours shown second.

    1 if it preferred ours, 0 if not. The win rate is 0.5 if no pair is left.
    """
    same = first_shown == second_shown
    kept = first_shown[same]
    win_rate = float(kept.mean()) if same.any() else 0.5
    return win_rate, float(1 - same.mean())


def check_consistent_wins(consistent_wins):
    cases = [
        ([1, 1, 0, 0], [1, 0, 1, 0], 0.5, 0.5),
        ([1, 1, 1, 0], [1, 1, 0, 0], 2 / 3, 0.25),
        ([0, 0], [0, 0], 0.0, 0.0),
        ([1, 1], [0, 0], 0.5, 1.0),
    ]
    for first, second, rate, torn in cases:
        found = consistent_wins(np.array(first), np.array(second))
        where = f"ours first {first}, ours second {second}"
        assert math.isclose(found[0], rate, abs_tol=1e-9), f"{where}: win rate {found[0]:.4g}, not {rate:.4g}"
        assert math.isclose(found[1], torn, abs_tol=1e-9), f"{where}: share {found[1]:.4g}, not {torn:.4g}"


def after_rounds(faulty: float, missed: float, false_alarm: float, num_rounds: int) -> float:
    """Share of answers with a fault after rounds of critique and revision, by (E3)."""
    for _ in range(num_rounds):
        faulty = missed * faulty + false_alarm * (1 - faulty)
    return faulty


def check_after_rounds(after_rounds):
    for faulty, missed, alarm, num in (
        (0.5, 0.4, 0.0, 3),
        (0.3, 0.2, 0.1, 1),
        (0.9, 0.5, 0.05, 4),
        (0.7, 1.0, 0.0, 0),
    ):
        good, bad = 1 - faulty, faulty
        for _ in range(num):
            good, bad = good * (1 - alarm) + bad * (1 - missed), good * alarm + bad * missed
        found = after_rounds(faulty, missed, alarm, num)
        told = f"{faulty} faulty, {missed} missed, {alarm} false alarms, {num} rounds"
        assert math.isclose(found, bad, rel_tol=1e-9), f"{told}: expected {bad:.4g}, found {found:.4g}"
    many = after_rounds(0.9, 0.5, 0.05, 200)
    assert math.isclose(many, 0.05 / 0.55, rel_tol=1e-9), f"after 200 rounds: {many:.4g}, not 1 / 11"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write (3), (4) and (5): what two orders tell, what an edit tells, and what is left without it. Then write
(11).
""",
        minutes=35,
        difficulty="medium",
        functions=("swap", "leaning", "corrected", "revise"),
    ),
    "consistent_wins": Exercise(
        title="Only what it says twice",
        task=r"""
If a judge gives a word and no log-odds, many keep only pairs on which it says the same in both orders. Let
$v$ be 1 where it takes our answer, shown first, and 0 where it does not; $v'$ the same, shown second:

$$p_\text{kept} = \frac{\sum v v'}{\sum \mathbb 1[v = v']} \tag{E1}$$

$$\text{torn} = \operatorname{mean}\, \mathbb 1[v \ne v'] \tag{E2}$$

Say that a judge is torn between answers that are nearly equally good, and otherwise knows the better one.
Ours is clearly better in 20 of 100 pairs, clearly worse in 10, and nearly equal in 70.
What does (E1) make of it?
""",
        minutes=15,
        difficulty="easy",
        solution=consistent_wins,
        check=check_consistent_wins,
        hints=(
            "A pair is kept where both verdicts name the same answer, be it ours or theirs.",
            "If all pairs are torn, nothing is known: one half, and a share of 1.",
            "same = first_shown == second_shown",
        ),
        edits={
            "either_order": Edit(
                function="consistent_wins",
                old="same = first_shown == second_shown",
                new="same = (first_shown + second_shown) > 0",
                says="keeps every pair that ours won in any order",
            ),
            "torn_are_lost": Edit(
                function="consistent_wins",
                old="float(kept.mean()) if same.any() else 0.5",
                new="float(kept.sum() / len(same))",
                says="counts a torn pair as lost",
            ),
            "share_kept": Edit(
                function="consistent_wins",
                old="float(1 - same.mean())",
                new="float(same.mean())",
                says="returns the share that was kept",
            ),
        },
        answer=r"""
Two thirds, though of all pairs ours wins 55 of 100 (half of the equal ones). Pairs that are kept are the easy
ones: report how many were torn, or count each as half a win, which is the mean over both orders, (6).
""",
    ),
    "after_rounds": Exercise(
        title="How many rounds?",
        task=r"""
An answer has a fault or none. A critic misses a fault with chance $m$ (else it is mended), and finds one in a
good answer with chance $f$ (then the revision brings one in). Of a share $x$ of faulty answers a round leaves

$$x' = m\, x + f\, (1 - x) \tag{E3}$$

Write it for any number of rounds. Where does it end,
and when does one more round do harm?
""",
        minutes=15,
        difficulty="easy",
        solution=after_rounds,
        check=check_after_rounds,
        hints=(
            "One round after the other: the share that (E3) returns is the next one's x.",
            "Without false alarms it falls by the factor m in every round; with no rounds it stays.",
            "for _ in range(num_rounds):",
        ),
        edits={
            "never_a_false_alarm": Edit(
                function="after_rounds",
                old=" + false_alarm * (1 - faulty)",
                new="",
                says="forgets what revisions spoil",
            ),
            "mended_for_missed": Edit(
                function="after_rounds",
                old="missed * faulty",
                new="(1 - missed) * faulty",
                says="keeps the faults that were found",
            ),
            "one_round": Edit(
                function="after_rounds",
                old="for _ in range(num_rounds):",
                new="for _ in range(min(1, num_rounds)):",
                says="stops after the first round",
            ),
        },
        answer=r"""
At $x^\ast = f / (1 - m + f)$, whatever the start: at 1 / 11 for $m = 0.5$, $f = 0.05$. A round helps a model
that is worse than that and harms one that is better. So measure $m$ and $f$ on some gold labels first: they
are the judge's error rates once more.
""",
    ),
    "leanings": Exercise(
        title="Which edit?",
        task="""
A judge of essays also likes numbered lists. You have the judge, a thousand essays, and no human labels. How
do you measure it? What goes wrong if you compare essays that have lists with those that have none? And name a
leaning that no edit shows.
""",
        minutes=10,
        difficulty="medium",
        answer="""
Give essays a list, or take it away, with all other words as they were, and ask in both orders: (4). Essays
with lists differ in more than lists, in care and length for instance: what one sees is a mixture. No edit
shows a leaning that cannot be changed without the content, such as one for a certain opinion, or one that
nobody thought of: for these it takes gold labels, of people who look.
""",
    ),
}
