"""The diffusion transformer: equations, parameters, and the order in which shots pass through."""
