"""`python -m metanorm`."""

from metanorm.cli import main

if __name__ == "__main__":
    main()
