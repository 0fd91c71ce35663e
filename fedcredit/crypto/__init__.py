"""Keys, encodings, ciphertexts and the kernels that work on them: pure functions, no parties."""
