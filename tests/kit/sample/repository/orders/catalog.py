"""The articles that are sold."""

from dataclasses import dataclass
from decimal import Decimal

STANDARD_TAX = Decimal("19")
REDUCED_TAX = Decimal("7")


class UnknownArticle(KeyError):
    """No article has this number."""

    def __str__(self):
        return f"no article has the number {self.args[0]!r}"


@dataclass(frozen=True)
class Article:
    sku: str
    name: str
    price: int
    """Net price of one piece, in cents."""
    weight: int
    """Weight of one piece, in grams."""
    tax: Decimal = STANDARD_TAX


ARTICLES = {
    article.sku: article
    for article in (
        Article("PEN-BLUE", "Ballpoint pen, blue", 150, 12),
        Article("PAPER-A4", "Copy paper A4, 500 sheets", 495, 2500),
        Article("STAPLER", "Stapler", 1299, 310),
        Article("ERASER", "Eraser", 50, 8),
        Article("ATLAS", "Road atlas", 2450, 1100, REDUCED_TAX),
        Article("CHAIR", "Office chair", 18900, 14000),
    )
}


def article(sku):
    """The article with this number."""
    try:
        return ARTICLES[sku]
    except KeyError:
        raise UnknownArticle(sku) from None
