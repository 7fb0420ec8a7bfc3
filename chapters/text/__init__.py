"""Small language models, and what D2 taught about them, for the lessons after it."""
