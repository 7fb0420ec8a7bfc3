"""Importing this module registers the course's environments with gymnasium; `make_envs` does so."""

import gymnasium as gym

for _name in ("ConstantReward", "RewardByObservation", "DelayedReward", "ActionMatters", "BothMatter"):
    gym.register(id=f"Probe{_name}-v0", entry_point=f"chapters.envs.probes:{_name}")
gym.register(id="ProbeEndless-v0", entry_point="chapters.envs.probes:Endless", max_episode_steps=10)
gym.register(id="TokenWorld-v0", entry_point="chapters.envs.token_world:TokenWorldEnv")
gym.register(id="GridWorld-v0", entry_point="chapters.envs.gridworld:GridWorld", max_episode_steps=50)
gym.register(id="RingWorld-v0", entry_point="chapters.envs.ring_world:RingWorld", max_episode_steps=24)
gym.register(id="HiddenCatch-v0", entry_point="chapters.envs.catch:HiddenCatch")
