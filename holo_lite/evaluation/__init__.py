"""The gate: what a model shows of storyboards of the drawn world, measured from its pixels."""
