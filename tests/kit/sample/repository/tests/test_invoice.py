import contextlib
import io
import pathlib
import unittest

from orders.__main__ import main
from orders.invoice import Invoice
from orders.order import Order

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "office.csv"


class InvoiceAmounts(unittest.TestCase):
    def test_goods_shipping_and_tax_make_the_total(self):
        invoice = Invoice(Order().add("STAPLER", 2))
        self.assertEqual((invoice.goods, invoice.shipping), (2598, 499))
        self.assertEqual(invoice.total, 2598 + 499 + 494)

    def test_each_tax_rate_is_listed(self):
        invoice = Invoice(Order().add("ATLAS", 2).add("CHAIR"))
        self.assertEqual(list(invoice.taxes.values()), [343, 3591])

    def test_a_voucher_lowers_goods_and_tax(self):
        invoice = Invoice(Order().add("CHAIR"), voucher="JUBILEE20")
        self.assertEqual((invoice.goods, sum(invoice.taxes.values())), (15120, 2873))

    def test_an_empty_order_costs_nothing(self):
        self.assertEqual(Invoice(Order()).total, 0)


class CommandLine(unittest.TestCase):
    def test_the_example_is_priced(self):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = main([str(EXAMPLE)])
        self.assertEqual(code, 0)
        lines = [" ".join(line.split()) for line in output.getvalue().splitlines()]
        self.assertIn("5 x Copy paper A4, 500 sheets 24.75", lines)
        self.assertIn("Bulk discount -0.75", lines)

    def test_an_unknown_voucher_is_an_error(self):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            code = main([str(EXAMPLE), "--voucher", "FREE"])
        self.assertEqual(code, 1)
        self.assertIn("FREE", errors.getvalue())
