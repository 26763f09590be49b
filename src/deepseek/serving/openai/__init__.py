"""The OpenAI API over the same models, limits and metrics: models, chat completions, completions, embeddings.

Specification: OpenAI's API reference, as its Python client 3.x reads it; vLLM's names for what it has beyond that.
Left out: tools and functions, images and audio, logit biases, stored completions, the Responses and Assistants APIs.
"""
