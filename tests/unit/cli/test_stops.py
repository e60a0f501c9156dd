from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.running import RefusedHereError
from services.cli.stops import read_recipients

ONE, OTHER = "0x" + "aB" * 20, "0x" + "01" * 20


@pytest.mark.parametrize(
    "text",
    [
        f"{ONE}\n{OTHER}\n",
        f"# a list\r\n\r\n  {ONE}  \r\n{OTHER},why,when\r\n{ONE}",
        f"address\n{ONE}\n{OTHER}\n",
        f'note,recipient\n"one, of many",{ONE}\nother,{OTHER}\n',
    ],
)
def test_recipients_are_read_from_lines_and_from_columns(tmp_path: Path, text: str) -> None:
    file = tmp_path / "deny"
    file.write_text(text, newline="")

    assert read_recipients(file) == [ONE.lower(), OTHER]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names no recipient"),
        ("recipient\n", "names no recipient"),
        (f"{ONE}\n\n0x12\n{OTHER}x\n", "2 of no recipient: line 3, line 4"),
        (f"note,recipient\n{ONE}\n", "line 2"),
        ("x\n" * 9, "9 of no recipient: line 1, line 2, line 3, line 4, line 5, …"),
    ],
)
def test_lines_that_are_no_recipients_are_named(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "deny"
    file.write_text(text)

    with pytest.raises(RefusedHereError, match=problem):
        read_recipients(file)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "deny"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(RefusedHereError):
        read_recipients(file)
