"""Fit critics, and what predicts costs, while the next batch is run."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from holdfast.policy.learn.settings import TrainSettings
from holdfast.policy.learn.shaping import RATE, Predictor, fit_predictor
from holdfast.policy.models import checkpoint
from holdfast.policy.models.critic import Critic, fit_critic


class BackgroundFit:
    """Fits in a thread of its own: the result is needed only for the next batch's advantages.

    All that the thread reads is its own from the start, its random generator too, so what
    comes out does not depend on when it gets to run.

    Args:
        critic, predictor: to be left alone between `start` and `wait`.
        settings: the critics'; its seed is that of the minibatches.
    """

    def __init__(
        self, critic: Critic, predictor: Predictor | None, settings: TrainSettings
    ) -> None:
        self.critic, self.predictor, self.settings = critic, predictor, settings
        self.generator = torch.Generator().manual_seed(settings.seed)
        rate = settings.critic_rate
        self.optimiser = torch.optim.Adam(critic.parameters(), lr=rate, fused=True)
        self.predictor_optimiser = (
            torch.optim.Adam(predictor.parameters(), lr=RATE, fused=True) if predictor else None
        )
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None

    def start(self, x: Tensor, target: Tensor, label: Tensor | None) -> None:
        """Begin to fit.

        Args:
            x: (B, n) normalised observations.
            target: (B, outputs), the critics'. label: (B, m), the predictor's, if there is one.
        """
        self.wait()
        self._running = self._thread.submit(self._fit, x, target, label)

    def _fit(self, x: Tensor, target: Tensor, label: Tensor | None) -> None:
        s = self.settings
        fit_critic(
            self.critic, self.optimiser, x, target,
            s.critic_steps, s.critic_minibatch, self.generator,
        )  # fmt: skip
        if self.predictor and self.predictor_optimiser and label is not None:
            fit_predictor(self.predictor, self.predictor_optimiser, x, label, self.generator)

    def wait(self) -> None:
        """Return when all is fitted; raise what went wrong there."""
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    # Checkpoints.

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold, but for the critics themselves."""
        self.wait()
        tensors = {
            **checkpoint.adam_tensors(self.optimiser, "critic_adam"),
            "critic_generator": self.generator.get_state(),
        }
        if self.predictor and self.predictor_optimiser:
            tensors |= checkpoint.module_tensors({"predictor": self.predictor})
            tensors |= checkpoint.adam_tensors(self.predictor_optimiser, "predictor_adam")
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` returned."""
        checkpoint.restore_adam(self.optimiser, "critic_adam", tensors)
        self.generator.set_state(tensors["critic_generator"])
        if self.predictor and self.predictor_optimiser:
            checkpoint.restore_modules({"predictor": self.predictor}, tensors)
            checkpoint.restore_adam(self.predictor_optimiser, "predictor_adam", tensors)
