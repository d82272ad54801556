"""Data: folders and archives in any layout, own pictures, the sample set."""
