"""Refusals: the request is well formed, but may not be granted."""


class Refused(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """Base of each service's refusals. `code` is for programs, the message for people."""

    code = "refused"
