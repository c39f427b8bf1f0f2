"""Amounts of money in whole cents.

Every amount in this application is an integer number of cents. Fractions
arise only in percentages, and `percent_of` is the one place that rounds them.
"""

from decimal import ROUND_HALF_EVEN, Decimal


def percent_of(cents, percent):
    """`percent` per cent of `cents`, rounded to whole cents, half a cent up."""
    exact = Decimal(cents) * Decimal(percent) / 100
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def format_cents(cents):
    """Write an amount for people: 123456 becomes 1,234.56."""
    sign = "-" if cents < 0 else ""
    units, rest = divmod(abs(cents), 100)
    return f"{sign}{units:,}.{rest:02d}"
