"""Constant-depth circuits for integers: sums, products, comparison, functions, division, remainders, floats."""
