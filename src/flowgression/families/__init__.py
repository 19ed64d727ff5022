"""The families of models, a folder each: everything that knows a family by its name. `registry` describes them."""
