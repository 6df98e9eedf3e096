"""FHIR R4 at the border: reading and writing resources, Bundles and whole folders of them."""
