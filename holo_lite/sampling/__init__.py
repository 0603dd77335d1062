"""The schedule, the Euler loop, and steps that need no forward."""
