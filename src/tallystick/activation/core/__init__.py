"""The decisions and the values of the activation server: pure, without a socket, a clock or SQL."""
