"""The one error of this package."""


class DataError(ValueError):
    """Images, labels or a data source that cannot be used.

    Arguments:
        message: What is wrong, what was expected, what to do; line breaks in it, as in a quoted cause, become blanks.

    Example:
        >>> DataError("a.png: cannot be read (broken\\nfile)")
        DataError('a.png: cannot be read (broken file)')
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))
