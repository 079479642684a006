"""`python -m neuroseg`: the command line."""

from neuroseg.cli.supervisor import main

if __name__ == "__main__":
    main()
