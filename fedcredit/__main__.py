"""``python -m fedcredit``: the same as the ``fedcredit`` command."""

from fedcredit.cli.main import main

if __name__ == "__main__":
    main()
