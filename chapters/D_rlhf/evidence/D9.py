"""D9's evidence: faults against the exact gradient, cut weights, a guessing game, Kuhn poker in words."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from chapters.D_rlhf import D9_tools_and_turns as lesson
from chapters.D_rlhf.checks.D9 import EDITS
from chapters.envs.guessing import GuessingGame, IntervalPolicy, most_found
from chapters.envs.tool_world import ToolWorld
from chapters.exact import kuhn
from chapters.text import kuhn_words
from chapters.text.models import pretrained
from chapters.text.recipes import kuhn_recipe
from chapters.text.tasks import log_probs_of
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited
from chapters.utils.optim import Adam

RULE = {"source": "enumeration of all texts"}
FAULTS = {  # named edit of the lesson: what the figure calls it
    "observations_learnt": "observations in the loss",
    "inverted_mask": "mask inverted",
    "credit_after_answer": "credit only after the answer",
    "lengths_with_answers": "divided by the whole length",
    "own_sampler": "sampler taken for the trainer",
    "answers_weighted": "the world's words in the weight",
    "mean_ratio": "mean ratio for the product",
}
STALE = ("own_sampler", "answers_weighted", "mean_ratio")
"""Faults that show only where another policy wrote the texts."""
TRAINED = ("observations_learnt", "inverted_mask", "credit_after_answer", "lengths_with_answers")
CAPS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 1e6)
"""Bounds on the importance weights; the last one cuts nothing."""


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    drift: Annotated[float, in_range(0.0, 10.0)] = 0.4
    """Standard deviation of the difference between the sampler's weights and the trainer's."""
    num_numbers: Annotated[int, in_range(1, 100)] = 10
    """N of the guessing game."""
    guess_updates: Annotated[int, in_range(1, 100_000)] = 160
    """Batches of the guessing game, for each number of guesses."""
    guess_games: Annotated[int, in_range(2, 100_000)] = 384
    """Games in such a batch. In a small one chance decides which first guess is liked before the later ones
    are learnt; what follows other ones is then seldom played, and some seeds never come to the best."""
    kuhn_updates: Annotated[int, in_range(1, 100_000)] = 400
    """Batches of self-play."""
    kuhn_games: Annotated[int, in_range(16, 100_000)] = 192
    """Games in a batch of self-play."""
    kuhn_pretrain_steps: Annotated[int, in_range(1, 100_000)] = 150
    """Steps that train the small language model on games, once."""
    cfr_iterations: Annotated[int, in_range(1, 100_000)] = 300
    """Iterations of counterfactual regret minimisation (CFR)."""


SMOKE = {
    "guess_updates": 2, "guess_games": 24, "kuhn_updates": 2, "kuhn_games": 24, "kuhn_pretrain_steps": 5,
    "cfr_iterations": 5,
}  # fmt: skip


# The faults, exactly


def drifted(policy: nn.Module, spread: float, seed: int) -> nn.Module:
    """A copy of a policy whose weights have moved at random: the sampler that is not the trainer."""
    sampler = copy.deepcopy(policy)
    noise = torch.randn(
        policy.table.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    sampler.table.data += spread * noise
    return sampler


def gradient(loss: Tensor, policy: nn.Module) -> Tensor:
    """The gradient of a loss, turned round: the direction in which the policy moves."""
    return -torch.autograd.grad(loss, policy.table)[0]


def off(found: Tensor, exact: Tensor) -> float:
    """Distance of two gradients over the length of the right one, at the scale that suits the found one best.

    A step size makes good for a factor; nothing makes good for a direction.
    """
    size = (found * found).sum()
    scale = (found * exact).sum().clamp(min=0.0) / size if size > 0 else 0.0
    return ((scale * found - exact).norm() / exact.norm()).item()


def noise(policy: nn.Module, texts: dict[str, Tensor], sampler: nn.Module, cap: float) -> float:
    """Root mean square distance of one text's gradient from their mean, over the length of the exact one.

    The baseline is the mean reward of the text's problem.
    """
    own = texts["agent_mask"]
    log_probs = log_probs_of(policy, texts)
    with torch.no_grad():
        old = log_probs_of(sampler, texts)
        chance = texts["chance"] * (old * own).sum(dim=1).exp()
        judged = judged_by(texts, chance, mixed=False)
        worth = lesson.importance_weights(log_probs, old, own, cap) * judged
    sums = (log_probs * own).sum(dim=1)
    parts = [torch.autograd.grad(one, policy.table, retain_graph=True)[0] for one in sums]
    each = torch.stack(parts).flatten(1) * worth[:, None]  # [M, weights]
    spread = (chance @ (each - chance @ each).pow(2).sum(dim=1)).sqrt()
    exact = torch.autograd.grad(lesson.expected_return(policy, texts), policy.table)[0].norm()
    return (spread / exact).item()


def judged_by(texts: dict[str, Tensor], chance: Tensor, mixed: bool) -> Tensor:
    """Advantages of all texts in groups without end: of one problem, or of all problems mixed."""
    alike = torch.ones(len(chance), len(chance), dtype=torch.float64)
    if not mixed:
        alike = (texts["problems"][:, None] == texts["problems"]).double()
    return texts["rewards"] - (alike * chance) @ texts["rewards"] / (alike @ chance)


def claim_faults(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """How far the expected gradient of each named edit lies from the exact one, at a policy on its way."""
    world = ToolWorld()
    texts, policy = world.every_text(), world.policy(cfg.seed)
    sampler = drifted(policy, extra.drift, cfg.seed)
    exact = torch.autograd.grad(lesson.expected_return(policy, texts), policy.table)[0]
    found = {}
    for name in FAULTS:
        module = edited(lesson, EDITS[name])
        writer = sampler if name in STALE else policy
        found[name] = off(gradient(module.expected_loss(policy, texts, writer), policy), exact)
    found["no fault"] = off(gradient(lesson.expected_loss(policy, texts, sampler), policy), exact)
    mixed = edited(lesson, EDITS["groups_mixed_exactly"])
    found["groups_mixed"] = off(gradient(mixed.expected_loss(policy, texts, policy), policy), exact)
    log.write(0, **{f"off_{name.replace(' ', '_')}": value for name, value in found.items()})
    always = {**RULE, "always": True, "seeds": "5/5"}
    says = (
        "each of the seven faults has another expected gradient, whatever the step size (the least distance)"
    )
    least = min(found[name] for name in FAULTS)
    # how far depends on the policy and on the sampler's drift; theory says only that it is not 0, and what is
    # right (the two claims of 1e-8 below) stays under this bound
    log.claim("faults_off", says, least, at_least=1e-8, unit="of the gradient", **always)
    says = "groups that mix problems leave the expected gradient as it is"
    unit = {"unit": "of the gradient"}
    log.claim("mixed_groups_off", says, found["groups_mixed"], at_most=1e-8, **unit, **always)
    with torch.no_grad():
        own = (log_probs_of(policy, texts) * texts["agent_mask"]).sum(dim=1)
        chance = texts["chance"] * own.exp()
        plain, other = ((chance @ judged_by(texts, chance, mixed) ** 2).sqrt() for mixed in (False, True))
    log.write(0, spread_right=plain.item(), spread_mixed=other.item())
    says = "but their advantages are spread wider, by how much the problems differ"
    rule = {**always, "source": "law of total variance"}
    log.claim("mixed_groups_spread", says, (other / plain).item(), at_least=1.0, unit="times", **rule)


def claim_weights(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """What a bound on the importance weights costs in bias, and what it saves in noise."""
    world = ToolWorld()
    texts, policy = world.every_text(), world.policy(cfg.seed)
    sampler = drifted(policy, extra.drift, cfg.seed)
    exact = torch.autograd.grad(lesson.expected_return(policy, texts), policy.table)[0]
    for number, cap in enumerate(CAPS):
        loss = lesson.expected_loss(policy, texts, sampler, cap)
        found = gradient(loss, policy) * world.num_tokens
        log.write(
            number,
            cut_bias=((found - exact).norm() / exact.norm()).item(),
            cut_noise=noise(policy, texts, sampler, cap),
        )
    bias = log.series("cut_bias")[1]
    says = "weights that are not cut make a stale sampler's expected gradient exact"
    log.claim("uncut_bias", says, bias[-1], at_most=1e-8, unit="of the gradient", always=True, **RULE)
    says = "weights cut at 2 leave a bias"
    log.claim("cut_bias", says, bias[CAPS.index(2.0)], at_least=1e-4, unit="of the gradient", **RULE)
    stale = edited(lesson, EDITS["own_sampler"])
    loss = stale.expected_loss(policy, texts, sampler)
    forgotten = (gradient(loss, policy) * world.num_tokens - exact).norm() / exact.norm()
    log.write(0, stale_bias=forgotten.item())
    says = "which is smaller than that of no weights at all"
    share = bias[CAPS.index(2.0)] / forgotten.item()
    log.claim("cut_beats_none", says, share, at_most=1.0, unit="ratio", **RULE)


# The faults, trained


def learn(module: ModuleType, cfg: lesson.Config, log: RunLog, name: str) -> None:
    """Train a lesson or an edited one in the small world, and write its exact return on the way."""
    world = ToolWorld()
    texts, policy = world.every_text(), world.policy(cfg.seed)

    def watch(policy: nn.Module, num_updates: int) -> None:
        with torch.no_grad():
            log.write(num_updates, **{f"{name}_return": lesson.expected_return(policy, texts).item()})

    watch(policy, 0)
    module.train(policy, world, cfg, log, name, watch)


def claim_symptoms(log: RunLog) -> None:
    """What each trained fault shows in its own metrics."""
    small = log.kept["small"]
    for name in TRAINED:
        learn(edited(lesson, EDITS[name]), small, log, name)
    always = {"always": True, "seeds": "5/5", "unit": "of the loss's pull", "source": "eq. (2)"}
    says = "the right loss pulls at none of the world's tokens, in no update"
    log.claim("world_pull", says, max(log.series("world_world_pull")[1]), at_most=0.0, **always)
    says = "a loss of all tokens pulls at them (mean over updates)"
    pull = float(np.mean(log.series("observations_learnt_world_pull")[1]))
    log.claim("world_pull_learnt", says, pull, at_least=1e-3, **always)
    says = "if credit begins after the answer, nothing pulls at a call, in no update"
    log.claim(
        "early_pull_lost", says, max(log.series("credit_after_answer_early_pull")[1]), at_most=0.0, **always
    )


# A guessing game


def claim_guessing(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """The lesson's learner at one to four guesses, against the best player."""
    worst, gap = 1.0, 0.0
    for guesses in range(1, 5):
        game = GuessingGame(extra.num_numbers, guesses)
        gap = max(gap, abs(most_found(extra.num_numbers, guesses) / extra.num_numbers - game.optimum))
        policy = IntervalPolicy(game)
        settings = {"num_prompts": 1, "group_size": extra.guess_games, "num_updates": extra.guess_updates}
        lesson.train(policy, game, replace(cfg, learning_rate=0.1, **settings), log, f"guess_{guesses}")
        log.write(guesses, guess_success=policy.success(), guess_optimum=game.optimum)
        worst = min(worst, policy.success() / game.optimum)
    says = "(2^k - 1) / N is what dynamic programming finds, for one to four guesses"
    rule = {"always": True, "seeds": "5/5", "source": "dynamic programming"}
    log.claim("guess_optimum", says, gap, at_most=1e-12, unit="of all games", **rule)
    says = "with one to four guesses the learner wins nearly as often as the best player (worst of the four)"
    log.claim("guess_success", says, worst, at_least=0.9, unit="of the optimum", source="(2^k - 1) / N")


# Kuhn poker in words


def self_play(
    parameters: Any, choose: Callable[[], Tensor], learning_rate: float, cfg: lesson.Config, extra: Config,
    log: RunLog, name: str,
) -> np.ndarray:  # fmt: skip
    """Train a player against itself; returns its strategy [3, 4] if one of its checkpoints is drawn by lot.

    choose: log-probabilities [12, 2] of pass and bet in each situation. A seat's game is a text of at most
    two tokens of its own. From its reward is taken what its moves were worth in surprise: without a price
    for being sure, each seat runs after the other in a circle (the price falls on the way). What runs in
    circles need not be good at any one time; learners that regret little come to rest in their mean over time
    (freund1999adaptive).
    """
    rng = np.random.default_rng(cfg.seed)
    optimizer = Adam(parameters, lr=learning_rate)
    checkpoints = []

    def strategy(log_probs: Tensor) -> np.ndarray:
        return log_probs.detach().double().exp()[:, 1].view(3, 4).numpy()

    def watch(num_updates: int, log_probs: Tensor) -> np.ndarray:
        checkpoints.append(strategy(log_probs))
        by_lot = kuhn.drawn_by_lot(np.array(checkpoints))
        found = {"last": kuhn.exploitability(checkpoints[-1]), "by_lot": kuhn.exploitability(by_lot)}
        log.write(num_updates, **{f"{name}_{kind}": value for kind, value in found.items()})
        return by_lot

    for i in range(extra.kuhn_updates):
        gone = i / extra.kuhn_updates
        optimizer.lr = learning_rate * (1.0 - gone)
        price = 0.5 * 0.2**gone  # from a half to a tenth
        log_probs = choose()
        if i % 10 == 0:
            watch(i, log_probs)
        games = kuhn_words.play(strategy(log_probs), extra.kuhn_games, rng)
        where = torch.from_numpy(games["situations"])  # [2 n, 2]
        own = where >= 0
        chosen = log_probs[where.clamp(min=0), torch.from_numpy(games["moves"])]
        rewards = torch.from_numpy(games["returns"]).float() - price * (chosen.detach() * own).sum(dim=1)
        judged = lesson.advantages(rewards, torch.from_numpy(games["hands"]))
        batch = {"agent_mask": own, "advantages": judged, "weights": torch.ones_like(judged)}
        optimizer.zero_grad()
        lesson.turns_loss(chosen, batch).backward()
        optimizer.step()
    return watch(extra.kuhn_updates, choose())


def reader(model: nn.Module, tokenizer: Any) -> Callable[[], Tensor]:
    """Asks a language model for its moves: log-probabilities [12, 2] of pass and bet alone."""
    encoded = tokenizer(kuhn_words.situations(), return_tensors="pt", padding=True)
    mask = encoded["attention_mask"]
    moves = tokenizer.convert_tokens_to_ids(list(kuhn_words.MOVES))

    def choose() -> Tensor:
        places = lesson.positions(mask)
        logits = model(input_ids=encoded["input_ids"], attention_mask=mask, position_ids=places).logits
        return logits[:, -1, moves].log_softmax(dim=-1)

    return choose


def claim_kuhn(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """A language model and a table in self-play, beside counterfactual regret minimisation."""
    model, tokenizer = pretrained(kuhn_recipe(extra.kuhn_pretrain_steps))
    self_play(list(model.parameters()), reader(model, tokenizer), 3e-3, cfg, extra, log, "kuhn_words")
    table = torch.zeros(12, 2, requires_grad=True)
    self_play([table], lambda: table.log_softmax(dim=-1), 0.02, cfg, extra, log, "kuhn_table")
    for count in sorted({1, 3, 10, 30, 100, extra.cfr_iterations}):
        if count <= extra.cfr_iterations:
            found = kuhn.exploitability(kuhn.counterfactual_regret(count))
            log.write(count, kuhn_cfr_exploitability=found)
    rule = {"unit": "coins a game", "source": "exact best responses"}
    before = log.series("kuhn_words_last")[1][0]
    says = (
        "a language model that has read games of players who mix evenly loses to a best response as they do"
    )
    log.claim("kuhn_before", says, before, near=(kuhn.RANDOM_LOSS, 0.1), **rule)
    says = "one of its checkpoints of self-play, drawn by lot, loses less than any player who never mixes"
    log.claim("kuhn_after", says, log.last("kuhn_words_by_lot"), at_most=kuhn.PURE_LOSS, **rule)
    says = "CFR's average stays below its bound"
    bound = kuhn.regret_bound(extra.cfr_iterations)
    claimed = {**rule, "source": "zinkevich2007cfr, theorems 2 to 4", "always": True, "seeds": "5/5"}
    log.claim("kuhn_cfr", says, log.last("kuhn_cfr_exploitability"), at_most=bound, **claimed)


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_faults(cfg, extra, log)
    claim_weights(cfg, extra, log)
    claim_symptoms(log)
    claim_guessing(cfg, extra, log)
    claim_kuhn(cfg, extra, log)
    runs = [{"metrics": log.metrics}]
    draw_faults(runs, log)
    draw_games(runs, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The figures over all seeds."""
    draw_faults(runs, log)
    draw_games(runs, log)


def curves(runs: Sequence[dict], name: str) -> tuple[list[int], np.ndarray]:
    """(steps, values [runs, steps]) of a metric."""
    found = [run["metrics"][name] for run in runs]
    return [step for step, _ in found[0]], np.array([[value for _, value in one] for one in found])


def draw_faults(runs: Sequence[dict], log: RunLog) -> None:
    """Distance of each fault's gradient; the return that it ends at; bias and noise of cut weights."""
    figure, (bars, way, cuts) = plotting.new_figure(1, 3, width=5.6, height=4.6)
    labels = {"no_fault": "no fault, a stale sampler", "groups_mixed": "groups that mix problems", **FAULTS}
    rows = {label: curves(runs, f"off_{name}")[1][:, -1] for name, label in labels.items()}
    plotting.dot_rows(bars, rows, [plotting.GREEN, plotting.BLUE, *[plotting.ORANGE] * len(FAULTS)])
    bars.set(xlim=(-0.04, 1.05), xlabel="distance from the exact gradient, relative")
    bars.set_title("Expected gradients")
    kinds = {"world": ("no fault", plotting.GREEN)} | {
        name: (FAULTS[name], colour)
        for name, colour in zip(TRAINED, (plotting.ORANGE, plotting.RED, plotting.BLUE, plotting.PURPLE))
    }
    for name, (label, colour) in kinds.items():
        steps, found = curves(runs, f"{name}_return")
        way.plot(steps, np.median(found, axis=0), color=colour, label=label)
        way.fill_between(steps, found.min(axis=0), found.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    world = ToolWorld()
    way.axhline(world.best_return(), label="best policy", **plotting.REFERENCE)
    way.axhline(world.best_return(calls=False), color="grey", linestyle=":", label="best without the tool")
    way.set(xlabel="update", ylabel="expected return", ylim=(-0.65, 1.0))
    way.set_title(f"Trained, median and range of {len(runs)}")
    way.legend(loc="lower right", fontsize=9)
    _, bias = curves(runs, "cut_bias")
    _, spread = curves(runs, "cut_noise")
    at = np.arange(len(CAPS))
    for found, colour, label in ((bias, plotting.RED, "bias"), (spread, plotting.BLUE, "noise of one text")):
        cuts.plot(at, np.median(found, axis=0), "o-", color=colour, label=label)
        cuts.fill_between(at, found.min(axis=0), found.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    cuts.set_xticks(at, [*[f"{cap:g}" for cap in CAPS[:-1]], "none"])
    cuts.set(xlabel="weights are cut at", ylabel="over the exact gradient's length", title="A stale sampler")
    cuts.legend(loc="upper left")
    log.figure(figure, "faults")


def draw_games(runs: Sequence[dict], log: RunLog) -> None:
    """Guessing against its optimum; exploitability in self-play."""
    figure, (guess, poker) = plotting.new_figure(1, 2, width=6.2, height=5.6)
    steps, found = curves(runs, "guess_success")
    _, best = curves(runs, "guess_optimum")
    guess.plot(
        steps, best[0], "s", label="best player, (2^k - 1) / N", **{**plotting.REFERENCE, "linestyle": ""}
    )
    for row in found:
        guess.plot(steps, row, "o", color=plotting.BLUE, alpha=0.6, markersize=6)
    guess.plot([], [], "o", color=plotting.BLUE, label="learner, a dot a seed")
    guess.set_xticks(steps)
    guess.set(xlabel="guesses k", ylabel="share of games won", ylim=(0.0, 1.05), title="A guessing game")
    guess.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=11)
    for name, label, colour in (
        ("kuhn_words_last", "language model, as it stands", plotting.BLUE),
        ("kuhn_words_by_lot", "language model, a checkpoint by lot", plotting.PURPLE),
        ("kuhn_table_last", "table, as it stands", plotting.ORANGE),
    ):
        plotting.seed_band(poker, *curves(runs, name), label, colour)
    steps, found = curves(runs, "kuhn_cfr_exploitability")
    poker.plot(steps, found[0], "s", color=plotting.GREEN, markersize=5, label="CFR after so many iterations")
    poker.axhline(kuhn.PURE_LOSS, label="best that never mixes", **plotting.REFERENCE)
    poker.set(xlabel="update, or iteration", ylabel="exploitability (coins a game)", yscale="log")
    poker.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
    poker.minorticks_off()
    poker.set_title("Kuhn poker in words")
    poker.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=11)
    log.figure(figure, "games")
