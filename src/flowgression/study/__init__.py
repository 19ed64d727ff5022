"""Studies: several models trained, sampled and evaluated alike, and a report of it."""
