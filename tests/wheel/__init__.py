"""The wheel, installed where nothing else is: `make dist`."""
