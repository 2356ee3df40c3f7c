"""The front end: requests and answers over HTTP."""

from rendezvous.frontend.app import create_app

__all__ = ["create_app"]
