"""API keys as the edge makes and reads them; what they look like is a contract."""

from contracts.api_keys import ALPHABET, PREFIX, Key, make, make_id, parse

__all__ = ["ALPHABET", "PREFIX", "Key", "make", "make_id", "parse"]
