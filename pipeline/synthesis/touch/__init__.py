"""How a hand comes to touch a face, and how the face yields."""
