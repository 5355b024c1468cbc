"""`python -m metanorm`, and the command `metanorm`."""

import signal


def main() -> None:
    """The entry point. Ctrl-C ends it without a traceback while the command is imported, too."""
    handler = signal.getsignal(signal.SIGINT)
    raises = handler is signal.default_int_handler  # else whoever began it ignores ctrl-C
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from metanorm.cli import main as run_command

    if raises:
        signal.signal(signal.SIGINT, handler)
    run_command()


if __name__ == "__main__":
    main()
