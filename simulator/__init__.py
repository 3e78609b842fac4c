"""The simulator: seeds the operational system with history and plays the business on."""
