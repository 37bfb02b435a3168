"""The functions of the public API, which `relid_sumo` offers by name."""
