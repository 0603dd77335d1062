"""What `inspect` knows: one module says what a path is, the others describe each kind."""
