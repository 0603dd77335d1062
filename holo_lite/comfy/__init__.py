"""Nodes for ComfyUI: thin, over the render process. ComfyUI loads them from any folder: imports are relative."""
