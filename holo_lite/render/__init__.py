"""From a storyboard to a video: the pipeline, its three phases, and going on where memory runs out."""
