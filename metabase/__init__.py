"""The business dashboard: one definition for Metabase and for the offline preview.

`definition` reads and validates `dashboard.yaml` and `questions/*.sql`; `questions` parses their
SQL; `warehouse` asks the database; `payload` says it in the words of Metabase's API; `client`
speaks to a server; `provisioner` brings it to the definition; `cli` is the command.
"""
