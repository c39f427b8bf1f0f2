"""Command line: read an order from a CSV file, print the invoice."""

import argparse
import csv
import sys

from orders.catalog import UnknownArticle
from orders.invoice import Invoice
from orders.order import Order


def read_order(path):
    order = Order()
    with open(path, newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            order.add(row["sku"], int(row["quantity"]))
    return order


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="orders", description=__doc__)
    parser.add_argument("file", help="CSV file with the columns sku and quantity")
    parser.add_argument("--region", default="domestic")
    parser.add_argument("--voucher", help="voucher code")
    options = parser.parse_args(arguments)
    try:
        order = read_order(options.file)
        print(Invoice(order, options.region, options.voucher).render())
    except (UnknownArticle, ValueError) as error:
        print(f"orders: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
