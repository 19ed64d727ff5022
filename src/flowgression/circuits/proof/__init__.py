"""Proofs for all inputs, checked without the compiler: nothing in this folder imports anything of the package but
itself.

Read in this order: docs/circuits-format.md (what the two files hold), meaning.py (the operations), model.py (what is
claimed), checker.py (the argument), wiring.py (how a circuit is taken apart into calls of cells), cells.py (why each
cell is right), and what these use: sums.py, netlist.py, diagrams.py; files.py, certificate.py and schema.py read files.
"""
