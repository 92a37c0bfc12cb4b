"""Errors a user can act on.

Every message is one sentence that says what was given, what is allowed and what to do.
The command line prints it and exits with code 2; anything else is a defect and exits with code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot work; the message is the whole explanation."""


def reason_of(error: BaseException) -> str:
    """What a failure says in its first line; its kind if it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def unknown(what: str, given: object, allowed: Iterable[str]) -> UserError:
    """Build the error for a name that is not in a list of allowed names.

    Args:
        what: The kind of name, such as ``"operator"``.
        given: What the user wrote.
        allowed: Every name that would have been accepted.

    Returns:
        A `UserError` that names the closest allowed names first and then all of them.
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(str(given), names, n=2)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return UserError(f"unknown {what} '{given}'{hint} (allowed: {', '.join(names)})")
