"""Images to labelled shards: sources, stages, annotators, parts. Start reading at engine/run.py and stages/recipe.py."""
