"""Read run folders. This package does not import torch."""
