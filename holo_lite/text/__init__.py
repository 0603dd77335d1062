"""Words for the model: the prompt, who may read which of its tokens, and their embeddings."""
