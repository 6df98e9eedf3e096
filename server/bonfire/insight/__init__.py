"""What follows the records for people and programs that ask in words: agent context, embeddings, semantic search."""
