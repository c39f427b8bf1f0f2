"""Shipping cost by weight and region."""

FREE_FROM = 10000
"""Goods worth this many cents are shipped free within the country."""

# For each region: (up to this weight in grams, cost in cents), lightest first.
RATES = {
    "domestic": ((2000, 499), (10000, 799), (31500, 1699)),
    "europe": ((2000, 1399), (10000, 1999), (31500, 4499)),
}


def shipping_cost(goods, weight, region):
    """The cost in cents of shipping goods of this worth and weight."""
    if region not in RATES:
        raise ValueError(f"goods are not shipped to the region {region!r}")
    if region == "domestic" and goods >= FREE_FROM:
        return 0
    for limit, cost in RATES[region]:
        if weight <= limit:
            return cost
    raise ValueError(f"a parcel of {weight} g is too heavy for {region}")
