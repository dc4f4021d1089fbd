"""Set up a checkout, and build for other processors."""
