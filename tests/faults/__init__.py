"""What a record survives. Seeded, and repeated as often as ``LLMSPAN_FAULT_SEEDS`` says (``just faults``: 50)."""
