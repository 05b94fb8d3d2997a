"""Pictures: decoded, upright, hashed, and depth maps as files."""
