"""holo-lite: HoloCine multi-shot video, shot by shot, on the card you have."""
