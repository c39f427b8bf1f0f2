"""Prices an order and prints its invoice."""
