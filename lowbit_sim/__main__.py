"""`python -m lowbit_sim` is `lowbit-sim`, for a Python whose scripts are not on the path."""

from lowbit_sim.cli import main

if __name__ == "__main__":
    main()
