"""Privacy-safe image datasets."""
