"""Queries that make no sense."""

from shared.refusal import Refused


class BadQuery(Refused):
    code = "bad_query"
