"""Turn a checkpoint into a bundle the runtime can load, proven equal to the original."""
