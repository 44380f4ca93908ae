"""Until when an exported program can be read: JAX's promise, counted from a release of jaxlib."""

import calendar
import datetime
import re
from typing import Any

OLDER, NEWER = datetime.timedelta(weeks=3), 6  # months


def validity(
    jaxlib: str, today: datetime.date, released: datetime.date | None = None
) -> dict[str, Any]:
    """The releases of jaxlib that read a program.

    Args:
        jaxlib: the version that wrote it.
        today: the day on which it is written.
        released: the day of that version, if it is known.

    Returns:
        `jaxlib_from` and `jaxlib_until`, the days of the oldest and the newest release that JAX
        promises to read it, as YYYY-MM-DD; and `derived_from`, a sentence.
    """
    if released is not None:
        origin = f"the release of jaxlib {jaxlib}, as given"
    elif nightly := re.search(r"\.dev(\d{8})", jaxlib):
        released = datetime.datetime.strptime(nightly[1], "%Y%m%d").date()
        origin = f"the date in the version of jaxlib {jaxlib}"
    else:
        released = today
        origin = (
            f"the day of the export, since jaxlib {jaxlib} does not say when it was released: both "
            "days are too late by its age on that day"
        )
    return {
        "jaxlib_from": (released - OLDER).isoformat(),
        "jaxlib_until": _months_later(released, NEWER).isoformat(),
        "derived_from": origin,
    }


def _months_later(day: datetime.date, months: int) -> datetime.date:
    """The same day of a later month, or that month's last."""
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return day.replace(year, month, min(day.day, calendar.monthrange(year, month)[1]))
