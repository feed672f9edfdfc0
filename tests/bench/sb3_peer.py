"""stable-baselines3's PPO and DQN on the same vectorised environment, with our nets and schedules."""

import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from headrace.learners.cloud import observation_space
from headrace.learners.cloud.training_environment import CloudTrainingEnvironment
from headrace.learners.dqn.simulate import DQNTraining
from headrace.learners.ppo.simulate import PPOTraining


class Cloud(VecEnv):
    def __init__(self, count: int) -> None:
        super().__init__(count, observation_space(), spaces.Discrete(5))
        self.made = CloudTrainingEnvironment(count, 0)

    def reset(self):
        return self.made.obs

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        step = self.made.step(self.actions)
        done = step.truncated
        infos = [{} for _ in range(self.num_envs)]
        if done.any():
            infos = [{"terminal_observation": row, "TimeLimit.truncated": True} for row in step.next_obs]
        return self.made.obs, step.reward, done, infos

    def close(self):
        pass

    def get_attr(self, attr_name, indices=None):
        return [None] * self.num_envs

    def set_attr(self, attr_name, value, indices=None):
        pass

    def env_method(self, method_name, *args, indices=None, **kwargs):
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


def peer_ppo(training: PPOTraining, steps: int) -> None:
    config, net = training.config, {"net_arch": [64, 64], "activation_fn": torch.nn.ReLU}
    sb3.PPO(
        "MlpPolicy", Cloud(training.environments), learning_rate=config.learning_rate, n_steps=training.rollout_steps,
        batch_size=config.minibatch_size, n_epochs=config.epochs, gamma=config.discount, seed=0,
        gae_lambda=config.gae_lambda, ent_coef=config.entropy, policy_kwargs=net, device="cpu",
    ).learn(steps)  # fmt: skip


def peer_dqn(training: DQNTraining, steps: int) -> None:
    config = training.config
    sb3.DQN(
        "MlpPolicy", Cloud(training.environments), learning_rate=config.learning_rate, learning_starts=6_400, seed=0,
        buffer_size=config.replay_capacity, batch_size=config.batch_size, tau=config.polyak, gamma=config.discount,
        train_freq=1, gradient_steps=1, target_update_interval=1, policy_kwargs={"net_arch": [64, 64]},
        device="cpu",
    ).learn(steps)  # fmt: skip
