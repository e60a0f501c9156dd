"""`python -m services.cli`, where the command itself is not installed."""

from services.cli.app import main

main()
