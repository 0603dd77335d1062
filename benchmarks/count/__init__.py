"""What a block and the decoder ask of a card, counted without one: launches, bytes, allocations, dispatches."""
