"""The errors of a configuration and of what it names."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration that can't be used; the message is one line: what, expected what, what to do."""


class ExtraError(ConfigError):
    """Something that needs a package which isn't installed.

    Arguments:
        extra: The extra that brings it.
        what: What needs it.

    Example:
        >>> ExtraError("fid", "Features")
        ExtraError("Features need the extra 'fid': pip install 'vaebm[fid]' (offline: after pip download)")
    """

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} need the extra '{extra}': pip install 'vaebm[{extra}]' (offline: after pip download)")
