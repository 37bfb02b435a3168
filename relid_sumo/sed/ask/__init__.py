"""Asking a language model for planning programs."""
