import unittest

from orders.shipping import shipping_cost


class ShippingCost(unittest.TestCase):
    def test_by_weight(self):
        self.assertEqual(shipping_cost(500, 2000, "domestic"), 499)
        self.assertEqual(shipping_cost(500, 2001, "domestic"), 799)

    def test_free_within_the_country_from_the_threshold(self):
        self.assertEqual(shipping_cost(10000, 5000, "domestic"), 0)
        self.assertEqual(shipping_cost(10000, 5000, "europe"), 1999)

    def test_too_heavy_or_too_far_is_refused(self):
        with self.assertRaisesRegex(ValueError, "too heavy"):
            shipping_cost(500, 40000, "europe")
        with self.assertRaisesRegex(ValueError, "moon"):
            shipping_cost(500, 100, "moon")
