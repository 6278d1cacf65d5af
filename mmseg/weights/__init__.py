"""Weights by path, name, URL or Hugging Face address: downloaded once into a cache, checked, and found there again."""
