"""The one exception that means: the input can be mended, and the message says how."""


class UserError(ValueError):
    """Something the user can put right; the command line prints its message alone, without a traceback."""


def in_short(error: BaseException) -> str:
    """The beginning of what an error says, as a part of one line, or its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2])[:200]
