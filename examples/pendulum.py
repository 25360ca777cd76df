"""Somebody else's environment with a cost of one's own: Gymnasium's pendulum, not too fast.

holdfast train --task gym:examples/pendulum.py:PendulumTooFast-v0 --limit 20 --out runs/pendulum
"""

import gymnasium


class TooFast(gymnasium.Wrapper):
    """Costs 1 for each step in which the pendulum turns faster than 4 rad/s."""

    def step(self, action):
        """Step, and say what it cost."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        info["cost"] = float(abs(observation[2]) > 4.0)  # or {"name": number, ...}
        return observation, reward, terminated, truncated, info


gymnasium.register(
    "PendulumTooFast-v0",
    entry_point=lambda: TooFast(gymnasium.make("Pendulum-v1").unwrapped),
    max_episode_steps=200,
)
