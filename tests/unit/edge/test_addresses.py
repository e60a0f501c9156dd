import pytest

from services.edge.addresses import read_address

# Of EIP-55's own examples.
CHECKSUMMED = (
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
)
ADDRESS = CHECKSUMMED[0]


@pytest.mark.parametrize("text", CHECKSUMMED)
def test_a_checksummed_address_is_read_in_lower_case(text: str) -> None:
    assert read_address(text) == text.lower()


@pytest.mark.parametrize("text", [ADDRESS.lower(), "0x" + ADDRESS[2:].upper()])
def test_an_address_in_one_case_has_no_checksum_to_fit(text: str) -> None:
    assert read_address(text) == ADDRESS.lower()


@pytest.mark.parametrize("at", [3, 4, 41])
def test_a_letter_in_the_wrong_case_is_refused(at: int) -> None:
    with pytest.raises(ValueError, match="checksum"):
        read_address(ADDRESS[:at] + ADDRESS[at].swapcase() + ADDRESS[at + 1 :])


@pytest.mark.parametrize(
    "text", ["", "0x", ADDRESS[2:], ADDRESS + "0", ADDRESS[:-1], "0x" + "g" * 40, ADDRESS + "\n"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="40 hex digits"):
        read_address(text)
