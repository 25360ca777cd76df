"""Named errors. Each carries one sentence: what was wrong, where, and what would be right."""

from __future__ import annotations


class HoldfastError(Exception):
    """A mistake that a user can correct. The command line prints it as one line, and fails."""


class ContractError(HoldfastError):
    """A contract contradicts itself, is malformed, or is not the expected one.

    Attributes:
        place: keys and positions that lead to the mistake in the contract, for a file's line.
    """

    def __init__(self, message: str, place: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.place = place


class BundleError(HoldfastError):
    """An ONNX file is not a bundle, is damaged, or is not for this robot and task."""


class ConfigError(HoldfastError):
    """A setting, a configuration file or a command-line value is wrong."""


class FileError(HoldfastError):
    """A file cannot be read or written."""


class LinkError(HoldfastError):
    """The serial link cannot be opened, was lost, or has another version."""


class RefusedError(LinkError):
    """The robot refused a request; the link still works, so a later request may be obeyed."""


class LogError(HoldfastError):
    """A log cannot be read or belongs to another contract."""


class RegistryError(HoldfastError):
    """A registry is damaged, is of another robot, or does not allow what is asked."""


class TrainingError(HoldfastError):
    """Training or fine-tuning cannot start or go on."""


class RunError(HoldfastError):
    """A run cannot start, or a fault ended the run and the robot was stopped.

    Attributes:
        code: the fault's name in the log, in lower_snake_case.
    """

    def __init__(self, message: str, code: str = "run_failed") -> None:
        super().__init__(message)
        self.code = code
