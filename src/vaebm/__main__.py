"""Lets `python -m vaebm` do what `vaebm` does."""

from vaebm.cli.main import main

if __name__ == "__main__":
    main()
