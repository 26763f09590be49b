"""ExecuTorch: models as programs for phones and other small devices, and how they run here."""
