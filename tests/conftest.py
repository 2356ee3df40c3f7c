from hypothesis import settings

pytest_plugins = ["tests.servers"]

# a busy machine may take its time for an example; how long tests may take says pyproject.toml
settings.register_profile("rendezvous", deadline=None)
settings.load_profile("rendezvous")
