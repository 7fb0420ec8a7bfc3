"""Learners of Stable-Baselines3 and TRL, healthy and broken, and their logs as `rl diagnose` reads them.

Each library trains a learner that it documents, on a task that takes a second or two, and writes its log as
its users have it: `progress.csv`, `progress.json` and TensorBoard's events, or `trainer_state.json`. E3's
evidence counts what is named first; tests/foreign_logs.py does it on seeds that nobody recorded.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

from chapters.diagnosis import files
from chapters.diagnosis.logs import OTHERS, suspects
from chapters.diagnosis.names import learners_of
from chapters.diagnosis.rules import CATALOGUE
from chapters.text.models import Recipe, make_model, make_tokenizer
from chapters.utils import seed_everything

BUGS = {
    "sb3_ppo": ("none", "learning_rate_too_high", "reward_scale", "wrong_sign", "dead_critic"),
    "sb3_a2c": ("none",),
    "sb3_dqn": ("none",),
    "trl_grpo": ("none", "learning_rate_too_high", "equal_groups", "wrong_sign"),
}
"""What is planted in whom; `none` is a healthy run. A2C's critic of five steps and a deep Q-network, which
forgets, are healthy too, and look less so."""
PAIRS = [(learner, bug) for learner, bugs in BUGS.items() for bug in bugs]
FIRST = ("none", *CATALOGUE, *OTHERS)
"""What can be named first, or nothing."""
LETTERS = tuple("abcdefgh")


def run(folder: Path, learner: str, bug: str, seed: int, share: float = 1.0) -> None:
    """Train one learner with one bug for a share of its usual steps; its log lies in `folder` then."""
    folder.mkdir(parents=True, exist_ok=True)
    seed_everything(seed)
    with quiet():
        if learner == "trl_grpo":
            grpo(folder, bug, seed, max(4, round(32 * share)))
        elif learner == "sb3_ppo":
            ppo(folder, bug, seed, round(12_288 * share))
        else:
            other(folder, learner, seed, round(12_000 * share))


def named_first(folder: Path) -> str:
    """The first suspect of the log in a folder, `none` without one."""
    return next(iter(named(folder)), "none")


def named(folder: Path) -> list[str]:
    """The suspects of the log in a folder, the strongest first."""
    log = files.read(files.find(folder))
    return [found.bug for one in learners_of(log.metrics) for found in suspects(one)]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries print and warn of."""
    nowhere = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        yield


def ppo(folder: Path, bug: str, seed: int, num_steps: int) -> None:
    """Stable-Baselines3's PPO on CartPole."""
    import gymnasium as gym
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

    agent = PPO(
        "MlpPolicy", DummyVecEnv([make] * 8), n_steps=64, batch_size=128, n_epochs=6, gamma=0.98, seed=seed,
        learning_rate=0.5 if bug == "learning_rate_too_high" else 1e-3, device="cpu",
        vf_coef=0.0 if bug == "dead_critic" else 0.5,
    )  # fmt: skip
    agent.set_logger(configure(str(folder), ["csv", "json", "tensorboard"]))
    agent.learn(num_steps, callback=Turned() if bug == "wrong_sign" else None)
    agent.logger.close()


def other(folder: Path, learner: str, seed: int, num_steps: int) -> None:
    """Stable-Baselines3's A2C or DQN on CartPole."""
    from stable_baselines3 import A2C, DQN
    from stable_baselines3.common.logger import configure

    if learner == "sb3_a2c":
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


def grpo(folder: Path, bug: str, seed: int, num_steps: int) -> None:
    """TRL's GRPO on a tiny model that shall write the letter a."""
    import trl
    from datasets import Dataset

    class Turned(trl.GRPOTrainer):
        """Advantages with the wrong sign."""

        def _compute_loss(self, model, inputs):
            return super()._compute_loss(model, {**inputs, "advantages": -inputs["advantages"]})

    def reward(completions: list[str], **_) -> list[float]:
        wanted = [text.count("a") / 6 for text in completions]
        return [1.0 for _ in wanted] if bug == "equal_groups" else wanted

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
