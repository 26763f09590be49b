"""The formats that ship, one file each."""
