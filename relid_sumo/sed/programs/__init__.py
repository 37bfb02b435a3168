"""Running planning programs and checking what they return."""
