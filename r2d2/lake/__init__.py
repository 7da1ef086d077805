"""Finds the tables of a lake and reads their metadata; never writes to the lake."""
