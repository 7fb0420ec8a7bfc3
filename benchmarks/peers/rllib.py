"""RLlib's IMPALA, all of it in this process, at the settings of its own example on CartPole.

It runs in the course's own environment with the extra `scale`. Ray's other processes, which hand on messages
and have none here to hand on, are not on the clock.
"""

from __future__ import annotations

from typing import Any

from benchmarks.worker import Recorder
from chapters import cluster
from chapters.C_policy_gradients import C7_impala_vtrace as lesson

cluster.load()  # its surroundings have to be there before it is imported
from chapters.C_policy_gradients.evidence import C8_rllib  # noqa: E402

if why := C8_rllib.lacks():  # imports what it is made of: start-up
    raise ImportError(why)


def impala(job: dict[str, Any], record: Recorder) -> int:
    """`train` again and again on the clock; checked on the way and at the end. Returns the steps taken."""
    cfg = lesson.Config(seed=job["seed"])  # whose environments it has, and as many as an actor of C7
    with cluster.nodes(1):
        algorithm = C8_rllib.impala_example(cfg).build_algo()
        steps = 0
        with record.learning():
            while steps < job["num_env_steps"]:
                steps = C8_rllib.steps_of(algorithm.train())
                if steps >= record.due:
                    record.offer(steps, C8_rllib.likeliest(algorithm))
        algorithm.stop()
    return steps
