"""Parts of the inference benchmark. Encoders: models, inputs, contestants, cells, the accuracy of an int8 copy."""
