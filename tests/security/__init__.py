"""Tests of permissions, users and forgetting."""
