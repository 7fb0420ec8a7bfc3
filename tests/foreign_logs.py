"""Small runs of Stable-Baselines3 and TRL, healthy and broken, and what `rl diagnose` names first in them.

    .venv/bin/python tests/foreign_logs.py --seeds 3        # the confusion table; under 20 s a run

Each library trains a learner that it documents, on a task that takes seconds, and writes its log as its users
have it: `progress.csv`, `progress.json` and TensorBoard's events, or `trainer_state.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from chapters.course import logs
from chapters.diagnosis.logs import suspects
from chapters.diagnosis.names import learners_of

SB3 = ("none", "learning_rate_too_high", "reward_scale", "wrong_sign", "dead_critic")
TRL = ("none", "equal_groups", "learning_rate_too_high", "wrong_sign")
"""What is planted; `none` is a healthy run."""
LETTERS = tuple("abcdefgh")


def ppo(folder: Path, bug: str, seed: int, num_steps: int = 12_288) -> None:
    """Stable-Baselines3's PPO on CartPole with one bug, its log in `folder`."""
    import gymnasium as gym
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import configure
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Turned(BaseCallback):
        """Advantages with the wrong sign."""

        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            self.model.rollout_buffer.advantages *= -1.0

    def make() -> gym.Env:
        env = gym.make("CartPole-v1")
        if bug == "reward_scale":
            env = gym.wrappers.TransformReward(env, lambda reward: 1000.0 * reward)
        return Monitor(env)

    torch.set_num_threads(1)
    agent = PPO(
        "MlpPolicy", DummyVecEnv([make] * 8), n_steps=64, batch_size=128, n_epochs=6, gamma=0.98, seed=seed,
        learning_rate=0.5 if bug == "learning_rate_too_high" else 1e-3, device="cpu",
        vf_coef=0.0 if bug == "dead_critic" else 0.5,
    )  # fmt: skip
    agent.set_logger(configure(str(folder), ["csv", "json", "tensorboard"]))
    agent.learn(num_steps, callback=Turned() if bug == "wrong_sign" else None)
    agent.logger.close()


def grpo(folder: Path, bug: str, seed: int, num_steps: int = 32) -> None:
    """TRL's GRPO on a tiny model that shall write the letter a, with one bug, its log in `folder`."""
    import torch
    import trl
    from datasets import Dataset

    from chapters.text.models import Recipe, make_model, make_tokenizer

    class Turned(trl.GRPOTrainer):
        """Advantages with the wrong sign."""

        def _compute_loss(self, model, inputs):
            return super()._compute_loss(model, {**inputs, "advantages": -inputs["advantages"]})

    def reward(completions: list[str], **_) -> list[float]:
        wanted = [text.count("a") / 6 for text in completions]
        return [1.0 for _ in wanted] if bug == "equal_groups" else wanted

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    recipe = Recipe("letters", LETTERS, lambda rng, count: ["a"] * count, split="characters",
                    width=32, num_layers=1, num_heads=2, context=16)  # fmt: skip
    tokenizer = make_tokenizer(recipe)
    make_model(recipe, len(tokenizer)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    options = trl.GRPOConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none",
        save_strategy="no", logging_steps=1, disable_tqdm=True, log_level="error", seed=seed, beta=0.04,
        learning_rate=1.0 if bug == "learning_rate_too_high" else 3e-3, lr_scheduler_type="constant",
        num_generations=8, per_device_train_batch_size=32, max_completion_length=6, max_steps=num_steps,
    )  # fmt: skip
    kind = Turned if bug == "wrong_sign" else trl.GRPOTrainer
    trainer = kind(
        model=str(folder / "model"), reward_funcs=[reward], processing_class=tokenizer, args=options,
        train_dataset=Dataset.from_dict({"prompt": [*LETTERS] * 64}),
    )  # fmt: skip
    trainer.train()
    trainer.state.save_to_json(str(folder / "trainer_state.json"))


def other(folder: Path, bug: str, seed: int, num_steps: int = 12_000) -> None:
    """Healthy learners that show less: A2C (a critic of five steps) or DQN (which forgets), on CartPole."""
    import torch
    from stable_baselines3 import A2C, DQN
    from stable_baselines3.common.logger import configure

    torch.set_num_threads(1)
    if bug == "a2c":
        agent = A2C("MlpPolicy", "CartPole-v1", seed=seed, device="cpu")
    else:
        agent = DQN(
            "MlpPolicy", "CartPole-v1", seed=seed, device="cpu", learning_rate=2.3e-3, buffer_size=20_000,
            learning_starts=500, target_update_interval=250, train_freq=16, gradient_steps=8, batch_size=64,
            exploration_fraction=0.3, exploration_final_eps=0.04, policy_kwargs={"net_arch": [64, 64]},
        )  # fmt: skip
    agent.set_logger(configure(str(folder), ["csv"]))
    agent.learn(num_steps)
    agent.logger.close()


RIGHT = ("none", "a2c", "dqn")
"""Names of healthy runs."""
LEARNERS = {"SB3 PPO": (ppo, SB3), "TRL GRPO": (grpo, TRL), "SB3 more": (other, ("a2c", "dqn"))}


@contextlib.contextmanager
def quiet():
    """Without what the libraries print and warn of."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def named(folder: Path) -> list[str]:
    """The suspects of the log in a folder, the strongest first."""
    return [found.bug for one in learners_of(logs.read(logs.find(folder)).metrics) for found in suspects(one)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--learner", choices=LEARNERS, help="only one")
    parser.add_argument("--bug", help="only one")
    parser.add_argument("--keep", type=Path, help="a folder for the logs")
    options = parser.parse_args()
    right, broken, alarms, healthy = 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        for learner, (train, bugs) in LEARNERS.items():
            if options.learner not in (None, learner):
                continue
            for bug in bugs:
                if options.bug not in (None, bug):
                    continue
                first: Counter[str] = Counter()
                for seed in range(options.first, options.first + options.seeds):
                    folder = (options.keep or Path(scratch)) / f"{learner.replace(' ', '-')}-{bug}-{seed}"
                    folder.mkdir(parents=True)
                    with quiet():
                        train(folder, bug, seed)
                    first[next(iter(named(folder)), "none")] += 1
                if bug in RIGHT:
                    healthy += options.seeds
                    alarms += options.seeds - first["none"]
                else:
                    broken += options.seeds
                    right += first[bug]
                told = ", ".join(f"{name} {count}" for name, count in first.most_common())
                print(f"{learner:<9} {bug:<24} {told}", flush=True)
    print(f"named first: {right} of {broken} broken runs; alarms: {alarms} of {healthy} healthy runs")


if __name__ == "__main__":
    main()
