"""How good a bundle's restorations are: data, metrics, judge and report behind ``python -m train.evaluate``."""
