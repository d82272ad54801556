"""The one exception for mistakes that the user can correct."""

__all__ = ["FastFlowError"]


class FastFlowError(ValueError):
    """A mistake of the user's. The message says what was given, what was expected, what to do.

    The command line prints the message on one line and exits with code 2; every other exception
    is a bug of ours and exits with code 1.
    """
