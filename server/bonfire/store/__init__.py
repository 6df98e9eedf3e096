"""The only room that speaks SQL to tables."""
