"""The invoice: all amounts of an order, and how they are printed."""

from collections import defaultdict

from orders.discounts import line_discount, voucher_discount
from orders.money import format_cents, percent_of
from orders.shipping import shipping_cost


class Invoice:
    def __init__(self, order, region="domestic", voucher=None):
        self.lines = order.lines
        self.voucher = voucher
        self.bulk_discount = sum(line_discount(line) for line in self.lines)
        before_voucher = sum(line.net for line in self.lines) - self.bulk_discount
        self.voucher_discount = voucher_discount(before_voucher, voucher)
        self.goods = before_voucher - self.voucher_discount
        self.shipping = shipping_cost(self.goods, order.weight, region) if self.lines else 0

    @property
    def taxes(self):
        """Tax in cents for each rate, on what the customer pays for the goods."""
        net = defaultdict(int)
        for line in self.lines:
            amount = line.net - line_discount(line)
            net[line.article.tax] += amount - voucher_discount(amount, self.voucher)
        return {rate: percent_of(cents, rate) for rate, cents in sorted(net.items())}

    @property
    def total(self):
        return self.goods + self.shipping + sum(self.taxes.values())

    def render(self):
        rows = [
            (f"{line.quantity:>4} x {line.article.name}", line.net) for line in self.lines
        ]
        if self.bulk_discount:
            rows.append(("Bulk discount", -self.bulk_discount))
        if self.voucher_discount:
            rows.append((f"Voucher {self.voucher}", -self.voucher_discount))
        rows.append(("Shipping", self.shipping))
        rows.extend((f"Tax {rate} %", cents) for rate, cents in self.taxes.items())
        rows.append(("Total", self.total))
        return "\n".join(f"{label:<40}{format_cents(cents):>12}" for label, cents in rows)
