"""An order: what a customer buys, one line for each article."""

from dataclasses import dataclass

from orders.catalog import Article, article


@dataclass(frozen=True)
class Line:
    article: Article
    quantity: int

    @property
    def net(self):
        """Price of the line before discounts and tax, in cents."""
        return self.article.price * self.quantity

    @property
    def weight(self):
        return self.article.weight * self.quantity


class Order:
    """Collects lines in the order in which their articles were first added."""

    def __init__(self):
        self._quantities = {}

    def add(self, sku, quantity=1):
        """Put `quantity` pieces of an article into the order."""
        if quantity < 1:
            raise ValueError(f"the quantity of {sku} must be at least 1, not {quantity}")
        article(sku)
        self._quantities[sku] = quantity
        return self

    def remove(self, sku):
        """Take an article out of the order, if it is there."""
        self._quantities.pop(sku, None)

    @property
    def lines(self):
        return [Line(article(sku), quantity) for sku, quantity in self._quantities.items()]

    @property
    def weight(self):
        return sum(line.weight for line in self.lines)
