"""The local page on which a photo can be tried. Start reading at server.py."""
