"""Lanes: work that follows a commit from behind, never lost and never in a writer's way."""
