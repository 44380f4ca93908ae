"""The ways a run ends early: a person's mistake, a run that cannot go on, one that shall not.

Commands turn them into one line and an exit code; everything else is a bug and keeps its trace.
"""


class InputError(ValueError):
    """A person's mistake: a file, a field, a folder. Commands end with exit code 2.

    The message is one line: what was expected, what was found, what to do.
    """


class RunError(RuntimeError):
    """A run that cannot go on, such as a loss that is not finite. Commands end with exit code 1."""


class Stopped(BaseException):
    """A run that was asked to end, and did so in order. Commands end with exit code 0.

    Not an `Exception`, as KeyboardInterrupt is none: no library shall take it for a failure.
    """
