"""Blackjack, many hands at once in NumPy: gymnasium's Blackjack-v1 with `natural=False, sab=False`.

The rules: cards come from an infinite deck (1 to 9 once each, 10 four times as often). Player and dealer get
two cards, one of the dealer's is seen. An ace counts 11 as long as that does not exceed 21 ("usable"). The
player hits or sticks; above 21 the hand is lost. Then the dealer draws to 17 or more. The higher score wins:
reward 1, 0 or -1, and a two-card 21 is a 21 like any other.

The tests hold this to gymnasium's environment, card by card.
"""

from __future__ import annotations

import numpy as np

STICK, HIT = 0, 1
SHAPE = (2, 11, 22)
"""Tables over states, indexed [usable ace, dealer's card, player's sum]; card 0 and sums under 4 unused."""
CARDS = np.arange(1, 11)
CARD_PROBABILITIES = np.array([1.0] * 9 + [4.0]) / 13


def add_card(total, usable, card):
    """(total, usable) of a hand after one more card; a total above 21 is bust. Works elementwise on arrays.

    An empty hand is (0, False). `usable` says that an ace counts 11 in `total`.
    """
    total, becomes_eleven = total + card, (card == 1) & (total + card + 10 <= 21)
    total, usable = total + 10 * becomes_eleven, usable | becomes_eleven
    too_much = usable & (total > 21)  # an ace that counted 11 falls back to 1
    return total - 10 * too_much, usable & ~too_much


class BatchedBlackjack:
    """`num_hands` independent hands, dealt together and played until the last has ended.

    `reset` deals and returns the observations; `step` plays one action on each hand that has not ended (the
    actions of ended hands are ignored). An observation is a tuple of three arrays [num_hands] that indexes a
    table of `SHAPE`: (usable ace, dealer's card, player's sum).
    """

    def __init__(self, num_hands: int, rng: np.random.Generator) -> None:
        self.num_hands, self.rng = num_hands, rng

    def draw(self, num_cards: int) -> np.ndarray:
        return np.minimum(self.rng.integers(1, 14, num_cards), 10)  # jack, queen and king count 10

    def reset(self, start: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None) -> tuple:
        """Deal, or begin from the observations `start` and draw only the dealer's second card."""
        self.showing = self.draw(self.num_hands) if start is None else start[1].copy()
        self.hidden = self.draw(self.num_hands)
        if start is None:
            empty = np.zeros(self.num_hands, dtype=int), np.zeros(self.num_hands, dtype=bool)
            hand = add_card(*empty, self.draw(self.num_hands))
            self.total, self.usable = add_card(*hand, self.draw(self.num_hands))
        else:
            self.total, self.usable = start[2].copy(), start[0].astype(bool)
        self.done = np.zeros(self.num_hands, dtype=bool)
        return self.obs()

    def obs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.usable.astype(int), self.showing.copy(), self.total.copy()

    def step(self, actions: np.ndarray) -> tuple[tuple, np.ndarray, np.ndarray]:
        """(observations, rewards, done): rewards are 0 except in the step that ends a hand.

        The observation of a hand that went bust has a sum above 21 and indexes no table.
        """
        rewards = np.zeros(self.num_hands)
        hit = np.flatnonzero(~self.done & (actions == HIT))
        stick = np.flatnonzero(~self.done & (actions == STICK))
        self.total[hit], self.usable[hit] = add_card(self.total[hit], self.usable[hit], self.draw(len(hit)))
        rewards[hit] = -1.0 * (self.total[hit] > 21)
        rewards[stick] = np.sign(self.total[stick] - self.dealer_scores(stick))
        self.done[stick] = True
        self.done[hit] = self.total[hit] > 21
        return self.obs(), rewards, self.done.copy()

    def dealer_scores(self, hands: np.ndarray) -> np.ndarray:
        """What the dealer reaches in the given hands by drawing to 17 or more; 0 if bust."""
        total, usable = np.zeros(len(hands), dtype=int), np.zeros(len(hands), dtype=bool)
        total, usable = add_card(total, usable, self.showing[hands])
        total, usable = add_card(total, usable, self.hidden[hands])
        while (drawing := np.flatnonzero(total < 17)).size:
            total[drawing], usable[drawing] = add_card(
                total[drawing], usable[drawing], self.draw(len(drawing))
            )
        return np.where(total > 21, 0, total)


def play_hands(
    policy: np.ndarray,
    num_hands: int,
    rng: np.random.Generator,
    start: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    first_actions: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole hands: states (flat indices into `SHAPE`), actions, rewards, each [T, num_hands].

    After its end a hand has the state -1, action 0 and reward 0. `policy` is a table of actions. With `start`
    the hands begin there; `first_actions` are taken first whatever the policy says.
    """
    env = BatchedBlackjack(num_hands, rng)
    usable, showing, total = env.reset(start)
    steps: list[tuple] = []
    running = np.ones(num_hands, dtype=bool)
    while running.any():
        state = np.where(running, np.ravel_multi_index((usable, showing, np.minimum(total, 21)), SHAPE), -1)
        actions = policy.ravel()[state] if steps or first_actions is None else first_actions
        (usable, showing, total), rewards, done = env.step(actions)
        steps.append((state, np.where(running, actions, 0), rewards))
        running = ~done
    states, actions, rewards = (np.stack(arrays) for arrays in zip(*steps))
    return states, actions, rewards
