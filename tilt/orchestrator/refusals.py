"""How the orchestrator says no: an HTTP status and a sentence."""


class RefusedError(Exception):
    """The request is answered with this status and text; nothing is wrong with us."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class JsonRefusedError(RefusedError):
    """The same, but told as JSON: where the good answer is JSON under the same status."""
