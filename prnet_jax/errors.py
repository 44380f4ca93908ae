"""The two ways a run ends other than well: a person's mistake, and a run that cannot go on.

Commands turn both into one line on standard error and an exit code; everything else is a bug and
keeps its trace.
"""


class InputError(ValueError):
    """A person's mistake: a file, a field, a folder. Commands end with exit code 2.

    The message is one line: what was expected, what was found, what to do.
    """


class RunError(RuntimeError):
    """A run that cannot go on, such as a loss that is not finite. Commands end with exit code 1."""
