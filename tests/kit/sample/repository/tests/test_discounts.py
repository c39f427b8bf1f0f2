import unittest

from orders.discounts import bulk_percent, voucher_discount


class BulkDiscount(unittest.TestCase):
    def test_none_below_the_first_tier(self):
        self.assertEqual(bulk_percent(1), 0)
        self.assertEqual(bulk_percent(9), 0)

    def test_between_the_tiers(self):
        self.assertEqual(bulk_percent(30), 5)
        self.assertEqual(bulk_percent(75), 10)
        self.assertEqual(bulk_percent(500), 15)

    def test_starts_at_the_quantity_of_the_tier(self):
        self.assertEqual([bulk_percent(n) for n in (10, 50, 100)], [5, 10, 15])


class Voucher(unittest.TestCase):
    def test_no_code_takes_nothing_off(self):
        self.assertEqual(voucher_discount(10000, None), 0)

    def test_a_known_code_takes_its_percentage_off(self):
        self.assertEqual(voucher_discount(10000, "JUBILEE20"), 2000)

    def test_an_unknown_code_is_refused(self):
        with self.assertRaisesRegex(ValueError, "FREE"):
            voucher_discount(10000, "FREE")
