"""The fault harness: a whole Hemolink under load, broken again and again, and every frame of it counted at the end."""
