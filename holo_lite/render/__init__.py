"""From a storyboard to a video: the pipeline, its three phases, and smaller plans when memory runs out."""
