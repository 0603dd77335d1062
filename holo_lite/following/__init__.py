"""A rank that follows: it computes its part of whatever clip the first rank of its team makes."""
