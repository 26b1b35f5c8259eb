"""Figures and the experiment record."""
