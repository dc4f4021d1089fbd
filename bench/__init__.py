"""Measure FLOPs, latency, memory and fidelity."""
