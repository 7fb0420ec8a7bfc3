"""The race on CartPole-v1: our REINFORCE, DQN, PPO, TRPO and IMPALA against libraries.

    python benchmarks/cartpole.py                 every run that is not saved yet
    python benchmarks/cartpole.py --quick         one seed each, elsewhere
    python benchmarks/cartpole.py --table         table and plot from the saved runs

Settings of the peers: rl-zoo's for CartPole-v1 (raffin2020zoo), and of RLlib's those of its own example.
"""

from benchmarks.race import Contender, Race, main
from benchmarks.rejax_ppo.compare import RACE as REJAX
from chapters import cluster

LESSONS = "chapters.C_policy_gradients."
C3 = LESSONS + "C3_ppo_from_scratch"
ZOO_PPO = {
    "n_envs": 8, "n_steps": 32, "batch_size": 256, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.8,
    "ent_coef": 0.0, "learning_rate": "lin_0.001", "clip_range": "lin_0.2",
}  # fmt: skip
ZOO_DQN = {
    "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000, "gamma": 0.99,
    "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04, "policy_kwargs": {"net_arch": [256, 256]},
}  # fmt: skip
ZOO_TRPO = {
    "n_envs": 2, "n_steps": 512, "batch_size": 512, "cg_damping": 1e-3, "gamma": 0.99, "gae_lambda": 0.98,
    "learning_rate": 1e-3, "n_critic_updates": 20,
}  # fmt: skip
RACE = Race(
    name="cartpole",
    env_id="CartPole-v1",
    threshold=475.0,  # registered with the environment
    eval_every=2048,
    contenders=(
        Contender("c3", "ours: PPO (C3)", "benchmarks.peers.ours:cartpole", 10, imports=(C3,)),
        Contender("sb3_ppo", "SB3 PPO, rl-zoo", "benchmarks.peers.sb3:ppo", 10, 100_000, ZOO_PPO),
        Contender("sb3_ppo_ours", "SB3 PPO, our settings", "benchmarks.peers.sb3:ppo_at_our_settings", 10,
                  smoke={"num_envs": 4, "num_steps": 32, "minibatch_size": 64}),
        Contender("c4", "ours: PPO in JAX (C4)", "benchmarks.peers.ours_jax:ppo", 10),
        Contender("sbx_ppo", "SBX PPO, rl-zoo", "benchmarks.peers.sbx:ppo", 3, 100_000, ZOO_PPO,
                  environment="peers/sbx_requirements.txt"),
        *REJAX.contenders[1:],
        Contender("documents_ppo", "source document's PPO", "benchmarks.peers.documents:ppo", 3, 100_000),
        Contender("c5", "ours: TRPO (C5)", "benchmarks.peers.ours:cartpole", 10,
                  imports=(LESSONS + "C5_trpo",)),
        Contender("sb3_trpo", "sb3-contrib TRPO, rl-zoo", "benchmarks.peers.sb3:trpo", 5, 100_000, ZOO_TRPO),
        Contender("c0", "ours: REINFORCE (C0)", "benchmarks.peers.ours:cartpole", 5,
                  imports=(LESSONS + "C0_policy_gradients_reinforce",)),
        Contender("sb3_a2c", "SB3 A2C, rl-zoo", "benchmarks.peers.sb3:a2c", 3, 100_000,
                  {"n_envs": 8, "ent_coef": 0.0}),  # rl-zoo goes on to 500,000; nothing anneals towards it
        Contender("b4", "ours: DQN (B4)", "benchmarks.peers.ours:cartpole", 3,
                  imports=("chapters.B_core_algorithms.B4_dqn_from_scratch",)),
        Contender("sb3_dqn", "SB3 DQN, rl-zoo", "benchmarks.peers.sb3:dqn", 3, 50_000, ZOO_DQN,
                  smoke={"learning_starts": 64}),
        Contender("c7", "ours: IMPALA (C7)", "benchmarks.peers.ours:cartpole", 5,
                  settings={"eval_every": 2048}, imports=(LESSONS + "C7_impala_vtrace",)),
        Contender("rllib_impala", "RLlib IMPALA, its example", "benchmarks.peers.rllib:impala", 5, 122_880,
                  lacks=cluster.missing),
        Contender("documents_dqn", "source document's DQN", "benchmarks.peers.documents:dqn", 3, 50_000),
    ),
    pairs=(
        ("c3", "sb3_ppo"), ("c3", "sb3_ppo_ours"), *REJAX.pairs,
        ("c4", "sbx_ppo"), ("c5", "sb3_trpo"), ("c0", "sb3_a2c"), ("b4", "sb3_dqn"),
        ("c7", "rllib_impala"),
    ),
)  # fmt: skip

if __name__ == "__main__":
    main(RACE)
