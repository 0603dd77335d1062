"""How holo-tiny was made: one command, `python -m training`, from drawn scenes to a model folder."""
