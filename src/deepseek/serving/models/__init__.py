"""Models as a server has them: what can be served, where it comes from, and how it is loaded, swapped and watched."""
