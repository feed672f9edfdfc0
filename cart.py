import gymnasium
from headrace.pipelines.act import follow
from headrace.pipelines.record import record
env = record(gymnasium.make("CartPole-v1"), task="cartpole", window_ms=1_000)
agent = follow("cartpole", env=env)
obs, _ = env.reset(seed=0)
total, episodes = 0.0, 0
for step in range(1, 200_001):
    obs, reward, terminated, truncated, _ = env.step(agent.act(obs))
    total += reward
    if terminated or truncated:
        obs, _ = env.reset(); episodes += 1
    if step % 10_000 == 0:
        print(f"{step} steps: mean return {total / episodes:.0f}, version {agent.policy_version}", flush=True); total, episodes = 0.0, 0
env.close()
