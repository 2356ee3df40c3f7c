"""As much of Kibana's query language as the dashboards use, for Elasticsearch.

``field: *`` and ``field: "value"``, joined by ``and``, ``or``, ``not`` and parentheses.
"""

import re

TOKEN = re.compile(r'\s*(?:(\(|\)|:|\*)|"([^"]*)"|(and|or|not)\b|([A-Za-z][A-Za-z0-9_.]*))')


def query(text):
    """Return the query as Elasticsearch takes it; of an empty one, that which matches all."""
    if not text:
        return {"match_all": {}}
    tokens = _tokens(text)
    parsed = _either(tokens)
    if tokens:
        raise ValueError(f"{text!r} goes on after its end: {tokens}")
    return parsed


def fields(text):
    """Return the fields that a query is about."""
    return {token[3] for token in map(re.Match.groups, TOKEN.finditer(text)) if token[3]}


def _tokens(text):
    tokens, place = [], 0
    while place < len(text.rstrip()):
        match = TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"{text!r} is not understood from {text[place:]!r} on")
        tokens.append(match.groups())
        place = match.end()
    return tokens


def _either(tokens):
    parts = [_both(tokens)]
    while tokens and tokens[0][2] == "or":
        tokens.pop(0)
        parts.append(_both(tokens))
    return {"bool": {"should": parts, "minimum_should_match": 1}} if parts[1:] else parts[0]


def _both(tokens):
    parts = [_one(tokens)]
    while tokens and tokens[0][2] == "and":
        tokens.pop(0)
        parts.append(_one(tokens))
    return {"bool": {"filter": parts}} if parts[1:] else parts[0]


def _one(tokens):
    sign, _, word, field = tokens.pop(0)
    if word == "not":
        return {"bool": {"must_not": [_one(tokens)]}}
    if sign == "(":
        inner = _either(tokens)
        _expect(tokens, ")")
        return inner
    if field is None:
        raise ValueError(f"no field, but {sign or word!r}")
    _expect(tokens, ":")
    sign, value, _, _ = tokens.pop(0)
    if sign == "*":
        return {"exists": {"field": field}}
    if value is None:
        raise ValueError(f"no value of {field}")
    return {"match_phrase": {field: value}}


def _expect(tokens, sign):
    if not tokens or tokens[0][0] != sign:
        raise ValueError(f"a {sign!r} is missing")
    tokens.pop(0)
