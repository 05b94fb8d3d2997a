"""What several verbs share on the terminal."""
