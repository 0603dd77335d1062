"""What of this machine works, what does not, and what to type about it."""
