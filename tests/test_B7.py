"""Lesson B7's learner on worlds with known answers, with bugs inside, and what its evidence measures."""

import types

import numpy as np
import pytest

import chapters.B_core_algorithms.B7_dyna_q as lesson
from chapters.B_core_algorithms.checks import B7_probes as probes
from chapters.B_core_algorithms.checks.B7 import EDITS, errors
from chapters.B_core_algorithms.checks.B7_exercises import counted_model, waiting_time
from chapters.B_core_algorithms.evidence import B7 as evidence
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.envs.mazes import GAP_LEFT, GAP_RIGHT, MAZE, Mazes
from chapters.exact.mazes import steps_from_start
from chapters.exact.mdp import MDP, evaluate_exactly, grid_mdp, policy_iteration, q_from_v
from chapters.utils import RunLog
from chapters.utils.edits import edited

CORRIDOR = ("S......G",)  # seven steps to the right


def broken(name: str) -> types.ModuleType:
    return edited(lesson, EDITS[name])


@pytest.mark.parametrize("probe", probes.ANSWERS)
def test_solves_the_probe_environments(probe):
    assert probes.wrongness(lesson, probe) <= probes.ALLOWED[probe]


@pytest.mark.parametrize(
    ("edit", "probe"),
    [
        ("merged", "Endless"),
        ("merged", "CutShort"),
        ("next_episode", "CutShort"),
        ("past_the_end", "ConstantReward"),
        ("undiscounted", "DelayedReward"),
    ],
)
def test_bugs_are_noticed_by_a_probe(edit, probe):
    assert not probes.wrongness(broken(edit), probe) <= probes.ALLOWED[probe]


def learn_corridor(module, n: int, num_episodes: int, **settings):
    cfg = module.Config(gamma=0.9, epsilon=0.2)
    return module.learn(Mazes(3, CORRIDOR), cfg, n, alpha=1.0, num_episodes=num_episodes, **settings)


def right_values(q: np.ndarray) -> np.ndarray:
    """[agents, 7] what each table says of going right, over the truth."""
    return q[:, :7, 1] / 0.9 ** np.arange(6, -1, -1)


def test_planning_carries_a_success_all_the_way_back():
    """After two walks each cell knows its distance; without planning only the last two do."""
    q, memory, earned, ended = learn_corridor(lesson, 30, 2)
    np.testing.assert_allclose(right_values(q), 1.0, rtol=1e-9)
    assert memory.terminated[:, 6, 1].all()
    assert (memory.next_obs[:, :6, 1] == np.arange(1, 7)).all()
    assert earned.shape == ended.shape
    assert (earned == ended).all(), "an episode ends at the goal, and only there"
    q, *_, ended = learn_corridor(lesson, 0, 2)
    second = ended.sum(axis=0) == 2
    assert second.any()
    assert (right_values(q)[second, :5] == 0).all()
    assert (right_values(q)[:, 5:] == 1).all()


def test_never_plans_and_dreams_only_are_noticed():
    assert right_values(learn_corridor(broken("never_plans"), 30, 2)[0])[:, 0].min() < 1
    assert not learn_corridor(broken("dreams_only"), 0, 2)[0].any(), "nobody dreams and nobody learns"
    assert EDITS["dreams_only"].says


def test_real_steps_have_their_times():
    for module, latest in ((lesson, 25), (broken("always_now"), 1)):
        _, memory, earned, _ = learn_corridor(module, 2, 0, num_steps=25, kappa=0.1)
        assert memory.last_tried.max() == latest, '"always_now"'
        assert len(earned) == 25
    assert (memory.last_tried >= 0).all()


def test_without_planning_it_is_q_learning():
    """The same steps and updates as in a plain loop over one agent."""
    cfg = lesson.Config(seed=3, gamma=0.9, epsilon=0.3)
    q, _, earned, ended = lesson.learn(Mazes(1, MAZE), cfg, 0, alpha=0.5, num_steps=1500)
    rng, table, cell = np.random.default_rng((3, 0)), np.zeros((54, 4)), 18
    mdp = grid_mdp(MAZE, 0.9)
    for t in range(1500):
        ties = np.where(table[cell] == table[cell].max(), rng.random((1, 4))[0], -1.0)
        explore, anything = rng.random(1)[0] < 0.3, rng.integers(4, size=1)[0]
        action = int(anything if explore else ties.argmax())
        reached = int(mdp.P[cell, action].argmax())
        end = bool(mdp.terminal[reached])
        target = mdp.R[cell, action] + (0.0 if end else 0.9 * table[reached].max())
        table[cell, action] += 0.5 * (target - table[cell, action])
        assert (earned[t, 0], ended[t, 0]) == (float(end), end)
        cell = 18 if end else reached
    np.testing.assert_allclose(q[0], table, rtol=1e-9, atol=1e-12)
    assert table.any()


def test_curiosity_finds_a_new_way_and_its_absence_does_not():
    """The corridor's agent stands before a wall which opens; only Dyna-Q+ tries it again soon."""
    closed, opened = ("S#.", "..G"), ("S..", "..G")
    tried = {}
    for name, module in (("right", lesson), ("no_bonus", broken("no_bonus"))):
        cfg = module.Config(gamma=0.9, epsilon=0.01)
        envs = Mazes(20, closed, opened, change_after=300)
        _, memory, *_ = module.learn(envs, cfg, 5, alpha=1.0, num_steps=700, kappa=0.01)
        tried[name] = (memory.next_obs[:, 0, 1] == 1).mean()
    assert tried["right"] > 0.9
    assert tried["no_bonus"] < 0.5


# What the evidence measures


def test_steps_and_episodes_are_counted(tmp_path, monkeypatch):
    """Agents whose episodes take known steps: 30, 10 and then 19 (n = 0); one less with each kind of plan."""

    def learn(envs, cfg, n, *, alpha, num_episodes):
        lengths = np.array([30, 10, 19]) - lesson.PLANS.index(n)
        ended = np.zeros((100, 2), dtype=bool)
        ended[np.cumsum(lengths) - 1, 0] = True
        ended[np.cumsum(lengths + 2) - 1, 1] = True
        ended[80:90, 1] = True  # more episodes than were asked for
        return np.zeros((2, 1, 1)), None, None, ended

    monkeypatch.setattr(lesson, "learn", learn)
    log = RunLog(tmp_path, "B7")
    lesson.learn_in_maze(lesson.Config(num_episodes=3), log)
    log.close()
    assert log.series("steps_n0") == ([1, 2, 3], [31.0, 11.0, 20.0])
    assert log.series("steps_n50") == ([1, 2, 3], [29.0, 9.0, 18.0])
    assert log.last("best_steps") == pytest.approx(15.8125, abs=1e-3)
    assert [log.last(f"episodes_needed_n{n}") for n in (0, 5, 50)] == [2.0, 2.0, 2.0]  # below 19.8


def test_walkers_are_counted_and_the_model_comes_near_the_world():
    obs, _, _, next_obs, terminated = step = evidence.walk_at_random(1500, 0)
    assert all(len(part) == 15_000 for part in step)
    world = grid_mdp(("...G", ".#.P", "S..."), 0.9, slip=0.2, step_reward=-0.04)
    model = counted_model(*step, num_states=12, num_actions=4, gamma=0.9)
    inside = np.isin(np.arange(12), obs)
    assert (np.flatnonzero(inside) == np.flatnonzero(~world.terminal)).all()
    assert np.abs(model.P - world.P)[inside].max() < 0.1
    assert np.abs(model.R - world.R)[inside].max() < 0.1
    assert set(next_obs[terminated].tolist()) == {3, 7}


def test_random_order_makes_as_many_backups_as_a_coupon_collector():
    """One state, the goal beside it: first the pair that pays must be drawn, then the three others."""
    maze = grid_mdp(("SG",), 0.9)
    q, order = lesson.prioritised_sweeping(maze, 1e-9)
    assert len(order) == 4
    counts = [evidence.random_order(maze, q, np.random.default_rng(seed)) for seed in range(400)]
    assert min(counts) >= 4
    # wait for the paying pair (mean 4), then for the three others (mean 4 (1 + 1/2 + 1/3))
    assert abs(np.mean(counts) - (4 + 4 * (1 + 1 / 2 + 1 / 3))) < 5 * np.std(counts) / 20


def test_planned_to_the_end_a_memory_gives_the_values_of_what_was_seen():
    memory = lesson.Memory((2, 8, 4))
    for cell in range(7):  # the first agent has walked all the corridor, the second only its end
        cells = np.array([cell, max(cell, 4)])
        paid = (cells == 6).astype(float)
        memory.store((cells, np.array([1, 1]), paid, cells + 1, cells == 6), cell + 1)
    planned = evidence.planned_out(memory, 0.9)
    expected = np.zeros((2, 8, 4))
    expected[0, :7, 1] = 0.9 ** np.arange(6, -1, -1)
    expected[1, 4:7, 1] = 0.9 ** np.arange(2, -1, -1)
    np.testing.assert_allclose(planned, expected, rtol=1e-9)


def test_path_lengths_follow_the_greedy_action():
    best = q_from_v(grid_mdp(MAZE, 0.95), policy_iteration(grid_mdp(MAZE, 0.95))[0])
    stuck = np.zeros((54, 4))
    later = best.copy()
    later[18] = [0, 0, 1, 0]  # one step down first, along another way of the same length or longer
    lengths = evidence.path_lengths(np.stack([best, stuck, later]))
    assert lengths[0] == 14
    assert np.isinf(lengths[1])
    assert lengths[2] >= 14


def test_regret_is_what_the_best_would_have_earned_more(tmp_path):
    log = RunLog(tmp_path, "B7")
    earned = {"plain": np.zeros((200, 3)), "plus": np.full((200, 3), 0.05)}
    evidence.write_regret("here", earned, (GAP_RIGHT, GAP_LEFT), 100, 0.0, log)
    log.close()
    assert log.series("here_changes") == ([100], [100.0])
    steps, regret = log.series("here_regret_plain")
    assert steps == [50, 100, 150, 200]
    np.testing.assert_allclose(regret, [5, 10, 10 + 50 / 16, 10 + 100 / 16])
    np.testing.assert_allclose(log.series("here_regret_plus")[1], np.array(regret) - 0.05 * np.array(steps))


def test_errors_in_wrong_models_stay_below_both_bounds_and_are_those_of_single_worlds(monkeypatch):
    shares = evidence.value_errors(50, 3, 0.9, 0.5, np.random.default_rng(0))
    assert shares.shape == (50, 2)
    assert (shares > 0).all()
    assert (shares[:, 0] <= 1).all()
    assert (shares[:, 1] < shares[:, 0]).all()
    seen = []
    monkeypatch.setattr(evidence, "total_variation", lambda P, other: seen.append((P, other)) or 0.5)
    rng = np.random.default_rng(1)
    found = evidence.value_errors(4, 3, 0.9, 0.5, rng)
    # the same draws again: worlds, models, policies, rewards
    rng = np.random.default_rng(1)
    for shape in ((4, 3, 3, 3), (4, 3, 3, 3)):
        evidence.random_rows(rng, shape, 0.5)
    rng.uniform(-3, 0, (4, 1, 1, 1))
    policy, rewards = evidence.random_rows(rng, (4, 3, 3), 0.5), rng.random((4, 3, 3))
    for m, (P, other) in enumerate(seen):
        np.testing.assert_allclose(other.sum(axis=-1), 1.0)
        worlds = (MDP(one, rewards[m], np.zeros(3, dtype=bool), 0.9) for one in (P, other))
        values = [evaluate_exactly(world, policy[m]) for world in worlds]
        expected = np.abs(values[0] - values[1]).max() / evidence.coupling_bound(0.5, 1.0, 0.9)
        assert found[m, 0] == pytest.approx(expected)


def test_random_rows_are_distributions():
    rows = evidence.random_rows(np.random.default_rng(0), (100, 5), 0.1)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
    assert (rows >= 0).all()
    spread = evidence.random_rows(np.random.default_rng(0), (100, 5), 10.0)
    assert rows.max(axis=1).mean() > 0.7
    assert spread.max(axis=1).mean() < 0.5


def test_counted_models_err_and_lose_as_worked_out_for_one_world(tmp_path, monkeypatch):
    """Two states, two actions: one stays where it pays 1, the model says with 1 of 4 tries that it leaves."""
    P = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    world = MDP(P, np.array([[1.0, 0.5], [0.0, 0.0]]), np.zeros(2, dtype=bool), 0.9)

    class Tries(np.random.Generator):
        def multinomial(self, tries, chances):
            counts = tries * chances
            counts[0, 0] = [0.75 * tries, 0.25 * tries]
            return counts

    monkeypatch.setattr(evidence, "some_worlds", lambda *_: [world])
    log = RunLog(tmp_path, "B7")
    evidence.claim_counted(evidence.Config(), Tries(np.random.PCG64(0)), log)
    log.close()
    assert log.last("counted_error") == pytest.approx(10 - 1 / (1 - 0.9 * 0.75))
    assert log.last("counted_loss") == pytest.approx(0.0, abs=1e-9)  # staying is still the best choice
    assert log.last("counted_bound") == pytest.approx(0.9 * 0.25 / 0.01)
    assert {claim.name: claim.holds for claim in log.claims} == {"loss_bound": True, "counted_slope": False}


# What the text says


def test_a_blocked_agent_believes_in_a_goal_that_its_own_model_cannot_reach():
    """Section 5: its start is worth nothing by its own model, and yet its values have hardly faded.

    Who has seen the new gap is drawn back by them.
    """
    cfg = lesson.Config(num_agents=20)
    envs = Mazes(20, GAP_RIGHT, GAP_LEFT, change_after=1000)
    q, memory, earned, _ = lesson.learn(envs, cfg, 10, alpha=1.0, num_steps=1200)
    lost = earned[1000:].sum(axis=0) == 0
    assert lost.sum() >= 5
    assert np.median(q[lost, 48].max(axis=1)) > 0.1
    assert not evidence.planned_out(memory, 0.95)[lost, 48].any()
    knows_gap = lost & (memory.next_obs[:, 36, 0] == 27)  # and has turned round again
    assert knows_gap.any()
    assert (q[knows_gap, 36, 0] <= q[knows_gap, 36].max(axis=1)).all()
    assert (q[knows_gap, 36, 0] < q[knows_gap, 36].max(axis=1)).mean() > 0.5


def test_episodes_of_the_text_are_those_recorded():
    """Three in place of thirty, and six with n = 5."""
    runs = ledger.load(find("B7"))["runs"]
    for n, said in ((0, 30), (5, 6), (50, 3)):
        needed = [run["metrics"][f"episodes_needed_n{n}"] for run in runs]
        assert abs(np.median(needed) - said) <= 0.1 * said


def test_numbers_of_the_text_and_the_exercises():
    assert evidence.coupling_bound(0.01, 1.0, 0.9) == pytest.approx(0.83, abs=0.005)
    assert pytest.approx(0.46, abs=0.005) == 0.95**15
    assert steps_from_start(GAP_LEFT) == pytest.approx(16)
    assert round(waiting_time(0.95**15, 5e-4, 0.95)) == 2146
    assert waiting_time(1.0, 1e-3, 0.95) == pytest.approx(waiting_time(1.0, 5e-4, 0.95) / 4)
    assert evidence.BACKUPS[0] == 46 * 4


def test_where_only_the_goal_pays_errors_are_powers_of_gamma_in_order():
    """Section 3: a pair from which the goal is d steps away is backed up with gamma^(d - 1)."""
    maze = grid_mdp(MAZE, 0.95)
    q, order = lesson.prioritised_sweeping(maze, 1e-9)
    sizes = [q[pair] for pair in order]
    assert all(np.diff(sizes) <= 0)
    powers = np.log(sizes) / np.log(0.95)
    np.testing.assert_allclose(powers, np.round(powers), atol=1e-6)
    assert np.abs(errors(maze, q)).max() < 1e-9
