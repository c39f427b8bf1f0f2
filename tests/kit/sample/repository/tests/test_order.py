import unittest

from orders.catalog import UnknownArticle
from orders.order import Order


class OrderLines(unittest.TestCase):
    def test_a_line_for_each_article(self):
        order = Order().add("PEN-BLUE", 2).add("STAPLER")
        self.assertEqual([line.quantity for line in order.lines], [2, 1])
        self.assertEqual(order.weight, 2 * 12 + 310)

    def test_an_article_added_twice_is_one_line_with_the_sum(self):
        order = Order().add("PAPER-A4", 2).add("PAPER-A4", 3)
        self.assertEqual(len(order.lines), 1)
        self.assertEqual(order.lines[0].quantity, 5)
        self.assertEqual(order.lines[0].net, 5 * 495)

    def test_a_removed_article_is_gone(self):
        order = Order().add("ERASER", 4)
        order.remove("ERASER")
        self.assertEqual(order.lines, [])

    def test_an_unknown_article_is_refused(self):
        with self.assertRaises(UnknownArticle):
            Order().add("GOLD-BAR")

    def test_a_quantity_below_one_is_refused(self):
        with self.assertRaisesRegex(ValueError, "at least 1"):
            Order().add("ERASER", 0)
