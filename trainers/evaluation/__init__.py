"""What `trainers/evaluation/run.py` is made of: systems that predict, facts about samples, tables, pictures, speed, the page."""
