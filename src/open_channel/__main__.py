"""``python -m open_channel`` is the ``open-channel`` command."""

from open_channel.cli import main

if __name__ == "__main__":
    main()
