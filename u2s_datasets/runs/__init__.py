"""One run's folder on disk: its layout, and every way to read and to change it."""
