"""An example of a message, made from its JSON Schema alone."""

from typing import Any

MOMENT = "2026-03-01T12:00:00Z"
TEXT = "7"  # any text of a contract may be this one, wei too


def example(schema: dict[str, Any], definitions: dict[str, Any], *, required_only: bool) -> Any:
    """A value the schema allows: with all its fields, or with those only that have to be there."""
    return _Examples(definitions, required_only=required_only).of(schema)


class _Examples:
    def __init__(self, definitions: dict[str, Any], *, required_only: bool) -> None:
        self._definitions = definitions
        self._required_only = required_only

    def of(self, part: dict[str, Any]) -> Any:
        if "$ref" in part:
            return self.of(self._definitions[part["$ref"].rsplit("/", 1)[1]])
        if "const" in part:
            return part["const"]
        for choices in ("anyOf", "oneOf"):
            if choices in part:
                return self.of(part[choices][0])
        return part["enum"][0] if "enum" in part else self._of_type(part)

    def _of_type(self, part: dict[str, Any]) -> Any:
        match part.get("type", "object"):
            case "object":
                return self._object(part)
            case "array":
                return [self.of(part["items"])]
            case "string":
                return MOMENT if part.get("format") == "date-time" else TEXT
            case "integer":
                return max(part.get("minimum", 7), 7)
            case "boolean":
                return True
        assert part["type"] == "null", part
        return None

    def _object(self, part: dict[str, Any]) -> dict[str, Any]:
        required = part.get("required", [])
        made = {
            name: self.of(field)
            for name, field in part.get("properties", {}).items()
            if name in required or "const" in field or not self._required_only
        }
        extra = part.get("additionalProperties")
        return {**made, "key": self.of(extra)} if isinstance(extra, dict) else made
