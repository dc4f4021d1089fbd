"""Shapes of published models, and our miniature one: drawn people, dialogues, training."""
