"""`python -m dfa_bench`: the command line without its script."""

from dfa_bench.commands.main import main

if __name__ == "__main__":
    main()
