"""The audit of a bundle: whether the person in view changes answers only where they should."""
