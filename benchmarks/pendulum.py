"""The race on Pendulum-v1: our PPO with continuous actions against Stable-Baselines3's.

    python benchmarks/pendulum.py [--quick] [--fresh] [--table] [--only NAME]

No threshold is registered for Pendulum; -200 is where a policy swings up from anywhere and holds. Settings of
the peer: rl-zoo's for Pendulum-v1 (raffin2020zoo), state-dependent exploration included.
"""

from benchmarks.race import Contender, Race, main

ZOO_PPO = {
    "n_envs": 4, "n_steps": 1024, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10, "ent_coef": 0.0,
    "learning_rate": 1e-3, "clip_range": 0.2, "use_sde": True, "sde_sample_freq": 4,
}  # fmt: skip

RACE = Race(
    name="pendulum",
    env_id="Pendulum-v1",
    threshold=-200.0,
    eval_every=4096,  # a rollout of either
    contenders=(
        Contender("c3", "ours: PPO (C3)", "benchmarks.peers.ours:pendulum", 5,
                  imports=("chapters.C_policy_gradients.C3_ppo_from_scratch",)),
        Contender("sb3_ppo", "SB3 PPO, rl-zoo", "benchmarks.peers.sb3:ppo", 5, 100_000, ZOO_PPO,
                  smoke={"n_steps": 64}),
    ),
    pairs=(("c3", "sb3_ppo"),),
)  # fmt: skip

if __name__ == "__main__":
    main(RACE)
