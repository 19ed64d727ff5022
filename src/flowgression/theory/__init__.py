"""The theory of almost quadratic attention as tools: the criterion on a model, and exponents that are measured."""
