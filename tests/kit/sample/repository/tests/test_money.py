import unittest

from orders.money import format_cents, percent_of


class PercentOf(unittest.TestCase):
    def test_whole_cents_are_exact(self):
        self.assertEqual(percent_of(10000, 19), 1900)

    def test_less_than_half_a_cent_is_dropped(self):
        self.assertEqual(percent_of(120, 2), 2)

    def test_half_a_cent_is_rounded_up(self):
        self.assertEqual(percent_of(50, 5), 3)
        self.assertEqual(percent_of(2450, 7) + percent_of(150, 7), 172 + 11)


class FormatCents(unittest.TestCase):
    def test_thousands_are_grouped(self):
        self.assertEqual(format_cents(123456), "1,234.56")

    def test_negative_amounts_keep_their_sign(self):
        self.assertEqual(format_cents(-5), "-0.05")
