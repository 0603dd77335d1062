"""Whether every card's plan fits that card."""
