"""Fits the critics and the cost predictor while the next batch is run."""

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
    """Fits in a separate thread, as the result is first needed for the next batch's advantages.

    The thread shares no data and no random generator with others while it runs, so the result
    does not depend on its timing.

    Args:
        critic, predictor: networks that nothing else may use between `start` and `wait`.
        settings: settings of the critics; the seed is also the minibatches' seed.
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
            target: (B, outputs), the critics' targets. label: (B, m), the predictor's labels, if
                there is a predictor.
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
        """Wait until all is fitted; raise the thread's error, if there was one."""
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    # Checkpoints.

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint; the critics' own weights are not among them."""
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
        """Continue from the tensors that `tensors` returned."""
        checkpoint.restore_adam(self.optimiser, "critic_adam", tensors)
        self.generator.set_state(tensors["critic_generator"])
        if self.predictor and self.predictor_optimiser:
            checkpoint.restore_modules({"predictor": self.predictor}, tensors)
            checkpoint.restore_adam(self.predictor_optimiser, "predictor_adam", tensors)
