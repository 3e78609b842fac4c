"""The benchmark: its peers build the same stars, and its report says what was measured."""
