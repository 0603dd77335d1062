"""Other ways to compute what `holo_lite.model.equations` says, each checked against it before it is used."""
