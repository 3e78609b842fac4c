"""Measures the warehouse beside dbt and hand-written SQL, on one server and in one run."""
