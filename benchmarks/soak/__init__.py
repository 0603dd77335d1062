"""Whether runs survive what goes wrong in them."""
