"""Amounts as people read them: wei as ETH, and as dollars where a rate is known. Whole numbers throughout."""

WEI_DIGITS, MICRO_DIGITS = 18, 6
WEI_PER_ETH = 10**WEI_DIGITS
MICRO_PER_USD = 10**MICRO_DIGITS
SIGNIFICANT = 4  # digits of the largest amount that is shown
CENTS = 2


def eth(wei: int, among: int | None = None) -> str:
    """In ETH with four significant digits; in a column with as many decimals as its largest amount."""
    decimals = _decimals(wei if among is None else among, WEI_DIGITS)
    text = _fixed(wei, WEI_DIGITS, decimals)
    return text if among is not None else _strip(text)


def usd(wei: int, micro_usd_per_eth: int) -> str:
    """What wei are worth, in whole micro-dollars rounded half up, as `micro_usd` shows them."""
    return micro_usd((2 * wei * micro_usd_per_eth + WEI_PER_ETH) // (2 * WEI_PER_ETH))


def micro_usd(amount: int) -> str:
    """In dollars and cents; below a dollar with more decimals, so that a little is not nothing."""
    if amount == 0 or amount >= MICRO_PER_USD:
        return "$" + _fixed(amount, MICRO_DIGITS, CENTS)
    text = _fixed(amount, MICRO_DIGITS, max(CENTS, _decimals(amount, MICRO_DIGITS, SIGNIFICANT - 1)))
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(CENTS, '0')}"


def _decimals(amount: int, digits: int, significant: int = SIGNIFICANT) -> int:
    """How many decimals show so many significant digits of an amount whose unit has `digits`."""
    magnitude = len(str(abs(amount))) - 1 - digits
    return min(digits, max(0, significant - 1 - magnitude))


def _fixed(amount: int, digits: int, decimals: int) -> str:
    """Rounded half up; what is not nothing, but less than can be shown, is `<` the least that can be."""
    unit = 10 ** (digits - decimals)
    rounded = (2 * amount + unit) // (2 * unit)
    if amount > 0 and rounded == 0:
        return "<" + _point(1, decimals)
    return _point(rounded, decimals)


def _point(number: int, decimals: int) -> str:
    whole, rest = divmod(number, 10**decimals)
    return f"{whole:,}.{rest:0{decimals}}" if decimals else f"{whole:,}"


def _strip(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
