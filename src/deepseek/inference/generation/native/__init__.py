"""Steps of few tokens on CPUs with AVX-512 VNNI: a decoder in C, compiled here the first time."""
