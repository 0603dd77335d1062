"""The storyboard page: a server for one person's browser. It holds drafts, queue and gallery, and never PyTorch."""
