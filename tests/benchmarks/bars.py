"""What measured values must reach; a benchmark holds its results to it after writing them."""

import sys

__all__ = ["at_least", "at_most", "stop_if_missed"]


def at_least(what: str, value: float, bar: float) -> list[str]:
    """Return a sentence if ``value`` is below the bar or no number, else nothing.

    Example:
        >>> at_least("image AUROC", 0.90, 0.95)
        ['image AUROC: 0.9, expected at least 0.95']
        >>> at_least("image AUROC", 0.97, 0.95)
        []
    """
    return [] if value >= bar else [f"{what}: {value:.4g}, expected at least {bar:.4g}"]


def at_most(what: str, value: float, bar: float) -> list[str]:
    """Return a sentence if ``value`` is above the bar or no number, else nothing."""
    return [] if value <= bar else [f"{what}: {value:.4g}, expected at most {bar:.4g}"]


def stop_if_missed(missed: list[str]) -> None:
    """Leave with exit code 1 and the sentences, if there are any."""
    if missed:
        sys.exit("\n".join(f"missed: {sentence}" for sentence in missed))
