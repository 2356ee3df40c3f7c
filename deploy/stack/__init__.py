"""The whole system in containers: what ``make up``, ``down``, ``logs`` and ``ps`` do."""
