"""Run the command line with `python -m neuroseg`."""

from neuroseg.cli.supervisor import main

if __name__ == "__main__":
    main()
