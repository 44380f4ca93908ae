"""How a run can end early: a person's mistake, a run that cannot continue, a request to stop.

Commands turn these into one line and an exit code (`prnet_jax.commands`). Everything else is a bug
and keeps its trace.
"""


class InputError(ValueError):
    """A person's mistake: a file, a field, a folder. Commands end with exit code 2.

    The message is one line: what was expected, what was found, what to do.
    """


class RunError(RuntimeError):
    """A run that cannot continue, such as a loss that is not finite. Exit code 1."""


class Stopped(BaseException):
    """A run that was asked to stop, and saved what it had. Exit code 0.

    Like KeyboardInterrupt not an `Exception`, so that no library mistakes it for a failure.
    """
