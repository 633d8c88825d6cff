"""What train.py and the advgan command do, from settings to a finished work folder."""
