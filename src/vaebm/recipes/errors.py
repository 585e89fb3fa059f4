"""The error of a configuration."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration that can't be used; the message is one line: what, expected what, what to do."""
