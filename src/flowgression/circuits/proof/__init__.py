"""Proofs for all inputs, checked without the compiler: nothing in this folder imports anything of the package but
itself.

Read in this order: meaning.py (what a circuit is claimed to compute), checker.py (the argument), wiring.py (how a
circuit is taken apart into calls of cells), cells.py (why each cell is right), and what the cells' proofs use: sums.py,
netlist.py, diagrams.py, files.py.
"""
