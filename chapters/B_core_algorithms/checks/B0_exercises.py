"""Exercises of B0: its functions, and what goes beyond them."""

import math

import numpy as np
from scipy.special import softmax

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def gradient_step(
    logits: np.ndarray, actions: np.ndarray, rewards: np.ndarray, baseline: np.ndarray, alpha: float
) -> np.ndarray:
    """The logits [B, K] after one play, (E1); actions, rewards and baselines [B] are one per bandit."""
    chosen = np.arange(logits.shape[1]) == actions[:, None]  # [B, K]
    return logits + alpha * (rewards - baseline)[:, None] * (chosen - softmax(logits, axis=1))


def check_gradient_step(gradient_step):
    rng = np.random.default_rng(5)
    for num_bandits, num_arms, alpha in ((1, 2, 1.0), (4, 3, 0.1), (2, 10, 0.5)):
        logits = rng.normal(size=(num_bandits, num_arms))
        actions = rng.integers(num_arms, size=num_bandits)
        rewards, baseline = rng.normal(size=(2, num_bandits))
        found = gradient_step(logits.copy(), actions, rewards, baseline, alpha)
        for b in range(num_bandits):
            total = sum(math.exp(logits[b, a]) for a in range(num_arms))
            for a in range(num_arms):
                step = alpha * (rewards[b] - baseline[b])
                step *= (1.0 if a == actions[b] else 0.0) - math.exp(logits[b, a]) / total
                assert math.isclose(found[b, a], logits[b, a] + step, rel_tol=1e-9, abs_tol=1e-12)
    # on average over the actions it climbs the mean reward, whatever the baseline
    logits, means = rng.normal(size=(2, 4))
    moved = gradient_step(np.tile(logits, (4, 1)), np.arange(4), means, np.full(4, 0.7), 1.0) - logits
    for a in range(4):
        up, down = (softmax(logits + h * np.eye(4)[a]) @ means for h in (1e-5, -1e-5))
        assert abs(softmax(logits) @ moved[:, a] - (up - down) / 2e-5) < 1e-8


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the mean that needs no memory, the optimistic score and the draw from a belief, from (1), (2) and (4).
What should an arm score that was never pulled?
""",
        minutes=25,
        difficulty="easy",
        functions=("updated_mean", "ucb_scores", "thompson_scores"),
        answer="""
Infinity: nothing is known of it, so no bonus is too high. Each arm is then pulled once before any is again.
""",
    ),
    "predict": Exercise(
        title="Predict first",
        task="""
Swap successes and failures in (4): `rl break B0 swapped_belief`. Which of the lesson's claims fail, and which
do not notice?
""",
        minutes=10,
        difficulty="easy",
        answer="""
Only the claim about Thompson's slope fails: the agent takes the worse arm for the better one, plays it ever
more often, and its regret grows linearly. The other claims are about agents without such a belief.
""",
    ),
    "bonus": Exercise(
        title="A bonus for noise that is not there",
        task="""
Move both means near 1, with the same gap. What happens to $C$, to Thompson's slope, to UCB1's?
""",
        minutes=15,
        difficulty="medium",
        answer=r"""
Near 1 a failure says much: KL grows, so $C$ and Thompson's slope fall. UCB1's bonus does not know that
rewards hardly vary: the worse arm is still pulled until its bonus has shrunk to the gap, some $2 \ln T /
\Delta^2$ times. Each pull costs $\Delta$, so the slope stays near $2 / \Delta$.
""",
    ),
    "gradient_step": Exercise(
        title="The gradient bandit",
        task=r"""
Another kind of rule learns no values. It plays arm $a$ with the probability $\pi(a)$ that a softmax gives to
its logit $H(a)$. After the reward $r$ it moves all logits; the played arm's goes up if $r$ was more than
usual. "Usual" is the baseline $\bar r$, mostly the mean of the rewards so far:

$$H(b) \leftarrow H(b) + \alpha\,(r - \bar r)\,\bigl(\mathbb 1[b = a] - \pi(b)\bigr) \quad
\text{for every arm } b \tag{E1}$$

For which label is the last bracket minus the gradient of a cross-entropy loss?
And what is the baseline for?
""",
        minutes=20,
        difficulty="medium",
        solution=gradient_step,
        check=check_gradient_step,
        hints=(
            "All logits of a bandit move: the played arm's one way, all others' the other way.",
            "The moves of a bandit's logits sum to 0; a reward equal to the baseline moves none.",
            "chosen = np.arange(logits.shape[1]) == actions[:, None]  # [B, K]",
        ),
        edits={
            "played_arm_only": Edit(
                function="gradient_step",
                old="(chosen - softmax(logits, axis=1))",
                new="chosen",
                says="moves the played arm's logit only, and as far for an arm that is played anyway",
            ),
            "downhill": Edit(
                function="gradient_step",
                old="(chosen - softmax(logits, axis=1))",
                new="(softmax(logits, axis=1) - chosen)",
                says="steps downhill, as if the reward were a loss",
            ),
            "no_baseline": Edit(
                function="gradient_step",
                old="(rewards - baseline)",
                new="rewards",
                says="forgets the baseline: any positive reward counts as good news",
            ),
            "softmax_over_bandits": Edit(
                function="gradient_step",
                old="softmax(logits, axis=1)",
                new="softmax(logits, axis=0)",
                says="takes the softmax over the bandits instead of the arms",
            ),
        },
        answer="""
For the label $a$, the played arm. On average over the plays the step follows the gradient of the
mean reward, whatever the baseline (the check tests it). With a good baseline the steps scatter less, and the
best arm is found far more often, as `B0_testbed.png` shows. With states added this becomes REINFORCE (C0).
""",
    ),
}
