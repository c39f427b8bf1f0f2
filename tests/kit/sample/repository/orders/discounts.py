"""Discounts: by quantity for each line, by voucher for the whole order."""

from orders.money import percent_of

# The least quantity of one article, and the discount in per cent; highest first.
BULK_TIERS = ((100, 15), (50, 10), (10, 5))

VOUCHERS = {"WELCOME5": 5, "JUBILEE20": 20}


def bulk_percent(quantity):
    """The bulk discount in per cent for so many pieces of one article."""
    for least, percent in BULK_TIERS:
        if quantity > least:
            return percent
    return 0


def line_discount(line):
    """What the bulk discount takes off one line, in cents."""
    return percent_of(line.net, bulk_percent(line.quantity))


def voucher_discount(cents, code):
    """What a voucher takes off an amount, in cents."""
    if code is None:
        return 0
    if code not in VOUCHERS:
        raise ValueError(f"no voucher has the code {code!r}")
    return percent_of(cents, VOUCHERS[code])
