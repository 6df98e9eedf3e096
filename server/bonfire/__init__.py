"""bonfire: the clinical data layer under an app."""
