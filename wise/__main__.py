"""`python -m wise`."""

from wise import main

main()
