"""Errors of the endpoint."""

from cluster.errors import UserError


class ServeError(UserError, RuntimeError):
    """The endpoint cannot start. The message is one line that says what to do."""


class BadRequestError(ValueError):
    """A request that cannot be answered; the message says why."""
