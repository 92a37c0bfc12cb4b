"""The one error of this package."""

from __future__ import annotations

from wpk_envs.errors import UserError


class PtxError(UserError):
    """A kernel that cannot be read or does something that is not allowed; one sentence that names the place."""
