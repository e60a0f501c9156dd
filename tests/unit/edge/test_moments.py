import pytest
from pydantic import TypeAdapter, ValidationError

from services.edge.routes.models import Moment


@pytest.mark.parametrize("text", ["0", "-1.5", "1767225600", "1.9e-205", "1E3", "inf", "nan"])
def test_a_number_is_no_time(text: str) -> None:
    with pytest.raises(ValidationError, match="a time is expected"):
        TypeAdapter(Moment).validate_python(text)


def test_a_time_with_its_zone_is_one() -> None:
    assert TypeAdapter(Moment).validate_python("2026-03-01T12:00:00Z").year == 2026
