"""Several cards or machines that compute one clip: who they are, where they meet, and what ends them."""
