"""Policies that a traffic engineer would use."""
