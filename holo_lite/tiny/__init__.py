"""A small drawn world: what holo-tiny was trained on, and what the gate for approximations reads from pixels.

`world` says what there is, `words` how a person would ask for it, `drawing` what it looks like, and `model` where
the trained weights lie.
"""
