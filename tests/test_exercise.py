"""`rl exercise`: the task is shown, a right version passes, a wrong one does not, bad files are one line."""

import pytest

GAE = """
def gae(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    advantages = torch.zeros_like(rewards)
    last = torch.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + gamma * next_values[t] * (~terminated[t]) - values[t]
        last = delta + gamma * gae_lambda * (~(terminated[t] | truncated[t])) * last
        advantages[t] = last
    return advantages
"""


def test_the_task_shows_the_signature_and_no_body(course):
    code, out, _ = course.rl("exercise", "C3.gae")
    assert code == 0
    assert "def gae(" in out
    assert "reversed" not in out


def test_a_right_version_passes_and_a_wrong_one_does_not(course, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(GAE)
    code, out, _ = course.rl("exercise", "C3.gae", file)
    assert (code, out) == (0, "C3.gae: passed the lesson's check\n")
    file.write_text(GAE.replace("(~terminated[t])", "(~truncated[t])"))
    code, out, _ = course.rl("exercise", "C3.gae", file)
    assert code == 1
    assert out.startswith("C3.gae: not yet. ")


def test_unknown_functions_are_refused(course):
    assert "has no exercise 'bogus' (there are: " in course.refused("exercise", "C3.bogus")
    assert "no lesson 'Z9'" in course.refused("exercise", "Z9.gae")


@pytest.mark.parametrize("content", ["def gae(:", "x = 1", "raise ValueError('no')", None, b"\xff\xfe"])
def test_files_that_cannot_be_graded_are_one_line(course, tmp_path, content):
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "mine.py" in course.refused("exercise", "C3.gae", file)
