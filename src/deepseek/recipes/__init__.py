"""Recipes that ship with the package; `deepseek train NAME` runs one."""
