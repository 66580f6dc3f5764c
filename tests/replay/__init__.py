"""Histories of yesterday, replayed by the code of today."""
