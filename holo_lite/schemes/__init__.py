"""How one weight is stored: a pair of pure functions, tensor → named plain tensors and back.

Each scheme packs a Linear's weight in slices of its rows and unpacks it again; `registry` finds one by name.
The libraries that do the arithmetic are imported by the first call that needs them, so planning, sizes and
the command line stay light.
"""
