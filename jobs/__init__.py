"""What a person or `ray job submit` starts: one thin module per verb."""
