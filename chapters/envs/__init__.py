"""Environments of our own, and every environment as a batch under one contract."""

from chapters.envs.vector import evaluate, make_envs, true_next_obs

__all__ = ["evaluate", "make_envs", "true_next_obs"]
