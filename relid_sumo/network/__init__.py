"""An OpenStreetMap file becomes a road network that simulates well."""
