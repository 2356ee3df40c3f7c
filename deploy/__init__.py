"""What the services need to run: real servers on this machine."""
