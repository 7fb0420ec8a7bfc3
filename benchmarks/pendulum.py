"""The race on Pendulum-v1: our PPO, SAC and TD3; those of Stable-Baselines3, and SAC of SBX.

    python benchmarks/pendulum.py [--quick] [--fresh] [--table] [--only NAME]

No threshold is registered for Pendulum; -200 is where a policy swings up from anywhere and holds. Settings of
the peers: rl-zoo's for Pendulum-v1 (raffin2020zoo), PPO's state-dependent exploration included. SAC is cut at
6,000 of 20,000 steps, since nothing anneals towards their end; TD3 is not: its first 10,000 are random. Who
replays old steps is checked more often.
"""

from functools import cache

from benchmarks.race import Contender, Race, main
from benchmarks.worker import EVALUATION_SEEDS
from chapters.envs import evaluate
from chapters.exact.pendulum import optimal_policy

ZOO_PPO = {
    "n_envs": 4, "n_steps": 1024, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10, "ent_coef": 0.0,
    "learning_rate": 1e-3, "clip_range": 0.2, "use_sde": True, "sde_sample_freq": 4,
}  # fmt: skip

ZOO_SAC = {"learning_rate": 1e-3}
ZOO_TD3 = {
    "gamma": 0.98, "buffer_size": 200_000, "learning_starts": 10_000, "noise_std": 0.1, "learning_rate": 1e-3,
    "train_freq": 1, "gradient_steps": 1, "policy_kwargs": {"net_arch": [400, 300]},
}  # fmt: skip
C6 = {"imports": ("chapters.C_policy_gradients.C6_sac_td3",), "eval_every": 400}
BRIEF = {"learning_starts": 480}


@cache
def best(seed: int) -> float:
    """What the computed optimum earns from the starts that this seed's checks begin with."""
    return float(evaluate(optimal_policy, "Pendulum-v1", episodes=100, seed=seed + EVALUATION_SEEDS).mean())


RACE = Race(
    name="pendulum",
    env_id="Pendulum-v1",
    threshold=-200.0,
    eval_every=4096,  # a rollout of either
    best=best,
    contenders=(
        Contender("c3", "ours: PPO (C3)", "benchmarks.peers.ours:pendulum", 5,
                  imports=("chapters.C_policy_gradients.C3_ppo_from_scratch",)),
        Contender("sb3_ppo", "SB3 PPO, rl-zoo", "benchmarks.peers.sb3:ppo", 5, 100_000, ZOO_PPO,
                  smoke={"n_steps": 64}),
        Contender("c6_sac", "ours: SAC (C6)", "benchmarks.peers.ours:off_policy", 5,
                  settings={"name": "sac"}, **C6),
        Contender("sb3_sac", "SB3 SAC, rl-zoo", "benchmarks.peers.sb3:sac", 5, 6000, ZOO_SAC,
                  smoke=BRIEF, eval_every=400),
        Contender("sb3_sac_ours", "SB3 SAC, our settings", "benchmarks.peers.sb3:sac_at_our_settings", 5,
                  eval_every=400, imports=C6["imports"]),
        Contender("sbx_sac", "SBX SAC, rl-zoo", "benchmarks.peers.sbx:sac", 5, 6000, ZOO_SAC,
                  smoke=BRIEF, eval_every=400, environment="peers/sbx_requirements.txt"),
        Contender("c6_td3", "ours: TD3 (C6)", "benchmarks.peers.ours:off_policy", 5,
                  settings={"name": "td3"}, **C6),
        Contender("sb3_td3", "SB3 TD3, rl-zoo", "benchmarks.peers.sb3:td3", 5, 20_000, ZOO_TD3,
                  smoke=BRIEF | {"policy_kwargs": {"net_arch": [16, 16]}}, eval_every=400),
    ),
    pairs=(("c3", "sb3_ppo"), ("c6_sac", "sb3_sac"), ("c6_sac", "sb3_sac_ours"),
           ("c6_sac", "sbx_sac"), ("c6_td3", "sb3_td3")),
)  # fmt: skip

if __name__ == "__main__":
    main(RACE)
