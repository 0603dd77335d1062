"""How fast a denoising step is, next to other ways to compute it."""
