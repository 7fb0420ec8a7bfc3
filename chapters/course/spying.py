"""What a function was asked and what it answered, and whether another function answers alike.

A check calls the function under test on many inputs. Recorded, these inputs show where a learner's version
differs from the lesson's, and which named edit of the lesson errs in the same way.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
import itertools
import math
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class OverTime(BaseException):
    """A function did not come to an end."""


class Paper(io.StringIO):
    """What somebody's function prints; whatever it does, the paper stays open."""

    def close(self) -> None:
        """Nothing."""


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """What is raised of a kind that nobody catches, as BaseException itself is, becomes a RuntimeError."""
    try:
        with no_sudden_end():
            yield
    except (Exception, SystemExit, KeyboardInterrupt, OverTime):
        raise
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__) from None


@contextlib.contextmanager
def no_sudden_end() -> Iterator[None]:
    """Whoever calls os._exit or os.abort stops with an error: the process would be gone without a word.

    A process that is forked meanwhile ends by os._exit, as it should.
    """
    ours, before = os.getpid(), {name: getattr(os, name) for name in ("_exit", "abort")}

    def stand_in(name: str) -> Callable:
        def ends(*args: Any) -> None:
            if os.getpid() != ours:
                before[name](*args)
            raise RuntimeError(f"os.{name}({', '.join(map(str, args))}) would end rl itself")

        return ends

    for name in before:
        setattr(os, name, stand_in(name))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(os, name, function)


@dataclass
class Call:
    """One call: its arguments as they came, as they were left, and the answer or the exception."""

    arguments: tuple[tuple, dict]
    left: tuple[tuple, dict]
    answer: Any = None
    error: Exception | None = None
    slopes: list = field(default_factory=list)
    """How the answer moves with each tensor and each weight that asked for a gradient."""

    @property
    def size(self) -> int:
        """How many numbers went in."""
        return sum(_size(value) for value in (*self.arguments[0], *self.arguments[1].values()))


MAX_CALLS = 100  # a check of something random calls it many thousand times
MAX_PARTS = 10_000  # of an answer that comes bit by bit, and may never end


def spied(function: Callable) -> tuple[Callable, list[Call]]:
    """(the function, the list that its first calls are added to). Classes are left as they are."""
    calls: list[Call] = []
    if inspect.isclass(function):
        return function, calls

    @functools.wraps(function)
    @as_exceptions()
    def spy(*args: Any, **kwargs: Any) -> Any:
        if len(calls) == MAX_CALLS or is_traced((args, kwargs)):
            return function(*args, **kwargs)
        call = Call(copied((args, kwargs)), (args, kwargs))
        calls.append(call)
        try:
            call.answer = function(*args, **kwargs)
        except Exception as error:
            call.error = error
            raise
        finally:
            call.left = copied(call.left)
        return call.answer

    return spy, calls


PATIENCE = 10
"""On a busy machine a second of computing may take so many."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise OverTime after so many seconds of computing, or PATIENCE times as many by the clock.

    Where there is no alarm (in a thread) there is no limit.
    """

    def stop(number: int, frame: object) -> None:
        raise OverTime

    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    try:
        before = {number: signal.signal(number, stop) for number in timers.values()}
    except ValueError:
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
    try:
        yield
    finally:
        for timer, number in timers.items():
            signal.setitimer(timer, 0.0)
            signal.signal(number, before[number])


def replay(function: Callable, calls: list[Call]) -> Iterator[Call]:
    """The same calls put to another function; what draws from a global generator draws the same each time."""
    for call in calls:
        args, kwargs = copied(call.arguments)
        again = Call(call.arguments, (args, kwargs))
        seed_all()
        try:
            with as_exceptions():
                again.answer = function(*args, **kwargs)
            if isinstance(again.answer, Iterator):
                again.answer = list(itertools.islice(again.answer, MAX_PARTS))
            again.slopes = slopes(again.answer, (args, kwargs)) or slopes_in_jax(function, args, again.answer)
        except Exception as error:
            again.error = error
        yield again


def slopes(answer: Any, arguments: Any) -> list:
    """The gradients of a sum of an answer's numbers, each with a weight of its own, so that none cancels."""
    ends, starts = ([part for part in tensors(one) if with_gradient(part)] for one in (answer, arguments))
    if not (ends and starts):
        return []
    torch = sys.modules["torch"]
    weights = [torch.arange(1, end.numel() + 1, device=end.device).view(end.shape) for end in ends]
    total = sum((weight * end).sum() for weight, end in zip(weights, ends))
    try:
        found = torch.autograd.grad(total, starts, allow_unused=True)
    except RuntimeError:  # something on the way cannot be differentiated
        return []
    return [torch.zeros_like(start) if slope is None else slope for start, slope in zip(starts, found)]


def slopes_in_jax(function: Callable, args: tuple, answer: Any) -> list:
    """The gradients of a number that JAX answers, in each array of real numbers among the arguments."""
    if not is_real_jax(answer) or answer.ndim:
        return []
    places = tuple(place for place, value in enumerate(args) if is_real_jax(value))
    return list(sys.modules["jax"].grad(function, places)(*args)) if places else []


def is_real_jax(value: Any) -> bool:
    """Whether it is an array of real numbers of JAX."""
    return "jax" in sys.modules and isinstance(value, sys.modules["jax"].Array) and value.dtype.kind == "f"


def tensors(value: Any) -> Iterator[Any]:
    """torch's tensors in tuples, lists, dictionaries and networks."""
    if is_tensor(value):
        yield value
    elif hasattr(value, "named_parameters"):
        yield from value.parameters()
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)


def seed_all() -> None:
    """Begin every global generator anew."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 — what a learner may have used
    if "torch" in sys.modules:
        # the processor's alone: `torch.manual_seed` also notes where it was called, for GPUs that may come
        sys.modules["torch"].default_generator.manual_seed(0)


def same_answer(one: Call, other: Call) -> bool:
    """Whether two calls came to the same end: equal but for rounding, slopes too, or the same kind of error.

    Where neither answers anything, the end is what they left of their arguments.
    """
    if one.error or other.error:
        return type(one.error) is type(other.error)
    if one.answer is None and other.answer is None:
        return alike(one.left, other.left)
    return alike(one.answer, other.answer) and alike(one.slopes, other.slopes)


def copied(value: Any) -> Any:
    """A copy that later changes in place cannot reach; what cannot be copied stays as it is."""
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(copied(part) for part in value)
    if isinstance(value, list):
        return [copied(part) for part in value]
    if type(value) is dict:
        return {key: copied(part) for key, part in value.items()}
    if is_tensor(value):
        return value.detach().clone().requires_grad_(value.requires_grad)
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def alike(one: Any, other: Any) -> bool:
    """Equal but for rounding, through tuples, lists, dictionaries, arrays and networks."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(alike, one, other))
    if hasattr(one, "state_dict") and hasattr(other, "state_dict"):
        return alike(weights_of(one), weights_of(other))
    if is_numeric(one) and is_numeric(other):
        left, right = as_array(one), as_array(other)
        if left.shape != right.shape or with_gradient(one) != with_gradient(other):
            return False
        if left.dtype.kind in "fc" or right.dtype.kind in "fc":
            return bool(np.allclose(left, right, rtol=1e-4, atol=1e-6, equal_nan=True))
        return bool((left == right).all())
    if is_numeric(one) or is_numeric(other):
        return False
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    try:
        return bool(one == other) or type(one) is type(other)
    except Exception:
        return type(one) is type(other)


def weights_of(value: Any) -> dict:
    """The weights of a network, each with whether it asks for a gradient; or what else has a state."""
    return dict(value.state_dict(**({"keep_vars": True} if hasattr(value, "named_parameters") else {})))


def first_difference(one: Any, other: Any) -> tuple | None:
    """The index of the first number that differs, or None where an index makes no sense."""
    if not (is_numeric(one) and is_numeric(other)):
        return None
    left, right = as_array(one), as_array(other)
    if left.shape != right.shape or left.ndim == 0:
        return None
    differs = ~np.isclose(left.astype(float), right.astype(float), rtol=1e-4, atol=1e-6, equal_nan=True)
    return tuple(int(i) for i in np.argwhere(differs)[0]) if differs.any() else None


def is_tensor(value: Any) -> bool:
    """Whether it is torch's; jax's arrays cannot be changed and need no copy."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def is_traced(value: Any) -> bool:
    """Whether jax is only asking what would be computed: there are no numbers then."""
    jax = sys.modules.get("jax")
    return jax is not None and any(
        isinstance(leaf, jax.core.Tracer) for leaf in jax.tree_util.tree_leaves(value)
    )


def with_gradient(value: Any) -> bool:
    """Whether a gradient flows back from it."""
    return is_tensor(value) and value.requires_grad


def wanting_gradients(value: Any) -> Any:
    """A copy in which each tensor of real numbers asks for a gradient."""
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(wanting_gradients(part) for part in value)
    if type(value) is dict:
        return {key: wanting_gradients(part) for key, part in value.items()}
    if is_tensor(value) and value.is_floating_point():
        return value.detach().clone().requires_grad_(True)
    return copied(value)


def is_numeric(value: Any) -> bool:
    """A number, or an array of numbers of NumPy, torch or JAX."""
    if isinstance(value, (bool, int, float, complex, np.ndarray, np.generic)):
        return np.asarray(value).dtype.kind in "biufc"
    return hasattr(value, "shape") and hasattr(value, "dtype")


def as_array(value: Any) -> np.ndarray:
    """The numbers in NumPy."""
    return value.detach().cpu().numpy() if is_tensor(value) else np.asarray(value)


def shown(value: Any, limit: int = 160) -> str:
    """A value in one short line: numbers rounded, large arrays by shape."""
    if is_numeric(value):
        array = as_array(value)
        if array.size > 24:
            return f"array of shape {list(array.shape)}"
        numbers = array.tolist()
        text = str(_rounded(numbers))
    elif isinstance(value, (tuple, list)):
        text = f"({', '.join(shown(part, limit) for part in value)})"
    else:
        text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.6g}")
    return value


def _size(value: Any) -> int:
    if is_numeric(value):
        return as_array(value).size
    if isinstance(value, (tuple, list)):
        return sum(map(_size, value))
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return 1
