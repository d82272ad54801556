"""The detector, in the order of the course: from an image to features, latents, map and score."""
