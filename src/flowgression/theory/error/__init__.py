"""How far the images of an approximated FlowAR are from the exact ones: a bound, an estimate, a measurement.

`balls` holds the lemmas, one function each; `bound` applies them along a whole generation; `estimate` linearises it.
"""
