"""The pages of the viewer, one module each: it reads through the store, and hands plain values to a template."""
