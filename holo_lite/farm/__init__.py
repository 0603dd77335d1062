"""A render farm: many storyboards over the cards of many machines. `ray_cluster` alone knows Ray."""
