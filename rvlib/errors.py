"""The one exception that means: the input can be mended, and the message says how."""


class UserError(ValueError):
    """Something the user can put right; the command line prints its message alone, without a traceback."""
