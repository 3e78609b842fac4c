"""The command line of the OceanRecords warehouse: connects, calls procedures, shows answers."""
