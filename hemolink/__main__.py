"""``python -m hemolink``: the same as the ``hemolink`` command."""

from hemolink.cli import main

if __name__ == "__main__":
    main()
