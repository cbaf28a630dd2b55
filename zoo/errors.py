# SPDX-License-Identifier: Apache-2.0
"""The one error tree of the project. Every message says what is wrong, where, and what to do next."""

from __future__ import annotations


class ZooError(Exception):
    """Root of every error that this package raises on purpose. ``exit_code`` is the CLI's exit status."""

    exit_code = 1


class InputError(ZooError):
    """Input that cannot be processed: unreadable file, wrong rate, shape or dtype, NaN."""

    exit_code = 3


class DataError(ZooError):
    """A data set, checkpoint or calibration set that is missing, too small or not in the expected layout."""

    exit_code = 3


class BundleError(ZooError):
    """A bundle that is damaged, unsafe, of another schema, or built for something else (key mismatch)."""

    exit_code = 4


class ProviderUnavailable(ZooError):
    """An engine or device that is not installed or not present on this machine."""

    exit_code = 5


class CheckFailed(ZooError):
    """A selftest, accuracy gate or regression check that did not pass."""

    exit_code = 6


class ParityError(CheckFailed):
    """An artifact whose outputs differ from the reference by more than the tolerance."""


class TargetError(ZooError):
    """An unknown target, or a model, target and precision that do not go together."""

    exit_code = 2


class NodeRefused(TargetError):
    """An engine's parser or builder that does not take a graph, with the node if it named one.

    ``node`` and ``op`` are the graph's own names, None where the builder does not tell; ``reason`` is what it said.
    """

    def __init__(self, message: str, *, node: str | None, op: str | None, reason: str) -> None:
        super().__init__(message)
        self.node, self.op, self.reason = node, op, reason
