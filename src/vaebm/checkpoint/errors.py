"""The one kind of error that a user of stored models and runs can cause."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A stored file is missing, damaged or altered, or cannot be written; one line names it and says what to do."""


def one_line(error: BaseException) -> str:
    """Says what went wrong in one line, for use inside the message of another error.

    Arguments:
        error: the exception that was caught.

    Returns:
        The first line of its text, without a full stop at the end; the name of its class if it has no text.

    Example:
        >>> one_line(RuntimeError("no space left.\\nmore lines"))
        'no space left'
        >>> one_line(EOFError())
        'EOFError'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    return text.splitlines()[0].strip().rstrip(".") if text else type(error).__name__
